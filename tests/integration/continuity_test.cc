// A new certificate authority in the middle of an identity's life: code of two
// versions is one program to macOS when the designated requirement says so.
// Two authorities are built like Developer ID's first and second; the server,
// its token and the command are the real ones, only the root that counts as
// Apple's is the test's.

#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "codesign/base/clock.h"
#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/requirement/default_designated.h"
#include "codesign/requirement/evaluator.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/config.h"
#include "server/server.h"
#include "tests/integration/test_client.h"
#include "tests/support/server_process.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildSignRequest;
using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::ClientFiles;
using ::codeseal::testing::Decode;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::Issue;
using ::codeseal::testing::IssueForKey;
using ::codeseal::testing::kCodeSigning;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::RandomUuid;
using ::codeseal::testing::RunProgram;
using ::codeseal::testing::ServerProgram;
using ::codeseal::testing::ServerWorld;
using ::codeseal::testing::SignRequestSpec;
using ::codeseal::testing::SubprocessResult;
using ::codeseal::testing::TestClient;
using ::codeseal::testing::TestIdentity;
using ::codeseal::testing::TokenWorkerProgram;
using ::testing::HasSubstr;

constexpr char kIdentifier[] = "com.example.demo";
constexpr char kAdminUri[] = "spiffe://test/admin";
constexpr char kTeam[] = "ABCDE12345";
constexpr char kDeveloperIdCa[] = "1.2.840.113635.100.6.2.6";
constexpr char kDeveloperIdLeaf[] = "1.2.840.113635.100.6.1.13";

CertificateSpec Authority(const std::string& unit) {
  CertificateSpec spec;
  spec.common_name = "Developer ID Certification Authority";
  spec.organization = "Test Apple Inc.";
  spec.organizational_unit = unit;
  spec.certificate_authority = true;
  return spec;
}

const TestIdentity& Root() {
  static const TestIdentity* const root = [] {
    CertificateSpec spec = Authority("Test Certification Authority");
    spec.common_name = "Test Apple Root CA";
    return new TestIdentity(MakeRoot(spec));
  }();
  return *root;
}

bool IsTestAppleRoot(const Certificate& certificate) {
  return certificate == Root().certificate();
}

// As Apple's: G1 and G2 differ in the unit of their name and in their key.
TestIdentity DeveloperIdCa(const std::string& unit) {
  CertificateSpec spec = Authority(unit);
  spec.markers = {kDeveloperIdCa};
  return Issue(spec, Root());
}

class ContinuityTest : public ::testing::Test {
 protected:
  struct Leaf {
    std::string team = kTeam;
    std::vector<std::string> markers = {kDeveloperIdLeaf};
  };

  ContinuityTest() {
    CertificateSpec admin;
    admin.uris = {kAdminUri};
    admin_files_ = world_.AddClient("admin", admin);
  }

  // Writes NAME.pem, the chain of a certificate for a new key on the token with
  // this id.
  std::vector<Certificate> AddVersion(const std::string& name, uint8_t key_id,
                                      const TestIdentity& authority,
                                      const Leaf& leaf) {
    const auto token = Token::Create(world_.softhsm().Config("main"));
    EXPECT_THAT(token, IsOk());
    const absl::StatusOr<Bytes> public_key = (*token)->GenerateKey(
        {{key_id}, name}, KeyAlgorithm::kP256, absl::Now() + absl::Seconds(60));
    EXPECT_THAT(public_key, IsOk());
    CertificateSpec spec;
    spec.common_name = "Developer ID Application: Example (" + leaf.team + ")";
    spec.organization = "Example";
    spec.organizational_unit = leaf.team;
    spec.extended_key_usage = {kCodeSigning};
    spec.markers = leaf.markers;
    const std::vector<Certificate> chain = {
        IssueForKey(*public_key, spec, authority), authority.certificate(),
        Root().certificate()};
    std::string pem;
    for (const Certificate& each : chain) pem += each.Pem();
    world_.folder().Write(name + ".pem", pem);
    return chain;
  }

  // The server with identity "dev", whose version "g1" is active.
  void Start() {
    const std::string identities =
        "identities:\n"
        "  - name: dev\n"
        "    versions: [{id: g1, key: {token: main, id: \"21\"}, chain: "
        "g1.pem}]\n"
        "    allow: [{spiffe: \"" +
        std::string(ServerWorld::kClientUri) + "\"}]\n";
    const std::string more =
        "state: {folder: state}\nadmin: {allow: [{spiffe: \"" +
        std::string(kAdminUri) + "\"}]}\n";
    const absl::StatusOr<ServerConfig> config = LoadConfig(world_.WriteConfig(
        world_.Config(world_.TokensSection(), identities, more)));
    ASSERT_THAT(config, IsOk());
    auto server = Server::Start(
        *config,
        [](TokenConfig token) {
          token.worker_path = TokenWorkerProgram();
          return Token::Create(std::move(token));
        },
        clock_, &IsTestAppleRoot);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
    client_ = std::make_unique<TestClient>(server_->bound_address(),
                                           world_.tls_ca(), world_.client());
    admin_client_ = std::make_unique<TestClient>(server_->bound_address(),
                                                 world_.tls_ca(), admin_files_);
    admin_ = v1::IdentityService::NewStub(admin_client_->channel());
  }

  // `codeseald identity WORDS...`, as an administrator types it.
  SubprocessResult Run(std::vector<std::string> words) const {
    words.insert(words.begin(), {ServerProgram(), "identity"});
    const std::string& address = server_->bound_address();
    return RunProgram(
        words,
        {{"CODESEAL_SERVER", "localhost" + address.substr(address.rfind(':'))},
         {"CODESEAL_CA", world_.tls_ca()},
         {"CODESEAL_CERT", admin_files_.certificate},
         {"CODESEAL_KEY", admin_files_.key}});
  }
  SubprocessResult StageByCommand(const std::string& version,
                                  const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = {"stage",
                                      "dev",
                                      version,
                                      "--token-key",
                                      "main:object=" + version,
                                      "--chain",
                                      world_.folder().Path(version + ".pem")};
    words.insert(words.end(), more.begin(), more.end());
    return Run(words);
  }
  absl::Status StageByRpc(const std::string& version, bool allow_change) {
    v1::StageVersionRequest request;
    request.set_name("dev");
    request.set_version(version);
    v1::KeyLocation& key = *request.add_keys();
    key.set_token("main");
    key.set_label(version);
    request.set_chain_pem(world_.folder().Read(version + ".pem"));
    request.set_allow_requirement_change(allow_change);
    grpc::ClientContext context;
    v1::Identity staged;
    return Decode(admin_->Stage(&context, request, &staged));
  }

  // Has the server sign, and says what `before` requires of the answer's
  // signer.
  absl::Status SignAndCheck(const std::string& version,
                            const std::vector<Certificate>& chain,
                            const std::vector<Certificate>& before) {
    SignRequestSpec spec;
    spec.request_id = RandomUuid();
    spec.identity = "dev";
    spec.identifier = kIdentifier;
    const v1::SignRequest request = BuildSignRequest(spec);
    ASSIGN_OR_RETURN(const v1::SignResponse response, client_->Sign(request));
    EXPECT_EQ(response.identity_version(), version);
    const CodeDirectoryBlob blob{
        DigestKind::kSha256,
        AsBytes(request.code_directory_set().code_directories(0))};
    ASSIGN_OR_RETURN(const CmsSignature verified,
                     VerifyAppleCms(AsBytes(response.cms()),
                                    DescribeContent({&blob, 1}), chain));
    EXPECT_TRUE(verified.signer == chain.front());
    RequirementContext context;
    context.identifier = kIdentifier;
    context.chain = chain;
    context.is_apple_root = &IsTestAppleRoot;
    return CheckRequirement(
        *BuildDefaultDesignated(kIdentifier, before, &IsTestAppleRoot),
        context);
  }

  // Refused by the RPC and by the command, with the clause named; not with the
  // override.
  void ExpectRefused(const std::string& version, const std::string& clause) {
    const absl::Status status = StageByRpc(version, false);
    EXPECT_THAT(status, HasReason(v1::REASON_REQUIREMENT_CHANGES));
    const std::optional<ErrorDetail> detail = GetErrorDetail(status);
    ASSERT_TRUE(detail.has_value());
    EXPECT_EQ(detail->rule(), clause);
    SubprocessResult result = StageByCommand(version);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, HasSubstr(clause));
    EXPECT_THAT(result.err, HasSubstr("--allow-requirement-change"));
    EXPECT_THAT(Run({"list", "dev"}).out, Not(HasSubstr(version)));

    result = StageByCommand(version, {"--allow-requirement-change"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    // Who staged it has said that it is meant.
    result = Run({"activate", "dev", version});
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }

  ServerWorld world_;
  ClientFiles admin_files_;
  const SystemClock clock_;
  const TestIdentity g1_ = DeveloperIdCa("G1");
  const TestIdentity g2_ = DeveloperIdCa("G2");
  std::unique_ptr<Server> server_;
  std::unique_ptr<TestClient> client_;
  std::unique_ptr<TestClient> admin_client_;
  std::unique_ptr<v1::IdentityService::Stub> admin_;
};

TEST_F(ContinuityTest, TheSecondDeveloperIdAuthorityFollowsTheFirst) {
  const auto g1 = AddVersion("g1", 0x21, g1_, Leaf());
  const auto g2 = AddVersion("g2", 0x22, g2_, Leaf());
  Start();
  EXPECT_THAT(SignAndCheck("g1", g1, g1), IsOk());
  const SubprocessResult staged = StageByCommand("g2");
  EXPECT_EQ(staged.exit_code, 0) << staged.err;
  EXPECT_THAT(staged.out, HasSubstr("requirement  anchor apple generic and"));
  EXPECT_THAT(staged.out, HasSubstr(kTeam));
  // Staged already: no fault.
  EXPECT_THAT(StageByRpc("g2", false), IsOk());
  const SubprocessResult activated = Run({"activate", "dev", "g2"});
  EXPECT_EQ(activated.exit_code, 0) << activated.err;
  EXPECT_THAT(SignAndCheck("g2", g2, g1), IsOk());
}

TEST_F(ContinuityTest, AnotherTeamIsAnotherProgram) {
  AddVersion("g1", 0x21, g1_, Leaf());
  AddVersion("other-team", 0x22, g2_, {.team = "ZYXWV98765"});
  Start();
  ExpectRefused("other-team",
                "certificate leaf[subject.OU] = " + std::string(kTeam));
}

TEST_F(ContinuityTest, AnAuthorityWithoutTheMarkerIsAnotherProgram) {
  const auto g1 = AddVersion("g1", 0x21, g1_, Leaf());
  const TestIdentity plain = Issue(Authority("G2"), Root());
  const auto unmarked = AddVersion("unmarked", 0x22, plain, Leaf());
  Start();
  ExpectRefused("unmarked", "certificate 1[field." +
                                std::string(kDeveloperIdCa) + "] exists");
  // It is what was said: macOS would not take it for an update.
  EXPECT_FALSE(SignAndCheck("unmarked", unmarked, g1).ok());
}

TEST_F(ContinuityTest, ALeafWithoutTheMarkerIsAnotherProgram) {
  AddVersion("g1", 0x21, g1_, Leaf());
  AddVersion("unmarked", 0x22, g2_, {.markers = {}});
  Start();
  ExpectRefused("unmarked", "certificate leaf[field." +
                                std::string(kDeveloperIdLeaf) + "] exists");
}

}  // namespace
}  // namespace codeseal
