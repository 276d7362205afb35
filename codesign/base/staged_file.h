// Writes a file beside its target and renames it over the target, so that a
// reader, a crash or a full disk never meets half a file.

#ifndef CODESEAL_CODESIGN_BASE_STAGED_FILE_H_
#define CODESEAL_CODESIGN_BASE_STAGED_FILE_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"

namespace codeseal {

// Not copyable. Without Commit() the destructor removes the staged file and
// the target is as it was. A killed process leaves at most a file named
// ".<target>.codeseal-XXXXXX" beside the target.
class StagedFile {
 public:
  // `path` may be a symbolic link: the file that it names is replaced, the
  // link stays. Errors: REASON_FILE_NOT_WRITABLE, REASON_DISK_FULL.
  static absl::StatusOr<StagedFile> Create(const std::string& path,
                                           mode_t mode);

  StagedFile(StagedFile&& other) noexcept;
  StagedFile& operator=(StagedFile&& other) noexcept;
  ~StagedFile();

  // Copies bytes of another open file; the kernel may share the blocks.
  absl::Status CopyFrom(int source_fd, uint64_t source_offset, uint64_t size,
                        uint64_t target_offset);
  absl::Status Write(ByteView bytes, uint64_t offset);
  absl::Status Resize(uint64_t size);

  // Flushes to disk and closes the file: nothing more can be written. For many
  // files that are to be renamed together.
  absl::Status Flush();

  // Flush() if that was not called, renames over the target and flushes the
  // folder. Once it returns OK, the new file survives a power cut.
  absl::Status Commit();

  // Renames over the target and flushes nothing: for a target in a folder that
  // is itself staged.
  absl::Status Place();

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }  // the target's
  const std::string& staged_path() const { return staged_path_; }

  // Commits many: flushes all before the first is renamed, then renames in
  // order.
  static absl::Status CommitAll(std::vector<StagedFile> files);

 private:
  StagedFile() = default;

  std::string path_;
  std::string staged_path_;
  int fd_ = -1;
};

// Flushes a folder's list of names, where the file system can.
void FlushFolder(const std::string& folder);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BASE_STAGED_FILE_H_
