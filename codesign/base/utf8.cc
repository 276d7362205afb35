#include "codesign/base/utf8.h"

#include <cstdint>

#include "codesign/base/bytes.h"

namespace codeseal {
namespace {

// Bytes of the character that `text` begins with; 0 when there is none.
size_t CharacterSize(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text.front());
  size_t size = 0;
  if (lead < 0x80) {
    size = 1;
  } else if (lead >= 0xc2 && lead < 0xe0) {
    size = 2;
  } else if (lead >= 0xe0 && lead < 0xf0) {
    size = 3;
  } else if (lead >= 0xf0 && lead < 0xf5) {
    size = 4;
  }
  if (size == 0 || size > text.size()) return 0;
  uint32_t code = size == 1 ? lead : lead & (0x7fu >> size);
  for (size_t i = 1; i < size; ++i) {
    const auto next = static_cast<uint8_t>(text[i]);
    if (next >> 6 != 2) return 0;
    code = code << 6 | (next & 0x3f);
  }
  const bool is_overlong =
      (size == 3 && code < 0x800) || (size == 4 && code < 0x10000);
  const bool is_surrogate = code >= 0xd800 && code < 0xe000;
  return is_overlong || is_surrogate || code > 0x10ffff ? 0 : size;
}

}  // namespace

std::optional<size_t> FindInvalidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t size = CharacterSize(text.substr(at));
    if (size == 0) return at;
    at += size;
  }
  return std::nullopt;
}

std::string EscapeInvalidUtf8(std::string_view text) {
  std::string escaped;
  while (!text.empty()) {
    const size_t size = CharacterSize(text);
    if (size > 0) {
      escaped += text.substr(0, size);
      text.remove_prefix(size);
    } else {
      escaped += "\\x" + HexEncode(AsBytes(text.substr(0, 1)));
      text.remove_prefix(1);
    }
  }
  return escaped;
}

}  // namespace codeseal
