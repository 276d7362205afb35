#include "codesign/image/table_of_contents.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "codesign/base/error.h"

namespace codeseal {
namespace {

constexpr uint64_t kMaxTableSize = uint64_t{16} << 20;  // bytes, inflated
constexpr size_t kMaxCertificateCount = 16;
constexpr size_t kCertificateLineSize = 72;  // characters, as Apple writes them

absl::Status BadTable(std::string_view rule, uint64_t byte_offset,
                      const std::string& message) {
  return WithRule(ParseError(v1::REASON_BAD_PACKAGE, byte_offset,
                             "the table of contents: " + message),
                  rule);
}

// The text of a leaf element without the white space around it.
std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

std::optional<uint64_t> ReadNumber(const XmlElement* element) {
  if (element == nullptr || !element->children.empty()) return std::nullopt;
  const std::string_view text = Trim(element->text);
  uint64_t number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return number;
}

std::optional<DigestKind> ReadDigestKind(std::string_view style) {
  std::string lower(style);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (lower == "sha1") return DigestKind::kSha1;
  if (lower == "sha256") return DigestKind::kSha256;
  return std::nullopt;
}

std::optional<StatedDigest> ReadStatedDigest(const XmlElement* element) {
  if (element == nullptr) return std::nullopt;
  const std::optional<DigestKind> kind =
      ReadDigestKind(element->Attribute("style"));
  const std::string_view hex = Trim(element->text);
  if (!kind.has_value() || hex.size() != 2 * DigestSize(*kind) ||
      hex.find_first_not_of("0123456789abcdefABCDEF") !=
          std::string_view::npos) {
    return std::nullopt;
  }
  const std::string digest =
      absl::HexStringToBytes(absl::string_view(hex.data(), hex.size()));
  return StatedDigest{*kind, ToBytes(digest)};
}

std::string_view ElementName(PackageSignatureKind kind) {
  switch (kind) {
    case PackageSignatureKind::kRsa:
      return "signature";
    case PackageSignatureKind::kCms:
      return "x-signature";
  }
  return {};
}

std::string_view StyleName(PackageSignatureKind kind) {
  switch (kind) {
    case PackageSignatureKind::kRsa:
      return "RSA";
    case PackageSignatureKind::kCms:
      return "CMS";
  }
  return {};
}

// Elements that a new signature replaces.
bool BelongsToSignature(const XmlElement& element) {
  return element.name == "signature" || element.name == "x-signature" ||
         element.name == "signature-creation-time";
}

bool IsSafeName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

}  // namespace

class TableOfContents::Builder {
 public:
  explicit Builder(std::string xml) { table_.xml_ = std::move(xml); }

  absl::StatusOr<TableOfContents> Build() && {
    ASSIGN_OR_RETURN(const XmlElement root,
                     ParseXml(table_.xml_, "the table of contents"));
    const XmlElement* const toc = root.Child("toc");
    if (root.name != "xar" || toc == nullptr) {  // TC-1
      return BadTable("TC-1", 0, "it is not one <toc> in <xar>");
    }
    RETURN_IF_ERROR(ReadChecksum(*toc));
    for (const XmlElement& child : toc->children) {
      if (BelongsToSignature(child)) {
        table_.signature_elements_.push_back(WithSpaceBefore(child.range));
      } else if (child.name != "file") {
        table_.insertion_offset_ = child.range.end;
      }
      if (child.name == "signature" || child.name == "x-signature") {
        RETURN_IF_ERROR(ReadSignature(child));
      } else if (child.name == "file") {
        RETURN_IF_ERROR(ReadFile(child, "", root_names_));
      }
      if (&child != checksum_ && !BelongsToSignature(child)) {
        RETURN_IF_ERROR(ReadReferences(child));
      }
    }
    return std::move(table_);
  }

 private:
  absl::Status ReadChecksum(const XmlElement& toc) {
    checksum_ = toc.Child("checksum");
    if (checksum_ == nullptr) {  // TC-2
      return BadTable("TC-2", toc.range.begin,
                      "it has no checksum, or several");
    }
    const std::string_view style = checksum_->Attribute("style");
    const std::optional<DigestKind> kind = ReadDigestKind(style);
    if (!kind.has_value()) {  // TC-3
      return WithRule(
          MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                    v1::REASON_UNSUPPORTED_PACKAGE,
                    "the package's checksum is '" + std::string(style) +
                        "', neither sha1 nor sha256"),
          "TC-3");
    }
    const auto offset = ReadNumber(checksum_->Child("offset"));
    const auto size = ReadNumber(checksum_->Child("size"));
    if (offset != 0 || size != DigestSize(*kind)) {  // TC-4
      return BadTable("TC-4", checksum_->range.begin,
                      absl::StrFormat("the checksum is not the heap's first %d "
                                      "bytes",
                                      DigestSize(*kind)));
    }
    table_.checksum_kind_ = *kind;
    table_.checksum_place_ = {0, *size};
    table_.checksum_element_ = checksum_->range;
    return absl::OkStatus();
  }

  absl::Status ReadSignature(const XmlElement& element) {
    PackageSignature signature;
    signature.kind = element.name == "signature" ? PackageSignatureKind::kRsa
                                                 : PackageSignatureKind::kCms;
    if (element.Attribute("style") != StyleName(signature.kind) ||
        table_.Find(signature.kind) != nullptr) {  // TC-5
      return BadTable("TC-5", element.range.begin,
                      "a " + element.name +
                          " is of an unknown style, or there "
                          "are two");
    }
    const auto offset = ReadNumber(element.Child("offset"));
    const auto size = ReadNumber(element.Child("size"));
    const XmlElement* const key = element.Child("KeyInfo");
    const XmlElement* const data =
        key == nullptr ? nullptr : key->Child("X509Data");
    if (!offset.has_value() || !size.has_value() || data == nullptr) {  // TC-6
      return BadTable("TC-6", element.range.begin,
                      "a " + element.name + " lacks its place or certificates");
    }
    signature.place = {*offset, *size};
    for (const XmlElement& child : data->children) {
      std::string der;
      if (child.name != "X509Certificate") continue;
      if (signature.certificates.size() == kMaxCertificateCount ||
          !absl::Base64Unescape(child.text, &der) || der.empty()) {  // TC-7
        return BadTable("TC-7", child.range.begin,
                        "a certificate is not base64, or there are too many");
      }
      signature.certificates.push_back(ToBytes(der));
    }
    if (signature.certificates.empty()) {
      return BadTable("TC-6", element.range.begin,
                      "a " + element.name + " has no certificate");
    }
    table_.signatures_.push_back(std::move(signature));
    return absl::OkStatus();
  }

  // Apple's tools write some elements several times, with the same content.
  static absl::StatusOr<std::string> ReadRepeated(const XmlElement& file,
                                                  std::string_view name) {
    std::optional<std::string> value;
    for (const XmlElement& child : file.children) {
      if (child.name != name) continue;
      if (value.has_value() && *value != child.text) {  // TC-8
        return BadTable("TC-8", child.range.begin,
                        "a file has two values of <" + std::string(name) + ">");
      }
      value = child.text;
    }
    return value.value_or("");
  }

  absl::Status ReadFile(const XmlElement& element, const std::string& folder,
                        std::set<std::string>& siblings) {
    PackageFile file;
    for (const XmlElement& child : element.children) {
      // Encodings of names would have to be undone alike by everyone.
      if (child.name == "name" && !child.attributes.empty()) {
        return BadTable("TC-9", child.range.begin, "a file's name is encoded");
      }
    }
    ASSIGN_OR_RETURN(const std::string name, ReadRepeated(element, "name"));
    ASSIGN_OR_RETURN(file.type, ReadRepeated(element, "type"));
    if (!IsSafeName(name) || !siblings.insert(name).second) {  // TC-9
      return BadTable("TC-9", element.range.begin,
                      "a file has no name, an unsafe one or one that is taken");
    }
    file.path = folder + name;
    if (element.CountChildren("data") > 1) {  // TC-10
      return BadTable("TC-10", element.range.begin,
                      file.path + " has data twice");
    }
    if (const XmlElement* const data = element.Child("data")) {
      ASSIGN_OR_RETURN(file.content, ReadContent(*data));
    }
    const std::string inner_folder = file.path + "/";
    table_.files_.push_back(std::move(file));
    std::set<std::string> names;
    for (const XmlElement& child : element.children) {
      if (child.name != "file") continue;
      RETURN_IF_ERROR(ReadFile(child, inner_folder, names));
    }
    return absl::OkStatus();
  }

  static absl::StatusOr<PackageFile::Content> ReadContent(
      const XmlElement& data) {
    PackageFile::Content content;
    const auto offset = ReadNumber(data.Child("offset"));
    const auto size = ReadNumber(data.Child("length"));
    const auto full_size = ReadNumber(data.Child("size"));
    if (!offset.has_value() || !size.has_value() ||
        !full_size.has_value()) {  // TC-11
      return BadTable("TC-11", data.range.begin,
                      "a file's data lacks one offset, length and size");
    }
    content.place = {*offset, *size};
    content.full_size = *full_size;
    std::string_view encoding = "application/octet-stream";
    if (const XmlElement* const element = data.Child("encoding")) {
      encoding = element->Attribute("style");
    }
    content.is_plain = encoding == "application/octet-stream";
    content.is_deflated = encoding == "application/x-gzip";
    content.stored_digest = ReadStatedDigest(data.Child("archived-checksum"));
    content.full_digest = ReadStatedDigest(data.Child("extracted-checksum"));
    return content;
  }

  // Every <offset> counts from the heap's start, whatever it belongs to.
  absl::Status ReadReferences(const XmlElement& element) {
    if (element.CountChildren("offset") != 0) {
      const XmlElement* const text = element.Child("offset");
      const auto offset = ReadNumber(text);
      const auto size = ReadNumber(element.Child("length"));
      if (!offset.has_value() || !size.has_value()) {  // TC-11
        return BadTable("TC-11", element.range.begin,
                        "<" + element.name + "> lacks one offset and length");
      }
      if (*size != 0) table_.content_.push_back({*offset, *size});
      table_.references_.push_back({text->content, *offset});
    }
    for (const XmlElement& child : element.children) {
      RETURN_IF_ERROR(ReadReferences(child));
    }
    return absl::OkStatus();
  }

  XmlRange WithSpaceBefore(XmlRange range) const {
    while (range.begin > 0 &&
           std::string_view(" \t\r\n").find(table_.xml_[range.begin - 1]) !=
               std::string_view::npos) {
      --range.begin;
    }
    return range;
  }

  TableOfContents table_;
  const XmlElement* checksum_ = nullptr;
  std::set<std::string> root_names_;
};

absl::StatusOr<TableOfContents> TableOfContents::Parse(std::string xml) {
  return Builder(std::move(xml)).Build();
}

absl::StatusOr<TableOfContents> TableOfContents::ParseStored(
    ByteView stored, uint64_t full_size) {
  if (full_size > kMaxTableSize) {  // TC-12
    return WithRule(
        ParseError(v1::REASON_FILE_TOO_BIG, 0,
                   absl::StrFormat("the table of contents has %d bytes; the "
                                   "limit is %d",
                                   full_size, kMaxTableSize)),
        "TC-12");
  }
  ASSIGN_OR_RETURN(const Bytes xml, Inflate(stored, full_size));
  if (xml.size() != full_size) {  // TC-13
    return BadTable(
        "TC-13", 0,
        absl::StrFormat("it has %d bytes, not %d as the header says",
                        xml.size(), full_size));
  }
  return Parse(ToString(xml));
}

const PackageSignature* TableOfContents::Find(PackageSignatureKind kind) const {
  for (const PackageSignature& signature : signatures_) {
    if (signature.kind == kind) return &signature;
  }
  return nullptr;
}

namespace {

// "\n  " before an element: what its neighbours have before them.
std::string SpaceBefore(std::string_view xml, size_t offset) {
  size_t begin = offset;
  while (begin > 0 && std::string_view(" \t\r\n").find(xml[begin - 1]) !=
                          std::string_view::npos) {
    --begin;
  }
  return std::string(xml.substr(begin, offset - begin));
}

std::string FormatCertificate(const Bytes& der) {
  const std::string base64 = absl::Base64Escape(
      absl::string_view(reinterpret_cast<const char*>(der.data()), der.size()));
  std::string text;
  for (size_t i = 0; i < base64.size(); i += kCertificateLineSize) {
    if (i != 0) text += '\n';
    text += base64.substr(i, kCertificateLineSize);
  }
  return text;
}

// As Apple's xar writes it: one space for each level. `space` goes before the
// element; without it, everything is in one line.
std::string FormatSignature(const NewPackageSignature& signature,
                            uint64_t offset, const std::string& space) {
  const auto line = [&space](size_t depth) {
    return space.empty() ? "" : space + std::string(depth, ' ');
  };
  const std::string name(ElementName(signature.kind));
  std::string text = absl::StrCat(
      line(0), "<", name, " style=\"", std::string(StyleName(signature.kind)),
      "\">",                                         //
      line(1), "<offset>", offset, "</offset>",      //
      line(1), "<size>", signature.size, "</size>",  //
      line(1), "<KeyInfo xmlns=\"http://www.w3.org/2000/09/xmldsig#\">",
      line(2), "<X509Data>");
  for (const Bytes& der : signature.certificates) {
    absl::StrAppend(&text, line(3), "<X509Certificate>", FormatCertificate(der),
                    "</X509Certificate>");
  }
  absl::StrAppend(&text, line(2), "</X509Data>", line(1), "</KeyInfo>", line(0),
                  "</", name, ">");
  return text;
}

}  // namespace

std::string TableOfContents::WithSignatures(
    DigestKind kind, std::span<const NewPackageSignature> signatures,
    uint64_t content_offset) const {
  struct Edit {
    XmlRange range;
    std::string text;
  };
  std::vector<Edit> edits;
  const std::string space = SpaceBefore(xml_, checksum_element_.begin);

  if (kind != checksum_kind_) {
    const std::string inner = space.empty() ? "" : space + " ";
    const std::string style(DigestName(kind));
    edits.push_back({checksum_element_,
                     absl::StrCat("<checksum style=\"", style, "\">", inner,
                                  "<size>", DigestSize(kind), "</size>", inner,
                                  "<offset>0</offset>", space, "</checksum>")});
  }
  uint64_t offset = DigestSize(kind);
  std::string added;
  for (const NewPackageSignature& signature : signatures) {
    added += FormatSignature(signature, offset, space);
    offset += signature.size;
  }
  edits.push_back({{insertion_offset_, insertion_offset_}, std::move(added)});
  for (const XmlRange& element : signature_elements_) {
    edits.push_back({element, ""});
  }
  for (const Reference& reference : references_) {
    if (reference.offset < content_offset) continue;  // of an empty file
    edits.push_back({reference.text,
                     absl::StrCat(reference.offset - content_offset + offset)});
  }

  // Edits never overlap; an insertion comes before what begins at its place.
  std::stable_sort(edits.begin(), edits.end(),
                   [](const Edit& a, const Edit& b) {
                     return a.range.begin < b.range.begin;
                   });
  std::string text;
  size_t done = 0;
  for (const Edit& edit : edits) {
    text.append(xml_, done, edit.range.begin - done);
    text += edit.text;
    done = edit.range.end;
  }
  text.append(xml_, done);
  return text;
}

absl::StatusOr<Bytes> Inflate(ByteView stored, uint64_t max_size) {
  const auto fail = [](uint64_t offset, const std::string& message) {
    return ParseError(v1::REASON_BAD_PACKAGE, offset, message);
  };
  if (stored.size() > (uint64_t{1} << 30)) {
    return fail(0, "the compressed bytes are too many");
  }
  z_stream stream = {};
  if (inflateInit(&stream) != Z_OK) return fail(0, "zlib does not start");
  // zlib promises not to write to its input.
  stream.next_in = const_cast<Bytef*>(stored.data());
  stream.avail_in = static_cast<uInt>(stored.size());
  Bytes out;
  std::array<uint8_t, 65536> buffer;
  int result = Z_OK;
  while (result == Z_OK) {
    stream.next_out = buffer.data();
    stream.avail_out = buffer.size();
    result = inflate(&stream, Z_NO_FLUSH);
    const size_t got = buffer.size() - stream.avail_out;
    if (got > max_size - out.size()) {
      inflateEnd(&stream);
      return ParseError(
          v1::REASON_FILE_TOO_BIG, stored.size() - stream.avail_in,
          absl::StrFormat("the compressed bytes hold more than %d", max_size));
    }
    Append(out, ByteView(buffer.data(), got));
    if (result == Z_OK && got == 0 && stream.avail_in == 0) break;
  }
  const uint64_t offset = stored.size() - stream.avail_in;
  inflateEnd(&stream);
  if (result != Z_STREAM_END) {
    return fail(offset, "the compressed bytes are damaged or end too early");
  }
  if (offset != stored.size()) {
    return fail(offset, "there are bytes behind the compressed ones");
  }
  return out;
}

Bytes Deflate(ByteView bytes) {
  uLongf size = compressBound(static_cast<uLong>(bytes.size()));
  Bytes out(size);
  // Fails only without memory or room, and there is room.
  if (compress2(out.data(), &size, bytes.data(),
                static_cast<uLong>(bytes.size()),
                Z_DEFAULT_COMPRESSION) != Z_OK) {
    return {};
  }
  out.resize(size);
  return out;
}

absl::StatusOr<Bytes> UnpackFile(const PackageFile& file, ByteView stored,
                                 uint64_t max_size) {
  const auto fail = [&file](Reason reason, const std::string& message) {
    return WithSubject(
        MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                  reason, file.path + ": " + message),
        file.path);
  };
  if (!file.content.has_value()) return Bytes();
  const PackageFile::Content& content = *file.content;
  if (!content.stored_digest.has_value() ||
      stored.size() != content.place.size ||
      ComputeDigest(content.stored_digest->kind, stored) !=
          content.stored_digest->digest) {
    return fail(v1::REASON_PACKAGE_MODIFIED,
                "the file is not what the table of contents says");
  }
  if (content.full_size > max_size) {
    return fail(v1::REASON_FILE_TOO_BIG,
                absl::StrFormat("%d bytes are more than %d", content.full_size,
                                max_size));
  }
  Bytes full;
  if (content.is_deflated) {
    absl::StatusOr<Bytes> inflated = Inflate(stored, content.full_size);
    if (!inflated.ok()) return WithSubject(inflated.status(), file.path);
    full = *std::move(inflated);
  } else if (content.is_plain) {
    full = ToBytes(stored);
  } else {
    return fail(v1::REASON_UNSUPPORTED_PACKAGE,
                "it is packed in a way that is not known");
  }
  if (full.size() != content.full_size) {
    return fail(v1::REASON_PACKAGE_MODIFIED,
                "it has not the size that the table of contents says");
  }
  return full;
}

}  // namespace codeseal
