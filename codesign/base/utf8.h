// File names are any bytes; messages, the wire and property lists want UTF-8.

#ifndef CODESEAL_CODESIGN_BASE_UTF8_H_
#define CODESEAL_CODESIGN_BASE_UTF8_H_

#include <string>
#include <string_view>

namespace codeseal {

// As RFC 3629 has it: no overlong forms, no surrogates.
bool IsUtf8(std::string_view text);

// The text with every byte that is not UTF-8 written as "\xNN".
std::string EscapeInvalidUtf8(std::string_view text);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BASE_UTF8_H_
