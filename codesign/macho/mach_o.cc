#include "codesign/macho/mach_o.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"

namespace codeseal {
namespace {

constexpr uint32_t kMagic32 = 0xfeedface;  // MH_MAGIC
constexpr uint32_t kMagic64 = 0xfeedfacf;  // MH_MAGIC_64

// Load commands, of which loader.h has many more.
constexpr uint32_t kSegment = 0x1;             // LC_SEGMENT
constexpr uint32_t kSymtab = 0x2;              // LC_SYMTAB
constexpr uint32_t kSegment64 = 0x19;          // LC_SEGMENT_64
constexpr uint32_t kUuid = 0x1b;               // LC_UUID
constexpr uint32_t kVersionMinMacOs = 0x24;    // LC_VERSION_MIN_MACOSX
constexpr uint32_t kVersionMinIos = 0x25;      // LC_VERSION_MIN_IPHONEOS
constexpr uint32_t kVersionMinTvOs = 0x2f;     // LC_VERSION_MIN_TVOS
constexpr uint32_t kVersionMinWatchOs = 0x30;  // LC_VERSION_MIN_WATCHOS
constexpr uint32_t kBuildVersion = 0x32;       // LC_BUILD_VERSION
constexpr size_t kLoadCommandSize = 8;         // cmd, cmdsize

// Sections whose bytes are not in the file.
constexpr uint32_t kSectionTypeMask = 0xff;  // SECTION_TYPE
constexpr uint32_t kZeroFill = 0x1;          // S_ZEROFILL
constexpr uint32_t kGbZeroFill = 0xc;        // S_GB_ZEROFILL
constexpr uint32_t kThreadZeroFill = 0x12;   // S_THREAD_LOCAL_ZEROFILL

// A fixed-width name field, which need not have a NUL.
std::string_view FieldName(ByteView field) {
  const auto nul = std::find(field.begin(), field.end(), uint8_t{0});
  return AsText(field.first(static_cast<size_t>(nul - field.begin())));
}

bool IsInside(uint64_t offset, uint64_t size, uint64_t limit) {
  return offset <= limit && size <= limit - offset;
}

absl::Status WrongSize(size_t offset, const char* command, size_t size) {
  return BrokenRule("MO-4", v1::REASON_BAD_LOAD_COMMAND, offset,
                    absl::StrFormat("%s cannot have %d bytes", command, size));
}

absl::Status Twice(size_t offset, const char* command) {
  return BrokenRule("MO-5", v1::REASON_BAD_LOAD_COMMAND, offset,
                    absl::StrFormat("%s appears twice", command));
}

std::optional<Platform> VersionMinPlatform(uint32_t command) {
  switch (command) {
    case kVersionMinMacOs:
      return Platform::kMacOs;
    case kVersionMinIos:
      return Platform::kIos;
    case kVersionMinTvOs:
      return Platform::kTvOs;
    case kVersionMinWatchOs:
      return Platform::kWatchOs;
    default:
      return std::nullopt;
  }
}

}  // namespace

absl::StatusOr<MachO> MachO::Parse(ByteView slice) {
  MachO mach_o;
  mach_o.raw_ = slice;

  // The magic number gives word size and byte order.
  BigEndianReader magic_reader(slice);
  const uint32_t magic = magic_reader.U32();
  const uint32_t swapped_magic = __builtin_bswap32(magic);
  mach_o.byte_order_ = magic == kMagic32 || magic == kMagic64
                           ? ByteOrder::kBig
                           : ByteOrder::kLittle;
  mach_o.is_64_bit_ = magic == kMagic64 || swapped_magic == kMagic64;
  if (!magic_reader.ok()) {
    return ParseError(
        v1::REASON_NOT_MACH_O, 0,
        absl::StrFormat("not a Mach-O: it has %d bytes", slice.size()));
  }
  if (!mach_o.is_64_bit_ && magic != kMagic32 && swapped_magic != kMagic32) {
    return BrokenRule(
        "MO-1", v1::REASON_NOT_MACH_O, 0,
        absl::StrFormat("not a Mach-O: it starts with %08x", magic));
  }

  EndianReader in(slice, mach_o.byte_order_);
  in.U32();  // magic
  mach_o.architecture_.cpu_type = CpuType{in.U32()};
  mach_o.architecture_.cpu_subtype = in.U32();
  mach_o.file_type_ = MachOFileType{in.U32()};
  mach_o.load_command_count_ = in.U32();
  mach_o.load_commands_size_ = in.U32();
  in.U32();                         // flags
  if (mach_o.is_64_bit_) in.U32();  // reserved
  if (!in.ok()) {
    return ParseError(v1::REASON_TRUNCATED, in.offset(),
                      "the Mach-O header is cut short");
  }
  if (mach_o.load_commands_size_ > in.remaining_size()) {
    return BrokenRule(
        "MO-2", v1::REASON_TRUNCATED, 20,
        absl::StrFormat("%d bytes of load commands do not fit in "
                        "the %d bytes after the header",
                        mach_o.load_commands_size_, in.remaining_size()));
  }
  if (mach_o.load_command_count_ >
      mach_o.load_commands_size_ / kLoadCommandSize) {
    return BrokenRule("MO-3", v1::REASON_BAD_LOAD_COMMAND, 16,
                      absl::StrFormat("%d load commands do not fit in %d bytes",
                                      mach_o.load_command_count_,
                                      mach_o.load_commands_size_));
  }

  size_t offset = mach_o.header_size();
  for (uint32_t i = 0; i < mach_o.load_command_count_; ++i) {
    const ByteView rest =
        slice.subspan(offset, mach_o.load_commands_end() - offset);
    EndianReader command_in(rest, mach_o.byte_order_);
    const uint32_t command = command_in.U32();
    const uint32_t size = command_in.U32();
    if (!command_in.ok() || size < kLoadCommandSize || size % 4 != 0 ||
        size > rest.size()) {
      return BrokenRule(
          "MO-4", v1::REASON_BAD_LOAD_COMMAND, offset,
          absl::StrFormat("load command %d of %d cannot have %d bytes, %d left",
                          i + 1, mach_o.load_command_count_, size,
                          rest.size()));
    }
    RETURN_IF_ERROR(mach_o.ReadLoadCommand(command, offset, rest.first(size)));
    offset += size;
  }
  // A command that is appended would be out of reach behind such bytes.
  if (offset != mach_o.load_commands_end()) {
    return BrokenRule(
        "MO-12", v1::REASON_BAD_LOAD_COMMAND, 20,
        absl::StrFormat("%d bytes of the load commands belong to none",
                        mach_o.load_commands_end() - offset));
  }
  return mach_o;
}

absl::Status MachO::ReadLoadCommand(uint32_t command, size_t offset,
                                    ByteView bytes) {
  EndianReader in(bytes, byte_order_);
  in.Skip(kLoadCommandSize);
  switch (command) {
    case kSegment:
    case kSegment64:
      return ReadSegment(command == kSegment64, offset, bytes);

    case kSymtab: {
      if (string_table_.has_value()) return Twice(offset, "LC_SYMTAB");
      in.U32();  // symoff
      in.U32();  // nsyms
      StringTable table;
      table.offset = in.U32();
      table.size = in.U32();
      if (!in.ok()) return WrongSize(offset, "LC_SYMTAB", bytes.size());
      if (!IsInside(table.offset, table.size, raw_.size())) {
        return BrokenRule(
            "MO-6", v1::REASON_TRUNCATED, offset,
            absl::StrFormat("the string table (%d bytes at %d) is not inside "
                            "the slice's %d bytes",
                            table.size, table.offset, raw_.size()));
      }
      string_table_ = table;
      if (!structure_end_.has_value()) {
        structure_end_ = uint64_t{table.offset} + table.size;
      }
      return absl::OkStatus();
    }

    case kCodeSignatureCommand: {
      if (signature_command_.has_value()) {
        return Twice(offset, "LC_CODE_SIGNATURE");
      }
      SignatureCommand signature;
      signature.command_offset = offset;
      signature.data_offset = in.U32();
      signature.data_size = in.U32();
      if (!in.ok() || bytes.size() != 16) {
        return WrongSize(offset, "LC_CODE_SIGNATURE", bytes.size());
      }
      if (!IsInside(signature.data_offset, signature.data_size, raw_.size())) {
        return BrokenRule(
            "MO-7", v1::REASON_TRUNCATED, offset,
            absl::StrFormat("the code signature (%d bytes at %d) is not inside "
                            "the slice's %d bytes",
                            signature.data_size, signature.data_offset,
                            raw_.size()));
      }
      if (signature.data_offset < load_commands_end()) {
        return BrokenRule(
            "MO-8", v1::REASON_BAD_LOAD_COMMAND, offset,
            absl::StrFormat("the code signature at %d overlaps the load "
                            "commands, which end at %d",
                            signature.data_offset, load_commands_end()));
      }
      signature_command_ = signature;
      return absl::OkStatus();
    }

    case kUuid: {
      if (uuid_.has_value()) return Twice(offset, "LC_UUID");
      const ByteView value = in.Raw(16);
      if (!in.ok() || bytes.size() != 24) {
        return WrongSize(offset, "LC_UUID", bytes.size());
      }
      uuid_.emplace();
      std::copy(value.begin(), value.end(), uuid_->begin());
      return absl::OkStatus();
    }

    // Zippered code has one for macOS and one for Mac Catalyst; the first
    // counts.
    case kBuildVersion: {
      Version version;
      version.platform = Platform{in.U32()};
      version.minimum_os = in.U32();
      version.sdk = in.U32();
      if (!in.ok()) return WrongSize(offset, "LC_BUILD_VERSION", bytes.size());
      if (!version_is_build_version_) version_ = version;
      version_is_build_version_ = true;
      return absl::OkStatus();
    }

    case kVersionMinMacOs:
    case kVersionMinIos:
    case kVersionMinTvOs:
    case kVersionMinWatchOs: {
      Version version;
      version.platform = *VersionMinPlatform(command);
      version.minimum_os = in.U32();
      version.sdk = in.U32();
      if (!in.ok()) return WrongSize(offset, "LC_VERSION_MIN", bytes.size());
      if (!version_.has_value()) version_ = version;
      return absl::OkStatus();
    }

    default:
      return absl::OkStatus();
  }
}

absl::Status MachO::ReadSegment(bool is_64_bit, size_t offset, ByteView bytes) {
  EndianReader in(bytes, byte_order_);
  const auto word = [&] { return is_64_bit ? in.U64() : in.U32(); };

  Segment segment;
  segment.command_offset = offset;
  segment.is_64_bit = is_64_bit;
  in.Skip(kLoadCommandSize);
  segment.name = FieldName(in.Raw(16));
  word();  // vmaddr
  segment.vm_size = word();
  segment.file_offset = word();
  segment.file_size = word();
  in.U32();  // maxprot
  in.U32();  // initprot
  segment.section_count = in.U32();
  in.U32();  // flags
  if (!in.ok()) {
    return WrongSize(offset, is_64_bit ? "LC_SEGMENT_64" : "LC_SEGMENT",
                     bytes.size());
  }
  if (!IsInside(segment.file_offset, segment.file_size, raw_.size())) {
    return BrokenRule(
        "MO-9", v1::REASON_TRUNCATED, offset,
        absl::StrFormat("segment %s (%d bytes at %d) is not inside the slice's "
                        "%d bytes",
                        std::string(segment.name), segment.file_size,
                        segment.file_offset, raw_.size()));
  }
  const size_t section_size = is_64_bit ? 80 : 68;
  if (segment.section_count > in.remaining_size() / section_size) {
    return BrokenRule(
        "MO-10", v1::REASON_BAD_SEGMENT, offset,
        absl::StrFormat("segment %s: %d sections do not fit in %d bytes",
                        std::string(segment.name), segment.section_count,
                        in.remaining_size()));
  }

  for (uint32_t i = 0; i < segment.section_count; ++i) {
    const std::string_view section_name = FieldName(in.Raw(16));
    const std::string_view segment_name = FieldName(in.Raw(16));
    word();  // addr
    const uint64_t section_bytes = word();
    const uint32_t section_offset = in.U32();
    in.Skip(4 * 3);  // align, reloff, nreloc
    const uint32_t type = in.U32() & kSectionTypeMask;
    in.Skip(is_64_bit ? 4 * 3 : 4 * 2);  // reserved
    if (i == 0) segment.first_section_offset = section_offset;
    if (segment_name == "__TEXT" && section_name == "__info_plist" &&
        !info_plist_.has_value() && type != kZeroFill && type != kGbZeroFill &&
        type != kThreadZeroFill) {
      if (!IsInside(section_offset, section_bytes, raw_.size())) {
        return BrokenRule(
            "MO-11", v1::REASON_BAD_SEGMENT, offset,
            absl::StrFormat("section __TEXT,__info_plist (%d bytes at %d) is "
                            "not inside the slice's %d bytes",
                            section_bytes, section_offset, raw_.size()));
      }
      info_plist_ =
          raw_.subspan(section_offset, static_cast<size_t>(section_bytes));
    }
  }
  if (segment.name == "__LINKEDIT" && !structure_end_.has_value()) {
    structure_end_ = segment.file_offset + segment.file_size;
  }
  segments_.push_back(segment);
  return absl::OkStatus();
}

const MachO::Segment* MachO::FindSegment(std::string_view name) const {
  for (const Segment& segment : segments_) {
    if (segment.name == name) return &segment;
  }
  return nullptr;
}

ByteView MachO::Signature() const {
  if (!signature_command_.has_value()) return {};
  return raw_.subspan(signature_command_->data_offset,
                      signature_command_->data_size);
}

uint64_t MachO::SigningLimit() const {
  return signature_command_.has_value() ? signature_command_->data_offset
                                        : raw_.size();
}

Bytes MachO::Identification() const {
  if (uuid_.has_value()) {
    Bytes identification = ToBytes("UUID");
    Append(identification, *uuid_);
    return identification;
  }
  // Apple hashes the 32-bit form of the header also when it is the longer one.
  constexpr size_t kShortHeaderSize = 28;
  Bytes identification(DigestSize(DigestKind::kSha1));
  Digester digester(DigestKind::kSha1);
  digester.Update(raw_.first(kShortHeaderSize));
  digester.Update(raw_.subspan(header_size(), load_commands_size_));
  digester.Finish(identification);
  return identification;
}

absl::Status MachO::CheckStrictStructure() const {
  if (structure_end_ == raw_.size()) return absl::OkStatus();
  const std::string found =
      structure_end_.has_value()
          ? absl::StrFormat("its tables end at %d, the slice at %d",
                            *structure_end_, raw_.size())
          : "it has neither __LINKEDIT nor a symbol table";
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                   v1::REASON_UNEXPECTED_DATA,
                   "main executable failed strict validation: " + found);
}

}  // namespace codeseal
