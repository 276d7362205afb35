// Owns a descriptor; closes it.
//
//   open -> [FileDescriptor] -> LogFolder, FolderWriter, Log

#ifndef CODESEAL_AUDIT_FILE_DESCRIPTOR_H_
#define CODESEAL_AUDIT_FILE_DESCRIPTOR_H_

#include <unistd.h>

#include <utility>

namespace codeseal::audit {

// Movable; one thread at a time.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}  // -1: none
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  FileDescriptor(FileDescriptor&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_FILE_DESCRIPTOR_H_
