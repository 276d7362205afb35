// Property lists: values read from XML or binary form, and XML as
// CoreFoundation writes it, byte for byte, because signatures seal such files.
//
//   Info.plist, rules, CodeResources -> [PlistValue] -> bundle facts and seals
//
// Spec: Apple's PropertyList-1.0 DTD; CF, CFPropertyList.c and
//       CFBinaryPList.c.

#ifndef CODESEAL_CODESIGN_BUNDLE_PROPERTY_LIST_H_
#define CODESEAL_CODESIGN_BUNDLE_PROPERTY_LIST_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"

namespace codeseal {

// The order in which CoreFoundation writes keys: by UTF-16 code units. It
// differs from the order of UTF-8 bytes only where U+E000 to U+FFFF meets
// U+10000 and above. Keys are UTF-8.
struct PlistKeyLess {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const;
};

struct PlistValue;
using PlistArray = std::vector<PlistValue>;
using PlistDict = std::map<std::string, PlistValue, PlistKeyLess>;

// A value type: copies are deep.
struct PlistValue {
  std::variant<bool, int64_t, double, std::string, Bytes, absl::Time,
               PlistArray, PlistDict>
      value;

  // nullptr when the value is of another type.
  template <typename T>
  const T* As() const {
    return std::get_if<T>(&value);
  }

  bool operator==(const PlistValue&) const = default;
};

// The entry's value if it is there and of type T; nullptr otherwise.
template <typename T>
const T* FindInDict(const PlistDict& dict, std::string_view key) {
  const auto it = dict.find(key);
  return it == dict.end() ? nullptr : it->second.template As<T>();
}

inline constexpr size_t kMaxPlistSize = size_t{256} << 20;  // bytes
inline constexpr int kMaxPlistDepth = 64;

// Reads XML (UTF-8, or Latin-1 that says so) or binary form; texts come out as
// UTF-8. Size, depth and, for the binary form, the count of values after shared
// ones are multiplied are limited before anything is built. The old ASCII form,
// UTF-16, UID values, and texts that hold a NUL or are no UTF-8 are refused.
//
// Errors: INVALID_ARGUMENT REASON_BAD_PLIST.
absl::StatusOr<PlistValue> ParsePlist(ByteView bytes);

// ParsePlist() of a list whose top is a dictionary.
absl::StatusOr<PlistDict> ParsePlistDict(ByteView bytes);

// The bytes of CFPropertyListCreateData with kCFPropertyListXMLFormat_v1_0.
std::string BuildXmlPlist(const PlistDict& dict);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BUNDLE_PROPERTY_LIST_H_
