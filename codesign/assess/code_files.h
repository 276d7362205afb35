// The files of a bundle as the notary and Gatekeeper see them: every Mach-O
// counts, wherever it lies and whether a seal calls it code or not.
//
//   path -> [FindFiles] -> Assess (library paths), Preflight (every binary)

#ifndef CODESEAL_CODESIGN_ASSESS_CODE_FILES_H_
#define CODESEAL_CODESIGN_ASSESS_CODE_FILES_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace codeseal {

struct FoundFile {
  std::string path;           // absolute or relative as the root was
  std::string relative_path;  // to the root: "Contents/MacOS/Demo"
  bool is_mach_o = false;
  bool is_archive = false;  // zip, tar, gzip, xz, ar: by its first bytes
  bool is_script = false;   // "#!"
  mode_t mode = 0;
  uint64_t size = 0;  // bytes
};

// Regular files below a folder in order of paths, or the one file that `path`
// is. Symbolic links are not followed.
// Errors: those of WalkTree() and MappedFile::Open().
absl::StatusOr<std::vector<FoundFile>> FindFiles(const std::string& path);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_ASSESS_CODE_FILES_H_
