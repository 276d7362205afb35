#include "codesign/entitlements.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "codesign/base/utf8.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

absl::Status EntitlementsFault(const char* rule, uint64_t offset,
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
  return EntitlementsFault(
      "EN-4", 0,
      absl::StrFormat("%d bytes are more than %d", content.size(),
                      kMaxEntitlementsSize));
}

// ---- Property list in XML

// How many keys the XML has in all its dictionaries. Refuses markup that could
// define entities.
absl::StatusOr<size_t> CountKeys(std::string_view xml) {
  size_t count = 0;
  size_t at = 0;
  while ((at = xml.find('<', at)) != std::string_view::npos) {
    const std::string_view rest = xml.substr(at);
    std::string_view start = "<";
    std::string_view end = ">";
    if (rest.starts_with("<!--")) {
      start = "<!--";
      end = "-->";
    } else if (rest.starts_with("<![CDATA[")) {
      start = "<![CDATA[";
      end = "]]>";
    }
    const size_t size = rest.find(end, start.size());
    if (size == std::string_view::npos) {
      return EntitlementsFault("EN-1", at, "markup has no end");
    }
    if (rest.starts_with("<!DOCTYPE") &&
        rest.substr(0, size).find('[') != std::string_view::npos) {
      return EntitlementsFault("EN-2", at,
                               "the document type has an internal subset");
    }
    if (rest.starts_with("<key") &&
        rest.substr(4).find_first_of("> \t\r\n/") == 0) {
      ++count;
    }
    at += size + end.size();
  }
  return count;
}

size_t CountKeys(const PlistDict& dict);

size_t CountKeys(const PlistValue& value) {
  if (const auto* dict = value.As<PlistDict>()) return CountKeys(*dict);
  size_t count = 0;
  if (const auto* array = value.As<PlistArray>()) {
    for (const PlistValue& element : *array) count += CountKeys(element);
  }
  return count;
}

size_t CountKeys(const PlistDict& dict) {
  size_t count = dict.size();
  for (const auto& [key, value] : dict) count += CountKeys(value);
  return count;
}

absl::StatusOr<PlistDict> ParseXml(ByteView plist) {
  RETURN_IF_ERROR(CheckSize(plist));
  const std::string_view xml = AsText(plist);
  if (xml.starts_with("bplist")) {
    return EntitlementsFault(
        "EN-5", 0, "the property list is binary: convert it to XML first");
  }
  if (const std::optional<size_t> at = FindInvalidUtf8(xml)) {
    return EntitlementsFault("EN-6", *at, "the property list is not UTF-8");
  }
  ASSIGN_OR_RETURN(const size_t key_count, CountKeys(xml));
  absl::StatusOr<PlistDict> dict = ParsePlistDict(plist);
  if (!dict.ok()) {
    return EntitlementsFault("EN-7", 0, std::string(Message(dict.status())));
  }
  // Of two equal keys the parser keeps one; another reader may keep the other.
  if (CountKeys(*dict) != key_count) {
    return EntitlementsFault("EN-8", 0, "a key is given twice or has no value");
  }
  return dict;
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
constexpr int64_t kDerVersion = 1;

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

absl::StatusOr<Bytes> DictionaryToDer(const PlistDict& dictionary,
                                      size_t depth) {
  // By the bytes of the keys, which is not quite the order of a PlistDict.
  std::map<std::string_view, const PlistValue*> sorted;
  for (const auto& [key, value] : dictionary) sorted[key] = &value;
  Bytes pairs;
  for (const auto& [key, value] : sorted) {
    Bytes pair = Element(kStringTag, AsBytes(key));
    const absl::StatusOr<Bytes> der = ToDer(*value, depth);
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
  if (const auto* array = value.As<PlistArray>()) {
    Bytes elements;
    for (const PlistValue& element : *array) {
      ASSIGN_OR_RETURN(const Bytes der, ToDer(element, depth + 1));
      Append(elements, der);
    }
    return Element(kSequenceTag, elements);
  }
  if (const auto* dictionary = value.As<PlistDict>()) {
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
    return EntitlementsFault("EN-9", offset(), "bytes follow the last element");
  }

 private:
  ByteView bytes_;
  size_t base_;
  size_t position_ = 0;
};

absl::StatusOr<DerReader::Item> DerReader::Next() {
  const size_t start = offset();
  const auto cut_short = [&] {
    return EntitlementsFault("EN-10", start, "a DER element is cut short");
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
      return EntitlementsFault("EN-11", start + 1,
                               "a DER length is not the shortest");
    }
    header_size += size_size;
  }
  if (rest.size() - header_size < size) return cut_short();
  position_ += header_size + size;
  return Item{rest[0], rest.subspan(header_size, size), start + header_size};
}

absl::Status CheckTag(const DerReader::Item& item, uint8_t tag) {
  if (item.tag == tag) return absl::OkStatus();
  return EntitlementsFault(
      "EN-12", item.offset,
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
    return EntitlementsFault(
        "EN-13", item.offset,
        "an integer is not the shortest or does not fit in 64 bits");
  }
  uint64_t bits = content[0] >= 0x80 ? ~uint64_t{0} : 0;
  for (const uint8_t byte : content) bits = bits << 8 | byte;
  return static_cast<int64_t>(bits);
}

absl::StatusOr<std::string> StringFromDer(const DerReader::Item& item) {
  if (const std::optional<size_t> at = FindInvalidUtf8(AsText(item.content))) {
    return EntitlementsFault("EN-14", item.offset + *at,
                             "a string is not UTF-8");
  }
  return ToString(item.content);
}

enum class DerForm { kCurrent, kSets };

absl::StatusOr<PlistValue> FromDer(const DerReader::Item& item, DerForm form,
                                   size_t depth);

absl::StatusOr<PlistDict> DictionaryFromDer(const DerReader::Item& item,
                                            DerForm form, size_t depth) {
  PlistDict dictionary;
  std::optional<std::string> last_key;
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
    const bool is_sorted = !last_key.has_value() || *last_key < key;
    if (dictionary.contains(key) || (form == DerForm::kCurrent && !is_sorted)) {
      return EntitlementsFault(
          "EN-15", offset, "key " + key + " is given twice or out of order");
    }
    last_key = key;
    dictionary.emplace(std::move(key), std::move(value));
  }
  return dictionary;
}

absl::StatusOr<PlistValue> FromDer(const DerReader::Item& item, DerForm form,
                                   size_t depth) {
  if (depth > kMaxEntitlementsDepth) {
    return EntitlementsFault(
        "EN-16", item.offset,
        absl::StrFormat("nested deeper than %d levels", kMaxEntitlementsDepth));
  }
  switch (item.tag) {
    case kBooleanTag: {
      const uint8_t yes = form == DerForm::kSets ? 0x01 : 0xff;
      if (item.content.size() != 1 ||
          (item.content[0] != yes && item.content[0] != 0xff &&
           item.content[0] != 0x00)) {
        return EntitlementsFault("EN-17", item.offset,
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
      PlistArray array;
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
        ASSIGN_OR_RETURN(PlistDict dictionary,
                         DictionaryFromDer(item, form, depth));
        return PlistValue{std::move(dictionary)};
      }
      break;
    default:
      break;
  }
  return EntitlementsFault(
      "EN-18", item.offset,
      absl::StrFormat("DER tag %#x has no meaning here", item.tag));
}

std::string FirstDifference(const PlistDict& a, const PlistDict& b) {
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
  RETURN_IF_ERROR(ParseXml(plist).status());
  return WrapBlob(kEntitlementsMagic, plist);
}

absl::StatusOr<PlistDict> ParseEntitlements(ByteView blob) {
  ASSIGN_OR_RETURN(const ByteView plist, UnwrapBlob(kEntitlementsMagic, blob));
  absl::StatusOr<PlistDict> dictionary = ParseXml(plist);
  if (!dictionary.ok()) {
    return WithOffsetBase(dictionary.status(), kBlobHeaderSize);
  }
  return dictionary;
}

absl::StatusOr<Bytes> BuildEntitlementsDer(const PlistDict& entitlements) {
  Bytes content = IntegerElement(kDerVersion);
  ASSIGN_OR_RETURN(const Bytes der, DictionaryToDer(entitlements, 1));
  Append(content, der);
  return WrapBlob(kEntitlementsDerMagic, Element(kEntitlementsTag, content));
}

absl::StatusOr<PlistDict> ParseEntitlementsDer(ByteView blob) {
  return ParseEntitlementsDer(blob, kEntitlementsDerMagic);
}

absl::StatusOr<PlistDict> ParseEntitlementsDer(ByteView blob, uint32_t magic) {
  ASSIGN_OR_RETURN(const ByteView der, UnwrapBlob(magic, blob));
  RETURN_IF_ERROR(CheckSize(der));
  DerReader in(der, kBlobHeaderSize);
  ASSIGN_OR_RETURN(const DerReader::Item outer, in.Next());
  RETURN_IF_ERROR(in.CheckEnd());
  if (outer.tag == kSetTag) {
    return DictionaryFromDer(outer, DerForm::kSets, 1);
  }
  RETURN_IF_ERROR(CheckTag(outer, kEntitlementsTag));
  DerReader content(outer.content, outer.offset);
  ASSIGN_OR_RETURN(const DerReader::Item version_item,
                   content.Next(kIntegerTag));
  ASSIGN_OR_RETURN(const int64_t version, IntegerFromDer(version_item));
  if (version != kDerVersion) {
    return EntitlementsFault(
        "EN-19", version_item.offset,
        absl::StrFormat("version is %d, want %d", version, kDerVersion));
  }
  ASSIGN_OR_RETURN(const DerReader::Item dictionary,
                   content.Next(kDictionaryTag));
  RETURN_IF_ERROR(content.CheckEnd());
  return DictionaryFromDer(dictionary, DerForm::kCurrent, 1);
}

absl::Status CheckEntitlementsAgree(ByteView blob, ByteView der_blob) {
  ASSIGN_OR_RETURN(const PlistDict xml, ParseEntitlements(blob));
  ASSIGN_OR_RETURN(const PlistDict der, ParseEntitlementsDer(der_blob));
  if (xml == der) return absl::OkStatus();
  const std::string key = FirstDifference(xml, der);
  return WithSubject(
      WithRule(ValueFault("XML and DER entitlements differ in " + key),
               "EN-20"),
      key);
}

uint64_t ExecSegmentFlags(const PlistDict& entitlements) {
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
    const bool* value = FindInDict<bool>(entitlements, key);
    if (value != nullptr && *value) flags |= flag;
  }
  return flags;
}

}  // namespace codeseal
