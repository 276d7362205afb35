// Creates and changes files of a log's folder, all relative to its descriptor.
//
//   Log -> [FolderWriter] -> tiles, bundles, checkpoint -> LogFolder

#ifndef CODESEAL_AUDIT_FOLDER_WRITER_H_
#define CODESEAL_AUDIT_FOLDER_WRITER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "audit/log_folder.h"
#include "codesign/base/bytes.h"

namespace codeseal::audit {

// Writes all of `bytes` at `offset`. `path` is for the error.
absl::Status WriteAt(int fd, ByteView bytes, uint64_t offset,
                     const std::string& path);

// Borrows the folder. Names are relative to it; the folders in them are made.
// Errors: those of FileError() in STAGE_AUDIT.
class FolderWriter {
 public:
  explicit FolderWriter(const LogFolder& folder) : folder_(folder) {}

  // Writes beside, flushes if `durable`, renames.
  absl::Status Replace(const std::string& name, ByteView bytes,
                       bool durable) const;
  absl::Status Rename(const std::string& from, const std::string& to,
                      bool durable) const;

  std::string Path(const std::string& name) const {
    return folder_.path() + "/" + name;
  }

 private:
  // The names of the folder that the file is in, and of the log's folder.
  absl::Status FlushFolderOf(const std::string& name) const;
  // A new folder's own name is durable before anything is put into it.
  absl::Status MakeFolders(const std::string& name) const;

  const LogFolder& folder_;
};

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_FOLDER_WRITER_H_
