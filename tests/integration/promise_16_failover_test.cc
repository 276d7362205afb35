// Promise 16: when one of the tokens that hold an identity's key fails, another
// one signs within the request's deadline; never with another key.

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;

class FailoverPromiseTest : public PromiseTest {
 protected:
  // A new key on tokens "main" and "spare", as an HSM's own backup would put it
  // there; the chain of its certificate.
  std::string AddTwins() {
    SoftHsm& softhsm = world_.softhsm();
    softhsm.AddToken("spare");
    softhsm.Run({"openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                 "ec_paramgen_curve:P-256", "-out",
                 softhsm.folder().Path("twin.pem")});
    const std::string pem = softhsm.folder().Read("twin.pem");
    softhsm.ImportKey("main", "twin", {9}, pem);
    softhsm.ImportKey("spare", "twin", {9}, pem);
    more_tokens_ = "  spare: {module: " + std::string(kSoftHsmModule) +
                   ", label: spare, pin_source: \"file:" + softhsm.pin_file() +
                   "\"}\n";
    const auto token = Token::Create(softhsm.Config("spare"));
    EXPECT_THAT(token, IsOk());
    const auto listing = (*token)->List(absl::Now() + absl::Seconds(30));
    EXPECT_THAT(listing, IsOk());
    return world_.WriteChain("twin", listing->keys.front().public_key);
  }

  static std::string TwinIdentity(const std::string& chain) {
    return "  - name: twin\n    key_policy: imported-allowed\n    versions: "
           "[{id: v1, keys: [\"main:id=%09\", \"spare:id=%09\"], chain: " +
           chain + "}]\n    allow: [{spiffe: \"" +
           std::string(ServerWorld::kClientUri) + "\"}]\n";
  }
};

TEST_F(FailoverPromiseTest, Promise16ASecondTokenOfTheIdentityTakesOver) {
  more_identities_ = TwinIdentity(AddTwins());
  for (const char* fault :
       {"* rv=CKR_DEVICE_REMOVED", "C_Sign crash", "C_Sign flip",
        "C_Sign rv=CKR_GENERAL_ERROR", "C_Login rv=CKR_PIN_INCORRECT"}) {
    Start();
    const int before = shim_.CallCount("C_Sign");
    ASSERT_THAT(Sign("twin"), IsOk());
    EXPECT_GT(shim_.CallCount("C_Sign"), before) << "the first is preferred";
    shim_.Play(std::string("C_SignInit count=1 rv=CKR_USER_NOT_LOGGED_IN "
                           "until=C_CloseAllSessions\n") +
               fault);
    for (int i = 0; i < 5; ++i) EXPECT_THAT(Sign("twin"), IsOk()) << fault;
    shim_.Play("");
    ClearPinHold("main").IgnoreError();
    EXPECT_LT(TimeUntilSigned(), kResumeLimit) << fault;
  }
}

TEST_F(FailoverPromiseTest, Promise16AHungTokenLeavesTimeForTheNext) {
  more_identities_ = TwinIdentity(AddTwins());
  main_options_ = "sessions: 2, op_timeout: 10s";
  Start();
  ASSERT_THAT(Sign("twin"), IsOk());
  shim_.Play("C_Sign hang");
  const absl::Time begin = absl::Now();
  EXPECT_THAT(Sign("twin", absl::Seconds(4)), IsOk());
  EXPECT_LT(absl::Now() - begin, absl::Seconds(4));
  // From then on the other one is asked first.
  const absl::Time again = absl::Now();
  for (int i = 0; i < 10; ++i) EXPECT_THAT(Sign("twin"), IsOk());
  EXPECT_LT(absl::Now() - again, absl::Seconds(2));
  shim_.Play("");
}

TEST_F(FailoverPromiseTest, Promise16AnotherKeyUnderTheSameNameIsNeverUsed) {
  SoftHsm& softhsm = world_.softhsm();
  const std::string chain = AddTwins();
  softhsm.AddToken("false");
  const auto token = Token::Create(softhsm.Config("false"));
  ASSERT_THAT(token, IsOk());
  ASSERT_THAT((*token)->GenerateKey({{9}, "twin"}, KeyAlgorithm::kP256,
                                    absl::Now() + absl::Seconds(30)),
              IsOk());
  more_tokens_ = "  spare: {module: " + std::string(kSoftHsmModule) +
                 ", label: false, pin_source: \"file:" + softhsm.pin_file() +
                 "\"}\n";
  more_identities_ = TwinIdentity(chain);
  Start();
  ASSERT_THAT(Sign("twin"), IsOk());
  EXPECT_THAT(log(), HasSubstr("REASON_KEY_MISMATCH"));
  shim_.Play("* rv=CKR_DEVICE_REMOVED");
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(Sign("twin"), HasReason(v1::REASON_TOKEN_DOWN));
  }
}

// A token that was away at the start is used once it is there.
TEST_F(FailoverPromiseTest, Promise16ATokenThatCameLateTakesOver) {
  more_identities_ = TwinIdentity(AddTwins());
  shim_.Play("* rv=CKR_DEVICE_REMOVED");
  Start();
  ASSERT_THAT(Sign("twin"), IsOk()) << "by the second token";
  EXPECT_EQ(UnavailableBecause("twin"), "");
  ExpectResumes();
  const absl::Time end = absl::Now() + absl::Seconds(20);
  const auto is_loaded = [&] {
    return log().find(
               "\"identity_available\",\"identity\":\"twin\","
               "\"version\":\"v1\",\"token\":\"main\"") != std::string::npos;
  };
  while (!is_loaded() && absl::Now() < end) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  const int before = shim_.CallCount("C_Sign");
  while (shim_.CallCount("C_Sign") == before && absl::Now() < end) {
    ASSERT_THAT(Sign("twin"), IsOk());
  }
  EXPECT_LT(absl::Now(), end) << "the first token is never used again";
}

}  // namespace
}  // namespace codeseal::testing
