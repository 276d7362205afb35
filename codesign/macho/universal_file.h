// A file of Apple code: a universal ("fat") file with a slice for each CPU, or
// a thin Mach-O, which is treated as a universal file with one slice.
//
//   mapped file -> [UniversalFile] -> MachO for each slice
//
// Spec: mach-o/fat.h; Security, macho++.cpp, class Universal. Rules UF-*.

#ifndef CODESEAL_CODESIGN_MACHO_UNIVERSAL_FILE_H_
#define CODESEAL_CODESIGN_MACHO_UNIVERSAL_FILE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/macho/mach_o.h"

namespace codeseal {

// First word of a universal file, big-endian.
inline constexpr uint32_t kFatMagic = 0xcafebabe;  // FAT_MAGIC

// Whether the bytes start like a thin or universal file, also a broken or a
// 64-bit one: tells "cannot read this Mach-O" from "this is something else".
bool LooksLikeMachO(ByteView file);

// Immutable, copyable, thread-compatible. Borrows from the bytes given to
// Parse().
class UniversalFile {
 public:
  struct Slice {
    uint64_t offset = 0;  // in the file
    // As the fat header has it, which may lack the capability bits that the
    // slice's own header has.
    Architecture architecture;
    MachO mach_o;
  };

  static constexpr uint32_t kMaxSliceCount = 100;

  // A universal file has a 32-bit fat header of either byte order. One entry
  // behind the last is taken, too, when it is arm64: old tools hid it there.
  //
  // Errors: INVALID_ARGUMENT; REASON_NOT_MACH_O, _BAD_FAT_HEADER, _TRUNCATED,
  // _OVERLAPPING_RANGES, and those of MachO::Parse(). byte_offset counts from
  // file[0]; for a fault inside a slice, `subject` is its architecture.
  static absl::StatusOr<UniversalFile> Parse(
      ByteView file ABSL_ATTRIBUTE_LIFETIME_BOUND);
  static absl::StatusOr<UniversalFile> Parse(const Bytes&&) = delete;

  ByteView raw() const { return raw_; }
  bool is_universal() const { return is_universal_; }
  // In the file's order; at least one.
  std::span<const Slice> slices() const { return slices_; }
  // fat_header.nfat_arch, which doesn't count the hidden entry.
  uint32_t stored_slice_count() const { return stored_slice_count_; }

  // Indexes of slices() in Apple's order, ascending cputype and cpusubtype:
  // the order of listing, and of signing.
  std::vector<size_t> AppleOrder() const;

  // The slice that a host of `cpu_type` would run; the first in Apple's order
  // when there is none for it.
  const Slice& NativeSlice(CpuType cpu_type) const;

  // "Mach-O thin (arm64)", "Mach-O universal (x86_64 arm64)".
  std::string Format() const;

  // The rules that Apple applies beyond parsing, to the gaps between slices
  // and to each slice (MachO::CheckStrictStructure).
  // Errors: FAILED_PRECONDITION REASON_UNEXPECTED_DATA.
  absl::Status CheckStrictStructure() const;

 private:
  UniversalFile() = default;

  absl::Status ReadFatHeader();

  ByteView raw_;
  bool is_universal_ = false;
  uint32_t stored_slice_count_ = 1;
  std::vector<Slice> slices_;
  std::vector<uint64_t> alignments_;  // bytes, one for each slice
  uint64_t fat_header_end_ = 0;
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_MACHO_UNIVERSAL_FILE_H_
