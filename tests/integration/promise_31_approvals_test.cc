// Promise 31: quorum, no self-approval, bound to the digest, limited by time
// and count; exact when two replicas race for the last use. And the whole way,
// with the command line and the approvers' own tokens.

#include <atomic>
#include <future>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "hsm/public_key.h"
#include "server/grants.h"
#include "server/ledger.h"
#include "tests/integration/client_fixture.h"
#include "tests/integration/test_client.h"
#include "tests/support/fault_shim.h"
#include "tests/support/postgres_cluster.h"
#include "tests/support/server_process.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;

using Begun = absl::StatusOr<std::optional<LedgerEntry>>;
Begun Begin(Ledger& ledger, const LedgerKey& key, ByteView payload_digest,
            Ledger::Admission admission = nullptr) {
  std::promise<Begun> promise;
  ledger.Begin(
      key, payload_digest,
      [&promise](Begun begun) { promise.set_value(std::move(begun)); },
      std::move(admission));
  return promise.get_future().get();
}

TEST(Promise31RaceTest, promise_31_the_last_use_is_nobody_elses) {
  PostgresOptions options;
  options.dsn = PostgresCluster::Get().AddDatabase();
  const SystemClock clock;
  std::vector<std::unique_ptr<Ledger>> replicas;
  for (int i = 0; i < 2; ++i) {
    auto stores = OpenPostgresLedgerStores(options);
    ASSERT_THAT(stores, IsOk());
    replicas.push_back(
        std::make_unique<Ledger>(*std::move(stores), absl::Hours(1), clock));
  }
  const absl::Time now = absl::Now();
  for (int round = 0; round < 5; ++round) {
    v1::Grant terms;
    terms.set_id("grant-" + std::to_string(round));
    terms.set_identity("release");
    terms.add_cdhashes(std::string(20, 'a'));
    terms.set_max_uses(3);
    terms.set_quorum(1);
    terms.mutable_created_at()->set_seconds(absl::ToUnixSeconds(now));
    terms.mutable_expires_at()->set_seconds(
        absl::ToUnixSeconds(now + absl::Hours(1)));
    v1::Approval approval;
    approval.set_approver("alice");
    approval.set_approves(true);
    ASSERT_THAT(Begin(*replicas[0], {"c", "setup" + std::to_string(round)}, {},
                      [&](Database& database) -> absl::Status {
                        RETURN_IF_ERROR(CreateGrant(database, terms));
                        return DecideGrant(database, terms.id(), approval, now);
                      }),
                IsOk());
    const GrantUse use = {
        terms.id(), "release", {Bytes(20, uint8_t{'a'})}, {"x"}};
    std::atomic<int> used = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 12; ++i) {
      threads.emplace_back([&, i] {
        const auto begun = Begin(
            *replicas[static_cast<size_t>(i % 2)],
            {"c", std::to_string(round) + "-" + std::to_string(i)}, {},
            [&](Database& database) { return UseGrant(database, use, now); });
        if (begun.ok()) {
          ++used;
        } else {
          EXPECT_THAT(begun, HasReason(v1::REASON_GRANT_STATE));
        }
      });
    }
    for (std::thread& each : threads) each.join();
    EXPECT_EQ(used, 3);
  }
}

// A server whose identity "ec" wants two of three approvers; the client may
// use it, and each approver has a certificate and a key on a token of their
// own.
class Promise31Test : public ClientTest {
 protected:
  Promise31Test() {
    world_.softhsm().AddToken("people");
    std::string approvers;
    for (const char* const name : {"alice", "bob", "carol"}) {
      const std::string id = std::to_string(40 + approvers_.size());
      // The certificate only carries the public key.
      const std::string chain =
          world_.AddKey("people", id, KeyAlgorithm::kP256);
      CertificateSpec spec;
      spec.uris = {std::string("spiffe://test/people/") + name};
      approvers_[name] = {world_.AddClient(name, spec), id};
      approvers += std::string("        - {name: ") + name + ", key: " + chain +
                   ", peer: {spiffe: \"" + spec.uris[0] + "\"}}\n";
    }
    world_.softhsm().AddToken("logkey");
    world_.AddKey("logkey", "07", KeyAlgorithm::kP256);
    const std::string config = world_.Config(
        world_.TokensSection(FaultShim::Module()) +
            "  logkey: {module: " + std::string(kSoftHsmModule) +
            ", label: logkey, pin_source: \"file:" +
            world_.softhsm().pin_file() + "\"}\n",
        "identities:\n" +
            ServerWorld::Identity("ec", "main", "02", "main-02.chain.pem",
                                  "      - {spiffe: "
                                  "\"spiffe://test/people/alice\"}\n"
                                  "    approvals:\n"
                                  "      quorum: 2\n"
                                  "      max_uses: 3\n"
                                  "      approvers:\n" +
                                      approvers),
        "state: {sqlite: {path: ledger.db}}\n"
        "audit: {dir: auditlog, origin: log.example/test, key: {token: logkey, "
        "id: \"07\"}, reserve: 0, timeout: 10s}\n");
    server_ = std::make_unique<ServerProcess>(
        world_.WriteConfig(WithBlockAllow(config)));
    client_ = std::make_unique<TestClient>(server_->address(), world_.tls_ca(),
                                           world_.client());
    const std::string& address = server_->address();
    environment_["CODESEAL_SERVER"] =
        "localhost" + address.substr(address.rfind(':'));
    environment_["CODESEAL_CA"] = world_.tls_ca();
    environment_["SOFTHSM2_CONF"] = world_.softhsm().config_file();
    Become(world_.client());
  }

  // ServerWorld writes `allow` on one line; here it has a second entry.
  static std::string WithBlockAllow(std::string config) {
    const std::string from = "    allow: [{spiffe: \"" +
                             std::string(ServerWorld::kClientUri) + "\"}]\n";
    const size_t at = config.find(from);
    EXPECT_NE(at, std::string::npos);
    return config.replace(at, from.size(),
                          "    allow:\n      - {spiffe: \"" +
                              std::string(ServerWorld::kClientUri) + "\"}\n");
  }

  void Become(const ClientFiles& files) {
    environment_["CODESEAL_CERT"] = files.certificate;
    environment_["CODESEAL_KEY"] = files.key;
  }
  SubprocessResult Approve(const std::string& name, const std::string& grant,
                           const std::string& key_of = "") {
    const auto& [files, id] = approvers_.at(name);
    Become(files);
    const std::string& key = key_of.empty() ? id : approvers_.at(key_of).second;
    const SubprocessResult result =
        Codeseal({"approve", grant, "--token",
                  "pkcs11:token=people;id=%" + key +
                      "?module-path=" + std::string(kSoftHsmModule) +
                      "&pin-source=file:" + world_.softhsm().pin_file()});
    Become(world_.client());
    return result;
  }
  // The id of a new grant.
  std::string Ask(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(),
                     {"grant", "request", "-s", "ec", "--json"});
    const SubprocessResult result = Codeseal(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    if (result.exit_code != 0) return "";
    return nlohmann::json::parse(result.out)["results"][0]["name"];
  }
  static v1::SignRequest NewRequest(const std::string& grant) {
    SignRequestSpec spec;
    spec.request_id = RandomUuid();
    spec.identity = "ec";
    v1::SignRequest request = BuildSignRequest(spec);
    request.set_grant(grant);
    return request;
  }
  // The cdhash of every request here.
  static std::string CdHashHex() {
    const v1::SignRequest request = NewRequest("");
    return HexEncode(ComputeCdHash(
        DigestKind::kSha256,
        AsBytes(request.code_directory_set().code_directories(0))));
  }

  FaultShim shim_;
  ServerWorld world_;
  std::map<std::string, std::pair<ClientFiles, std::string>> approvers_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<TestClient> client_;
};

TEST_F(Promise31Test, promise_31_two_people_agree_to_one_artifact) {
  const int before = shim_.CallCount("C_Sign");
  EXPECT_THAT(client_->Sign(NewRequest("")),
              HasReason(v1::REASON_APPROVAL_REQUIRED));
  const std::string grant = Ask({"--cdhash", CdHashHex(), "--uses", "2",
                                 "--reason", "release\ngrant: forged"});
  EXPECT_THAT(client_->Sign(NewRequest(grant)),
              HasReason(v1::REASON_APPROVAL_REQUIRED));
  EXPECT_EQ(Approve("bob", grant).exit_code, 0);
  EXPECT_THAT(client_->Sign(NewRequest(grant)),
              HasReason(v1::REASON_APPROVAL_REQUIRED));
  // Twice is not two.
  EXPECT_EQ(Approve("bob", grant).exit_code, 1);
  // The key of somebody else does not speak for carol.
  const SubprocessResult wrong_key = Approve("carol", grant, "alice");
  EXPECT_EQ(wrong_key.exit_code, 1);
  EXPECT_THAT(wrong_key.err, HasSubstr("not signed with the approver's key"));
  EXPECT_LE(shim_.CallCount("C_Sign"), before + 1);
  const SubprocessResult approved = Approve("carol", grant);
  EXPECT_EQ(approved.exit_code, 0) << approved.err;

  v1::SignRequest request = NewRequest(grant);
  EXPECT_THAT(client_->Sign(request), IsOk());
  EXPECT_THAT(client_->Sign(request), IsOk());  // a replay is no use
  EXPECT_THAT(client_->Sign(NewRequest(grant)), IsOk());
  EXPECT_THAT(client_->Sign(NewRequest(grant)),
              HasReason(v1::REASON_GRANT_STATE));
  SignRequestSpec other;
  other.request_id = RandomUuid();
  other.identity = "ec";
  other.identifier = "com.example.other";
  v1::SignRequest another = BuildSignRequest(other);
  another.set_grant(grant);
  EXPECT_THAT(client_->Sign(another), HasReason(v1::REASON_APPROVAL_REQUIRED));

  // The log has the approvers' signatures: no server is needed to check them.
  const std::string log = world_.folder().Path("auditlog");
  const SubprocessResult entries =
      Codeseal({"audit", "entries", "--dir", log, "--key", log + "/key"});
  ASSERT_EQ(entries.exit_code, 0) << entries.err;
  EXPECT_THAT(entries.out, HasSubstr("\"event\":\"grant_requested\""));
  EXPECT_THAT(entries.out,
              HasSubstr("\"decision\":\"allowed by grant " + grant + "\""));
  int proven_count = 0;
  std::istringstream lines(entries.out);
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json entry = nlohmann::json::parse(line)["entry"];
    if (entry.value("event", "") != "grant_approved") continue;
    if (entry.contains("reason")) {
      --proven_count;  // bob's second, which came to nothing
      continue;
    }
    EXPECT_EQ(entry["subject"], grant);
    const auto evidence =
        nlohmann::json::parse(entry["detail"].get<std::string>());
    const auto field = [&](const char* name) {
      std::string bytes;
      EXPECT_TRUE(
          absl::Base64Unescape(evidence[name].get<std::string>(), &bytes));
      return bytes;
    };
    const std::string statement = field("statement");
    EXPECT_THAT(statement, HasSubstr(CdHashHex()));
    const auto key = ParsePublicKey(AsBytes(field("public_key")));
    ASSERT_THAT(key, IsOk());
    EXPECT_THAT(
        VerifyDigest(key->get(), SignMechanism::kEcdsa, SignDigest::kSha256,
                     ComputeDigest(DigestKind::kSha256, AsBytes(statement)),
                     AsBytes(field("signature"))),
        IsOk());
    ++proven_count;
  }
  EXPECT_EQ(proven_count, 2);

  // The approvals prove themselves without the server.
  const SubprocessResult shown = Codeseal({"grant", "show", grant, "--json"});
  ASSERT_EQ(shown.exit_code, 0) << shown.err;
  const auto json = nlohmann::json::parse(shown.out)["results"][0];
  EXPECT_EQ(json["use_count"], 2);
  ASSERT_EQ(json["approvals"].size(), 2u);
  for (const auto& each : json["approvals"]) {
    const std::string statement = each["statement"];
    EXPECT_THAT(statement, HasSubstr("\ngrant: " + grant + "\n"));
    EXPECT_THAT(statement, HasSubstr("\ncdhash: " + CdHashHex() + "\n"));
    EXPECT_THAT(statement, HasSubstr("\nreason: release\\x0agrant: forged\n"));
    folder_.Write("statement", statement);
    const auto unhex = [](const std::string& hex) {
      std::string bytes;
      for (size_t i = 0; i + 1 < hex.size(); i += 2) {
        bytes.push_back(
            static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
      }
      return bytes;
    };
    folder_.Write("signature", unhex(each["signature"]));
    folder_.Write("key.der", unhex(each["public_key"]));
    const SubprocessResult verified =
        RunProgram({"openssl", "dgst", "-sha256", "-verify",
                    folder_.Path("key.der"), "-keyform", "DER", "-signature",
                    folder_.Path("signature"), folder_.Path("statement")});
    EXPECT_EQ(verified.exit_code, 0) << verified.out << verified.err;
  }
}

TEST_F(Promise31Test, promise_31_nobody_approves_their_own) {
  Become(approvers_.at("alice").first);
  const std::string grant = Ask({"--cdhash", CdHashHex()});
  const SubprocessResult own = Approve("alice", grant);
  EXPECT_EQ(own.exit_code, 1);
  EXPECT_THAT(own.err, HasSubstr("asked for themselves"));
  EXPECT_EQ(Approve("bob", grant).exit_code, 0);
  EXPECT_THAT(client_->Sign(NewRequest(grant)),
              HasReason(v1::REASON_APPROVAL_REQUIRED));
  // The build host may use the identity, but approves nothing.
  const SubprocessResult host = Codeseal(
      {"approve", grant, "--token",
       "pkcs11:token=people;id=%40?module-path=" + std::string(kSoftHsmModule) +
           "&pin-source=file:" + world_.softhsm().pin_file()});
  EXPECT_EQ(host.exit_code, 1);
  EXPECT_THAT(host.err, HasSubstr("for the identity's approvers"));
}

TEST_F(Promise31Test, promise_31_a_rejected_or_revoked_grant_is_over) {
  for (const bool reject : {true, false}) {
    const std::string grant =
        Ask({"--release", "1.2", "--identifier", "com.example.demo"});
    EXPECT_EQ(Approve("bob", grant).exit_code, 0);
    EXPECT_EQ(Approve("carol", grant).exit_code, 0);
    EXPECT_THAT(client_->Sign(NewRequest(grant)), IsOk());
    if (reject) {
      // Decided already: too late to reject, but not to revoke.
      EXPECT_EQ(Approve("alice", grant).exit_code, 1);
    }
    EXPECT_EQ(Codeseal({"grant", "revoke", grant}).exit_code, 0);
    EXPECT_THAT(client_->Sign(NewRequest(grant)),
                HasReason(v1::REASON_GRANT_STATE));
  }
}

}  // namespace
}  // namespace codeseal::testing
