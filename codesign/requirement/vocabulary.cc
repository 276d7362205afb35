#include "codesign/requirement/vocabulary.h"

#include <algorithm>
#include <charconv>

#include "absl/time/civil_time.h"

namespace codeseal {
namespace {

// Literals of the grammar, sorted.
constexpr std::string_view kReservedWords[] = {
    "absent",  "always",      "anchor",     "and",         "apple",  "cdhash",
    "cert",    "certificate", "designated", "entitlement", "exists", "false",
    "generic", "guest",       "host",       "identifier",  "info",   "leaf",
    "legacy",  "library",     "never",      "notarized",   "or",     "platform",
    "plugin",  "root",        "timestamp",  "true",        "trusted"};
static_assert(std::ranges::is_sorted(kReservedWords));

// By type number.
constexpr std::string_view kTypeNames[] = {"invalid",    "host",    "guest",
                                           "designated", "library", "plugin"};

// Base 128, most significant group first, all but the last octet marked.
void AppendBase128(Bytes& to, uint64_t value) {
  const size_t start = to.size();
  to.push_back(static_cast<uint8_t>(value & 0x7f));
  while ((value >>= 7) != 0) {
    to.push_back(static_cast<uint8_t>(0x80 | (value & 0x7f)));
  }
  std::reverse(to.begin() + static_cast<std::ptrdiff_t>(start), to.end());
}

// Takes one number off the front of `text`.
std::optional<uint64_t> TakeOidNumber(std::string_view& text) {
  uint64_t value = 0;
  const auto [stop, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(stop - text.data()));
  return value;
}

std::optional<int64_t> Digits(std::string_view text, size_t offset,
                              size_t size) {
  int64_t value = 0;
  for (const char c : text.substr(offset, size)) {
    if (!IsDigit(c)) return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value;
}

}  // namespace

bool IsReservedWord(std::string_view word) {
  return std::ranges::binary_search(kReservedWords, word);
}

std::optional<std::string_view> RequirementTypeName(uint32_t type) {
  if (type >= std::size(kTypeNames)) return std::nullopt;
  return kTypeNames[type];
}

std::optional<uint32_t> RequirementTypeFromName(std::string_view name) {
  for (uint32_t type = 1; type < std::size(kTypeNames); ++type) {
    if (kTypeNames[type] == name) return type;
  }
  return std::nullopt;
}

std::optional<Bytes> OidFromText(std::string_view text) {
  const std::optional<uint64_t> first = TakeOidNumber(text);
  if (!first || *first > 2 || !text.starts_with('.')) return std::nullopt;
  text.remove_prefix(1);
  const std::optional<uint64_t> second = TakeOidNumber(text);
  if (!second || *second > UINT64_MAX - 80 || (*first < 2 && *second > 39)) {
    return std::nullopt;
  }
  Bytes oid;
  AppendBase128(oid, *first * 40 + *second);
  while (text.starts_with('.')) {
    text.remove_prefix(1);
    const std::optional<uint64_t> next = TakeOidNumber(text);
    if (!next) return std::nullopt;
    AppendBase128(oid, *next);
  }
  if (!text.empty()) return std::nullopt;
  return oid;
}

std::string OidToText(ByteView oid) {
  std::string text;
  uint64_t value = 0;
  for (size_t i = 0; i < oid.size(); ++i) {
    value = (value << 7) | (oid[i] & 0x7f);
    if ((oid[i] & 0x80) != 0 && i + 1 < oid.size()) continue;
    if (text.empty()) {
      const uint64_t first = std::min<uint64_t>(value / 40, 2);
      text = std::to_string(first) + '.';
      value -= first * 40;
    } else {
      text += '.';
    }
    text += std::to_string(value);
    value = 0;
  }
  return text;
}

std::optional<int64_t> ParseGeneralizedTime(std::string_view text) {
  const bool is_utc = text.size() == 15 && text[14] == 'Z';
  const bool has_zone =
      text.size() == 19 && (text[14] == '+' || text[14] == '-');
  if (!is_utc && !has_zone) return std::nullopt;
  const std::optional<int64_t> year = Digits(text, 0, 4);
  const std::optional<int64_t> month = Digits(text, 4, 2);
  const std::optional<int64_t> day = Digits(text, 6, 2);
  const std::optional<int64_t> hour = Digits(text, 8, 2);
  const std::optional<int64_t> minute = Digits(text, 10, 2);
  const std::optional<int64_t> second = Digits(text, 12, 2);
  if (!year || !month || !day || !hour || !minute || !second) {
    return std::nullopt;
  }
  // A civil time out of range moves on to the next day: 31 June is refused by
  // looking whether it stayed.
  const absl::CivilSecond civil(*year, *month, *day, *hour, *minute, *second);
  if (civil.month() != *month || civil.day() != *day || civil.hour() != *hour ||
      civil.minute() != *minute || civil.second() != *second) {
    return std::nullopt;
  }
  int64_t at = civil - absl::CivilSecond(2001, 1, 1);
  if (has_zone) {
    const std::optional<int64_t> hours = Digits(text, 15, 2);
    const std::optional<int64_t> minutes = Digits(text, 17, 2);
    if (!hours || !minutes) return std::nullopt;
    const int64_t ahead = *hours * 3600 + *minutes * 60;
    at += text[14] == '+' ? -ahead : ahead;
  }
  return at;
}

}  // namespace codeseal
