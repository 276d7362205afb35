// kill -9 at any moment leaves the original or the complete result.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>

#include "gtest/gtest.h"
#include "tests/integration/client_fixture.h"

namespace codeseal::testing {
namespace {

class ClientKillTest : public ClientTest {
 protected:
  ClientKillTest() : original_(UnsignedUniversal(size_t{1} << 20)) {
    path_ = Write("tool", original_);
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(Codeseal(Arguments()).exit_code, 0);
    duration_ = std::chrono::steady_clock::now() - start;
    complete_ = Read("tool");  // an ad-hoc signature is always the same
    EXPECT_NE(complete_, original_);
  }

  std::vector<std::string> Arguments() const {
    return {"sign", "-s", "-", "-i", "com.example.tool", path_};
  }

  // Whether the file is the complete result; fails the test when it is neither
  // that nor the original. A staged file beside it is all that may remain.
  bool IsComplete() {
    const Bytes now = Read("tool");
    EXPECT_TRUE(now == original_ || now == complete_)
        << "a half-signed file of " << now.size() << " bytes";
    for (const std::string& name : Names()) {
      if (name == "tool") continue;
      EXPECT_TRUE(name.starts_with(".tool.codeseal-")) << name;
      std::filesystem::remove(folder_.Path(name));
    }
    return now == complete_;
  }

  const Bytes original_;
  Bytes complete_;
  std::string path_;
  std::chrono::steady_clock::duration duration_{};
};

TEST_F(ClientKillTest, AtEveryCallThatChangesAFile) {
  int complete_count = 0;
  int original_count = 0;
  // Until a run is not killed any more: then every call has had its turn.
  for (int call = 1;; ++call) {
    bool killed = false;
    for (const char* after : {"0", "1"}) {
      Write("tool", original_);
      environment_["LD_PRELOAD"] = CODESEAL_KILL_AT_LIBRARY;
      environment_["CODESEAL_KILL_AT"] = std::to_string(call);
      environment_["CODESEAL_KILL_AFTER"] = after;
      const int exit_code = Codeseal(Arguments()).exit_code;
      killed = exit_code == 128 + SIGKILL;
      ASSERT_TRUE(killed || exit_code == 0) << exit_code;
      ++(IsComplete() ? complete_count : original_count);
    }
    if (!killed) break;
    ASSERT_LT(call, 1000);
  }
  // Both outcomes were seen: the kills did reach from before to after the one
  // call that matters.
  EXPECT_GE(complete_count, 2);
  EXPECT_GE(original_count, 6);
}

TEST_F(ClientKillTest, AtRandomTimes) {
  const char* wanted = std::getenv("CODESEAL_KILL_COUNT");
  const int count = wanted == nullptr ? 20 : std::atoi(wanted);
  std::vector<std::string> argv = Arguments();
  argv.insert(argv.begin(), CODESEAL_CLIENT);
  std::mt19937 random(20240229);
  int complete_count = 0;
  for (int i = 0; i < count; ++i) {
    Write("tool", original_);
    const pid_t pid = StartProgram(argv, environment_);
    // The moment of the kill is what this test varies.
    std::uniform_int_distribution<int64_t> nanoseconds(
        0, std::chrono::nanoseconds(duration_).count() * 5 / 4);
    std::this_thread::sleep_for(std::chrono::nanoseconds(nanoseconds(random)));
    kill(pid, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    if (IsComplete()) ++complete_count;
  }
  RecordProperty("complete", complete_count);
  std::printf("%d of %d runs were complete\n", complete_count, count);
}

}  // namespace
}  // namespace codeseal::testing
