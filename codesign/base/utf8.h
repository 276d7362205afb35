// File names are any bytes; messages, the wire and property lists want UTF-8.

#ifndef CODESEAL_CODESIGN_BASE_UTF8_H_
#define CODESEAL_CODESIGN_BASE_UTF8_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace codeseal {

// The first byte that is not part of well-formed UTF-8 as RFC 3629 has it: no
// overlong forms, no surrogates. nullopt: all of it is.
std::optional<size_t> FindInvalidUtf8(std::string_view text);
inline bool IsUtf8(std::string_view text) {
  return !FindInvalidUtf8(text).has_value();
}

// The text with every byte that is not UTF-8 written as "\xNN".
std::string EscapeInvalidUtf8(std::string_view text);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BASE_UTF8_H_
