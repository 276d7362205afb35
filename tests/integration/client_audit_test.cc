// The audit log as its readers see it: receipts beside what was signed, an
// auditor with the folder, a second machine that keeps a copy.

#include <filesystem>
#include <memory>
#include <string>

#include "tests/integration/client_fixture.h"
#include "tests/support/server_process.h"

namespace codeseal::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class ClientAuditTest : public ClientTest {
 protected:
  ClientAuditTest() {
    world_.softhsm().AddToken("logkey");
    world_.AddKey("logkey", "07", KeyAlgorithm::kP256);
    tool_ = Write("tool", UnsignedUniversal());
    environment_["CODESEAL_CA"] = world_.tls_ca();
    environment_["CODESEAL_CERT"] = world_.client().certificate;
    environment_["CODESEAL_KEY"] = world_.client().key;
  }
  void Start() {
    const std::string token =
        "  logkey: {module: " + std::string(kSoftHsmModule) +
        ", label: logkey, pin_source: \"file:" + world_.softhsm().pin_file() +
        "\"}\n";
    server_ = std::make_unique<ServerProcess>(world_.WriteConfig(world_.Config(
        world_.TokensSection() + token, world_.IdentitiesSection(),
        "state: {sqlite: {path: ledger.db}}\n"
        "audit: {dir: auditlog, origin: log.example/test, key: {token: logkey, "
        "id: \"07\"}, reserve: 0, timeout: 10s, readers: [{spiffe: \"" +
            std::string(ServerWorld::kClientUri) +
            "\"}]}\nadmin: {allow: [{spiffe: \"" +
            std::string(ServerWorld::kClientUri) + "\"}]}\n")));
    const std::string& address = server_->address();
    environment_["CODESEAL_SERVER"] =
        "localhost" + address.substr(address.rfind(':'));
  }
  SubprocessResult Sign() const {
    return Codeseal({"sign", "-f", "-s", "ec", "--receipts",
                     folder_.Path("receipts"), tool_});
  }
  SubprocessResult Collect() const {
    return Codeseal({"audit", "collect", "--dir", copy_, "--log-key", key_});
  }

  ServerWorld world_;
  std::unique_ptr<ServerProcess> server_;
  std::string tool_;
  const std::string log_ = world_.folder().Path("auditlog");
  const std::string key_ = log_ + "/key";
  const std::string copy_ = folder_.Path("copy");
};

TEST_F(ClientAuditTest, ReceiptsAreKeptAndCheckOffline) {
  Start();
  const SubprocessResult sign = Sign();
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  const std::string key =
      folder_.Write("key", world_.folder().Read("auditlog/key"));
  server_->Stop();
  int count = 0;
  for (const auto& each : fs::directory_iterator(folder_.Path("receipts"))) {
    ++count;
    const SubprocessResult check = Codeseal(
        {"audit", "check-receipt", each.path().string(), "--key", key});
    EXPECT_EQ(check.exit_code, 0) << check.err;
    EXPECT_THAT(check.out, HasSubstr(each.path().stem().string()));
    EXPECT_THAT(check.out, HasSubstr("\"kind\":\"signed\""));
  }
  EXPECT_EQ(count, 2);  // a universal file has two signatures
  const SubprocessResult verify =
      Codeseal({"audit", "verify", "--dir", log_, "--key", key});
  EXPECT_EQ(verify.exit_code, 0) << verify.err;
  EXPECT_THAT(verify.out, HasSubstr("2 signed, 0 failed"));
}

TEST_F(ClientAuditTest, ASecondMachineFollowsTheLogAndRefusesAnotherPast) {
  Start();
  ASSERT_EQ(Sign().exit_code, 0);
  SubprocessResult collect = Collect();
  EXPECT_EQ(collect.exit_code, 0) << collect.err;
  ASSERT_EQ(Sign().exit_code, 0);
  collect = Collect();
  EXPECT_EQ(collect.exit_code, 0) << collect.err;
  EXPECT_THAT(collect.out, HasSubstr("new"));
  const SubprocessResult verify =
      Codeseal({"audit", "verify", "--dir", copy_, "--key", key_});
  EXPECT_EQ(verify.exit_code, 0) << verify.err;
  EXPECT_THAT(verify.out, HasSubstr("4 signed"));

  // Somebody who may use the log's key begins the log again.
  server_->Stop();
  fs::remove_all(log_);
  fs::remove(log_ + ".signed");
  Start();
  ASSERT_EQ(Sign().exit_code, 0);
  collect = Collect();
  EXPECT_EQ(collect.exit_code, 1) << collect.err;
  EXPECT_TRUE(fs::exists(copy_ + "/refused"));
  EXPECT_EQ(
      Codeseal({"audit", "verify", "--dir", copy_, "--key", key_}).exit_code,
      0);
}

TEST_F(ClientAuditTest, TheTranscriptOfACeremonyGoesIntoTheLog) {
  Start();
  const std::string ceremony = folder_.Write(
      "ceremony.yaml",
      "version: 1\nceremony: keys of 2026\noperators: [Alice, Bob]\n"
      "token: {uri: \"pkcs11:token=main?module-path=" +
          std::string(kSoftHsmModule) +
          "&pin-source=file:" + world_.softhsm().pin_file() +
          "\"}\ntranscript: transcript.jsonl\nsteps:\n"
          "  - generate: {id: \"31\", label: new, algorithm: p256}\n");
  const SubprocessResult run =
      RunProgram({ServerProgram(), "ceremony", "run", ceremony});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const std::string transcript = folder_.Path("transcript.jsonl");
  const auto record = [&] {
    return RunProgram({ServerProgram(), "ceremony", "record", transcript,
                       "--server", environment_["CODESEAL_SERVER"], "--ca",
                       world_.tls_ca(), "--cert", world_.client().certificate,
                       "--key", world_.client().key});
  };
  const SubprocessResult recorded = record();
  EXPECT_EQ(recorded.exit_code, 0) << recorded.err;
  EXPECT_THAT(recorded.out, HasSubstr("4 lines recorded, from entry "));

  std::string text = folder_.Read("transcript.jsonl");
  text.replace(text.find("Alice"), 5, "Clara");
  folder_.Write("transcript.jsonl", text);
  const SubprocessResult changed = record();
  EXPECT_EQ(changed.exit_code, 2);
  EXPECT_THAT(changed.err, HasSubstr("transcript.jsonl:2: not the line"));

  server_->Stop();
  const SubprocessResult entries =
      Codeseal({"audit", "entries", "--dir", log_, "--key", key_});
  EXPECT_EQ(entries.exit_code, 0) << entries.err;
  EXPECT_THAT(entries.out,
              AllOf(HasSubstr("\"event\":\"ceremony_recorded\""),
                    HasSubstr("\"subject\":\"4/4\""), HasSubstr("Alice"),
                    HasSubstr(ServerWorld::kClientUri)));
}

}  // namespace
}  // namespace codeseal::testing
