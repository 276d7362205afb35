// Makes small Mach-O and universal files from a description, so that a test
// says what is special about its input and nothing else.
//
//   const Bytes file = BuildMachO({.architecture = kArm64e, .header_room = 8});

#ifndef CODESEAL_TESTS_SUPPORT_MACH_O_BUILDER_H_
#define CODESEAL_TESTS_SUPPORT_MACH_O_BUILDER_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "codesign/base/bytes.h"
#include "codesign/base/endian.h"
#include "codesign/macho/mach_o.h"

namespace codeseal::testing {

inline constexpr Architecture kI386 = {CpuType::kI386, 3};
inline constexpr Architecture kX86_64 = {CpuType::kX86_64, 3};
inline constexpr Architecture kX86_64h = {CpuType::kX86_64, 8};
inline constexpr Architecture kArm64 = {CpuType::kArm64, 0};
inline constexpr Architecture kArm64e = {CpuType::kArm64, 0x80000002};
inline constexpr Architecture kArm64_32 = {CpuType::kArm64_32, 1};
inline constexpr Architecture kPpc = {CpuType::kPpc, 0};

// The file, in order: header, load commands (segment __TEXT with section
// __text and perhaps __info_plist, segment __LINKEDIT, LC_SYMTAB, version,
// UUID, signature), `header_room` free bytes, code, Info.plist, symbol and
// string table, signature, `trailing` bytes.
struct MachODescription {
  Architecture architecture = kArm64;
  ByteOrder byte_order = ByteOrder::kLittle;
  bool is_64_bit = true;
  MachOFileType file_type = MachOFileType::kExecute;
  size_t header_room = 64;
  size_t code_size = 256;
  size_t string_table_size = 32;
  std::optional<MachO::Version> build_version = MachO::Version{
      .platform = Platform::kMacOs, .minimum_os = 0x0b0000, .sdk = 0x0e0000};
  std::optional<MachO::Version> version_min = {};  // of macOS
  std::optional<std::array<uint8_t, 16>> uuid = {};
  std::string info_plist = {};
  bool has_linkedit = true;
  std::optional<Bytes> signature = {};   // with LC_CODE_SIGNATURE, 16-aligned
  bool signature_command_first = false;  // before the other load commands
  size_t trailing_size = 0;              // bytes behind everything
  // Behind the version: LC_LOAD_DYLIB (0xc), LC_RPATH (0x8000001c), ...
  struct PathCommand {
    uint32_t command = 0xc;
    std::string path;
    // Where the command says that its path begins; by default, where it does.
    std::optional<uint32_t> path_offset = {};
  };
  std::vector<PathCommand> path_commands = {};
};

Bytes BuildMachO(const MachODescription& description = {});

struct UniversalDescription {
  struct Slice {
    Architecture architecture;
    Bytes bytes;
  };
  std::vector<Slice> slices = {};
  uint32_t align_log2 = 12;
  ByteOrder byte_order = ByteOrder::kBig;
  bool hide_last = false;  // the last entry isn't counted in nfat_arch
};

Bytes BuildUniversal(const UniversalDescription& description);

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_MACH_O_BUILDER_H_
