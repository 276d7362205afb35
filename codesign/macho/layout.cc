#include "codesign/macho/layout.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "codesign/base/error.h"

namespace codeseal {
namespace {

constexpr uint32_t kSignatureCommandSize = 16;  // linkedit_data_command
// A signature may end this much before the slice does.
constexpr uint64_t kEndTolerance = 7;
// The most padding that is taken for alignment between string table and
// signature when the signature is removed.
constexpr uint64_t kMaxStringPadding = 12;

// No padding is longer than this.
constexpr std::array<uint8_t, kSignatureAlignment> kZeros = {};

// `alignment` is a power of two; the sum must not overflow.
uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

absl::Status LayoutFault(const char* rule, Reason reason,
                         const std::string& message) {
  return WithRule(MakeError(absl::StatusCode::kFailedPrecondition,
                            v1::STAGE_PLAN, reason, message),
                  rule);
}

absl::Status TooBig() {
  return LayoutFault("SP-5", v1::REASON_FILE_TOO_BIG,
                     "with its signature the file would reach 4 GiB, which the "
                     "format cannot address");
}

absl::Status CheckFileType(const MachO& mach_o) {
  switch (mach_o.file_type()) {
    case MachOFileType::kExecute:
    case MachOFileType::kDylib:
    case MachOFileType::kDylinker:
    case MachOFileType::kBundle:
    case MachOFileType::kKextBundle:
      return absl::OkStatus();
    case MachOFileType::kObject:
    case MachOFileType::kPreload:
      break;
  }
  return LayoutFault(
      "SP-1", v1::REASON_UNSUPPORTED_FILE_TYPE,
      absl::StrFormat("a Mach-O of file type %d has no place for a signature",
                      static_cast<uint32_t>(mach_o.file_type())));
}

// Where the header's free room ends.
uint64_t HeaderRoomEnd(const MachO& mach_o) {
  uint64_t end = mach_o.raw().size();
  for (const MachO::Segment& segment : mach_o.segments()) {
    if (segment.file_size == 0) continue;
    if (segment.file_offset != 0) {
      end = std::min(end, segment.file_offset);
    } else if (segment.first_section_offset.has_value()) {
      end = std::min<uint64_t>(end, *segment.first_section_offset);
    }
  }
  return end;
}

absl::Status CheckSignatureIsLast(const MachO& mach_o) {
  const MachO::SignatureCommand& command = *mach_o.signature_command();
  const uint64_t end = uint64_t{command.data_offset} + command.data_size;
  if (mach_o.raw().size() - end > kEndTolerance) {
    return LayoutFault("SP-2", v1::REASON_SIGNATURE_NOT_LAST,
                       absl::StrFormat("%d bytes lie behind the signature",
                                       mach_o.raw().size() - end));
  }
  return absl::OkStatus();
}

// __LINKEDIT, which must begin no later than `slice_end`.
absl::StatusOr<const MachO::Segment*> FindLinkedit(const MachO& mach_o,
                                                   uint64_t slice_end) {
  const MachO::Segment* linkedit = mach_o.FindSegment("__LINKEDIT");
  if (linkedit == nullptr || linkedit->file_offset > slice_end) {
    return LayoutFault("SP-3", v1::REASON_BAD_SEGMENT,
                       linkedit == nullptr
                           ? "there is no __LINKEDIT segment"
                           : "__LINKEDIT begins behind the signature");
  }
  return linkedit;
}

// Overwrites filesize, and vmsize when given, of a segment command.
absl::Status SetSegmentSizes(const MachO& mach_o, const MachO::Segment& segment,
                             uint64_t file_size,
                             std::optional<uint64_t> vm_size, Bytes& header) {
  const size_t at = segment.command_offset;
  const ByteOrder order = mach_o.byte_order();
  if (segment.is_64_bit) {
    if (vm_size.has_value()) StoreU64(header, at + 32, *vm_size, order);
    StoreU64(header, at + 48, file_size, order);
    return absl::OkStatus();
  }
  if (file_size > UINT32_MAX || vm_size.value_or(0) > UINT32_MAX) {
    return TooBig();
  }
  if (vm_size.has_value()) {
    StoreU32(header, at + 28, static_cast<uint32_t>(*vm_size), order);
  }
  StoreU32(header, at + 36, static_cast<uint32_t>(file_size), order);
  return absl::OkStatus();
}

void SetLoadCommands(const MachO& mach_o, uint32_t count, uint32_t size,
                     Bytes& header) {
  StoreU32(header, 16, count, mach_o.byte_order());
  StoreU32(header, 20, size, mach_o.byte_order());
}

}  // namespace

SliceLayout SliceLayout::Unchanged(ByteView original,
                                   uint64_t signature_offset) {
  assert(signature_offset <= original.size());
  SliceLayout layout;
  layout.original_ = original;
  layout.original_end_ = signature_offset;
  layout.signature_offset_ = signature_offset;
  layout.signature_size_ = original.size() - signature_offset;
  return layout;
}

std::array<ByteView, 3> SliceLayout::Read(uint64_t offset,
                                          uint64_t size) const {
  assert(offset <= signature_offset_ && size <= signature_offset_ - offset);
  const uint64_t end = offset + size;
  // The part of [offset, end) inside [begin, limit), as a view of `bytes`,
  // whose first byte is at `base`.
  const auto part = [&](ByteView bytes, uint64_t base, uint64_t begin,
                        uint64_t limit) -> ByteView {
    const uint64_t from = std::max(offset, begin);
    const uint64_t to = std::min(end, limit);
    if (from >= to) return {};
    return bytes.subspan(static_cast<size_t>(from - base),
                         static_cast<size_t>(to - from));
  };
  return {part(header_, 0, 0, header_.size()),
          part(original_, 0, header_.size(), original_end_),
          part(kZeros, original_end_, original_end_, signature_offset_)};
}

absl::StatusOr<SliceLayout> ReserveSignature(const MachO& mach_o,
                                             uint64_t reserved_size,
                                             uint64_t linkedit_alignment) {
  RETURN_IF_ERROR(CheckFileType(mach_o));
  const uint64_t slice_size = mach_o.raw().size();
  if (slice_size > UINT32_MAX || reserved_size > UINT32_MAX) return TooBig();

  SliceLayout layout;
  layout.original_ = mach_o.raw();
  layout.signature_size_ = AlignUp(reserved_size, kSignatureAlignment);
  layout.header_ = ToBytes(mach_o.raw().first(mach_o.load_commands_end()));
  size_t command_offset = mach_o.load_commands_end();
  if (mach_o.signature_command().has_value()) {
    RETURN_IF_ERROR(CheckSignatureIsLast(mach_o));
    command_offset = mach_o.signature_command()->command_offset;
    layout.original_end_ = mach_o.signature_command()->data_offset;
    layout.signature_offset_ = layout.original_end_;
  } else {
    // Apple compares the load commands' size without the header's own bytes
    // and may overwrite the first of the code; that is not worth repeating.
    const uint64_t room_end = HeaderRoomEnd(mach_o);
    if (room_end < command_offset ||
        room_end - command_offset < kSignatureCommandSize) {
      return LayoutFault(
          "SP-4", v1::REASON_NO_HEADER_ROOM,
          absl::StrFormat(
              "the load command for a signature needs %d bytes; "
              "%d are free between the load commands and the code",
              kSignatureCommandSize,
              room_end < command_offset ? 0 : room_end - command_offset));
    }
    layout.original_end_ = slice_size;
    layout.signature_offset_ = AlignUp(slice_size, kSignatureAlignment);
    layout.header_.resize(command_offset + kSignatureCommandSize);
    SetLoadCommands(mach_o, mach_o.load_command_count() + 1,
                    mach_o.load_commands_size() + kSignatureCommandSize,
                    layout.header_);
  }
  if (layout.size() > UINT32_MAX) return TooBig();
  ASSIGN_OR_RETURN(const MachO::Segment* linkedit,
                   FindLinkedit(mach_o, layout.signature_offset_));

  const ByteOrder order = mach_o.byte_order();
  StoreU32(layout.header_, command_offset, kCodeSignatureCommand, order);
  StoreU32(layout.header_, command_offset + 4, kSignatureCommandSize, order);
  StoreU32(layout.header_, command_offset + 8,
           static_cast<uint32_t>(layout.signature_offset_), order);
  StoreU32(layout.header_, command_offset + 12,
           static_cast<uint32_t>(layout.signature_size_), order);
  const uint64_t file_size = layout.size() - linkedit->file_offset;
  RETURN_IF_ERROR(SetSegmentSizes(mach_o, *linkedit, file_size,
                                  AlignUp(file_size, linkedit_alignment),
                                  layout.header_));
  return layout;
}

absl::StatusOr<SliceLayout> RemoveSignature(const MachO& mach_o) {
  if (!mach_o.signature_command().has_value()) {
    return LayoutFault("SP-6", v1::REASON_NOT_SIGNED,
                       "there is no signature to remove");
  }
  RETURN_IF_ERROR(CheckSignatureIsLast(mach_o));
  const MachO::SignatureCommand& command = *mach_o.signature_command();

  SliceLayout layout;
  layout.original_ = mach_o.raw();
  layout.signature_offset_ = command.data_offset;
  if (const auto& strings = mach_o.string_table(); strings.has_value()) {
    const uint64_t strings_end = uint64_t{strings->offset} + strings->size;
    if (strings_end >= mach_o.load_commands_end() &&
        strings_end < command.data_offset &&
        command.data_offset - strings_end <= kMaxStringPadding) {
      layout.signature_offset_ = strings_end;
    }
  }
  layout.original_end_ = layout.signature_offset_;
  ASSIGN_OR_RETURN(const MachO::Segment* linkedit,
                   FindLinkedit(mach_o, layout.signature_offset_));

  layout.header_ = ToBytes(mach_o.raw().first(mach_o.load_commands_end()));
  RETURN_IF_ERROR(SetSegmentSizes(
      mach_o, *linkedit, layout.signature_offset_ - linkedit->file_offset,
      std::nullopt, layout.header_));
  SetLoadCommands(mach_o, mach_o.load_command_count() - 1,
                  mach_o.load_commands_size() - kSignatureCommandSize,
                  layout.header_);
  // Later commands move down; what the last one leaves is zero.
  const auto at =
      layout.header_.begin() + static_cast<ptrdiff_t>(command.command_offset);
  std::fill(std::move(at + kSignatureCommandSize, layout.header_.end(), at),
            layout.header_.end(), uint8_t{0});
  return layout;
}

absl::StatusOr<FileLayout> LayOutFile(const UniversalFile& universal,
                                      std::vector<SliceLayout> layouts,
                                      std::span<const uint32_t> align_log2) {
  assert(align_log2.empty() || align_log2.size() == layouts.size());
  const auto alignment = [&](size_t i) {
    return align_log2.empty() ? kSliceAlignLog2 : align_log2[i];
  };
  assert(layouts.size() == universal.slices().size());
  FileLayout file;
  for (size_t i = 0; i < layouts.size(); ++i) {
    const uint64_t offset = universal.is_universal()
                                ? AlignUp(std::max<uint64_t>(file.size, 1),
                                          uint64_t{1} << alignment(i))
                                : 0;
    file.size = offset + layouts[i].size();
    if (file.size > UINT32_MAX) return TooBig();
    file.slices.push_back({.original_offset = universal.slices()[i].offset,
                           .offset = offset,
                           .layout = std::move(layouts[i])});
  }
  if (!universal.is_universal()) return file;

  BigEndianWriter out;
  out.U32(kFatMagic);
  out.U32(universal.stored_slice_count());
  for (size_t i = 0; i < file.slices.size(); ++i) {
    const Architecture& architecture = universal.slices()[i].architecture;
    out.U32(static_cast<uint32_t>(architecture.cpu_type));
    out.U32(architecture.cpu_subtype);
    out.U32(static_cast<uint32_t>(file.slices[i].offset));
    out.U32(static_cast<uint32_t>(file.slices[i].layout.size()));
    out.U32(alignment(i));
  }
  file.fat_header = std::move(out).Take();
  return file;
}

absl::Status WriteLayout(const FileLayout& layout, int source_fd,
                         StagedFile& file) {
  RETURN_IF_ERROR(file.Resize(layout.size));
  RETURN_IF_ERROR(file.Write(layout.fat_header, 0));
  for (const FileLayout::Slice& slice : layout.slices) {
    const SliceLayout& bytes = slice.layout;
    RETURN_IF_ERROR(file.Write(bytes.header(), slice.offset));
    if (bytes.original_end() > bytes.header().size()) {
      RETURN_IF_ERROR(file.CopyFrom(
          source_fd, slice.original_offset + bytes.header().size(),
          bytes.original_end() - bytes.header().size(),
          slice.offset + bytes.header().size()));
    }
  }
  return absl::OkStatus();
}

}  // namespace codeseal
