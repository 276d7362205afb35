#include "audit/text.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include "absl/strings/escaping.h"

namespace codeseal::audit {

std::string EncodeBase64(ByteView bytes) {
  const std::string_view text = AsText(bytes);
  return absl::Base64Escape(absl::string_view(text.data(), text.size()));
}

std::optional<Bytes> DecodeBase64(std::string_view text) {
  std::string bytes;
  if (!absl::Base64Unescape(absl::string_view(text.data(), text.size()),
                            &bytes)) {
    return std::nullopt;
  }
  // abseil takes blanks and missing padding as well.
  if (EncodeBase64(AsBytes(bytes)) != text) return std::nullopt;
  return ToBytes(bytes);
}

std::optional<TreeHash> DecodeBase64Hash(std::string_view text) {
  const std::optional<Bytes> bytes = DecodeBase64(text);
  if (!bytes.has_value() || bytes->size() != kTreeHashSize) return std::nullopt;
  TreeHash hash;
  std::copy(bytes->begin(), bytes->end(), hash.begin());
  return hash;
}

std::optional<uint64_t> ParseDecimal(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() ||
      (text.size() > 1 && text.front() == '0')) {
    return std::nullopt;
  }
  return value;
}

std::optional<std::string_view> TakeLine(std::string_view& text) {
  const size_t size = text.find('\n');
  if (size == std::string_view::npos) return std::nullopt;
  const std::string_view line = text.substr(0, size);
  text.remove_prefix(size + 1);
  return line;
}

}  // namespace codeseal::audit
