#include "codesign/image/flat_package.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "codesign/base/parallel.h"

namespace codeseal {
namespace {

constexpr uint32_t kXarMagic = 0x78617221;  // "xar!"
constexpr uint16_t kHeaderSize = 28;
constexpr uint16_t kMaxHeaderSize = 64;  // with the name of an algorithm
constexpr uint16_t kXarVersion = 1;

// Checksum algorithms of the header: XAR_CKSUM_*.
constexpr uint32_t kSha1Algorithm = 1;
constexpr uint32_t kSha256Algorithm = 3;  // XAR_CKSUM_OTHER when it is named

// Each part of a stapled ticket ends with 16 bytes: magic, version, type,
// length of what comes before, zero.
constexpr uint32_t kTrailerMagic = 0x74386c72;  // "t8lr"
constexpr uint64_t kTrailerSize = 16;
constexpr uint16_t kTrailerEndType = 1;

absl::Status BadPackage(std::string_view rule, uint64_t byte_offset,
                        const std::string& message) {
  return WithRule(ParseError(v1::REASON_BAD_PACKAGE, byte_offset, message),
                  rule);
}

absl::Status Modified(const std::string& message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                   v1::REASON_PACKAGE_MODIFIED, message);
}

// Whether `bytes` are parts of a ticket, each with its trailer, and the first
// of them says that the archive ends before it.
bool IsTicket(ByteView bytes) {
  bool has_end = false;
  while (!bytes.empty()) {
    if (bytes.size() < kTrailerSize) return false;
    BigEndianReader big(bytes.last(kTrailerSize));
    const uint32_t magic = big.U32();
    // The numbers are little-endian.
    EndianReader in(bytes.last(kTrailerSize - 4), ByteOrder::kLittle);
    in.U16();  // version
    const uint16_t type = in.U16();
    const uint32_t size = in.U32();
    if (magic != kTrailerMagic || size > bytes.size() - kTrailerSize) {
      return false;
    }
    has_end = type == kTrailerEndType;
    bytes = bytes.first(bytes.size() - kTrailerSize - size);
  }
  return has_end;
}

absl::Status CheckAlgorithm(uint32_t algorithm, ByteView name,
                            DigestKind kind) {
  const bool is_sha1 = algorithm == kSha1Algorithm && name.empty();
  const std::string_view text = AsText(name);
  const bool is_sha256 =
      algorithm == kSha256Algorithm &&
      (name.empty() || text.substr(0, text.find('\0')) == "sha256");
  if ((is_sha1 && kind == DigestKind::kSha1) ||
      (is_sha256 && kind == DigestKind::kSha256)) {
    return absl::OkStatus();
  }
  return BadPackage(
      "FP-4", 24,  // FP-4
      absl::StrFormat("the header's checksum algorithm %d is not the "
                      "table's %s",
                      algorithm, std::string(DigestName(kind))));
}

bool Overlaps(const HeapRange& a, const HeapRange& b) {
  // Both lie in the heap: the sums do not overflow.
  return a.offset < b.offset + b.size && b.offset < a.offset + a.size;
}

}  // namespace

bool FlatPackage::IsFlatPackage(ByteView file) {
  return AsText(file).starts_with("xar!");
}

absl::StatusOr<FlatPackage> FlatPackage::Parse(ByteView file) {
  BigEndianReader in(file);
  const uint32_t magic = in.U32();
  const uint16_t header_size = in.U16();
  const uint16_t version = in.U16();
  const uint64_t stored_size = in.U64();
  const uint64_t table_size = in.U64();
  const uint32_t algorithm = in.U32();
  if (!in.ok() || magic != kXarMagic) {  // FP-1
    return BadPackage("FP-1", 0, "the file does not begin with a xar header");
  }
  if (header_size < kHeaderSize || header_size > kMaxHeaderSize ||
      header_size > file.size() || version != kXarVersion) {  // FP-2
    return BadPackage(
        "FP-2", 4,
        absl::StrFormat("a xar header of version %d and %d bytes is "
                        "not known",
                        version, header_size));
  }
  const ByteView body = file.subspan(header_size);
  if (stored_size > body.size()) {  // FP-3
    return BadPackage(
        "FP-3", 8,
        absl::StrFormat("a table of contents of %d bytes does not fit "
                        "in %d",
                        stored_size, body.size()));
  }
  ASSIGN_OR_RETURN(
      TableOfContents table,
      TableOfContents::ParseStored(body.first(stored_size), table_size));
  RETURN_IF_ERROR(CheckAlgorithm(
      algorithm, file.subspan(kHeaderSize, header_size - kHeaderSize),
      table.checksum_kind()));

  FlatPackage package(file, std::move(table));
  package.stored_table_ = body.first(stored_size);
  package.heap_ = body.subspan(stored_size);
  const uint64_t heap_size = package.heap_.size();

  std::vector<HeapRange> reserved = {package.table_.checksum_place()};
  for (const PackageSignature& each : package.table_.signatures()) {
    for (const HeapRange& other : reserved) {
      if (each.place.size > heap_size ||
          each.place.offset > heap_size - each.place.size ||
          other.size > heap_size || Overlaps(each.place, other)) {  // FP-5
        return BadPackage(
            "FP-5", header_size,
            "a signature lies outside the heap or on something else");
      }
    }
    reserved.push_back(each.place);
  }
  if (package.table_.checksum_place().size > heap_size) {
    return BadPackage("FP-5", header_size, "the heap ends inside the checksum");
  }
  package.content_offset_ = heap_size;
  for (const HeapRange& each : package.table_.content()) {
    if (each.size > heap_size || each.offset > heap_size - each.size) {  // FP-6
      return BadPackage(
          "FP-6", header_size,
          absl::StrFormat("content of %d bytes at %d lies outside the "
                          "heap of %d bytes",
                          each.size, each.offset, heap_size));
    }
    for (const HeapRange& other : reserved) {
      if (Overlaps(each, other)) {  // FP-7
        return BadPackage("FP-7", header_size,
                          "content lies on the checksum or on a signature");
      }
    }
    package.content_offset_ = std::min(package.content_offset_, each.offset);
    package.content_end_ =
        std::max(package.content_end_, each.offset + each.size);
  }
  uint64_t reserved_end = 0;
  for (const HeapRange& each : reserved) {
    reserved_end = std::max(reserved_end, each.offset + each.size);
  }
  if (package.table_.content().empty()) {
    package.content_offset_ = reserved_end;
    package.content_end_ = reserved_end;
  }
  // Otherwise a new signature could not replace the old one.
  if (reserved_end > package.content_offset_) {  // FP-8
    return BadPackage("FP-8", header_size,
                      "a signature lies behind the content");
  }
  const ByteView behind = package.heap_.subspan(package.content_end_);
  package.has_ticket_ = IsTicket(behind);
  if (!behind.empty() && !package.has_ticket_) {  // FP-9
    return BadPackage(
        "FP-9", file.size() - behind.size(),
        absl::StrFormat("%d bytes behind the content belong to nothing",
                        behind.size()));
  }
  return package;
}

ByteView FlatPackage::At(const HeapRange& range) const {
  return heap_.subspan(range.offset, range.size);
}

ByteView FlatPackage::content() const {
  return heap_.subspan(content_offset_, content_end_ - content_offset_);
}

absl::Status FlatPackage::CheckChecksum() const {
  const Bytes actual = ComputeDigest(table_.checksum_kind(), stored_table_);
  const ByteView stored = At(table_.checksum_place());
  if (Equal(actual, stored)) return absl::OkStatus();
  return Modified("the checksum of the table of contents is " +
                  HexEncode(actual) + ", the package says " +
                  HexEncode(stored));
}

absl::Status FlatPackage::CheckFiles() const {
  const auto files = table_.files();
  std::vector<absl::Status> faults(files.size());
  ParallelFor(files.size(), [&](size_t i) {
    const std::optional<PackageFile::Content>& content = files[i].content;
    if (!content.has_value()) return;
    if (!content->stored_digest.has_value()) {
      faults[i] = Modified("the table has no SHA-1 or SHA-256 of the file");
      return;
    }
    const StatedDigest& stated = *content->stored_digest;
    if (ComputeDigest(stated.kind, At(content->place)) != stated.digest) {
      faults[i] = Modified("the file is not what the table of contents says");
    }
  });
  for (size_t i = 0; i < files.size(); ++i) {
    if (!faults[i].ok()) return WithSubject(faults[i], files[i].path);
  }
  return absl::OkStatus();
}

Bytes BuildPackageHeader(DigestKind checksum_kind, uint64_t stored_table_size,
                         uint64_t table_size) {
  BigEndianWriter out;
  out.U32(kXarMagic);
  out.U16(kHeaderSize);
  out.U16(kXarVersion);
  out.U64(stored_table_size);
  out.U64(table_size);
  out.U32(checksum_kind == DigestKind::kSha1 ? kSha1Algorithm
                                             : kSha256Algorithm);
  return std::move(out).Take();
}

}  // namespace codeseal
