#include "codesign/base/staged_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include "codesign/base/error.h"

namespace codeseal {

absl::StatusOr<StagedFile> StagedFile::Create(const std::string& path,
                                              mode_t mode) {
  StagedFile file;
  std::error_code error;
  const std::filesystem::path target =
      std::filesystem::weakly_canonical(path, error);
  if (error) return WriteError(error.value(), "resolve", path);
  file.path_ = target.string();
  std::string name = "." + target.filename().string() + ".codeseal-XXXXXX";
  file.staged_path_ = (target.parent_path() / name).string();
  file.fd_ = mkostemp(file.staged_path_.data(), O_CLOEXEC);
  if (file.fd_ < 0) {
    const int error_number = errno;
    file.staged_path_.clear();
    return WriteError(error_number, "write beside", path);
  }
  if (fchmod(file.fd_, mode) != 0) {
    return WriteError(errno, "set the mode of", file.staged_path_);
  }
  return file;
}

StagedFile::StagedFile(StagedFile&& other) noexcept {
  *this = std::move(other);
}

StagedFile& StagedFile::operator=(StagedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(staged_path_, other.staged_path_);
  std::swap(fd_, other.fd_);
  return *this;
}

StagedFile::~StagedFile() {
  if (fd_ >= 0) close(fd_);
  if (!staged_path_.empty()) unlink(staged_path_.c_str());
}

absl::Status StagedFile::CopyFrom(int source_fd, uint64_t source_offset,
                                  uint64_t size, uint64_t target_offset) {
  auto from = static_cast<off64_t>(source_offset);
  auto to = static_cast<off64_t>(target_offset);
  while (size > 0) {
    ssize_t copied = copy_file_range(source_fd, &from, fd_, &to, size, 0);
    if (copied < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS ||
                       errno == EOPNOTSUPP)) {
      // Not every file system can; a plain copy always can.
      uint8_t buffer[64 * 1024];
      copied = pread(source_fd, buffer, std::min<uint64_t>(size, sizeof buffer),
                     from);
      if (copied > 0) {
        const auto count = static_cast<size_t>(copied);
        RETURN_IF_ERROR(
            Write(ByteView(buffer, count), static_cast<uint64_t>(to)));
        from += copied;
        to += copied;
      }
    }
    if (copied < 0 && errno == EINTR) continue;
    if (copied < 0) return WriteError(errno, "write", path_);
    if (copied == 0) {
      return WithSubject(MakeError(absl::StatusCode::kAborted, v1::STAGE_WRITE,
                                   v1::REASON_FILE_CHANGED,
                                   "the file became shorter while it was read"),
                         path_);
    }
    size -= static_cast<uint64_t>(copied);
  }
  return absl::OkStatus();
}

absl::Status StagedFile::Write(ByteView bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t written =
        pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return WriteError(errno, "write", path_);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
  return absl::OkStatus();
}

absl::Status StagedFile::Resize(uint64_t size) {
  if (ftruncate(fd_, static_cast<off_t>(size)) != 0) {
    return WriteError(errno, "resize", path_);
  }
  return absl::OkStatus();
}

absl::Status StagedFile::Flush() {
  if (fd_ < 0) return absl::OkStatus();
  if (fsync(fd_) != 0) return WriteError(errno, "flush", path_);
  const int fd = std::exchange(fd_, -1);
  if (close(fd) != 0) return WriteError(errno, "write", path_);
  return absl::OkStatus();
}

absl::Status StagedFile::Commit() {
  RETURN_IF_ERROR(Flush());
  RETURN_IF_ERROR(Place());
  FlushFolder(std::filesystem::path(path_).parent_path().string());
  return absl::OkStatus();
}

absl::Status StagedFile::Place() {
  if (rename(staged_path_.c_str(), path_.c_str()) != 0) {
    return WriteError(errno, "replace", path_);
  }
  staged_path_.clear();
  return absl::OkStatus();
}

absl::Status StagedFile::CommitAll(std::vector<StagedFile> files) {
  for (StagedFile& file : files) RETURN_IF_ERROR(file.Flush());
  for (StagedFile& file : files) RETURN_IF_ERROR(file.Commit());
  return absl::OkStatus();
}

void FlushFolder(const std::string& folder) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

}  // namespace codeseal
