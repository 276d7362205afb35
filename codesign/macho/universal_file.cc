#include "codesign/macho/universal_file.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_format.h"
#include "codesign/base/error.h"

namespace codeseal {
namespace {

constexpr uint32_t kFatMagicSwapped = 0xbebafeca;  // FAT_CIGAM
constexpr uint32_t kFat64Magic = 0xcafebabf;       // FAT_MAGIC_64
constexpr uint32_t kFat64MagicSwapped = 0xbfbafeca;
constexpr size_t kFatArchSize = 20;
constexpr uint32_t kMaxAlignLog2 = 31;

struct FatArch {
  size_t entry_offset = 0;
  Architecture architecture;
  uint32_t offset = 0;
  uint32_t size = 0;
  uint32_t align_log2 = 0;
};

FatArch ReadFatArch(EndianReader& in) {
  FatArch arch;
  arch.entry_offset = in.offset();
  arch.architecture.cpu_type = CpuType{in.U32()};
  arch.architecture.cpu_subtype = in.U32();
  arch.offset = in.U32();
  arch.size = in.U32();
  arch.align_log2 = in.U32();
  return arch;
}

uint32_t ReadMagic(ByteView file) { return BigEndianReader(file).U32(); }

absl::Status Unexpected(const std::string& message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                   v1::REASON_UNEXPECTED_DATA,
                   "main executable failed strict validation: " + message);
}

}  // namespace

bool LooksLikeMachO(ByteView file) {
  if (file.size() < 4) return false;
  switch (ReadMagic(file)) {
    case kFatMagic:
    case kFatMagicSwapped:
    case kFat64Magic:
    case kFat64MagicSwapped:
    case 0xfeedface:  // MH_MAGIC
    case 0xcefaedfe:  // MH_CIGAM
    case 0xfeedfacf:  // MH_MAGIC_64
    case 0xcffaedfe:  // MH_CIGAM_64
      return true;
    default:
      return false;
  }
}

absl::StatusOr<UniversalFile> UniversalFile::Parse(ByteView file) {
  UniversalFile universal;
  universal.raw_ = file;
  switch (ReadMagic(file)) {
    case kFat64Magic:
    case kFat64MagicSwapped:
      return BrokenRule("UF-1", v1::REASON_BAD_FAT_HEADER, 0,
                        "a universal file with a 64-bit header: neither macOS "
                        "nor Apple's codesign reads it");
    case kFatMagic:
    case kFatMagicSwapped:
      universal.is_universal_ = true;
      RETURN_IF_ERROR(universal.ReadFatHeader());
      return universal;
    default:
      break;
  }
  ASSIGN_OR_RETURN(MachO mach_o, MachO::Parse(file));
  const Architecture architecture = mach_o.architecture();
  universal.slices_.push_back(
      {.offset = 0, .architecture = architecture, .mach_o = std::move(mach_o)});
  universal.alignments_.push_back(1);
  return universal;
}

absl::Status UniversalFile::ReadFatHeader() {
  EndianReader in(raw_, ReadMagic(raw_) == kFatMagic ? ByteOrder::kBig
                                                     : ByteOrder::kLittle);
  in.U32();  // magic
  stored_slice_count_ = in.U32();
  if (!in.ok()) {
    return ParseError(v1::REASON_TRUNCATED, in.offset(),
                      "the fat header is cut short");
  }
  if (stored_slice_count_ == 0 || stored_slice_count_ > kMaxSliceCount) {
    return BrokenRule("UF-2", v1::REASON_BAD_FAT_HEADER, 4,
                      absl::StrFormat("%d slices; a universal file has 1 to %d",
                                      stored_slice_count_, kMaxSliceCount));
  }
  std::vector<FatArch> archs;
  uint32_t first_offset = UINT32_MAX;
  for (uint32_t i = 0; i < stored_slice_count_; ++i) {
    archs.push_back(ReadFatArch(in));
    first_offset = std::min(first_offset, archs.back().offset);
  }
  if (!in.ok()) {
    return ParseError(v1::REASON_TRUNCATED, in.offset(),
                      absl::StrFormat("the fat header's %d entries are cut "
                                      "short",
                                      stored_slice_count_));
  }
  fat_header_end_ = in.offset();
  // The hidden entry, unless a slice begins there.
  if (first_offset >= in.offset() + kFatArchSize) {
    const FatArch hidden = ReadFatArch(in);
    if (in.ok() && hidden.architecture.cpu_type == CpuType::kArm64 &&
        hidden.size != 0) {
      archs.push_back(hidden);
      fat_header_end_ = in.offset();
    }
  }

  for (size_t i = 0; i < archs.size(); ++i) {
    const FatArch& arch = archs[i];
    const std::string name = arch.architecture.Name();
    if (arch.offset > raw_.size() || arch.size > raw_.size() - arch.offset) {
      return WithSubject(
          BrokenRule(
              "UF-3", v1::REASON_TRUNCATED, arch.entry_offset,
              absl::StrFormat("slice %s (%d bytes at %d) is not inside "
                              "the file's %d bytes",
                              name, arch.size, arch.offset, raw_.size())),
          name);
    }
    if (arch.align_log2 > kMaxAlignLog2) {
      return WithSubject(
          BrokenRule("UF-4", v1::REASON_BAD_FAT_HEADER, arch.entry_offset + 16,
                     absl::StrFormat("slice %s cannot be aligned to 2^%d", name,
                                     arch.align_log2)),
          name);
    }
    if (arch.offset < fat_header_end_) {
      return WithSubject(
          BrokenRule("UF-5", v1::REASON_OVERLAPPING_RANGES, arch.entry_offset,
                     absl::StrFormat("slice %s at %d overlaps the fat header, "
                                     "which ends at %d",
                                     name, arch.offset, fat_header_end_)),
          name);
    }
    for (size_t j = 0; j < i; ++j) {
      const FatArch& other = archs[j];
      const bool apart = arch.offset >= other.offset
                             ? arch.offset - other.offset >= other.size
                             : other.offset - arch.offset >= arch.size;
      if (!apart || arch.offset == other.offset) {
        return WithSubject(
            BrokenRule("UF-6", v1::REASON_OVERLAPPING_RANGES, arch.entry_offset,
                       absl::StrFormat("slices %s and %s overlap",
                                       other.architecture.Name(), name)),
            name);
      }
      if (arch.architecture == other.architecture) {
        return WithSubject(
            BrokenRule("UF-7", v1::REASON_BAD_FAT_HEADER, arch.entry_offset,
                       "two slices are " + name),
            name);
      }
    }
    absl::StatusOr<MachO> mach_o =
        MachO::Parse(raw_.subspan(arch.offset, arch.size));
    if (!mach_o.ok()) {
      return WithSubject(WithOffsetBase(mach_o.status(), arch.offset), name);
    }
    if (mach_o->architecture().cpu_type != arch.architecture.cpu_type) {
      return WithSubject(
          BrokenRule("UF-8", v1::REASON_BAD_FAT_HEADER, arch.entry_offset,
                     absl::StrFormat("slice %s is %s inside", name,
                                     mach_o->architecture().Name())),
          name);
    }
    slices_.push_back({.offset = arch.offset,
                       .architecture = arch.architecture,
                       .mach_o = *std::move(mach_o)});
    alignments_.push_back(uint64_t{1} << arch.align_log2);
  }
  return absl::OkStatus();
}

std::vector<size_t> UniversalFile::AppleOrder() const {
  std::vector<size_t> order(slices_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return slices_[a].architecture < slices_[b].architecture;
  });
  return order;
}

const UniversalFile::Slice& UniversalFile::NativeSlice(CpuType cpu_type) const {
  const std::vector<size_t> order = AppleOrder();
  for (const size_t i : order) {
    if (slices_[i].architecture.cpu_type == cpu_type) {
      return slices_[i];
    }
  }
  return slices_[order.front()];
}

std::string UniversalFile::Format() const {
  std::string names;
  for (const size_t i : AppleOrder()) {
    if (!names.empty()) names += ' ';
    names += slices_[i].architecture.Name();
  }
  return (is_universal_ ? "Mach-O universal (" : "Mach-O thin (") + names + ")";
}

absl::Status UniversalFile::CheckStrictStructure() const {
  std::vector<size_t> by_offset(slices_.size());
  std::iota(by_offset.begin(), by_offset.end(), size_t{0});
  std::sort(by_offset.begin(), by_offset.end(), [&](size_t a, size_t b) {
    return slices_[a].offset < slices_[b].offset;
  });
  uint64_t end = fat_header_end_;
  for (const size_t i : by_offset) {
    const Slice& slice = slices_[i];
    const ByteView gap = raw_.subspan(static_cast<size_t>(end),
                                      static_cast<size_t>(slice.offset - end));
    // Only between slices: before the first there may be a whole page.
    if (i != by_offset.front() && gap.size() >= alignments_[i]) {
      return Unexpected(absl::StrFormat(
          "the gap of %d bytes before slice %s is more than alignment asks for",
          gap.size(), slice.architecture.Name()));
    }
    if (std::any_of(gap.begin(), gap.end(), [](uint8_t b) { return b != 0; })) {
      return Unexpected(
          absl::StrFormat("there are bytes between slices, at %d", end));
    }
    end = slice.offset + slice.mach_o.raw().size();
    const absl::Status status = slice.mach_o.CheckStrictStructure();
    if (!status.ok()) {
      return WithSubject(status, slice.architecture.Name());
    }
  }
  if (end != raw_.size()) {
    return Unexpected(absl::StrFormat("%d bytes lie behind the last slice",
                                      raw_.size() - end));
  }
  return absl::OkStatus();
}

}  // namespace codeseal
