// Collects the checks that are made of one thing: a slice, a file, a bundle.

#ifndef CODESEAL_CODESIGN_VERIFY_CHECK_LIST_H_
#define CODESEAL_CODESIGN_VERIFY_CHECK_LIST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "codesign/base/error.h"
#include "codesign/verify/apple_error.h"
#include "codesign/verify/verifier.h"

namespace codeseal {

// Thread-compatible; borrows the list.
class CheckList {
 public:
  // `subject` is what the faults are about: path and architecture.
  CheckList(std::vector<Check>& checks, std::string subject)
      : checks_(checks), subject_(std::move(subject)) {}

  void Pass(std::string_view name, std::string note = "");
  void Skip(std::string_view name, std::string note);
  // `file_offset`: where, in bytes from the file's start.
  void Fail(std::string_view name, const AppleError& apple_error, Reason reason,
            std::string_view detail,
            std::optional<uint64_t> file_offset = std::nullopt);
  // The fault that another part of codeseal found. `base` is added to its
  // offset, if it has one; without it the offset is left out, because it does
  // not count from the file's start.
  void Fail(std::string_view name, const AppleError& apple_error,
            const absl::Status& cause,
            std::optional<uint64_t> base = std::nullopt);
  // A fault of codesign/bundle, with Apple's own words and its own subject.
  void FailBundle(std::string_view name, const absl::Status& cause);

  Check& last() { return checks_.back(); }

 private:
  void Add(std::string_view name, CheckOutcome outcome, std::string note);
  void AddFailure(std::string_view name, const AppleError& apple_error,
                  std::string_view detail, const ErrorDetail& error_detail);

  std::vector<Check>& checks_;
  std::string subject_;
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_VERIFY_CHECK_LIST_H_
