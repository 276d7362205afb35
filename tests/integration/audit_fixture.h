// A real server that keeps a ledger and an audit log, a disk that fails on
// command (io_fault.c) under them, and a token that counts (tests/shim).

#ifndef CODESEAL_TESTS_INTEGRATION_AUDIT_FIXTURE_H_
#define CODESEAL_TESTS_INTEGRATION_AUDIT_FIXTURE_H_

#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "audit/checkpoint.h"
#include "audit/receipt.h"
#include "audit/verify_log.h"
#include "codeseal/v1/audit.grpc.pb.h"
#include "codesign/base/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/test_client.h"
#include "tests/support/fault_shim.h"
#include "tests/support/server_process.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {

class AuditServerTest : public ::testing::Test {
 protected:
  AuditServerTest() {
    world_.softhsm().AddToken("logkey");
    world_.AddKey("logkey", "07", KeyAlgorithm::kP256);
    setenv("CODESEAL_IO_UNDER", LogPath().c_str(), 1);
    setenv("CODESEAL_IO_SCRIPT", world_.folder().Path("io").c_str(), 1);
    // What is promised must hold in time on a busy machine, too.
    timeout_ = "5s";
  }
  ~AuditServerTest() override {
    PlayDisk("");
    unsetenv("CODESEAL_IO_UNDER");
    unsetenv("CODESEAL_IO_SCRIPT");
  }

  std::string LogPath() const { return world_.folder().Path("auditlog"); }
  std::string Path(const std::string& name) const {
    return LogPath() + "/" + name;
  }

  std::string Config() {
    const std::string pin = world_.softhsm().pin_file();
    const std::string log_token =
        "  logkey: {module: " + std::string(kSoftHsmModule) +
        ", label: logkey, pin_source: \"file:" + pin + "\"}\n";
    return world_.Config(
        world_.TokensSection(FaultShim::Module()) + log_token,
        "identities:\n" +
            ServerWorld::Identity("ec", "main", "02", "main-02.chain.pem") +
            ServerWorld::Identity("rsa", "main", "01", "main-01.chain.pem"),
        "state: {sqlite: {path: ledger.db}}\naudit:\n  dir: auditlog\n  "
        "origin: log.example/test\n"
        "  key: {token: logkey, id: \"07\"}\n  reserve: 0\n  timeout: " +
            timeout_ + "\n  readers: [{spiffe: \"" +
            std::string(ServerWorld::kClientUri) + "\"}]\n");
  }

  void Start() {
    const std::string config = world_.WriteConfig(Config());
    setenv("LD_PRELOAD", CODESEAL_IO_FAULT_LIBRARY, 1);
    server_ = std::make_unique<ServerProcess>(config);
    unsetenv("LD_PRELOAD");
    client_ = std::make_unique<TestClient>(server_->address(), world_.tls_ca(),
                                           world_.client());
  }
  void Stop() {
    client_.reset();
    EXPECT_EQ(server_->Stop(), 0);
    server_.reset();
  }

  void PlayDisk(const std::string& line) const {
    world_.folder().Write("io.new", line);
    std::filesystem::rename(world_.folder().Path("io.new"),
                            world_.folder().Path("io"));
  }

  v1::SignRequest NewRequest() const {
    SignRequestSpec spec;
    spec.request_id = RandomUuid();
    spec.identity = identity_;
    return BuildSignRequest(spec);
  }
  TestClient::Result Sign() { return client_->Sign(NewRequest()); }
  // Until it works again; the log tries several times a second.
  absl::Status SignSoon() {
    const absl::Time limit = absl::Now() + absl::Seconds(20);
    absl::Status status;
    do {
      status = Sign().status();
    } while (!status.ok() && absl::Now() < limit);
    return status;
  }

  audit::NoteKey Key() const {
    const auto key =
        audit::NoteKey::Parse(world_.folder().Read("auditlog/key"));
    EXPECT_THAT(key, IsOk());
    return *key;
  }

  static audit::Receipt ReceiptOf(const v1::SignResponse& response) {
    audit::Receipt receipt;
    receipt.index = response.audit().index();
    receipt.entry = ToBytes(response.audit().entry());
    receipt.checkpoint = response.audit().checkpoint();
    for (const std::string& each : response.audit().proof()) {
      audit::TreeHash hash{};
      std::copy_n(each.begin(), std::min(each.size(), hash.size()),
                  hash.begin());
      receipt.proof.push_back(hash);
    }
    return receipt;
  }

  audit::LogReport Verify(const std::vector<std::string>& saved = {}) const {
    const auto folder = audit::LogFolder::Open(LogPath());
    EXPECT_THAT(folder, IsOk());
    const auto report = audit::VerifyLog(**folder, Key(), saved);
    EXPECT_THAT(report, IsOk());
    return *report;
  }

  ServerWorld world_;
  FaultShim shim_;
  std::string timeout_;
  std::string identity_ = "ec";
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<TestClient> client_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_INTEGRATION_AUDIT_FIXTURE_H_
