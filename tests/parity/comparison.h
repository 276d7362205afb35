// Signs code that Apple's codesign has signed before, from the same inputs, and
// compares every byte. Only inputs are taken from the existing signature:
// identifier, flags, entitlements, certificates and the like; everything else
// is made again from the stripped file.

#ifndef CODESEAL_TESTS_PARITY_COMPARISON_H_
#define CODESEAL_TESTS_PARITY_COMPARISON_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace codeseal::parity {

// One thing that is compared.
struct Component {
  std::string name;  // "layout", "CodeDirectory", "requirements", ...
  bool identical = false;
  uint64_t offset = 0;  // of the first difference, in the component
  std::string field;    // what is there: "execSegLimit", "__LINKEDIT vmsize"
  std::string values;   // theirs and ours, hexadecimal
  std::string reason;   // why it differs: checked, never guessed; or empty
};

struct SliceComparison {
  std::string architecture;
  // What was learned from the signature that codesign would not have chosen by
  // itself: "explicit requirements", ...
  std::vector<std::string> inputs;
  std::vector<Component> components;
};

struct FileComparison {
  std::string path;
  std::string format;
  std::vector<SliceComparison> slices;  // in the file's order
  // With the original CMS put back: whether the file is the same to the byte;
  // nullopt when there is no such file, as `whole_file_reason` tells.
  std::optional<bool> whole_file_identical;
  std::string whole_file_reason;  // checked, never guessed; or empty

  bool IsIdentical() const;  // every component and the whole file
  bool IsExplained() const;  // what differs has a reason
};

// Errors: those of reading the file and of SigningPlan; REASON_NOT_SIGNED when
// a slice isn't signed at all or by its linker only.
absl::StatusOr<FileComparison> CompareWithApple(const std::string& path);

std::string FormatText(const FileComparison& comparison);
std::string FormatJson(const FileComparison& comparison);

}  // namespace codeseal::parity

#endif  // CODESEAL_TESTS_PARITY_COMPARISON_H_
