// Words and numbers that compiler, dump and evaluation share.

#ifndef CODESEAL_CODESIGN_REQUIREMENT_VOCABULARY_H_
#define CODESEAL_CODESIGN_REQUIREMENT_VOCABULARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "codesign/base/bytes.h"

namespace codeseal {

// ASCII only, whatever the locale says.
constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Whether a word means something in the language, so that a string of the same
// letters needs quotes.
bool IsReservedWord(std::string_view word);

// "designated" for 3; nullopt for a type without a name.
std::optional<std::string_view> RequirementTypeName(uint32_t type);
std::optional<uint32_t> RequirementTypeFromName(std::string_view name);

// "1.2.840.113635" from and to the content octets of a DER OBJECT IDENTIFIER.
// From text: nullopt for anything but two or more numbers that fit 64 bits.
// To text: numbers that do not fit wrap around, as they do in Apple's tools.
std::optional<Bytes> OidFromText(std::string_view text);
std::string OidToText(ByteView oid);

// Seconds since 2001-01-01 00:00:00 UTC of a DER GeneralizedTime:
// YYYYMMDDHHMMSS and Z, +HHMM or -HHMM. nullopt for anything else.
std::optional<int64_t> ParseGeneralizedTime(std::string_view text);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_REQUIREMENT_VOCABULARY_H_
