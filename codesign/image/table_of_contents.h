// The table of contents of a flat package (a xar archive): which files there
// are, where the heap has their bytes, and where it has the signatures. Its
// checksum is what a package's signatures sign.
//
//   archive -> zlib -> XML -> [TableOfContents] -> files, signatures, edits
//
// Spec: xar's file format; Apple's additions are <x-signature> and the order
//       in which its tools write. Rules TC-*.

#ifndef CODESEAL_CODESIGN_IMAGE_TABLE_OF_CONTENTS_H_
#define CODESEAL_CODESIGN_IMAGE_TABLE_OF_CONTENTS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/image/xml_element.h"

namespace codeseal {

// Bytes of the heap.
struct HeapRange {
  uint64_t offset = 0;
  uint64_t size = 0;
};

// A digest that the table states.
struct StatedDigest {
  DigestKind kind = DigestKind::kSha1;
  Bytes digest;
};

// One file or folder. Files that are empty have no content.
struct PackageFile {
  struct Content {
    HeapRange place;         // as stored
    uint64_t full_size = 0;  // bytes once it is unpacked
    bool is_deflated = false;
    bool is_plain = false;  // neither deflated nor packed in another way
    // Of the stored and of the unpacked bytes; nullopt when the table has none
    // or one of an algorithm that we do not know.
    std::optional<StatedDigest> stored_digest;
    std::optional<StatedDigest> full_digest;
  };
  std::string path;  // "Tool.pkg/PackageInfo"
  std::string type;  // "file", "directory", "symlink", ...
  std::optional<Content> content;
};

enum class PackageSignatureKind { kRsa, kCms };

struct PackageSignature {
  PackageSignatureKind kind = PackageSignatureKind::kRsa;
  HeapRange place;
  std::vector<Bytes> certificates;  // DER, leaf first
};

// What a new signature element says.
struct NewPackageSignature {
  PackageSignatureKind kind = PackageSignatureKind::kRsa;
  uint64_t size = 0;  // bytes of the heap
  std::vector<Bytes> certificates;
};

// Immutable, copyable, thread-compatible. Owns its text.
class TableOfContents {
 public:
  // Reads the XML. Paths cannot leave the archive, and no name is stated twice
  // in different ways. Not checked: whether ranges lie in the heap or overlap,
  // which the table alone does not know.
  // Errors: INVALID_ARGUMENT REASON_BAD_PACKAGE with the rule broken;
  // FAILED_PRECONDITION REASON_UNSUPPORTED_PACKAGE for other checksums than
  // SHA-1 and SHA-256.
  static absl::StatusOr<TableOfContents> Parse(std::string xml);

  // Inflates a stored table, which must fill `stored` and have `full_size`
  // bytes, and reads it.
  // Errors: those, and INVALID_ARGUMENT REASON_FILE_TOO_BIG above 16 MiB.
  static absl::StatusOr<TableOfContents> ParseStored(ByteView stored,
                                                     uint64_t full_size);

  const std::string& xml() const { return xml_; }

  // The checksum of the stored table, which is the heap's first bytes.
  DigestKind checksum_kind() const { return checksum_kind_; }
  HeapRange checksum_place() const { return checksum_place_; }

  // In the table's order.
  std::span<const PackageSignature> signatures() const { return signatures_; }
  const PackageSignature* Find(PackageSignatureKind kind) const;
  std::span<const PackageFile> files() const { return files_; }

  // Where the heap has content: files and their extended attributes, without
  // empty ranges. In the table's order.
  std::span<const HeapRange> content() const { return content_; }

  // The table with other signatures (none: unsigned) and a checksum of `kind`.
  // The heap then holds the checksum, the signatures in their order, and the
  // content, whose first byte was at `content_offset` before. All other bytes
  // of the text stay as they are.
  std::string WithSignatures(DigestKind kind,
                             std::span<const NewPackageSignature> signatures,
                             uint64_t content_offset) const;

 private:
  class Builder;
  TableOfContents() = default;

  // A number in the text that counts from the heap's start.
  struct Reference {
    XmlRange text;
    uint64_t offset = 0;
  };

  std::string xml_;
  DigestKind checksum_kind_ = DigestKind::kSha1;
  HeapRange checksum_place_;
  XmlRange checksum_element_;
  std::vector<XmlRange> signature_elements_;  // what a new signature replaces
  size_t insertion_offset_ = 0;               // where signatures go
  std::vector<PackageSignature> signatures_;
  std::vector<PackageFile> files_;
  std::vector<HeapRange> content_;
  std::vector<Reference> references_;  // in the text's order
};

// zlib streams (RFC 1950). Inflating stops with an error above `max_size`
// bytes, and when the stream does not fill `stored`.
// Errors: INVALID_ARGUMENT REASON_BAD_PACKAGE, REASON_FILE_TOO_BIG.
absl::StatusOr<Bytes> Inflate(ByteView stored, uint64_t max_size);
Bytes Deflate(ByteView bytes);

// The unpacked bytes of a file, such as PackageInfo, from its stored ones,
// which must be those that the table states.
// Errors: FAILED_PRECONDITION REASON_PACKAGE_MODIFIED; REASON_FILE_TOO_BIG
// above `max_size` bytes; REASON_UNSUPPORTED_PACKAGE for one that is packed in
// a way that we do not know.
absl::StatusOr<Bytes> UnpackFile(const PackageFile& file, ByteView stored,
                                 uint64_t max_size);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_IMAGE_TABLE_OF_CONTENTS_H_
