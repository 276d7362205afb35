// What signing takes from an Info.plist: a tool's own, in its section
// __TEXT,__info_plist, or a bundle's.
//
//   Info.plist bytes -> [InfoPlist] -> SigningPlan

#ifndef CODESEAL_CODESIGN_INFO_PLIST_H_
#define CODESEAL_CODESIGN_INFO_PLIST_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"

namespace codeseal {

struct InfoPlist {
  std::optional<std::string> identifier;  // CFBundleIdentifier
  std::optional<std::string> name;        // CFBundleName
  std::optional<uint32_t> flags;  // CSFlags, a number or the words of -o
};

// Errors: INVALID_ARGUMENT REASON_BAD_PLIST, also for an identifier that is no
// text; REASON_BAD_OPTION for flags that are not known.
absl::StatusOr<InfoPlist> ParseInfoPlist(ByteView bytes);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_INFO_PLIST_H_
