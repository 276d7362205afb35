// Promise 40: rotation is atomic, and requests in flight keep their version.
// A real server over SoftHSM signs for many clients while its active version
// changes every 100 ms.
//
// CODESEAL_ROTATION_SECONDS is how long (4); ctest -L stress makes it 60.

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/requirement/default_designated.h"
#include "codesign/requirement/evaluator.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
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
using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::IssueForKey;
using ::codeseal::testing::kCodeSigning;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::RandomUuid;
using ::codeseal::testing::RunProgram;
using ::codeseal::testing::ServerProcess;
using ::codeseal::testing::ServerProgram;
using ::codeseal::testing::ServerWorld;
using ::codeseal::testing::SignRequestSpec;
using ::codeseal::testing::SubprocessResult;
using ::codeseal::testing::TestClient;
using ::codeseal::testing::TestIdentity;
using ::testing::HasSubstr;

constexpr absl::Duration kRotationInterval = absl::Milliseconds(100);
constexpr char kIdentifier[] = "com.example.demo";
constexpr char kAdminUri[] = "spiffe://test/admin";

absl::Duration TestDuration() {
  const char* const seconds = std::getenv("CODESEAL_ROTATION_SECONDS");
  return absl::Seconds(seconds != nullptr ? std::atoi(seconds) : 4);
}

class Promise40 : public ::testing::Test {
 protected:
  Promise40() {
    CertificateSpec admin;
    admin.uris = {kAdminUri};
    admin_files_ = world_.AddClient("admin", admin);
    // One organisation: then the designated requirement names its root.
    for (const std::string id : {"11", "12", "13"}) AddKey(id);
  }

  // A key inside the token, and a certificate for it.
  void AddKey(const std::string& id) {
    const auto token = Token::Create(world_.softhsm().Config("main"));
    ASSERT_THAT(token, IsOk());
    const auto number = static_cast<uint8_t>(std::stoi(id, nullptr, 16));
    const absl::StatusOr<Bytes> public_key =
        (*token)->GenerateKey({{number}, "key " + id}, KeyAlgorithm::kP256,
                              absl::Now() + absl::Seconds(60));
    ASSERT_THAT(public_key, IsOk());
    CertificateSpec spec;
    spec.common_name = "Rotating signer " + id;
    spec.organization = organization_;
    spec.extended_key_usage = {kCodeSigning};
    const Certificate leaf = IssueForKey(*public_key, spec, root_);
    chains_.emplace("v" + id,
                    std::vector<Certificate>{leaf, root_.certificate()});
    world_.folder().Write("v" + id + ".pem", leaf.Pem() + root_.pem());
  }

  void Start() {
    const std::string identities =
        "identities:\n"
        "  - name: rotating\n"
        "    versions:\n"
        "      - {id: v11, key: {token: main, id: \"11\"}, chain: v11.pem}\n"
        "    allow: [{spiffe: \"" +
        std::string(ServerWorld::kClientUri) + "\"}]\n";
    const std::string more =
        "state: {folder: state}\nadmin: {allow: [{spiffe: \"" +
        std::string(kAdminUri) + "\"}]}\n";
    config_ = world_.WriteConfig(
        world_.Config(world_.TokensSection(), identities, more));
    Restart();
  }
  void Restart() {
    server_.reset();
    server_ =
        std::make_unique<ServerProcess>(config_, ServerProcess::Options());
    admin_client_ = std::make_unique<TestClient>(server_->address(),
                                                 world_.tls_ca(), admin_files_);
    admin_ = v1::IdentityService::NewStub(admin_client_->channel());
  }
  TestClient NewClient() const {
    return {server_->address(), world_.tls_ca(), world_.client()};
  }

  absl::Status Stage(const std::string& id) {
    v1::StageVersionRequest request;
    request.set_name("rotating");
    request.set_version("v" + id);
    v1::KeyLocation& key = *request.add_keys();
    key.set_token("main");
    key.set_label("key " + id);
    request.set_chain_pem(world_.folder().Read("v" + id + ".pem"));
    grpc::ClientContext context;
    v1::Identity staged;
    return Decode(admin_->Stage(&context, request, &staged));
  }
  absl::Status Activate(const std::string& version) {
    v1::ActivateVersionRequest request;
    request.set_name("rotating");
    request.set_version(version);
    grpc::ClientContext context;
    v1::Identity active;
    return Decode(admin_->Activate(&context, request, &active));
  }
  std::string ActiveVersion() {
    const auto identity = NewClient().GetIdentity("rotating");
    return identity.ok() ? identity->version() : identity.status().ToString();
  }

  // The signature is of the CodeDirectory, by the certificate of the version
  // that the answer names, and satisfies what v11's code requires.
  absl::Status CheckAnswer(const v1::SignRequest& request,
                           const v1::SignResponse& response) const {
    const auto chain = chains_.find(response.identity_version());
    if (chain == chains_.end()) {
      return absl::InternalError("signed by version " +
                                 response.identity_version());
    }
    const Certificate& leaf = chain->second.front();
    if (response.certificate_chain_size() != 2 ||
        !Equal(AsBytes(response.certificate_chain(0)), leaf.der())) {
      return absl::InternalError("the chain is another version's");
    }
    const CodeDirectoryBlob blob{
        DigestKind::kSha256,
        AsBytes(request.code_directory_set().code_directories(0))};
    const absl::StatusOr<CmsSignature> verified = VerifyAppleCms(
        AsBytes(response.cms()), DescribeContent({&blob, 1}), chain->second);
    if (!verified.ok()) return verified.status();
    if (!(verified->signer == leaf)) {
      return absl::InternalError("the signature is another version's");
    }
    RequirementContext context;
    context.identifier = kIdentifier;
    context.chain = chain->second;
    return CheckRequirement(
        *BuildDefaultDesignated(kIdentifier, chains_.at("v11")), context);
  }

  static v1::SignRequest NewRequest(const std::string& version = "") {
    SignRequestSpec spec;
    spec.request_id = RandomUuid();
    spec.identity = "rotating";
    spec.identifier = kIdentifier;
    v1::SignRequest request = BuildSignRequest(spec);
    request.set_identity_version(version);
    return request;
  }

  const std::string organization_ = "Example Organization";
  ServerWorld world_;
  const TestIdentity root_ = MakeRoot([this] {
    CertificateSpec spec;
    spec.common_name = "Example Root";
    spec.organization = organization_;
    return spec;
  }());
  ClientFiles admin_files_;
  std::map<std::string, std::vector<Certificate>> chains_;  // by version
  std::string config_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<TestClient> admin_client_;
  std::unique_ptr<v1::IdentityService::Stub> admin_;
};

// What clients saw.
class Tally {
 public:
  void Add(const std::string& version, const absl::Status& status) {
    const std::lock_guard lock(mutex_);
    if (status.ok()) {
      ++signed_by_[version];
    } else if (faults_.size() < 5) {
      faults_.push_back(status.ToString());
    }
  }
  const std::map<std::string, int>& signed_by() const { return signed_by_; }
  const std::vector<std::string>& faults() const { return faults_; }
  int total() const {
    int total = 0;
    for (const auto& each : signed_by_) total += each.second;
    return total;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, int> signed_by_;
  std::vector<std::string> faults_;
};

TEST_F(Promise40, promise_40_RotationUnderLoadFailsNoRequest) {
  Start();
  ASSERT_THAT(Stage("12"), IsOk());
  ASSERT_THAT(Stage("13"), IsOk());
  std::atomic<bool> stop = false;
  Tally unpinned;
  Tally pinned;
  Tally streamed;
  std::vector<std::thread> clients;
  for (int i = 0; i < 3; ++i) {
    // Whatever is active.
    clients.emplace_back([&] {
      TestClient client = NewClient();
      while (!stop) {
        const v1::SignRequest request = NewRequest();
        const TestClient::Result result = client.Sign(request);
        unpinned.Add(
            result.ok() ? result->identity_version() : "",
            result.ok() ? CheckAnswer(request, *result) : result.status());
      }
    });
  }
  // As our client does it: looks at the certificate first, which goes into the
  // code, then asks for that version.
  clients.emplace_back([&] {
    TestClient client = NewClient();
    while (!stop) {
      const auto identity = client.GetIdentity("rotating");
      absl::Status status = identity.status();
      for (int i = 0; status.ok() && i < 8; ++i) {
        const v1::SignRequest request = NewRequest(identity->version());
        const TestClient::Result result = client.Sign(request);
        status = result.ok() ? CheckAnswer(request, *result) : result.status();
        if (status.ok() && result->identity_version() != identity->version()) {
          status = absl::InternalError("signed by another version");
        }
        if (status.ok()) pinned.Add(identity->version(), status);
      }
      if (!status.ok()) pinned.Add("", status);
    }
  });
  // Whole apps: one version for all of it.
  clients.emplace_back([&] {
    TestClient client = NewClient();
    while (!stop) {
      std::vector<v1::SignRequest> requests(24, NewRequest());
      for (v1::SignRequest& each : requests) {
        each.clear_identity();
        each.set_request_id(RandomUuid());
      }
      absl::Status end;
      const auto results = client.SignAll(requests, "rotating", &end);
      std::string version;
      for (const v1::SignRequest& each : requests) {
        const auto result = results.find(each.request_id());
        absl::Status status = end;
        if (result == results.end()) {
          status.Update(absl::InternalError("no answer"));
        } else if (!result->second.ok()) {
          status.Update(result->second.status());
        } else {
          const v1::SignResponse& response = *result->second;
          status.Update(CheckAnswer(each, response));
          if (version.empty()) version = response.identity_version();
          if (version != response.identity_version()) {
            status.Update(absl::InternalError("two versions in one stream"));
          }
        }
        streamed.Add(version, status);
      }
    }
  });

  const std::string order[] = {"v12", "v13", "v11"};
  int rotation_count = 0;
  const absl::Time end = absl::Now() + TestDuration();
  absl::Time next = absl::Now();
  while (absl::Now() < end) {
    next += kRotationInterval;
    absl::SleepFor(next - absl::Now());
    next = std::max(next, absl::Now());  // what was missed is not caught up
    const absl::Status rotated = Activate(order[rotation_count % 3]);
    EXPECT_THAT(rotated, IsOk());
    if (!rotated.ok()) break;
    ++rotation_count;
  }
  stop = true;
  for (std::thread& each : clients) each.join();

  const auto by_versions = [](const Tally& tally) {
    std::string text;
    for (const auto& [version, count] : tally.signed_by()) {
      text += " " + version + ": " + std::to_string(count);
    }
    return text;
  };
  std::printf("%d rotations; signed%s | pinned%s | streamed%s\n",
              rotation_count, by_versions(unpinned).c_str(),
              by_versions(pinned).c_str(), by_versions(streamed).c_str());
  for (const Tally* tally : {&unpinned, &pinned, &streamed}) {
    EXPECT_THAT(tally->faults(), ::testing::IsEmpty());
    // Every version had its turn.
    EXPECT_EQ(tally->signed_by().size(), 3u);
  }
  // Half of the rotations that fit, for machines that are busy.
  EXPECT_GE(rotation_count, TestDuration() / kRotationInterval / 2);
  server_->Terminate();
  EXPECT_EQ(server_->Wait(), 0);
}

// Killed while it rotates, the server comes back with one active version, and
// it is the one that it said, or the next.
TEST_F(Promise40, promise_40_AKillLeavesOneActiveVersion) {
  Start();
  ASSERT_THAT(Stage("12"), IsOk());
  for (int round = 0; round < 5; ++round) {
    std::string said = ActiveVersion();
    std::string asked = said;
    std::atomic<int> count = 0;
    std::thread rotator([&] {
      for (;;) {
        asked = said == "v11" ? "v12" : "v11";
        if (!Activate(asked).ok()) break;
        said = asked;
        ++count;
      }
    });
    while (count < 3 + round) std::this_thread::yield();
    kill(server_->pid(), SIGKILL);
    rotator.join();
    Restart();
    const std::string active = ActiveVersion();
    EXPECT_TRUE(active == said || active == asked)
        << active << ", said " << said << ", asked for " << asked;
    const v1::SignRequest request = NewRequest();
    const TestClient::Result result = NewClient().Sign(request);
    ASSERT_THAT(result, IsOk());
    EXPECT_EQ(result->identity_version(), active);
    EXPECT_THAT(CheckAnswer(request, *result), IsOk());
  }
}

// The words that an administrator types.
TEST_F(Promise40, promise_40_TheCommandsRotate) {
  Start();
  const auto run = [&](std::vector<std::string> arguments,
                       const ClientFiles& files) {
    arguments.insert(arguments.begin(), {ServerProgram(), "identity"});
    const size_t colon = server_->address().rfind(':');
    return RunProgram(
        arguments,
        {{"CODESEAL_SERVER", "localhost" + server_->address().substr(colon)},
         {"CODESEAL_CA", world_.tls_ca()},
         {"CODESEAL_CERT", files.certificate},
         {"CODESEAL_KEY", files.key}});
  };
  const auto admin = [&](const std::vector<std::string>& arguments) {
    return run(arguments, admin_files_);
  };
  const std::string chain = world_.folder().Path("v12.pem");
  const std::vector<std::string> stage = {
      "stage",       "rotating", "v12", "--token-key",
      "main:id=%12", "--chain",  chain};
  SubprocessResult result = admin(stage);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("rotating v12 staged since "));
  EXPECT_THAT(result.out, HasSubstr("requirement  certificate root = H\""));
  for (const std::string word : {"probe", "activate"}) {
    result = admin({word, "rotating", "v12"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }
  EXPECT_EQ(ActiveVersion(), "v12");
  result = admin({"list", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("\"state\": \"active\""));
  EXPECT_THAT(result.out, HasSubstr("\"state\": \"retired\""));
  result = admin({"disable", "rotating", "v11", "--because", "lost token"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(server_->log(), HasSubstr("lost token"));
  EXPECT_THAT(NewClient().Sign(NewRequest("v11")),
              HasReason(v1::REASON_IDENTITY_DISABLED));

  // A certificate of another organisation is another program.
  CertificateSpec spec;
  spec.common_name = "Other signer";
  spec.organization = "Other Organization";
  const TestIdentity other = MakeRoot(spec);
  const auto token = Token::Create(world_.softhsm().Config("main"));
  const auto key = (*token)->LoadKey({{0x13}, ""}, KeyPolicy::kStrict, {},
                                     absl::Now() + absl::Seconds(60));
  ASSERT_THAT(key, IsOk());
  const std::string other_chain = world_.folder().Write(
      "other.pem",
      IssueForKey((*key)->public_key(), spec, other).Pem() + other.pem());
  result = admin({"stage", "rotating", "v13", "--token-key", "main:id=%13",
                  "--chain", other_chain});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err,
              HasSubstr("certificate root = H\"" +
                        HexEncode(root_.certificate().Sha1()) + "\""));
  EXPECT_THAT(result.err, HasSubstr("--allow-requirement-change"));

  // Who may sign may not rotate.
  result = run({"activate", "rotating", "v12"}, world_.client());
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("administrators"));
  // And a server whose state folder is in use starts no second one.
  const SubprocessResult second =
      RunProgram({ServerProgram(), "serve", "--config", config_});
  EXPECT_EQ(second.exit_code, 2);
  EXPECT_THAT(second.err, HasSubstr("another codeseald uses"));
  EXPECT_EQ(RunProgram({ServerProgram(), "check-config", config_}).exit_code,
            0);
}

}  // namespace
}  // namespace codeseal
