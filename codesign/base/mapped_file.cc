#include "codesign/base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "codesign/base/error.h"

namespace codeseal {

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  MappedFile file;
  file.path_ = path;
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  file.fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd_ < 0) return FileError(errno, v1::STAGE_PARSE, "open", path);
  struct stat info;
  if (fstat(file.fd_, &info) != 0) {
    return FileError(errno, v1::STAGE_PARSE, "read", path);
  }
  if (!S_ISREG(info.st_mode)) {
    return WithSubject(MakeError(absl::StatusCode::kFailedPrecondition,
                                 v1::STAGE_PARSE, v1::REASON_FILE_NOT_READABLE,
                                 path + " is not a regular file"),
                       path);
  }
  file.mode_ = info.st_mode & 07777;
  file.size_ = static_cast<size_t>(info.st_size);
  if (file.size_ == 0) return file;
  void* data = mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, file.fd_, 0);
  if (data == MAP_FAILED) {
    file.size_ = 0;
    return FileError(errno, v1::STAGE_PARSE, "map", path);
  }
  file.data_ = static_cast<const uint8_t*>(data);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept {
  *this = std::move(other);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(fd_, other.fd_);
  std::swap(mode_, other.mode_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
  if (fd_ >= 0) close(fd_);
}

void MappedFile::Release(uint64_t offset, uint64_t size) const {
  if (offset > size_ || size > size_ - offset) return;
  const auto page_size = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t begin = (offset + page_size - 1) / page_size * page_size;
  const uint64_t end = (offset + size) / page_size * page_size;
  if (begin >= end) return;
  madvise(const_cast<uint8_t*>(data_) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace codeseal
