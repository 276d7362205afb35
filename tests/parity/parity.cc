// parity [--json] FILE... : signs again what Apple's codesign has signed, from
// the same inputs, and says for each slice and component whether the bytes are
// identical, else where they first differ.
//
// With --json, one object for each file and line. Exit status: 0 when all is
// identical or explained, 1 when something differs, 2 for a file that cannot
// be compared.

#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "codesign/base/error.h"
#include "tests/parity/comparison.h"

int main(int argc, char** argv) {
  bool json = false;
  int status = 0;
  int file_count = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
      continue;
    }
    ++file_count;
    const auto comparison = codeseal::parity::CompareWithApple(argv[i]);
    if (!comparison.ok()) {
      status = 2;
      const std::string message(codeseal::Message(comparison.status()));
      if (json) {
        const nlohmann::json fault = {{"path", argv[i]}, {"error", message}};
        std::printf("%s\n", fault.dump().c_str());
      } else {
        std::printf("%s: cannot compare: %s\n", argv[i], message.c_str());
      }
      continue;
    }
    if (!comparison->IsExplained() && status == 0) status = 1;
    std::printf(
        "%s%s",
        (json ? FormatJson(*comparison) : FormatText(*comparison)).c_str(),
        json ? "\n" : "");
  }
  if (file_count == 0) {
    std::fprintf(stderr, "usage: %s [--json] FILE...\n", argv[0]);
    return 2;
  }
  return status;
}
