// Settings for single pieces of code in a bundle, from a file: --deep alone
// gives everything the same entitlements and flags, which is hardly ever right.
//
//   # relative to the path that is signed; "." is that itself
//   Contents/Helpers/*:
//     entitlements: helper.entitlements   # relative to this file; none
//     options: runtime,library-validation # as -o takes them
//     identifier: com.example.helper
//     requirements: '=designated => ...'  # as -r takes them
//   Contents/**/*.xpc:
//     entitlements: none
//
//   command line -> SigningOptions -> [SignSettings] -> those of one item
//
// In a pattern, * and ? stand for anything but a slash, ** for anything. All
// entries that match apply, later ones over earlier ones.

#ifndef CODESEAL_CLIENT_SIGN_SETTINGS_H_
#define CODESEAL_CLIENT_SIGN_SETTINGS_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/signing_options.h"

namespace codeseal::client {

// Movable; not thread-safe.
class SignSettings {
 public:
  // No settings.
  SignSettings() = default;

  // Reads the file and those that it names.
  // Errors: INVALID_ARGUMENT REASON_BAD_CONFIG with file and line, also for
  // unknown keys; the faults of files.
  static absl::StatusOr<SignSettings> Load(const std::string& path);

  // Changes `options` to those of the code at `path`, "" for what is signed
  // itself.
  // Errors: REASON_REQUIREMENT_SYNTAX.
  absl::Status Apply(const std::string& path, SigningOptions& options);

  // That every entry was applied to something: a misspelt path would leave code
  // without its entitlements.
  // Errors: INVALID_ARGUMENT REASON_BAD_CONFIG.
  absl::Status CheckAllUsed() const;

 private:
  struct Entry {
    std::string pattern;
    int line = 0;
    std::optional<Bytes> entitlements = {};
    bool has_no_entitlements = false;
    std::optional<uint32_t> flags = {};
    std::optional<std::string> identifier = {};
    std::optional<std::string> requirements = {};
    bool is_used = false;
  };
  class Reader;

  std::string file_path_;
  std::vector<Entry> entries_;
};

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_SIGN_SETTINGS_H_
