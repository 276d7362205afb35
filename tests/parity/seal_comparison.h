// Seals a bundle that Apple's codesign has sealed before, from the same inputs,
// and compares the bytes of CodeResources. Learned from the stored seal are
// only its version, its digests, and for which CPU's host it was made.

#ifndef CODESEAL_TESTS_PARITY_SEAL_COMPARISON_H_
#define CODESEAL_TESTS_PARITY_SEAL_COMPARISON_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "codesign/base/digest.h"

namespace codeseal::parity {

struct SealComparison {
  std::string path;    // of the bundle
  std::string format;  // "app bundle with Mach-O thin (arm64)"
  std::string main_file;
  bool has_mach_o = false;
  int version = 0;
  std::vector<DigestKind> digests;
  size_t rule_count = 0;
  size_t file_count = 0;
  size_t nested_count = 0;
  // Why the bytes differ, if that is all: paths that were sealed and are gone,
  // or lie there and were not sealed. Of the version that counts.
  std::vector<std::string> removed;
  std::vector<std::string> added;
  bool is_identical = false;
  bool is_explained = false;  // identical but for those paths
  // Otherwise: the first line that differs, theirs and ours.
  std::string first_difference;
};

// Errors: those of Bundle::Open(), ParseCodeResources() and SealResources();
// REASON_RESOURCES_NOT_FOUND for a bundle without a seal.
absl::StatusOr<SealComparison> CompareSealWithApple(const std::string& path);

std::string FormatText(const SealComparison& comparison);
std::string FormatJson(const SealComparison& comparison);

}  // namespace codeseal::parity

#endif  // CODESEAL_TESTS_PARITY_SEAL_COMPARISON_H_
