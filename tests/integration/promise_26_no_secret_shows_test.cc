// Promise 26: PINs and keys show in no log, no argument, no environment, no
// core file and no memory that outlives their use.

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <vector>

#include "tests/integration/promise_fixture.h"
#include "tests/support/subprocess.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string ReadProc(int process, const char* name) {
  std::ifstream file("/proc/" + std::to_string(process) + "/" + name,
                     std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Where in the writable memory of a process the text stands: names of
// mappings. Needs root, as a core dump would.
std::vector<std::string> FindInMemory(int process, std::string_view text) {
  std::vector<std::string> found;
  const int memory = open(("/proc/" + std::to_string(process) + "/mem").c_str(),
                          O_RDONLY | O_CLOEXEC);
  EXPECT_GE(memory, 0);
  std::istringstream maps(ReadProc(process, "maps"));
  std::string line;
  while (std::getline(maps, line)) {
    unsigned long begin = 0;
    unsigned long end = 0;
    char mode[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, mode) != 3 ||
        mode[1] != 'w') {
      continue;
    }
    std::string content(end - begin, '\0');
    const ssize_t size = pread(memory, content.data(), content.size(),
                               static_cast<off_t>(begin));
    if (size <= 0) continue;
    if (std::string_view(content)
            .substr(0, static_cast<size_t>(size))
            .find(text) != std::string_view::npos) {
      found.push_back(line);
    }
  }
  close(memory);
  return found;
}

// Every file in the folder, in one text.
std::string ReadAll(const std::string& folder) {
  std::string all;
  for (const auto& each :
       std::filesystem::recursive_directory_iterator(folder)) {
    if (!each.is_regular_file()) continue;
    std::ifstream file(each.path(), std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    all += text.str();
  }
  return all;
}

TEST_F(PromiseTest, Promise26NoPinShowsAnywhere) {
  const std::string pin = SoftHsm::kPin;
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  // Trouble makes programs talk.
  shim_.Play("C_Sign count=1 rv=CKR_DEVICE_ERROR until=C_Finalize");
  EXPECT_THAT(Sign("shaky"), IsOk());
  const std::set<int> workers = shim_.Processes();
  ASSERT_EQ(workers.size(), 1u);
  for (const int process : {server_pid(), *workers.begin()}) {
    EXPECT_THAT(ReadProc(process, "cmdline"), Not(HasSubstr(pin)));
    EXPECT_THAT(ReadProc(process, "environ"), Not(HasSubstr(pin)));
    EXPECT_THAT(ReadProc(process, "limits"),
                ::testing::ContainsRegex("Max core file size +0 +0 "));
    // The test that memory is searched at all.
    EXPECT_THAT(FindInMemory(process, "softhsm2.conf"),
                Not(::testing::IsEmpty()));
    EXPECT_THAT(FindInMemory(process, pin), ::testing::IsEmpty());
  }
  // And a PIN that is refused, which is remembered.
  Kill();
  const std::string wrong = "55667788";
  world_.softhsm().folder().Write("pin", wrong + "\n");
  Start();
  EXPECT_FALSE(Sign("shaky").ok());
  EXPECT_THAT(ReadAll(state_folder()), HasSubstr("refused"));
  EXPECT_THAT(ReadAll(state_folder()), Not(HasSubstr(wrong)));
  for (const std::string& secret : {pin, wrong, std::string("PRIVATE KEY")}) {
    EXPECT_THAT(log(), Not(HasSubstr(secret)));
  }
}

// Where core files are written at all, a worker that crashes leaves none.
TEST_F(PromiseTest, Promise26AWorkerThatCrashesLeavesNoCore) {
  const TempFolder cores;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(cores.path());
  Start();
  std::filesystem::current_path(before);
  shim_.Play("C_Sign count=1 crash");
  EXPECT_THAT(Sign("shaky"), IsOk());
  EXPECT_EQ(shim_.Processes().size(), 2u);
  EXPECT_TRUE(std::filesystem::is_empty(cores.path()));
}

TEST_F(PromiseTest, Promise26CommandsTakeNoPin) {
  for (const char* uri :
       {"pkcs11:token=main?pin-value=74829163",
        "pkcs11:token=main?module-path=x&pin-value=74829163"}) {
    const auto refused =
        RunProgram({ServerProgram(), "token", "list", "--token-uri", uri});
    EXPECT_EQ(refused.exit_code, 2);
    EXPECT_THAT(refused.out + refused.err, Not(HasSubstr(SoftHsm::kPin)));
  }
}

}  // namespace
}  // namespace codeseal::testing
