// What a Mach-O asks of the dynamic linker: the libraries that it wants loaded
// and the folders in which "@rpath" is looked up.
//
//   MachO -> [LibraryPaths] -> assessment: does it load from outside its app?
//
// Spec: mach-o/loader.h, struct dylib_command and rpath_command. Rule MO-13.

#ifndef CODESEAL_CODESIGN_MACHO_LIBRARY_PATHS_H_
#define CODESEAL_CODESIGN_MACHO_LIBRARY_PATHS_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"
#include "codesign/macho/mach_o.h"

namespace codeseal {

// Borrows from the slice's bytes.
struct LibraryPaths {
  struct Entry {
    std::string_view command;  // "LC_LOAD_DYLIB", "LC_RPATH", ...
    std::string_view path;     // as stored: "@rpath/libz.dylib"
    uint64_t offset = 0;       // of the command in the slice, bytes
  };

  std::vector<Entry> libraries;     // LC_LOAD_DYLIB and its variants
  std::vector<Entry> search_paths;  // LC_RPATH, in the order of the search
};

// The commands in their order. LC_ID_DYLIB, a library's own name, is none of
// them. `mach_o` must outlive the result's source bytes only.
//
// Errors: INVALID_ARGUMENT REASON_BAD_LOAD_COMMAND for a path that does not lie
// inside its command; byte_offset counts from the slice's first byte.
absl::StatusOr<LibraryPaths> ReadLibraryPaths(const MachO& mach_o);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_MACHO_LIBRARY_PATHS_H_
