// What the tests of codeseald's promises about tokens share: a server with one
// identity on a token behind the fault shim and one on a healthy token, and a
// client that believes no reply.
//
//   PromiseTest -> codeseald -> worker -> fault shim -> SoftHSM
//
// hsm/README.md lists the promises.

#ifndef CODESEAL_TESTS_INTEGRATION_PROMISE_FIXTURE_H_
#define CODESEAL_TESTS_INTEGRATION_PROMISE_FIXTURE_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "codesign/base/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fault_shim.h"
#include "tests/support/server_process.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {

class TestClient;

class PromiseTest : public ::testing::Test {
 protected:
  // How soon signing goes on after the token is back.
  static constexpr absl::Duration kResumeLimit = absl::Seconds(2);

  PromiseTest();
  ~PromiseTest() override;

  // Starts the server with token "main" behind the shim and token "other"
  // without; identity "shaky" is on main, "calm" on other. Both are P-256.
  void Start();
  // Kills the server, as a crash would.
  void Kill();
  std::string log() const { return server_->log(); }
  pid_t server_pid() const { return server_->pid(); }

  // One request; OK only when what came back verifies with the identity's own
  // certificate. Thread-safe.
  absl::Status Sign(const std::string& identity,
                    absl::Duration timeout = absl::Seconds(20));
  // The same for "shaky", with a check that the answer came in time and is one
  // of those that a token in trouble may give.
  absl::Status SignInTime();
  // Asks until a signature comes; how long that took.
  absl::Duration TimeUntilSigned();
  // The shim plays nothing any more: signing must resume in time.
  void ExpectResumes();

  // What GetIdentity says against the identity; "" when all is well.
  std::string UnavailableBecause(const std::string& identity);
  absl::Status ClearPinHold(const std::string& token);

  // Before Start(): words for token main ("sessions: 2, op_timeout: 2s" unless
  // set), and more tokens and identities, as lines of the configuration.
  std::string main_options_ = "sessions: 2, op_timeout: 2s";
  std::string more_tokens_;
  std::string more_identities_;

  std::string state_folder() const { return world_.folder().Path("state"); }

  ServerWorld world_;
  FaultShim shim_;

 private:
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<TestClient> client_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_INTEGRATION_PROMISE_FIXTURE_H_
