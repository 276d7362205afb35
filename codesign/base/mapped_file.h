// A file's bytes without reading it into memory.

#ifndef CODESEAL_CODESIGN_BASE_MAPPED_FILE_H_
#define CODESEAL_CODESIGN_BASE_MAPPED_FILE_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"

namespace codeseal {

// A read-only private mapping of a regular file. Movable; the views that
// bytes() returns live as long as the object. A file that another process
// cuts short while it is mapped raises SIGBUS on access: callers hold files
// that belong to the user's own build.
class MappedFile {
 public:
  // Errors: NOT_FOUND REASON_FILE_NOT_FOUND; FAILED_PRECONDITION
  // REASON_FILE_NOT_READABLE, also for anything but a regular file.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  ByteView bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  mode_t mode() const { return mode_; }  // permission bits
  int fd() const { return fd_; }

  // Lets the kernel drop the pages of [offset, offset + size) from this
  // process, which keeps memory flat while a large file is hashed. The bytes
  // stay readable.
  void Release(uint64_t offset, uint64_t size) const;

 private:
  MappedFile() = default;

  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  int fd_ = -1;
  mode_t mode_ = 0;
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BASE_MAPPED_FILE_H_
