// Whatever happens while a bundle is signed, by kill -9 or by a call that
// fails: what is there is the original or the complete result.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <thread>

#include "gtest/gtest.h"
#include "tests/integration/client_fixture.h"
#include "tests/support/made_app.h"
#include "tests/support/made_tree.h"
#include "tests/support/tree_snapshot.h"

namespace codeseal::testing {
namespace {

class BundleKillTest : public ClientTest {
 protected:
  // Small, but with all that signing writes: code, a seal, detached files.
  BundleKillTest() {
    MakeOriginal();
    original_ = TakeSnapshot(App());
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(Codeseal(Arguments()).exit_code, 0);
    duration_ = std::chrono::steady_clock::now() - start;
    complete_ = TakeSnapshot(App());  // ad-hoc is always the same
    EXPECT_NE(complete_, original_);
  }

  void MakeOriginal() {
    tree_.Remove("Demo.app");
    const std::string contents = "Demo.app/Contents";
    tree_.Plist(contents + "/Info.plist", {{"CFBundleExecutable", "Demo"},
                                           {"CFBundleIdentifier", "com.demo"}});
    tree_.Executable(contents + "/MacOS/Demo",
                     AsText(MadeCode(1, MachOFileType::kExecute)));
    tree_.File(contents + "/_CodeSignature/stale", "old");
    const std::string script = contents + "/PlugIns/Script.bundle/Contents";
    tree_.Plist(script + "/Info.plist", {{"CFBundleExecutable", "run.sh"},
                                         {"CFBundleIdentifier", "com.run"}});
    tree_.Executable(script + "/MacOS/run.sh", "#!/bin/sh\n");
    tree_.File(contents + "/Resources/a.txt", "a");
  }

  std::string App() const { return tree_.Path("Demo.app"); }
  std::vector<std::string> Arguments() const {
    return {"sign", "-s", "-", "--deep", App()};
  }

  // What lies beside the app: a staged folder of a killed run at most.
  size_t RemoveLeftovers() {
    size_t count = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator(tree_.Path())) {
      const std::string name = entry.path().filename().string();
      if (name == "Demo.app") continue;
      EXPECT_TRUE(name.starts_with(".Demo.app.codeseal-")) << name;
      std::filesystem::remove_all(entry.path());
      ++count;
    }
    return count;
  }
  // Fails the test when the app is neither the original nor the result.
  bool IsComplete() {
    const TreeSnapshot now = TakeSnapshot(App());
    EXPECT_TRUE(now == original_ || now == complete_) << "a half-signed app";
    return now == complete_;
  }

  MadeTree tree_;
  TreeSnapshot original_;
  TreeSnapshot complete_;
  std::chrono::steady_clock::duration duration_{};
};

TEST_F(BundleKillTest, AtEveryCallThatChangesAFile) {
  int complete_count = 0;
  int original_count = 0;
  environment_["LD_PRELOAD"] = CODESEAL_KILL_AT_LIBRARY;
  for (int call = 1;; ++call) {
    bool killed = false;
    for (const char* after : {"0", "1"}) {
      MakeOriginal();
      environment_["CODESEAL_KILL_AT"] = std::to_string(call);
      environment_["CODESEAL_KILL_AFTER"] = after;
      const int exit_code = Codeseal(Arguments()).exit_code;
      killed = exit_code == 128 + SIGKILL;
      ASSERT_TRUE(killed || exit_code == 0) << exit_code;
      ++(IsComplete() ? complete_count : original_count);
      RemoveLeftovers();
    }
    if (!killed) break;
    ASSERT_LT(call, 1000);
  }
  EXPECT_GE(complete_count, 4);
  EXPECT_GE(original_count, 20);
}

TEST_F(BundleKillTest, AtRandomTimes) {
  const char* wanted = std::getenv("CODESEAL_KILL_COUNT");
  const int count = wanted == nullptr ? 20 : std::atoi(wanted);
  std::vector<std::string> argv = Arguments();
  argv.insert(argv.begin(), CODESEAL_CLIENT);
  std::mt19937 random(20240301);
  int complete_count = 0;
  for (int i = 0; i < count; ++i) {
    MakeOriginal();
    const pid_t pid = StartProgram(argv, environment_);
    // The moment of the kill is what this test varies.
    std::uniform_int_distribution<int64_t> nanoseconds(
        0, std::chrono::nanoseconds(duration_).count() * 5 / 4);
    std::this_thread::sleep_for(std::chrono::nanoseconds(nanoseconds(random)));
    kill(pid, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    if (IsComplete()) ++complete_count;
    RemoveLeftovers();
  }
  std::printf("%d of %d runs were complete\n", complete_count, count);
}

// A full disk, a folder that may not be written: said, and nothing changed.
// `exchange` false: also where folders cannot change places, so that files are
// changed one by one and back.
class BundleFaultTest : public BundleKillTest,
                        public ::testing::WithParamInterface<bool> {};

TEST_P(BundleFaultTest, EveryCallMayFail) {
  environment_["LD_PRELOAD"] = CODESEAL_KILL_AT_LIBRARY;
  if (!GetParam()) environment_["CODESEAL_NO_EXCHANGE"] = "1";
  int failed_count = 0;
  int done_in_a_row = 0;
  for (const int fault : {ENOSPC, EROFS}) {
    environment_["CODESEAL_FAIL_WITH"] = std::to_string(fault);
    done_in_a_row = 0;
    // Some calls may fail without harm: flushing a folder, removing the copy.
    for (int call = 1; done_in_a_row < 40; ++call) {
      ASSERT_LT(call, 1000);
      MakeOriginal();
      environment_["CODESEAL_KILL_AT"] = std::to_string(call);
      const SubprocessResult sign = Codeseal(Arguments());
      if (sign.exit_code == 0) {
        ++done_in_a_row;
        EXPECT_TRUE(IsComplete()) << call;
      } else {
        done_in_a_row = 0;
        ++failed_count;
        EXPECT_EQ(sign.exit_code, 1) << sign.err;
        EXPECT_EQ(TakeSnapshot(App()), original_) << call << "\n" << sign.err;
        EXPECT_THAT(sign.err, Explains("", "", ""));
      }
      RemoveLeftovers();
    }
  }
  EXPECT_GE(failed_count, 20);
}

INSTANTIATE_TEST_SUITE_P(Exchange, BundleFaultTest, ::testing::Bool(),
                         [](const auto& each) {
                           return each.param ? "Folders" : "Files";
                         });

}  // namespace
}  // namespace codeseal::testing
