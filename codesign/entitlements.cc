#include "codesign/entitlements.h"

#include <plist/plist.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

absl::Status Fault(const char* rule, uint64_t offset,
                   const std::string& message) {
  return WithRule(ParseError(v1::REASON_BAD_ENTITLEMENTS, offset, message),
                  rule);
}

// What has no place in the bytes: a value that can't be expressed.
absl::Status ValueFault(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PARSE,
                   v1::REASON_BAD_ENTITLEMENTS, message);
}

absl::Status CheckSize(ByteView content) {
  if (content.size() <= kMaxEntitlementsSize) return absl::OkStatus();
  return Fault("EN-4", 0,
               absl::StrFormat("%d bytes are more than %d", content.size(),
                               kMaxEntitlementsSize));
}

// The first byte that is not part of well-formed UTF-8 (RFC 3629).
std::optional<size_t> FindInvalidUtf8(ByteView text) {
  for (size_t i = 0; i < text.size();) {
    const uint8_t first = text[i];
    size_t more = 0;
    uint8_t lowest = 0x80;  // of the second byte
    uint8_t highest = 0xbf;
    if (first >= 0xc2 && first <= 0xdf) {
      more = 1;
    } else if (first >= 0xe0 && first <= 0xef) {
      more = 2;
      if (first == 0xe0) lowest = 0xa0;   // overlong
      if (first == 0xed) highest = 0x9f;  // surrogates
    } else if (first >= 0xf0 && first <= 0xf4) {
      more = 3;
      if (first == 0xf0) lowest = 0x90;   // overlong
      if (first == 0xf4) highest = 0x8f;  // above U+10FFFF
    } else if (first >= 0x80) {
      return i;
    }
    if (text.size() - i <= more) return i;
    for (size_t k = 1; k <= more; ++k) {
      const uint8_t next = text[i + k];
      if (next < lowest || next > highest) return i;
      lowest = 0x80;
      highest = 0xbf;
    }
    i += more + 1;
  }
  return std::nullopt;
}

// ---- Property list in XML

// Looks at the tags of a property list before libplist may see it: libplist
// recurses over the depth and lets the last of two equal keys win.
class XmlScanner {
 public:
  explicit XmlScanner(std::string_view xml) : xml_(xml) {}

  absl::Status Scan() {
    while (Find("<")) {
      const std::string_view rest = xml_.substr(offset_);
      absl::Status status;
      if (rest.starts_with("<!--")) {
        status = SkipPast("-->", 4);
      } else if (rest.starts_with("<![CDATA[")) {
        status = SkipPast("]]>", 9);
      } else if (rest.starts_with("<?")) {
        status = SkipPast("?>", 2);
      } else if (rest.starts_with("<!")) {
        status = Doctype();
      } else {
        status = Tag();
      }
      RETURN_IF_ERROR(status);
    }
    return absl::OkStatus();
  }

  size_t key_count() const { return key_count_; }

 private:
  bool Find(std::string_view text) {
    offset_ = std::min(xml_.find(text, offset_), xml_.size());
    return offset_ < xml_.size();
  }

  absl::Status SkipPast(std::string_view end, size_t start_size) {
    const size_t start = offset_;
    offset_ += start_size;
    if (!Find(end)) return Fault("EN-1", start, "markup has no end");
    offset_ += end.size();
    return absl::OkStatus();
  }

  // An internal subset could define entities.
  absl::Status Doctype() {
    const size_t start = offset_;
    RETURN_IF_ERROR(SkipPast(">", 2));
    if (xml_.substr(start, offset_ - start).find('[') !=
        std::string_view::npos) {
      return Fault("EN-2", start, "the document type has an internal subset");
    }
    return absl::OkStatus();
  }

  absl::Status Tag() {
    const size_t start = offset_;
    RETURN_IF_ERROR(SkipPast(">", 1));
    std::string_view tag = xml_.substr(start + 1, offset_ - start - 2);
    const bool is_end = tag.starts_with('/');
    const bool is_empty = tag.ends_with('/');
    if (is_end) tag.remove_prefix(1);
    const std::string_view name = tag.substr(0, tag.find_first_of(" \t\r\n/"));
    if (name == "key" && !is_end) ++key_count_;
    if ((name != "dict" && name != "array") || is_empty) {
      return absl::OkStatus();
    }
    if (is_end) {
      if (depth_ > 0) --depth_;
    } else if (++depth_ > kMaxEntitlementsDepth) {
      return Fault("EN-3", start,
                   absl::StrFormat("nested deeper than %d levels",
                                   kMaxEntitlementsDepth));
    }
    return absl::OkStatus();
  }

  std::string_view xml_;
  size_t offset_ = 0;
  size_t depth_ = 0;
  size_t key_count_ = 0;
};

struct PlistFree {
  void operator()(void* node) const { plist_free(node); }
};
using OwnedPlist = std::unique_ptr<void, PlistFree>;
struct MallocFree {
  void operator()(void* memory) const { std::free(memory); }
};

absl::StatusOr<PlistValue> FromPlist(plist_t node, size_t& key_count);

// libplist 2.2 hands out 64 bits and only its XML knows whether they are
// signed.
absl::StatusOr<PlistValue> IntegerFromPlist(plist_t node) {
  uint64_t bits = 0;
  plist_get_uint_val(node, &bits);
  if (bits > static_cast<uint64_t>(INT64_MAX)) {
    char* xml = nullptr;
    uint32_t size = 0;
    plist_to_xml(node, &xml, &size);
    const std::unique_ptr<char, MallocFree> owned(xml);
    if (xml == nullptr || std::string_view(xml, size).find("<integer>-") ==
                              std::string_view::npos) {
      return ValueFault("an integer does not fit in 64 bits");
    }
  }
  return PlistValue{static_cast<int64_t>(bits)};
}

absl::StatusOr<PlistValue> ArrayFromPlist(plist_t node, size_t& key_count) {
  PlistValue::Array array;
  for (uint32_t i = 0; i < plist_array_get_size(node); ++i) {
    ASSIGN_OR_RETURN(PlistValue element,
                     FromPlist(plist_array_get_item(node, i), key_count));
    array.push_back(std::move(element));
  }
  return PlistValue{std::move(array)};
}

absl::StatusOr<PlistValue> DictionaryFromPlist(plist_t node,
                                               size_t& key_count) {
  PlistValue::Dictionary dictionary;
  plist_dict_iter iterator = nullptr;
  plist_dict_new_iter(node, &iterator);
  const std::unique_ptr<void, MallocFree> owned_iterator(iterator);
  for (;;) {
    char* key = nullptr;
    plist_t item = nullptr;
    plist_dict_next_item(node, iterator, &key, &item);
    const std::unique_ptr<char, MallocFree> owned_key(key);
    if (key == nullptr || item == nullptr) break;
    ++key_count;
    ASSIGN_OR_RETURN(PlistValue value, FromPlist(item, key_count));
    dictionary.insert_or_assign(key, std::move(value));
  }
  return PlistValue{std::move(dictionary)};
}

// Adds the keys of every dictionary to `key_count`.
absl::StatusOr<PlistValue> FromPlist(plist_t node, size_t& key_count) {
  uint64_t size = 0;
  switch (plist_get_node_type(node)) {
    case PLIST_BOOLEAN: {
      uint8_t value = 0;
      plist_get_bool_val(node, &value);
      return PlistValue{value != 0};
    }
    case PLIST_UINT:
      return IntegerFromPlist(node);
    case PLIST_REAL: {
      double value = 0;
      plist_get_real_val(node, &value);
      return PlistValue{value};
    }
    case PLIST_STRING: {
      const char* text = plist_get_string_ptr(node, &size);
      return PlistValue{std::string(text, size)};
    }
    case PLIST_DATA: {
      const char* data = plist_get_data_ptr(node, &size);
      return PlistValue{ToBytes(std::string_view(data, size))};
    }
    case PLIST_DATE: {
      int32_t seconds = 0;
      int32_t microseconds = 0;
      plist_get_date_val(node, &seconds, &microseconds);
      return PlistValue{PlistDate{seconds}};
    }
    case PLIST_ARRAY:
      return ArrayFromPlist(node, key_count);
    case PLIST_DICT:
      return DictionaryFromPlist(node, key_count);
    case PLIST_KEY:
    case PLIST_UID:
    case PLIST_NONE:
      break;
  }
  return ValueFault("a value has a type that property lists do not know");
}

absl::StatusOr<PlistValue> ParsePlist(ByteView plist) {
  RETURN_IF_ERROR(CheckSize(plist));
  const std::string_view xml = AsText(plist);
  if (xml.starts_with("bplist")) {
    return Fault("EN-5", 0,
                 "the property list is binary: convert it to XML first");
  }
  if (const std::optional<size_t> at = FindInvalidUtf8(plist)) {
    return Fault("EN-6", *at, "the property list is not UTF-8");
  }
  XmlScanner scanner(xml);
  RETURN_IF_ERROR(scanner.Scan());

  plist_t root = nullptr;
  plist_from_xml(xml.data(), static_cast<uint32_t>(xml.size()), &root);
  const OwnedPlist owned(root);
  if (root == nullptr || plist_get_node_type(root) != PLIST_DICT) {
    return Fault("EN-7", 0, "this is no XML property list of a dictionary");
  }
  size_t key_count = 0;
  ASSIGN_OR_RETURN(PlistValue value, FromPlist(root, key_count));
  if (key_count != scanner.key_count()) {
    return Fault("EN-8", 0, "a dictionary has the same key twice");
  }
  return value;
}

// ---- DER

constexpr uint8_t kBooleanTag = 0x01;
constexpr uint8_t kIntegerTag = 0x02;
constexpr uint8_t kDataTag = 0x04;    // OCTET STRING
constexpr uint8_t kStringTag = 0x0c;  // UTF8String
constexpr uint8_t kSequenceTag = 0x30;
constexpr uint8_t kSetTag = 0x31;           // dictionary, form of 2020 and 2021
constexpr uint8_t kEntitlementsTag = 0x70;  // [APPLICATION 16]
constexpr uint8_t kDictionaryTag = 0xb0;    // [CONTEXT 16]
constexpr int64_t kVersion = 1;

Bytes Element(uint8_t tag, ByteView content) {
  Bytes out = {tag};
  if (content.size() < 0x80) {
    out.push_back(static_cast<uint8_t>(content.size()));
  } else {
    Bytes size;
    for (size_t rest = content.size(); rest != 0; rest >>= 8) {
      size.insert(size.begin(), static_cast<uint8_t>(rest));
    }
    out.push_back(static_cast<uint8_t>(0x80 | size.size()));
    Append(out, size);
  }
  Append(out, content);
  return out;
}

// Two's complement in as few bytes as will do.
Bytes IntegerElement(int64_t value) {
  Bytes content;
  for (int shift = 56; shift >= 0; shift -= 8) {
    content.push_back(static_cast<uint8_t>(value >> shift));
  }
  const auto is_sign_only = [&] {
    return (content[0] == 0x00 && content[1] < 0x80) ||
           (content[0] == 0xff && content[1] >= 0x80);
  };
  while (content.size() > 1 && is_sign_only()) content.erase(content.begin());
  return Element(kIntegerTag, content);
}

absl::StatusOr<Bytes> ToDer(const PlistValue& value, size_t depth);

absl::StatusOr<Bytes> DictionaryToDer(const PlistValue::Dictionary& dictionary,
                                      size_t depth) {
  Bytes pairs;
  for (const auto& [key, value] : dictionary) {
    Bytes pair = Element(kStringTag, AsBytes(key));
    const absl::StatusOr<Bytes> der = ToDer(value, depth);
    if (!der.ok()) return WithSubject(der.status(), key);
    Append(pair, *der);
    Append(pairs, Element(kSequenceTag, pair));
  }
  return Element(kDictionaryTag, pairs);
}

absl::StatusOr<Bytes> ToDer(const PlistValue& value, size_t depth) {
  if (depth > kMaxEntitlementsDepth) {
    return ValueFault(
        absl::StrFormat("nested deeper than %d levels", kMaxEntitlementsDepth));
  }
  if (const auto* boolean = value.As<bool>()) {
    const uint8_t content[] = {static_cast<uint8_t>(*boolean ? 0xff : 0x00)};
    return Element(kBooleanTag, content);
  }
  if (const auto* integer = value.As<int64_t>()) {
    return IntegerElement(*integer);
  }
  if (const auto* text = value.As<std::string>()) {
    return Element(kStringTag, AsBytes(*text));
  }
  if (const auto* data = value.As<Bytes>()) return Element(kDataTag, *data);
  if (const auto* array = value.As<PlistValue::Array>()) {
    Bytes elements;
    for (const PlistValue& element : *array) {
      ASSIGN_OR_RETURN(const Bytes der, ToDer(element, depth + 1));
      Append(elements, der);
    }
    return Element(kSequenceTag, elements);
  }
  if (const auto* dictionary = value.As<PlistValue::Dictionary>()) {
    return DictionaryToDer(*dictionary, depth + 1);
  }
  return ValueFault("an entitlement is a real number or a date");
}

// Reads elements that lie one behind the other. Offsets count from `base`.
class DerReader {
 public:
  struct Item {
    uint8_t tag = 0;
    ByteView content;
    size_t offset = 0;  // of the content
  };

  DerReader(ByteView bytes, size_t base) : bytes_(bytes), base_(base) {}

  bool at_end() const { return position_ == bytes_.size(); }
  size_t offset() const { return base_ + position_; }
  absl::StatusOr<Item> Next();
  // The next element, which must have `tag`.
  absl::StatusOr<Item> Next(uint8_t tag);
  absl::Status CheckEnd() const {
    if (at_end()) return absl::OkStatus();
    return Fault("EN-9", offset(), "bytes follow the last element");
  }

 private:
  ByteView bytes_;
  size_t base_;
  size_t position_ = 0;
};

absl::StatusOr<DerReader::Item> DerReader::Next() {
  const size_t start = offset();
  const auto cut_short = [&] {
    return Fault("EN-10", start, "a DER element is cut short");
  };
  const ByteView rest = bytes_.subspan(position_);
  if (rest.size() < 2) return cut_short();
  size_t header_size = 2;
  size_t size = rest[1];
  if (size >= 0x80) {
    const size_t size_size = size & 0x7f;
    if (rest.size() - 2 < size_size) return cut_short();
    size = 0;
    for (const uint8_t byte : rest.subspan(2, size_size)) {
      size = size << 8 | byte;
    }
    if (size_size == 0 || size_size > sizeof(uint32_t) || size < 0x80 ||
        size >> (8 * (size_size - 1)) == 0) {
      return Fault("EN-11", start + 1, "a DER length is not the shortest");
    }
    header_size += size_size;
  }
  if (rest.size() - header_size < size) return cut_short();
  position_ += header_size + size;
  return Item{rest[0], rest.subspan(header_size, size), start + header_size};
}

absl::Status CheckTag(const DerReader::Item& item, uint8_t tag) {
  if (item.tag == tag) return absl::OkStatus();
  return Fault("EN-12", item.offset,
               absl::StrFormat("DER tag is %#x, want %#x", item.tag, tag));
}

absl::StatusOr<DerReader::Item> DerReader::Next(uint8_t tag) {
  ASSIGN_OR_RETURN(const Item item, Next());
  RETURN_IF_ERROR(CheckTag(item, tag));
  return item;
}

absl::StatusOr<int64_t> IntegerFromDer(const DerReader::Item& item) {
  const ByteView content = item.content;
  const bool is_padded =
      content.size() > 1 && ((content[0] == 0x00 && content[1] < 0x80) ||
                             (content[0] == 0xff && content[1] >= 0x80));
  if (content.empty() || content.size() > sizeof(int64_t) || is_padded) {
    return Fault("EN-13", item.offset,
                 "an integer is not the shortest or does not fit in 64 bits");
  }
  uint64_t bits = content[0] >= 0x80 ? ~uint64_t{0} : 0;
  for (const uint8_t byte : content) bits = bits << 8 | byte;
  return static_cast<int64_t>(bits);
}

absl::StatusOr<std::string> StringFromDer(const DerReader::Item& item) {
  if (const std::optional<size_t> at = FindInvalidUtf8(item.content)) {
    return Fault("EN-14", item.offset + *at, "a string is not UTF-8");
  }
  return ToString(item.content);
}

enum class DerForm { kCurrent, kSets };

absl::StatusOr<PlistValue> FromDer(const DerReader::Item& item, DerForm form,
                                   size_t depth);

absl::StatusOr<PlistValue> DictionaryFromDer(const DerReader::Item& item,
                                             DerForm form, size_t depth) {
  PlistValue::Dictionary dictionary;
  DerReader pairs(item.content, item.offset);
  while (!pairs.at_end()) {
    const size_t offset = pairs.offset();
    ASSIGN_OR_RETURN(const DerReader::Item pair, pairs.Next(kSequenceTag));
    DerReader in(pair.content, pair.offset);
    ASSIGN_OR_RETURN(const DerReader::Item key_item, in.Next(kStringTag));
    ASSIGN_OR_RETURN(std::string key, StringFromDer(key_item));
    ASSIGN_OR_RETURN(const DerReader::Item value_item, in.Next());
    ASSIGN_OR_RETURN(PlistValue value, FromDer(value_item, form, depth + 1));
    RETURN_IF_ERROR(in.CheckEnd());
    const bool is_sorted =
        dictionary.empty() || dictionary.rbegin()->first < key;
    if (dictionary.contains(key) || (form == DerForm::kCurrent && !is_sorted)) {
      return Fault("EN-15", offset,
                   "key " + key + " is given twice or out of order");
    }
    dictionary.emplace(std::move(key), std::move(value));
  }
  return PlistValue{std::move(dictionary)};
}

absl::StatusOr<PlistValue> FromDer(const DerReader::Item& item, DerForm form,
                                   size_t depth) {
  if (depth > kMaxEntitlementsDepth) {
    return Fault(
        "EN-16", item.offset,
        absl::StrFormat("nested deeper than %d levels", kMaxEntitlementsDepth));
  }
  switch (item.tag) {
    case kBooleanTag: {
      const uint8_t yes = form == DerForm::kSets ? 0x01 : 0xff;
      if (item.content.size() != 1 ||
          (item.content[0] != yes && item.content[0] != 0xff &&
           item.content[0] != 0x00)) {
        return Fault("EN-17", item.offset,
                     "a boolean is neither true nor false");
      }
      return PlistValue{item.content[0] != 0x00};
    }
    case kIntegerTag: {
      ASSIGN_OR_RETURN(const int64_t integer, IntegerFromDer(item));
      return PlistValue{integer};
    }
    case kStringTag: {
      ASSIGN_OR_RETURN(std::string text, StringFromDer(item));
      return PlistValue{std::move(text)};
    }
    case kDataTag:
      return PlistValue{ToBytes(item.content)};
    case kSequenceTag: {
      PlistValue::Array array;
      DerReader elements(item.content, item.offset);
      while (!elements.at_end()) {
        ASSIGN_OR_RETURN(const DerReader::Item element, elements.Next());
        ASSIGN_OR_RETURN(PlistValue value, FromDer(element, form, depth + 1));
        array.push_back(std::move(value));
      }
      return PlistValue{std::move(array)};
    }
    case kDictionaryTag:
    case kSetTag:
      if ((item.tag == kSetTag) == (form == DerForm::kSets)) {
        return DictionaryFromDer(item, form, depth);
      }
      break;
    default:
      break;
  }
  return Fault("EN-18", item.offset,
               absl::StrFormat("DER tag %#x has no meaning here", item.tag));
}

std::string FirstDifference(const PlistValue::Dictionary& a,
                            const PlistValue::Dictionary& b) {
  for (const auto& [key, value] : a) {
    const auto found = b.find(key);
    if (found == b.end() || !(found->second == value)) return key;
  }
  for (const auto& [key, value] : b) {
    if (!a.contains(key)) return key;
  }
  return "";
}

}  // namespace

absl::StatusOr<Bytes> BuildEntitlements(ByteView plist) {
  if (BigEndianReader(plist).U32() == kEntitlementsMagic) {
    RETURN_IF_ERROR(ParseEntitlements(plist).status());
    return ToBytes(plist);
  }
  RETURN_IF_ERROR(ParsePlist(plist).status());
  return WrapBlob(kEntitlementsMagic, plist);
}

absl::StatusOr<PlistValue> ParseEntitlements(ByteView blob) {
  ASSIGN_OR_RETURN(const ByteView plist, UnwrapBlob(kEntitlementsMagic, blob));
  absl::StatusOr<PlistValue> value = ParsePlist(plist);
  if (!value.ok()) return WithOffsetBase(value.status(), kBlobHeaderSize);
  return value;
}

absl::StatusOr<Bytes> BuildEntitlementsDer(const PlistValue& entitlements) {
  const auto* dictionary = entitlements.As<PlistValue::Dictionary>();
  if (dictionary == nullptr) {
    return ValueFault("entitlements are not a dictionary");
  }
  Bytes content = IntegerElement(kVersion);
  ASSIGN_OR_RETURN(const Bytes der, DictionaryToDer(*dictionary, 1));
  Append(content, der);
  return WrapBlob(kEntitlementsDerMagic, Element(kEntitlementsTag, content));
}

absl::StatusOr<PlistValue> ParseEntitlementsDer(ByteView blob) {
  return ParseEntitlementsDer(blob, kEntitlementsDerMagic);
}

absl::StatusOr<PlistValue> ParseEntitlementsDer(ByteView blob, uint32_t magic) {
  ASSIGN_OR_RETURN(const ByteView der, UnwrapBlob(magic, blob));
  RETURN_IF_ERROR(CheckSize(der));
  DerReader in(der, kBlobHeaderSize);
  ASSIGN_OR_RETURN(const DerReader::Item outer, in.Next());
  RETURN_IF_ERROR(in.CheckEnd());
  if (outer.tag == kSetTag) return FromDer(outer, DerForm::kSets, 1);
  RETURN_IF_ERROR(CheckTag(outer, kEntitlementsTag));
  DerReader content(outer.content, outer.offset);
  ASSIGN_OR_RETURN(const DerReader::Item version_item,
                   content.Next(kIntegerTag));
  ASSIGN_OR_RETURN(const int64_t version, IntegerFromDer(version_item));
  if (version != kVersion) {
    return Fault("EN-19", version_item.offset,
                 absl::StrFormat("version is %d, want %d", version, kVersion));
  }
  ASSIGN_OR_RETURN(const DerReader::Item dictionary,
                   content.Next(kDictionaryTag));
  RETURN_IF_ERROR(content.CheckEnd());
  return FromDer(dictionary, DerForm::kCurrent, 1);
}

absl::Status CheckEntitlementsAgree(ByteView blob, ByteView der_blob) {
  ASSIGN_OR_RETURN(const PlistValue xml, ParseEntitlements(blob));
  ASSIGN_OR_RETURN(const PlistValue der, ParseEntitlementsDer(der_blob));
  if (xml == der) return absl::OkStatus();
  const std::string key = FirstDifference(*xml.As<PlistValue::Dictionary>(),
                                          *der.As<PlistValue::Dictionary>());
  return WithSubject(
      WithRule(ValueFault("XML and DER entitlements differ in " + key),
               "EN-20"),
      key);
}

uint64_t ExecSegmentFlags(const PlistValue& entitlements) {
  constexpr struct {
    const char* key;
    uint64_t flag;
  } kKeys[] = {
      {"get-task-allow", kExecSegmentAllowUnsigned},
      {"run-unsigned-code", kExecSegmentAllowUnsigned},
      {"com.apple.private.cs.debugger", kExecSegmentDebugger},
      {"dynamic-codesigning", kExecSegmentJit},
      {"com.apple.private.skip-library-validation",
       kExecSegmentSkipLibraryValidation},
      {"com.apple.private.amfi.can-load-cdhash", kExecSegmentCanLoadCdHash},
      {"com.apple.private.amfi.can-execute-cdhash",
       kExecSegmentCanExecuteCdHash},
  };
  uint64_t flags = 0;
  for (const auto& [key, flag] : kKeys) {
    const PlistValue* value = entitlements.Find(key);
    if (value != nullptr && value->IsTrue()) flags |= flag;
  }
  return flags;
}

}  // namespace codeseal
