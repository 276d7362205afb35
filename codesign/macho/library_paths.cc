#include "codesign/macho/library_paths.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_format.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"

namespace codeseal {
namespace {

constexpr uint32_t kCommandHeaderSize = 8;  // cmd, cmdsize

// Nullopt for commands that carry no path for the dynamic linker.
std::optional<std::string_view> CommandName(uint32_t command) {
  switch (command) {
    case 0xc:
      return "LC_LOAD_DYLIB";
    case 0x80000018:
      return "LC_LOAD_WEAK_DYLIB";
    case 0x8000001f:
      return "LC_REEXPORT_DYLIB";
    case 0x20:
      return "LC_LAZY_LOAD_DYLIB";
    case 0x80000023:
      return "LC_LOAD_UPWARD_DYLIB";
    case 0x8000001c:
      return "LC_RPATH";
    default:
      return std::nullopt;
  }
}

}  // namespace

absl::StatusOr<LibraryPaths> ReadLibraryPaths(const MachO& mach_o) {
  LibraryPaths paths;
  size_t offset = mach_o.header_size();
  for (uint32_t i = 0; i < mach_o.load_command_count(); ++i) {
    // MachO::Parse() has seen that the commands fit.
    const ByteView rest =
        mach_o.raw().subspan(offset, mach_o.load_commands_end() - offset);
    EndianReader in(rest, mach_o.byte_order());
    const std::optional<std::string_view> name = CommandName(in.U32());
    const ByteView bytes = rest.first(in.U32());
    if (name.has_value()) {
      const uint32_t path_offset = in.U32();
      if (!in.ok() || path_offset < kCommandHeaderSize + 4 ||
          path_offset >= bytes.size()) {  // MO-13
        return WithRule(
            ParseError(
                v1::REASON_BAD_LOAD_COMMAND, offset,
                absl::StrFormat("the path of a %s cannot begin at %d of "
                                "%d bytes",
                                std::string(*name), path_offset, bytes.size())),
            "MO-13");
      }
      std::string_view path = AsText(bytes.subspan(path_offset));
      path = path.substr(0, path.find('\0'));
      (*name == "LC_RPATH" ? paths.search_paths : paths.libraries)
          .push_back({*name, path, offset});
    }
    offset += bytes.size();
  }
  return paths;
}

}  // namespace codeseal
