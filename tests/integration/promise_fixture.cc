#include "tests/integration/promise_fixture.h"

#include <vector>

#include "codesign/cms/apple_cms.h"
#include "tests/integration/test_client.h"
#include "tests/support/sign_request_builder.h"

namespace codeseal::testing {
namespace {

using ::testing::AnyOf;

// The token's op_timeout, and what a busy machine may add.
constexpr absl::Duration kAnswerLimit = absl::Seconds(2 + 4);

// Whether the reply signs what was asked, with the key of its own first
// certificate. (Which certificate an identity has is the server's choice; the
// fixture's identities differ in theirs.)
absl::Status CheckReply(const v1::SignRequest& request,
                        const v1::SignResponse& response,
                        const std::string& signer) {
  std::vector<CodeDirectoryBlob> blobs;
  for (const std::string& each :
       request.code_directory_set().code_directories()) {
    blobs.push_back({DigestKind::kSha256, AsBytes(each)});
  }
  ASSIGN_OR_RETURN(
      const CmsSignature verified,
      VerifyAppleCms(AsBytes(response.cms()), DescribeContent(blobs), {}));
  if (verified.signer.CommonName() == signer) return absl::OkStatus();
  return absl::DataLossError("signed by " + verified.signer.CommonName());
}

}  // namespace

PromiseTest::PromiseTest() {
  world_.softhsm().AddToken("other");
  world_.AddKey("other", "03", KeyAlgorithm::kP256);
}
PromiseTest::~PromiseTest() = default;

void PromiseTest::Start() {
  server_.reset();  // it holds the state folder
  const std::string pin =
      "pin_source: \"file:" + world_.softhsm().pin_file() + "\"";
  const std::string tokens =
      "tokens:\n  main: {module: " + FaultShim::Module() + ", label: main, " +
      pin + ", " + main_options_ +
      "}\n  other: {module: " + std::string(kSoftHsmModule) +
      ", label: other, " + pin + "}\n" + more_tokens_;
  const std::string identities =
      "identities:\n" +
      ServerWorld::Identity("shaky", "main", "02", "main-02.chain.pem") +
      ServerWorld::Identity("calm", "other", "03", "other-03.chain.pem") +
      more_identities_;
  const std::string more =
      "state: {folder: state}\nadmin: {allow: [{spiffe: \"" +
      std::string(ServerWorld::kClientUri) + "\"}]}\n";
  server_ = std::make_unique<ServerProcess>(
      world_.WriteConfig(world_.Config(tokens, identities, more)));
  client_ = std::make_unique<TestClient>(server_->address(), world_.tls_ca(),
                                         world_.client());
}

void PromiseTest::Kill() {
  client_.reset();
  server_.reset();
}

absl::Status PromiseTest::Sign(const std::string& identity,
                               absl::Duration timeout) {
  SignRequestSpec spec;
  spec.request_id = RandomUuid();
  spec.identity = identity;
  const v1::SignRequest request = BuildSignRequest(spec);
  const TestClient::Result response = client_->Sign(request, timeout);
  if (!response.ok()) return response.status();
  const std::string leaf = identity == "shaky"  ? "main-02"
                           : identity == "calm" ? "other-03"
                                                : identity;
  return CheckReply(request, *response, "codeseal test signer " + leaf);
}

absl::Status PromiseTest::SignInTime() {
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

absl::Duration PromiseTest::TimeUntilSigned() {
  const absl::Time begin = absl::Now();
  absl::Status status = Sign("shaky");
  while (!status.ok() && absl::Now() < begin + absl::Seconds(20)) {
    status = Sign("shaky");
  }
  EXPECT_THAT(status, IsOk());
  return absl::Now() - begin;
}

void PromiseTest::ExpectResumes() {
  shim_.Play("");
  EXPECT_LT(TimeUntilSigned(), kResumeLimit);
}

std::string PromiseTest::UnavailableBecause(const std::string& identity) {
  const auto found = client_->GetIdentity(identity);
  EXPECT_THAT(found, IsOk());
  return found.ok() ? found->unavailable_because() : "";
}

absl::Status PromiseTest::ClearPinHold(const std::string& token) {
  return client_->ClearPinHold(token);
}

}  // namespace codeseal::testing
