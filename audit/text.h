// The two encodings inside notes, proofs and paths, each with one form only:
// what is not written as we would write it is refused.

#ifndef CODESEAL_AUDIT_TEXT_H_
#define CODESEAL_AUDIT_TEXT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "audit/merkle.h"
#include "codesign/base/bytes.h"

namespace codeseal::audit {

// RFC 4648 section 4, with padding.
std::string EncodeBase64(ByteView bytes);
std::optional<Bytes> DecodeBase64(std::string_view text);
std::optional<TreeHash> DecodeBase64Hash(std::string_view text);

// ASCII digits without leading zeros.
std::optional<uint64_t> ParseDecimal(std::string_view text);

// The line at the front without its newline, which is taken away too; nullopt
// when there is no newline.
std::optional<std::string_view> TakeLine(std::string_view& text);

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_TEXT_H_
