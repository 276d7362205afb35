#include "codesign/cms/asn1.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_format.h"
#include "codesign/base/error.h"

namespace codeseal::asn1 {
namespace {

// A CMS with a timestamp token needs about a dozen levels.
constexpr int kMaxDepth = 32;

constexpr uint8_t kConstructed = 0x20;
constexpr uint8_t kTagNumber = 0x1f;
constexpr size_t kEndOfContentsSize = 2;

struct Header {
  size_t size = 0;          // identifier and length octets
  size_t content_size = 0;  // 0 when indefinite
  bool indefinite = false;
};

// nullopt when the header is cut short, unsupported, or claims more content
// than there are bytes.
std::optional<Header> ReadHeader(ByteView bytes) {
  if (bytes.size() < 2 || (bytes[0] & kTagNumber) == kTagNumber) {
    return std::nullopt;
  }
  Header header;
  header.size = 2;
  const uint8_t first = bytes[1];
  if (first == 0x80) {
    header.indefinite = true;
    return (bytes[0] & kConstructed) != 0 ? std::optional(header)
                                          : std::nullopt;
  }
  if (first < 0x80) {
    header.content_size = first;
  } else {
    const size_t octet_count = first & 0x7f;
    if (octet_count > 4 || bytes.size() - 2 < octet_count) return std::nullopt;
    for (size_t i = 0; i < octet_count; ++i) {
      header.content_size = header.content_size << 8 | bytes[2 + i];
    }
    header.size += octet_count;
  }
  if (header.content_size > bytes.size() - header.size) return std::nullopt;
  return header;
}

bool IsEndOfContents(ByteView bytes) {
  return bytes.size() >= kEndOfContentsSize && bytes[0] == 0 && bytes[1] == 0;
}

// Bytes of the element at bytes[0], its end-of-contents included; 0 when it is
// malformed.
size_t ElementSize(ByteView bytes, int depth) {
  const std::optional<Header> header = ReadHeader(bytes);
  if (!header.has_value() || depth == kMaxDepth) return 0;
  if (!header->indefinite) return header->size + header->content_size;
  size_t size = header->size;
  while (!IsEndOfContents(bytes.subspan(size))) {
    const size_t inner_size = ElementSize(bytes.subspan(size), depth + 1);
    if (inner_size == 0) return 0;
    size += inner_size;
  }
  return size + kEndOfContentsSize;
}

}  // namespace

absl::Status Malformed(uint64_t offset, std::string_view message) {
  return ParseError(v1::REASON_BAD_CMS, offset, message);
}

Reader::Reader(const Element& element)
    : rest_(element.content),
      offset_(element.offset + static_cast<uint64_t>(element.content.data() -
                                                     element.raw.data())) {}

absl::StatusOr<Element> Reader::Next(std::string_view what) {
  const size_t size = ElementSize(rest_, 0);
  if (size == 0) {
    return Malformed(
        offset_, "the CMS has no well-formed " + std::string(what) + " here");
  }
  const Header header = *ReadHeader(rest_);
  Element element;
  element.tag = rest_[0];
  element.raw = rest_.first(size);
  element.offset = offset_;
  element.indefinite = header.indefinite;
  element.content =
      header.indefinite
          ? element.raw.subspan(header.size,
                                size - header.size - kEndOfContentsSize)
          : element.raw.subspan(header.size);
  rest_ = rest_.subspan(size);
  offset_ += size;
  return element;
}

absl::StatusOr<Element> Reader::Take(uint8_t tag, std::string_view what) {
  if (next_tag() != tag) {
    return Malformed(offset_,
                     absl::StrFormat("the CMS has tag 0x%02x where %s needs "
                                     "0x%02x",
                                     next_tag(), std::string(what), tag));
  }
  return Next(what);
}

std::optional<absl::Time> ReadTime(const Element& element) {
  const std::string_view text = AsText(element.content);
  const size_t year_size = element.tag == kUtcTime ? 2 : 4;
  if ((element.tag != kUtcTime && element.tag != kGeneralizedTime) ||
      text.size() != year_size + 11 || text.back() != 'Z') {
    return std::nullopt;
  }
  const auto number = [text](size_t offset, size_t size) {
    int value = 0;
    for (const char digit : text.substr(offset, size)) {
      if (digit < '0' || digit > '9') return -1;
      value = value * 10 + (digit - '0');
    }
    return value;
  };
  int year = number(0, year_size);
  const int month = number(year_size, 2);
  const int day = number(year_size + 2, 2);
  const int hour = number(year_size + 4, 2);
  const int minute = number(year_size + 6, 2);
  const int second = number(year_size + 8, 2);
  if (year < 0 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 ||
      hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) {
    return std::nullopt;
  }
  if (element.tag == kUtcTime) year += year < 50 ? 2000 : 1900;
  const absl::CivilSecond civil(year, month, day, hour, minute, second);
  // 31 February would have become a day of March.
  if (civil.month() != month || civil.day() != day) return std::nullopt;
  return absl::FromCivil(civil, absl::UTCTimeZone());
}

Bytes Encode(uint8_t tag, std::initializer_list<ByteView> parts) {
  size_t size = 0;
  for (const ByteView part : parts) size += part.size();
  Bytes out;
  out.reserve(size + 6);
  out.push_back(tag);
  if (size < 0x80) {
    out.push_back(static_cast<uint8_t>(size));
  } else {
    int octet_count = 1;
    while (size >> (8 * octet_count) != 0) ++octet_count;
    out.push_back(static_cast<uint8_t>(0x80 | octet_count));
    for (int i = octet_count - 1; i >= 0; --i) {
      out.push_back(static_cast<uint8_t>(size >> (8 * i)));
    }
  }
  for (const ByteView part : parts) Append(out, part);
  return out;
}

Bytes EncodeSetOf(uint8_t tag, std::vector<Bytes> members) {
  // X.690 section 11.6. No encoding is a prefix of another, so the plain
  // comparison of bytes is the order that it asks for.
  std::sort(members.begin(), members.end());
  Bytes content;
  for (const Bytes& member : members) Append(content, member);
  return Encode(tag, {content});
}

Bytes EncodeTime(absl::Time time) {
  const bool fits_utc_time =
      absl::ToCivilYear(time, absl::UTCTimeZone()).year() < 2050;
  const std::string text =
      absl::FormatTime(fits_utc_time ? "%y%m%d%H%M%SZ" : "%Y%m%d%H%M%SZ", time,
                       absl::UTCTimeZone());
  return Encode(fits_utc_time ? kUtcTime : kGeneralizedTime, {AsBytes(text)});
}

}  // namespace codeseal::asn1
