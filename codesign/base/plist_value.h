// A property list in memory: what Info.plist, entitlements and their DER form
// have in common.

#ifndef CODESEAL_CODESIGN_BASE_PLIST_VALUE_H_
#define CODESEAL_CODESIGN_BASE_PLIST_VALUE_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "codesign/base/bytes.h"

namespace codeseal {

struct PlistDate {
  int64_t at = 0;  // seconds since 2001-01-01 00:00:00 UTC
  bool operator==(const PlistDate&) const = default;
};

// Owns its content. Strings are UTF-8; keys are sorted by their bytes.
struct PlistValue {
  using Array = std::vector<PlistValue>;
  using Dictionary = std::map<std::string, PlistValue, std::less<>>;

  std::variant<bool, int64_t, double, std::string, Bytes, PlistDate, Array,
               Dictionary>
      value;

  template <typename T>
  const T* As() const {
    return std::get_if<T>(&value);
  }
  // The value of `key`; null when this is no dictionary or has no such key.
  const PlistValue* Find(std::string_view key) const {
    const auto* dictionary = As<Dictionary>();
    if (dictionary == nullptr) return nullptr;
    const auto found = dictionary->find(key);
    return found == dictionary->end() ? nullptr : &found->second;
  }
  bool IsTrue() const {
    const bool* boolean = As<bool>();
    return boolean != nullptr && *boolean;
  }

  bool operator==(const PlistValue&) const = default;
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BASE_PLIST_VALUE_H_
