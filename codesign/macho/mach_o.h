// One slice of Apple code: the Mach-O header, its load commands and what
// signing needs to know of them.
//
//   bytes on disk -> UniversalFile -> [MachO] -> SliceLayout -> CodeDirectory
//
// Spec: mach-o/loader.h. Rules MO-* are this file's: a slice that breaks one
//       cannot be signed or verified safely.

#ifndef CODESEAL_CODESIGN_MACHO_MACH_O_H_
#define CODESEAL_CODESIGN_MACHO_MACH_O_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/endian.h"
#include "codesign/macho/architecture.h"

namespace codeseal {

inline constexpr uint32_t kCodeSignatureCommand = 0x1d;  // LC_CODE_SIGNATURE

// Wire values of mach_header.filetype.
enum class MachOFileType : uint32_t {
  kObject = 1,       // MH_OBJECT
  kExecute = 2,      // MH_EXECUTE
  kPreload = 5,      // MH_PRELOAD
  kDylib = 6,        // MH_DYLIB
  kDylinker = 7,     // MH_DYLINKER
  kBundle = 8,       // MH_BUNDLE
  kKextBundle = 11,  // MH_KEXT_BUNDLE
};

// Wire values of build_version_command.platform, as far as rules ask for them.
enum class Platform : uint32_t {
  kMacOs = 1,    // PLATFORM_MACOS
  kIos = 2,      // PLATFORM_IOS
  kTvOs = 3,     // PLATFORM_TVOS
  kWatchOs = 4,  // PLATFORM_WATCHOS
};

// Immutable, copyable, thread-compatible. Borrows from the bytes given to
// Parse(); all offsets count from the slice's first byte.
class MachO {
 public:
  // LC_SEGMENT or LC_SEGMENT_64.
  struct Segment {
    std::string_view name;
    size_t command_offset = 0;
    bool is_64_bit = false;  // the command's form, not the header's
    uint64_t file_offset = 0;
    uint64_t file_size = 0;
    uint64_t vm_size = 0;
    uint32_t section_count = 0;
    // File offset of the first section; nullopt when there is no section.
    std::optional<uint32_t> first_section_offset;
  };

  // LC_CODE_SIGNATURE. The range lies inside the slice.
  struct SignatureCommand {
    size_t command_offset = 0;
    uint32_t data_offset = 0;
    uint32_t data_size = 0;
  };

  // LC_SYMTAB's string table. The range lies inside the slice.
  struct StringTable {
    uint32_t offset = 0;
    uint32_t size = 0;
  };

  // The first LC_BUILD_VERSION; without one, the first LC_VERSION_MIN_*.
  // Versions are packed as 0xXXXXYYZZ.
  struct Version {
    Platform platform{};
    uint32_t minimum_os = 0;
    uint32_t sdk = 0;
  };

  // Reads one slice of any CPU, word size and byte order; `slice` is exactly
  // its bytes. Not checked: that the code makes sense to a loader, that
  // segments don't overlap, anything inside sections.
  //
  // Errors: INVALID_ARGUMENT; REASON_NOT_MACH_O, _TRUNCATED,
  // _BAD_LOAD_COMMAND, _BAD_SEGMENT with the place. There is no partial
  // result.
  static absl::StatusOr<MachO> Parse(
      ByteView slice ABSL_ATTRIBUTE_LIFETIME_BOUND);
  static absl::StatusOr<MachO> Parse(const Bytes&&) = delete;

  ByteView raw() const { return raw_; }
  ByteOrder byte_order() const { return byte_order_; }
  bool is_64_bit() const { return is_64_bit_; }
  const Architecture& architecture() const { return architecture_; }
  MachOFileType file_type() const { return file_type_; }
  bool is_main_executable() const {
    return file_type_ == MachOFileType::kExecute;
  }

  size_t header_size() const { return is_64_bit_ ? 32 : 28; }
  uint32_t load_command_count() const { return load_command_count_; }
  uint32_t load_commands_size() const { return load_commands_size_; }
  size_t load_commands_end() const {
    return header_size() + load_commands_size_;
  }

  std::span<const Segment> segments() const { return segments_; }
  // The first segment of that name; null when there is none.
  const Segment* FindSegment(std::string_view name) const;

  const std::optional<SignatureCommand>& signature_command() const {
    return signature_command_;
  }
  const std::optional<StringTable>& string_table() const {
    return string_table_;
  }
  const std::optional<std::array<uint8_t, 16>>& uuid() const { return uuid_; }
  const std::optional<Version>& version() const { return version_; }
  // The bytes of section __TEXT,__info_plist: a tool's Info.plist.
  const std::optional<ByteView>& info_plist() const { return info_plist_; }

  // What LC_CODE_SIGNATURE points at, with its padding; empty when there is no
  // such command.
  ByteView Signature() const;
  // Bytes that a signature covers: up to the signature, or the whole slice.
  uint64_t SigningLimit() const;

  // Apple's "identification", which tells builds of the same name apart:
  // "UUID" and the LC_UUID, else SHA-1 over mach_header (28 bytes) and the
  // load commands. 20 bytes.
  Bytes Identification() const;

  // Apple's strict rule: of __LINKEDIT and LC_SYMTAB, the first in the load
  // commands must end exactly where the slice ends. Whatever lies behind would
  // be code that no tool expects.
  // Errors: FAILED_PRECONDITION REASON_UNEXPECTED_DATA.
  absl::Status CheckStrictStructure() const;

 private:
  MachO() = default;

  absl::Status ReadLoadCommand(uint32_t command, size_t offset, ByteView bytes);
  absl::Status ReadSegment(bool is_64_bit, size_t offset, ByteView bytes);

  ByteView raw_;
  ByteOrder byte_order_ = ByteOrder::kLittle;
  bool is_64_bit_ = false;
  Architecture architecture_;
  MachOFileType file_type_{};
  uint32_t load_command_count_ = 0;
  uint32_t load_commands_size_ = 0;
  std::vector<Segment> segments_;
  std::optional<SignatureCommand> signature_command_;
  std::optional<StringTable> string_table_;
  std::optional<std::array<uint8_t, 16>> uuid_;
  std::optional<Version> version_;
  bool version_is_build_version_ = false;
  std::optional<ByteView> info_plist_;
  // End of __LINKEDIT or of the string table, whichever command came first.
  std::optional<uint64_t> structure_end_;
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_MACHO_MACH_O_H_
