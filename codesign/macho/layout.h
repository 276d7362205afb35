// Where a signature goes, as a plan over the original bytes: a changed header,
// the mapped original, a little zero padding, room for the signature. Nothing
// is copied, so that memory stays flat however large the file is.
//
//   MachO -> ReserveSignature -> [SliceLayout] -> page digests
//                                      \-> LayOutFile -> StagedFile
//
// Spec: what Apple's codesign does to a file: Security, machorep and the
//       allocator behind it (codesign_allocate before macOS 12). Rules SP-*.

#ifndef CODESEAL_CODESIGN_MACHO_LAYOUT_H_
#define CODESEAL_CODESIGN_MACHO_LAYOUT_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/staged_file.h"
#include "codesign/macho/universal_file.h"

namespace codeseal {

// Room for a signature is a multiple of this, and starts at one.
inline constexpr uint64_t kSignatureAlignment = 16;

// __LINKEDIT's memory size is rounded up to it, for every CPU.
inline constexpr uint64_t kLinkeditAlignment = 0x4000;

// Bytes of one slice after a change. Copyable, thread-compatible; borrows the
// original slice.
class SliceLayout {
 public:
  // The bytes as they are, up to `signature_offset`, which must not be behind
  // their end: for looking at an existing signature, and for files that have
  // theirs elsewhere.
  static SliceLayout Unchanged(ByteView original, uint64_t signature_offset);
  static SliceLayout Unchanged(const MachO& mach_o, uint64_t signature_offset) {
    return Unchanged(mach_o.raw(), signature_offset);
  }

  // Bytes that the signature covers (codeLimit): everything before it.
  uint64_t signature_offset() const { return signature_offset_; }
  // Bytes reserved; 0 after the signature has been removed.
  uint64_t signature_size() const { return signature_size_; }
  uint64_t size() const { return signature_offset_ + signature_size_; }

  // The changed bytes from the slice's start: header and load commands.
  ByteView header() const { return header_; }
  // The original is used in [header().size(), original_end()).
  uint64_t original_end() const { return original_end_; }
  ByteView original() const { return original_; }

  // The bytes [offset, offset + size), which must lie before
  // signature_offset(): header, original, padding; any of them may be empty.
  std::array<ByteView, 3> Read(uint64_t offset, uint64_t size) const;

 private:
  friend absl::StatusOr<SliceLayout> ReserveSignature(const MachO&, uint64_t,
                                                      uint64_t);
  friend absl::StatusOr<SliceLayout> RemoveSignature(const MachO&);

  SliceLayout() = default;

  ByteView original_;
  Bytes header_;
  uint64_t original_end_ = 0;
  uint64_t signature_offset_ = 0;
  uint64_t signature_size_ = 0;
};

// Makes room for a signature of `reserved_size` bytes (rounded up to 16): in
// place of the existing one, or behind the slice with a new LC_CODE_SIGNATURE
// after the last load command. `linkedit_alignment` is a power of two.
//
// Errors: FAILED_PRECONDITION; REASON_UNSUPPORTED_FILE_TYPE,
// REASON_SIGNATURE_NOT_LAST, REASON_NO_HEADER_ROOM, REASON_BAD_SEGMENT (no
// usable __LINKEDIT), REASON_FILE_TOO_BIG (4 GiB).
absl::StatusOr<SliceLayout> ReserveSignature(
    const MachO& mach_o, uint64_t reserved_size,
    uint64_t linkedit_alignment = kLinkeditAlignment);

// Takes the signature and its load command away. The slice is cut back to its
// string table when only padding lies between.
//
// Errors: FAILED_PRECONDITION; REASON_NOT_SIGNED, REASON_SIGNATURE_NOT_LAST,
// REASON_BAD_SEGMENT.
absl::StatusOr<SliceLayout> RemoveSignature(const MachO& mach_o);

// Every slice at its new place in the file.
struct FileLayout {
  struct Slice {
    uint64_t original_offset = 0;
    uint64_t offset = 0;
    SliceLayout layout;
  };

  Bytes fat_header;           // empty for a thin file
  std::vector<Slice> slices;  // in the file's order
  uint64_t size = 0;
};

// fat_arch.align of what is written: 16 KiB.
inline constexpr uint32_t kSliceAlignLog2 = 14;

// Places `layouts`, one for each slice of `universal` in its order: each at the
// next multiple of 2^align_log2[i] bytes (2^kSliceAlignLog2 when `align_log2`
// is empty), the file ending with the last slice.
// Errors: FAILED_PRECONDITION REASON_FILE_TOO_BIG.
absl::StatusOr<FileLayout> LayOutFile(
    const UniversalFile& universal, std::vector<SliceLayout> layouts,
    std::span<const uint32_t> align_log2 = {});

// Writes everything but the signatures, whose room is zero, and sets the
// file's size. `source_fd` is the file that the layout was made from.
absl::Status WriteLayout(const FileLayout& layout, int source_fd,
                         StagedFile& file);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_MACHO_LAYOUT_H_
