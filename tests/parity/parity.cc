// parity [--json] PATH... : signs again what Apple's codesign has signed, from
// the same inputs, and says for each slice and component whether the bytes are
// identical, else where they first differ. Of a bundle, its seal is made again,
// and its main executable is compared if that is a Mach-O.
//
// With --json, one object for each seal and file, one in a line. Exit status: 0
// when all is identical or explained, 1 when something differs, 2 for what
// cannot be compared.

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "codesign/base/error.h"
#include "tests/parity/comparison.h"
#include "tests/parity/seal_comparison.h"

namespace {

// Prints one comparison; its exit status.
template <typename Comparison>
int Tell(const std::string& path, const Comparison& comparison,
         bool is_explained, bool json) {
  if (!comparison.ok()) {
    const std::string message(codeseal::Message(comparison.status()));
    if (json) {
      const nlohmann::json fault = {{"path", path}, {"error", message}};
      std::printf("%s\n", fault.dump().c_str());
    } else {
      std::printf("%s: cannot compare: %s\n", path.c_str(), message.c_str());
    }
    return 2;
  }
  using codeseal::parity::FormatJson;
  using codeseal::parity::FormatText;
  std::printf(
      "%s%s",
      (json ? FormatJson(*comparison) : FormatText(*comparison)).c_str(),
      json ? "\n" : "");
  return is_explained ? 0 : 1;
}

int CompareFile(const std::string& path, bool json) {
  const auto comparison = codeseal::parity::CompareWithApple(path);
  return Tell(path, comparison, comparison.ok() && comparison->IsExplained(),
              json);
}

int CompareBundle(const std::string& path, bool json) {
  const auto comparison = codeseal::parity::CompareSealWithApple(path);
  const int status =
      Tell(path, comparison, comparison.ok() && comparison->is_explained, json);
  if (!comparison.ok() || !comparison->has_mach_o) return status;
  return std::max(status, CompareFile(comparison->main_file, json));
}

}  // namespace

int main(int argc, char** argv) {
  bool json = false;
  int status = 0;
  int path_count = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
      continue;
    }
    ++path_count;
    std::error_code error;
    const bool is_bundle = std::filesystem::is_directory(argv[i], error);
    status = std::max(status, is_bundle ? CompareBundle(argv[i], json)
                                        : CompareFile(argv[i], json));
  }
  if (path_count == 0) {
    std::fprintf(stderr, "usage: %s [--json] PATH...\n", argv[0]);
    return 2;
  }
  return status;
}
