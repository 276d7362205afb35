// Faults of bundles, in the words of Apple's tools: scripts that were written
// for codesign look for them.

#ifndef CODESEAL_CODESIGN_BUNDLE_BUNDLE_ERROR_H_
#define CODESEAL_CODESIGN_BUNDLE_BUNDLE_ERROR_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "codesign/base/error.h"

namespace codeseal {

// Apple's OSStatus (errSecCS...) of a reason of the section "Bundles"; nullopt
// for other reasons and for our own.
std::optional<int32_t> AppleErrorCode(Reason reason);

// A Status whose message is Apple's text, then ": " and `detail` if there is
// one, and whose subject is `path`. `reason` must be of the section "Bundles".
// What is malformed is INVALID_ARGUMENT, everything else FAILED_PRECONDITION.
absl::Status BundleError(Reason reason, std::string_view path,
                         std::string_view detail = "");

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BUNDLE_BUNDLE_ERROR_H_
