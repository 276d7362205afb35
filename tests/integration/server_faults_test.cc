// A token that hangs, dies, disappears or lies, behind a whole server: callers
// get an answer in time, the other token does not notice, and signing goes on
// when the token is back.

#include <memory>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/test_client.h"
#include "tests/support/fault_shim.h"
#include "tests/support/server_process.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildSignRequest;
using ::codeseal::testing::FaultShim;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::RandomUuid;
using ::codeseal::testing::ServerProcess;
using ::codeseal::testing::ServerWorld;
using ::codeseal::testing::SignRequestSpec;
using ::codeseal::testing::TestClient;
using ::testing::AnyOf;
using ::testing::HasSubstr;

// The token's op_timeout in ServerWorld, and what a busy machine may add.
constexpr absl::Duration kAnswerLimit = absl::Seconds(2 + 4);
// How soon signing goes on after the token is back.
constexpr absl::Duration kResumeLimit = absl::Seconds(2);

v1::SignRequest NewRequest(const std::string& identity) {
  SignRequestSpec spec;
  spec.request_id = RandomUuid();
  spec.identity = identity;
  return BuildSignRequest(spec);
}

// The identity "shaky" has its key on a token behind the shim, "calm" on a
// token of its own.
class ServerFaultsTest : public ::testing::Test {
 protected:
  void Start() {
    world_.softhsm().AddToken("other");
    world_.AddKey("other", "03", KeyAlgorithm::kP256);
    const std::string other =
        "  other: {module: " + std::string(testing::kSoftHsmModule) +
        ", label: other, pin_source: \"file:" + world_.softhsm().pin_file() +
        "\"}\n";
    const std::string config = world_.Config(
        world_.TokensSection(FaultShim::Module()) + other,
        "identities:\n" +
            ServerWorld::Identity("shaky", "main", "02", "main-02.chain.pem") +
            ServerWorld::Identity("calm", "other", "03", "other-03.chain.pem"));
    server_ = std::make_unique<ServerProcess>(world_.WriteConfig(config));
    client_ = std::make_unique<TestClient>(server_->address(), world_.tls_ca(),
                                           world_.client());
  }

  absl::Status Sign(const std::string& identity) {
    return client_->Sign(NewRequest(identity)).status();
  }

  // One request to the shaky token: its answer must come in time. Whether the
  // server could mend the fault itself is told by the caller.
  absl::Status SignInTime() {
    const absl::Time begin = absl::Now();
    absl::Status status = Sign("shaky");
    EXPECT_LT(absl::Now() - begin, kAnswerLimit);
    if (!status.ok()) {
      EXPECT_THAT(status, AnyOf(HasReason(v1::REASON_TOKEN_DOWN),
                                HasReason(v1::REASON_TOKEN_TIMEOUT),
                                HasReason(v1::REASON_TOKEN_BUSY),
                                HasReason(v1::REASON_TOKEN_FUNCTION_FAILED)));
    }
    return status;
  }

  // The token is well again.
  void ExpectResumes() {
    shim_.Play("");
    const absl::Time begin = absl::Now();
    absl::Status status = Sign("shaky");
    while (!status.ok() && absl::Now() < begin + absl::Seconds(20)) {
      status = Sign("shaky");
    }
    EXPECT_THAT(status, IsOk());
    EXPECT_LT(absl::Now() - begin, kResumeLimit);
  }

  ServerWorld world_;
  FaultShim shim_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<TestClient> client_;
};

TEST_F(ServerFaultsTest, AHangingTokenIsAnsweredForAndReplaced) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_Sign hang");
  EXPECT_FALSE(SignInTime().ok());
  ExpectResumes();
}

TEST_F(ServerFaultsTest, TheOtherTokenSignsWhileOneHangs) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_Sign hang");
  const int calls = shim_.CallCount("C_SignInit");
  std::thread stuck([this] { SignInTime().IgnoreError(); });
  ASSERT_TRUE(shim_.WaitForCalls("C_SignInit", calls));
  for (int i = 0; i < 20; ++i) EXPECT_THAT(Sign("calm"), IsOk());
  stuck.join();
  ExpectResumes();
}

TEST_F(ServerFaultsTest, ACrashingModuleTakesNobodyAlong) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_Sign crash");
  EXPECT_FALSE(SignInTime().ok());
  EXPECT_THAT(Sign("calm"), IsOk());
  ExpectResumes();
  EXPECT_GT(shim_.Processes().size(), 1u);
}

TEST_F(ServerFaultsTest, ARemovedTokenComesBack) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("* rv=CKR_DEVICE_REMOVED");
  EXPECT_FALSE(SignInTime().ok());
  EXPECT_THAT(Sign("calm"), IsOk());
  const auto identity = client_->GetIdentity("shaky");
  ASSERT_THAT(identity, IsOk());
  EXPECT_NE(identity->unavailable_because(), "");
  ExpectResumes();
  const auto again = client_->GetIdentity("shaky");
  ASSERT_THAT(again, IsOk());
  EXPECT_EQ(again->unavailable_because(), "");
}

TEST_F(ServerFaultsTest, ALostSessionIsOpenedAgain) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_SignInit count=1 rv=CKR_SESSION_HANDLE_INVALID");
  EXPECT_THAT(SignInTime(), IsOk());
  shim_.Play("C_SignInit rv=CKR_SESSION_HANDLE_INVALID");
  EXPECT_FALSE(SignInTime().ok());
  ExpectResumes();
}

TEST_F(ServerFaultsTest, AnErrorThatSticksUntilFinalizeIsShakenOff) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_Sign count=1 rv=CKR_DEVICE_ERROR until=C_Finalize");
  SignInTime().IgnoreError();
  // The token is never told to be well: the worker must do it.
  const absl::Time begin = absl::Now();
  absl::Status status = Sign("shaky");
  while (!status.ok() && absl::Now() < begin + absl::Seconds(20)) {
    status = Sign("shaky");
  }
  EXPECT_THAT(status, IsOk());
  EXPECT_LT(absl::Now() - begin, kResumeLimit);
}

TEST_F(ServerFaultsTest, AWrongPinIsSentOnce) {
  shim_.Play("C_Login rv=CKR_PIN_INCORRECT");
  Start();
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(Sign("shaky"), AnyOf(HasReason(v1::REASON_PIN_REJECTED),
                                     HasReason(v1::REASON_PIN_HOLD)));
  }
  EXPECT_THAT(Sign("calm"), IsOk());
  EXPECT_EQ(shim_.CallCount("C_Login"), 1);
  EXPECT_THAT(server_->log(), HasSubstr("the rejected PIN is not sent again"));
}

TEST_F(ServerFaultsTest, ATokenAboutToLockIsNotLoggedInto) {
  shim_.Play("C_GetTokenInfo flags=USER_PIN_FINAL_TRY");
  Start();
  EXPECT_THAT(Sign("shaky"), HasReason(v1::REASON_PIN_HOLD));
  EXPECT_EQ(shim_.CallCount("C_Login"), 0);
}

TEST_F(ServerFaultsTest, ATokenThatIsDownAtTheStartStopsNobody) {
  shim_.Play("* rv=CKR_DEVICE_REMOVED");
  Start();
  EXPECT_THAT(Sign("calm"), IsOk());
  EXPECT_FALSE(SignInTime().ok());
  const auto identity = client_->GetIdentity("shaky");
  ASSERT_THAT(identity, IsOk());
  EXPECT_NE(identity->unavailable_because(), "");
  ExpectResumes();
}

TEST_F(ServerFaultsTest, AWrongSignatureNeverLeaves) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_Sign flip");
  const v1::SignRequest request = NewRequest("shaky");
  const TestClient::Result result = client_->Sign(request);
  EXPECT_THAT(result, HasReason(v1::REASON_SELF_VERIFY_FAILED));
  shim_.Play("C_SignInit swap");
  EXPECT_FALSE(Sign("shaky").ok());
  ExpectResumes();
}

}  // namespace
}  // namespace codeseal
