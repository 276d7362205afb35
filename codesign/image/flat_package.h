// A flat installer package (.pkg): a xar archive, which is a header, a
// compressed table of contents and a heap with everything else.
//
//   file -> [FlatPackage] -> table of contents -> PackagePlan, verification
//
// Spec: xar's file format, <xar.h>; Apple's notarization ticket behind the
//       heap. Rules FP-*.

#ifndef CODESEAL_CODESIGN_IMAGE_FLAT_PACKAGE_H_
#define CODESEAL_CODESIGN_IMAGE_FLAT_PACKAGE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/image/table_of_contents.h"

namespace codeseal {

// Immutable, movable, thread-compatible. Borrows from the bytes given to
// Parse().
class FlatPackage {
 public:
  // Whether the file is a xar archive, perhaps one that Parse() refuses.
  static bool IsFlatPackage(ByteView file);

  // Reads header and table. Every range lies in the heap; content overlaps
  // neither the checksum nor a signature. Digests are not compared.
  // Errors: INVALID_ARGUMENT REASON_BAD_PACKAGE with the rule broken, and those
  // of TableOfContents.
  static absl::StatusOr<FlatPackage> Parse(ByteView file);
  static absl::StatusOr<FlatPackage> Parse(const Bytes&&) = delete;

  const TableOfContents& table() const { return table_; }
  // The table as it is stored, which the checksum covers.
  ByteView stored_table() const { return stored_table_; }
  // Bytes of a range that table() names. Must be one of them.
  ByteView At(const HeapRange& range) const;

  // Where the content begins in the heap, behind checksum and signatures, and
  // where it ends.
  uint64_t content_offset() const { return content_offset_; }
  ByteView content() const;

  // A notarization ticket is stapled to the file.
  bool has_ticket() const { return has_ticket_; }

  // The stored checksum is that of the stored table.
  // Errors: FAILED_PRECONDITION REASON_PACKAGE_MODIFIED.
  absl::Status CheckChecksum() const;

  // Every file's stored bytes have the digest that the table states; a file
  // without one that we know is a fault. Uses all cores.
  // Errors: FAILED_PRECONDITION REASON_PACKAGE_MODIFIED with the first such
  // file as subject.
  absl::Status CheckFiles() const;

 private:
  FlatPackage(ByteView file, TableOfContents table)
      : file_(file), table_(std::move(table)) {}

  ByteView file_;
  TableOfContents table_;
  ByteView stored_table_;
  ByteView heap_;
  uint64_t content_offset_ = 0;  // bytes into the heap
  uint64_t content_end_ = 0;     // bytes into the heap
  bool has_ticket_ = false;
};

// The header of an archive with this table.
Bytes BuildPackageHeader(DigestKind checksum_kind, uint64_t stored_table_size,
                         uint64_t table_size);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_IMAGE_FLAT_PACKAGE_H_
