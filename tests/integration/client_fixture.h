// What the client's integration tests share: a folder, files to sign, and the
// real program run as a user would run it.

#ifndef CODESEAL_TESTS_INTEGRATION_CLIENT_FIXTURE_H_
#define CODESEAL_TESTS_INTEGRATION_CLIENT_FIXTURE_H_

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "codesign/base/bytes.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/mach_o_builder.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_folder.h"

namespace codeseal::testing {

// An unsigned universal file with an x86_64 and an arm64 slice. Each has
// `code_size` bytes of code.
inline Bytes UnsignedUniversal(size_t code_size = 20000) {
  UniversalDescription description;
  for (const Architecture& architecture : {kX86_64, kArm64}) {
    MachODescription slice;
    slice.architecture = architecture;
    slice.code_size = code_size;
    slice.header_room = 256;
    description.slices.push_back({architecture, BuildMachO(slice)});
  }
  description.align_log2 = 14;
  return BuildUniversal(description);
}

class ClientTest : public ::testing::Test {
 protected:
  // Runs codeseal; nothing of the machine's own settings is seen.
  SubprocessResult Codeseal(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), CODESEAL_CLIENT);
    return RunProgram(arguments, environment_);
  }

  std::string Write(const std::string& name, ByteView bytes) const {
    return folder_.Write(name, AsText(bytes));
  }
  Bytes Read(const std::string& name) const {
    return ToBytes(AsBytes(folder_.Read(name)));
  }

  // Names in the folder, so that nothing is left behind unseen.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry :
         std::filesystem::directory_iterator(folder_.path())) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  TempFolder folder_;
  std::map<std::string, std::string> environment_ = {
      {"HOME", folder_.path()},  {"XDG_CONFIG_HOME", ""},
      {"CODESEAL_SERVER", ""},   {"CODESEAL_CA", ""},
      {"CODESEAL_CERT", ""},     {"CODESEAL_KEY", ""},
      {"CODESEAL_IDENTITY", ""}, {"http_proxy", ""}};
};

// The fault's four lines: what, why and fix, each with the given text.
MATCHER_P3(Explains, what, why, fix, "") {
  const std::string& text = arg;
  *result_listener << text;
  const auto says = [&](const std::string& head, const std::string& part) {
    const size_t start = text.find(head);
    if (start == std::string::npos) return false;
    const std::string line = text.substr(start, text.find('\n', start) - start);
    return line.find(part) != std::string::npos;
  };
  return says("codeseal: cannot ", what) && says("  why    ", why) &&
         says("  fix    ", fix);
}

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_INTEGRATION_CLIENT_FIXTURE_H_
