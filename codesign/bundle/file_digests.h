// Digests of many files at once.

#ifndef CODESEAL_CODESIGN_BUNDLE_FILE_DIGESTS_H_
#define CODESEAL_CODESIGN_BUNDLE_FILE_DIGESTS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"

namespace codeseal {

struct FileDigests {
  std::string path;
  uint64_t size = 0;                   // bytes; only to share out the work
  std::vector<DigestKind> kinds = {};  // wanted, each once

  absl::Status status =
      absl::OkStatus();  // the fault of this file; then digests are incomplete
  std::map<DigestKind, Bytes> digests = {};
};

// Told how many more bytes were hashed, each byte once whatever the number of
// digests. Called from several threads.
using OnHashed = std::function<void(uint64_t size)>;

// Fills `status` and `digests` of every file, on `thread_count` threads (0: one
// for each core). Files are mapped and let go piece by piece, so that memory
// stays flat.
void ComputeFileDigests(std::span<FileDigests> files, size_t thread_count = 0,
                        const OnHashed& on_hashed = {});

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BUNDLE_FILE_DIGESTS_H_
