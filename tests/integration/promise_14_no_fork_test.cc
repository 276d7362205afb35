// Promise 14: no PKCS#11 call is made in a process that was forked: modules are
// loaded by workers alone, and those are started, never forked.

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string ReadProc(int process, const char* name) {
  std::ifstream file("/proc/" + std::to_string(process) + "/" + name);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST_F(PromiseTest, Promise14NoTokenIsUsedAfterAFork) {
  // A forked child of a process with SoftHSM loses the token then.
  std::ofstream(world_.softhsm().config_file(), std::ios::app)
      << "library.reset_on_fork = true\n";
  // Into every process: the journal shows its forks.
  setenv("LD_PRELOAD", FaultShim::Module().c_str(), 1);
  Start();
  unsetenv("LD_PRELOAD");
  ASSERT_THAT(Sign("shaky"), IsOk());
  // Recovery of every kind, a new worker at last.
  shim_.Play("C_Sign count=1 rv=CKR_DEVICE_ERROR until=C_Finalize");
  EXPECT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_Sign count=1 crash");
  EXPECT_THAT(Sign("shaky"), IsOk());
  EXPECT_EQ(shim_.CallCount("fork"), 0);
  EXPECT_EQ(shim_.Processes().size(), 2u);
  for (const int process : shim_.Processes()) {
    EXPECT_NE(process, server_pid());
    const std::string command = ReadProc(process, "cmdline");
    if (command.empty()) continue;  // the one that crashed
    EXPECT_THAT(command, HasSubstr("token-worker"));
  }
  EXPECT_THAT(ReadProc(server_pid(), "maps"), Not(HasSubstr("libsofthsm2")));
}

}  // namespace
}  // namespace codeseal::testing
