#include "codesign/bundle/property_list.h"

#include <plist/plist.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "codesign/base/utf8.h"

namespace codeseal {
namespace {

constexpr size_t kMaxDataLineSize = 76;  // characters, of which 8 for each tab
constexpr size_t kMaxDataIndent = 8;     // tabs; the element's have no limit

absl::Status BadPlist(uint64_t byte_offset, std::string_view what) {
  return ParseError(v1::REASON_BAD_PLIST, byte_offset, what);
}

// --- Reading: limits, checked before libplist builds anything ---------------

// Follows the nesting of elements; leaves syntax to the parser.
absl::Status CheckXmlDepth(std::string_view text) {
  int depth = 0;
  size_t at = 0;
  while ((at = text.find('<', at)) != std::string_view::npos) {
    const std::string_view rest = text.substr(at);
    std::string_view end = ">";
    if (rest.starts_with("<!--")) {
      end = "-->";
    } else if (rest.starts_with("<![CDATA[")) {
      end = "]]>";
    }
    const size_t close = rest.find(end);
    if (close == std::string_view::npos) {
      return BadPlist(at, "an element does not end");
    }
    const bool is_element = rest[1] != '!' && rest[1] != '?';
    if (rest[1] == '/') {
      --depth;
    } else if (is_element && rest[close - 1] != '/') {
      if (++depth > kMaxPlistDepth) {
        return BadPlist(at, "the property list is nested too deep");
      }
    }
    at += close + end.size();
  }
  return absl::OkStatus();
}

// Old lists may be in Latin-1, and say so in their first line.
bool IsLatin1(std::string_view xml) {
  const size_t end = xml.find("?>");
  if (end == std::string_view::npos) return false;
  std::string declaration(xml.substr(0, end));
  absl::AsciiStrToLower(&declaration);
  return declaration.find("encoding=\"iso-8859-1\"") != std::string::npos;
}

std::string Latin1ToUtf8(std::string_view text) {
  std::string utf8;
  for (const char each : text) {
    const auto byte = static_cast<uint8_t>(each);
    if (byte < 0x80) {
      utf8 += each;
    } else {
      utf8 += static_cast<char>(0xc0 | byte >> 6);
      utf8 += static_cast<char>(0x80 | (byte & 0x3f));
    }
  }
  return utf8;
}

// Walks the object graph of a binary property list. An object that is referred
// to twice is built twice, so that a small file can ask for endless values.
class BinaryPlistLimits {
 public:
  explicit BinaryPlistLimits(ByteView bytes) : bytes_(bytes) {}

  absl::Status Check() {
    if (bytes_.size() < kHeaderSize + kTrailerSize) {
      return BadPlist(0, "the binary property list is cut short");
    }
    const size_t trailer_offset = bytes_.size() - kTrailerSize;
    BigEndianReader trailer(bytes_.subspan(trailer_offset));
    trailer.Skip(6);  // unused, sort version
    offset_size_ = trailer.U8();
    reference_size_ = trailer.U8();
    const uint64_t object_count = trailer.U64();
    const uint64_t top = trailer.U64();
    const uint64_t table_offset = trailer.U64();
    if (offset_size_ == 0 || offset_size_ > 8 || reference_size_ == 0 ||
        reference_size_ > 8 || table_offset < kHeaderSize ||
        table_offset > trailer_offset ||
        (trailer_offset - table_offset) / offset_size_ < object_count ||
        top >= object_count) {
      return BadPlist(trailer_offset, "the trailer does not fit the file");
    }
    table_offset_ = table_offset;
    objects_.resize(object_count);
    return Visit(top, 1);
  }

 private:
  static constexpr size_t kHeaderSize = 8;
  static constexpr size_t kTrailerSize = 32;
  static constexpr uint64_t kMaxValueCount = 1'000'000;

  struct Object {
    uint64_t value_count = 0;  // with all below; 0: not visited
    int height = 0;
  };

  // `size` is at most 8; the range must be inside the file.
  uint64_t Integer(uint64_t offset, size_t size) const {
    uint64_t value = 0;
    for (size_t i = 0; i < size; ++i) value = value << 8 | bytes_[offset + i];
    return value;
  }

  // Of object `index` < objects_.size(); inside the file.
  absl::StatusOr<uint64_t> Offset(uint64_t index) const {
    const uint64_t entry = table_offset_ + index * offset_size_;
    const uint64_t offset = Integer(entry, offset_size_);
    if (offset < kHeaderSize || offset >= table_offset_) {
      return BadPlist(entry, "an object lies outside the file");
    }
    return offset;
  }

  // The count in the marker at `at`, or in the integer behind it; moves `at`
  // behind both.
  absl::StatusOr<uint64_t> Count(uint64_t& at) const {
    const uint64_t start = at;
    const uint64_t end = table_offset_;
    const uint64_t count = bytes_[at++] & 0xf;
    if (count != 0xf) return count;
    if (at >= end || bytes_[at] >> 4 != 1) {
      return BadPlist(start, "a count is no integer");
    }
    const size_t size = size_t{1} << (bytes_[at] & 0xf);
    if (size > 8 || size > end - at - 1) {
      return BadPlist(start, "a count does not fit");
    }
    at += 1 + size;
    return Integer(at - size, size);
  }

  static bool IsText(uint8_t marker) {
    return marker >> 4 == 5 || marker >> 4 == 6;
  }

  // libplist cuts a text at a NUL, and ends the process for a wide one that is
  // a key.
  absl::Status CheckText(uint64_t at) const {
    const uint64_t start = at;
    const size_t unit_size = bytes_[at] >> 4 == 5 ? 1 : 2;
    ASSIGN_OR_RETURN(const uint64_t count, Count(at));
    if ((table_offset_ - at) / unit_size < count) {
      return BadPlist(start, "a text does not fit in the file");
    }
    for (uint64_t i = 0; i < count; ++i) {
      if (Integer(at + i * unit_size, unit_size) == 0) {
        return BadPlist(start, "a text holds a NUL");
      }
    }
    return absl::OkStatus();
  }

  absl::Status Visit(uint64_t index, int depth) {
    Object& object = objects_[index];
    if (object.value_count == 0) {
      if (depth > kMaxPlistDepth) {  // also ends every cycle
        return BadPlist(0, "the property list is nested too deep");
      }
      RETURN_IF_ERROR(VisitFirst(index, depth));
    }
    if (object.height > kMaxPlistDepth - depth + 1) {
      return BadPlist(0, "the property list is nested too deep");
    }
    return absl::OkStatus();
  }

  absl::Status VisitFirst(uint64_t index, int depth) {
    ASSIGN_OR_RETURN(uint64_t at, Offset(index));
    const uint64_t end = table_offset_;
    const uint8_t marker = bytes_[at];
    const uint64_t start = at;
    uint64_t value_count = 1;
    int height = 1;
    if (IsText(marker)) RETURN_IF_ERROR(CheckText(at));
    const bool is_dict = marker >> 4 == 0xd;
    if (is_dict || marker >> 4 == 0xa || marker >> 4 == 0xc) {
      ASSIGN_OR_RETURN(uint64_t count, Count(at));
      if ((end - at) / reference_size_ / (is_dict ? 2 : 1) < count) {
        return BadPlist(start, "a collection does not fit in the file");
      }
      if (is_dict) count *= 2;
      const uint64_t key_count = is_dict ? count / 2 : 0;
      for (uint64_t i = 0; i < count; ++i) {
        const uint64_t child =
            Integer(at + i * reference_size_, reference_size_);
        if (child >= objects_.size()) {
          return BadPlist(start, "a reference names no object");
        }
        if (i < key_count) {
          ASSIGN_OR_RETURN(const uint64_t key, Offset(child));
          if (!IsText(bytes_[key])) return BadPlist(key, "a key is no text");
        }
        RETURN_IF_ERROR(Visit(child, depth + 1));
        value_count += objects_[child].value_count;
        height = std::max(height, objects_[child].height + 1);
        if (value_count > kMaxValueCount) {
          return BadPlist(start, "the property list has too many values");
        }
      }
    }
    objects_[index] = {value_count, height};
    return absl::OkStatus();
  }

  ByteView bytes_;
  std::vector<Object> objects_;
  uint64_t table_offset_ = 0;  // bytes from the file's start
  size_t offset_size_ = 0;
  size_t reference_size_ = 0;
};

// --- Reading: libplist's tree to values -------------------------------------

struct PlistFree {
  void operator()(void* node) const { plist_free(node); }
};
using PlistNode = std::unique_ptr<void, PlistFree>;

struct MemoryFree {
  void operator()(void* memory) const { std::free(memory); }
};

// What libplist 2.2 writes of a node, where it hands out less than that.
std::string ToXml(plist_t node) {
  char* raw_xml = nullptr;
  uint32_t size = 0;
  plist_to_xml(node, &raw_xml, &size);
  const std::unique_ptr<char, MemoryFree> xml(raw_xml);
  return xml == nullptr ? std::string() : std::string(xml.get(), size);
}

// Of 64 bits; otherwise the number is above INT64_MAX.
bool IsNegative(plist_t integer) {
  return ToXml(integer).find("<integer>-") != std::string::npos;
}

// The getter has 32 bits of seconds: from 1932 to 2069.
std::optional<absl::Time> ReadDate(plist_t date) {
  static constexpr std::string_view kStart = "<date>";
  const std::string xml = ToXml(date);
  const size_t start = xml.find(kStart);
  const size_t end = xml.find("</date>");
  if (start == std::string::npos || end == std::string::npos) {
    return std::nullopt;
  }
  const size_t text_at = start + kStart.size();
  absl::Time time;
  std::string error;
  if (!absl::ParseTime("%Y-%m-%dT%H:%M:%SZ", xml.substr(text_at, end - text_at),
                       absl::UTCTimeZone(), &time, &error)) {
    return std::nullopt;
  }
  return time;
}

// libplist hands out bytes as they came, surrogates of "&#xd800;" among them.
absl::Status CheckCharacters(std::string_view text) {
  if (text.find('\0') != std::string_view::npos) {
    return BadPlist(0, "a text holds a NUL");
  }
  if (!IsUtf8(text)) return BadPlist(0, "a text is not UTF-8");
  return absl::OkStatus();
}

// Depth was limited before. `node` is not owned.
absl::StatusOr<PlistValue> ToValue(plist_t node) {
  switch (plist_get_node_type(node)) {
    case PLIST_BOOLEAN: {
      uint8_t value = 0;
      plist_get_bool_val(node, &value);
      return PlistValue{value != 0};
    }
    case PLIST_UINT: {
      uint64_t value = 0;
      plist_get_uint_val(node, &value);
      if (value > INT64_MAX && !IsNegative(node)) {
        return BadPlist(0, "an integer does not fit in 64 bits");
      }
      return PlistValue{static_cast<int64_t>(value)};
    }
    case PLIST_REAL: {
      double value = 0;
      plist_get_real_val(node, &value);
      return PlistValue{value};
    }
    case PLIST_STRING: {
      uint64_t size = 0;
      const char* text = plist_get_string_ptr(node, &size);
      if (text == nullptr) return PlistValue{std::string()};
      const std::string_view value(text, size);
      RETURN_IF_ERROR(CheckCharacters(value));
      return PlistValue{std::string(value)};
    }
    case PLIST_DATA: {
      uint64_t size = 0;
      const char* data = plist_get_data_ptr(node, &size);
      if (data == nullptr) return PlistValue{Bytes()};
      return PlistValue{ToBytes(std::string_view(data, size))};
    }
    case PLIST_DATE: {
      const std::optional<absl::Time> time = ReadDate(node);
      if (!time.has_value()) return BadPlist(0, "a date is out of range");
      return PlistValue{*time};
    }
    case PLIST_ARRAY: {
      PlistArray array;
      const uint32_t count = plist_array_get_size(node);
      array.reserve(count);
      plist_array_iter raw_iterator = nullptr;
      plist_array_new_iter(node, &raw_iterator);
      const std::unique_ptr<void, MemoryFree> iterator(raw_iterator);
      for (uint32_t i = 0; i < count; ++i) {
        plist_t item = nullptr;
        plist_array_next_item(node, iterator.get(), &item);
        ASSIGN_OR_RETURN(PlistValue value, ToValue(item));
        array.push_back(std::move(value));
      }
      return PlistValue{std::move(array)};
    }
    case PLIST_DICT: {
      PlistDict dict;
      plist_dict_iter raw_iterator = nullptr;
      plist_dict_new_iter(node, &raw_iterator);
      const std::unique_ptr<void, MemoryFree> iterator(raw_iterator);
      while (true) {
        char* raw_key = nullptr;
        plist_t item = nullptr;
        plist_dict_next_item(node, iterator.get(), &raw_key, &item);
        const std::unique_ptr<char, MemoryFree> key(raw_key);
        if (item == nullptr || key == nullptr) break;
        RETURN_IF_ERROR(CheckCharacters(key.get()));
        ASSIGN_OR_RETURN(PlistValue value, ToValue(item));
        dict.insert_or_assign(key.get(), std::move(value));
      }
      return PlistValue{std::move(dict)};
    }
    case PLIST_KEY:
    case PLIST_UID:
    case PLIST_NONE:
      break;
  }
  return BadPlist(0, "the property list has a value of unknown type");
}

// --- Writing ----------------------------------------------------------------

class XmlPlistWriter {
 public:
  std::string Write(const PlistDict& dict) && {
    out_ =
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
        "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
        "<plist version=\"1.0\">\n";
    Put(dict, 0);
    out_ += "</plist>\n";
    return std::move(out_);
  }

 private:
  void Indent(size_t indent) { out_.append(indent, '\t'); }

  void PutLine(size_t indent, std::string_view line) {
    Indent(indent);
    out_.append(line).append("\n");
  }

  void PutEscaped(std::string_view text) {
    for (const char each : text) {
      if (each == '&') {
        out_ += "&amp;";
      } else if (each == '<') {
        out_ += "&lt;";
      } else if (each == '>') {
        out_ += "&gt;";
      } else {
        out_ += each;
      }
    }
  }

  void PutText(std::string_view element, std::string_view text, size_t indent) {
    Indent(indent);
    out_.append("<").append(element).append(">");
    PutEscaped(text);
    out_.append("</").append(element).append(">\n");
  }

  void Put(const PlistDict& dict, size_t indent) {
    if (dict.empty()) return PutLine(indent, "<dict/>");
    PutLine(indent, "<dict>");
    for (const auto& [key, value] : dict) {
      PutText("key", key, indent + 1);
      PutValue(value, indent + 1);
    }
    PutLine(indent, "</dict>");
  }

  void Put(const PlistArray& array, size_t indent) {
    if (array.empty()) return PutLine(indent, "<array/>");
    PutLine(indent, "<array>");
    for (const PlistValue& value : array) PutValue(value, indent + 1);
    PutLine(indent, "</array>");
  }

  void Put(const Bytes& data, size_t indent) {
    static constexpr char kDigits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t line_indent = std::min(indent, kMaxDataIndent);
    const size_t line_size = kMaxDataLineSize - 8 * line_indent;
    PutLine(indent, "<data>");
    std::string line;
    for (size_t i = 0; i < data.size(); i += 3) {
      const size_t size = std::min<size_t>(3, data.size() - i);
      uint32_t group = 0;
      for (size_t j = 0; j < 3; ++j) {
        group = group << 8 | (j < size ? data[i + j] : 0u);
      }
      for (size_t j = 0; j < 4; ++j) {
        line += j <= size ? kDigits[group >> (18 - 6 * j) & 0x3f] : '=';
      }
      if (line.size() >= line_size) {
        PutLine(line_indent, line);
        line.clear();
      }
    }
    if (!line.empty()) PutLine(line_indent, line);
    PutLine(indent, "</data>");
  }

  void Put(bool value, size_t indent) {
    PutLine(indent, value ? "<true/>" : "<false/>");
  }
  void Put(int64_t value, size_t indent) {
    PutText("integer", absl::StrCat(value), indent);
  }
  void Put(double value, size_t indent) {
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", value);
    PutText("real", value == 0 ? "0.0" : text, indent);
  }
  void Put(const std::string& value, size_t indent) {
    PutText("string", value, indent);
  }
  void Put(absl::Time value, size_t indent) {
    PutText("date",
            absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", value, absl::UTCTimeZone()),
            indent);
  }

  void PutValue(const PlistValue& value, size_t indent) {
    std::visit([&](const auto& each) { Put(each, indent); }, value.value);
  }

  std::string out_;
};

}  // namespace

bool PlistKeyLess::operator()(std::string_view a, std::string_view b) const {
  const auto [in_a, in_b] =
      std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  if (in_a == a.end() || in_b == b.end()) return in_b != b.end();
  const auto unit_a = static_cast<uint8_t>(*in_a);
  const auto unit_b = static_cast<uint8_t>(*in_b);
  // A first byte of 0xf0 and above becomes a surrogate, below 0xe000.
  const bool is_surrogate_a = unit_a >= 0xf0;
  const bool is_surrogate_b = unit_b >= 0xf0;
  if (is_surrogate_a && !is_surrogate_b) return unit_b >= 0xee;
  if (is_surrogate_b && !is_surrogate_a) return unit_a < 0xee;
  return unit_a < unit_b;
}

absl::StatusOr<PlistValue> ParsePlist(ByteView bytes) {
  if (bytes.size() > kMaxPlistSize) {
    return BadPlist(0, "the property list is too large");
  }
  std::string_view text = AsText(bytes);
  plist_t raw_node = nullptr;
  if (text.starts_with("bplist00")) {
    RETURN_IF_ERROR(BinaryPlistLimits(bytes).Check());
    plist_from_bin(text.data(), static_cast<uint32_t>(text.size()), &raw_node);
  } else {
    if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
    const size_t first = text.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos || text[first] != '<') {
      return BadPlist(0, "this is neither an XML nor a binary property list");
    }
    if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
      return BadPlist(nul, "the XML holds a NUL");
    }
    RETURN_IF_ERROR(CheckXmlDepth(text));
    std::string converted;
    if (IsLatin1(text)) text = converted = Latin1ToUtf8(text);
    plist_from_xml(text.data(), static_cast<uint32_t>(text.size()), &raw_node);
  }
  const PlistNode node(raw_node);
  if (node == nullptr) return BadPlist(0, "the property list is malformed");
  return ToValue(node.get());
}

absl::StatusOr<PlistDict> ParsePlistDict(ByteView bytes) {
  ASSIGN_OR_RETURN(PlistValue value, ParsePlist(bytes));
  auto* dict = std::get_if<PlistDict>(&value.value);
  if (dict == nullptr) {
    return BadPlist(0, "the top of the property list is no dictionary");
  }
  return std::move(*dict);
}

std::string BuildXmlPlist(const PlistDict& dict) {
  return XmlPlistWriter().Write(dict);
}

}  // namespace codeseal
