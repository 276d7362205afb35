#include "audit/folder_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "audit/file_descriptor.h"
#include "codesign/base/error.h"

namespace codeseal::audit {

absl::Status WriteAt(int fd, ByteView bytes, uint64_t offset,
                     const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written =
        pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError(errno, v1::STAGE_AUDIT, "write", path);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
  return absl::OkStatus();
}

absl::Status FolderWriter::Replace(const std::string& name, ByteView bytes,
                                   bool durable) const {
  RETURN_IF_ERROR(MakeFolders(name));
  const std::string staged = name + ".new";
  const FileDescriptor file(openat(folder_.fd(), staged.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                                   kLogFileMode));
  if (file.get() < 0) {
    return FileError(errno, v1::STAGE_AUDIT, "create", Path(staged));
  }
  RETURN_IF_ERROR(WriteAt(file.get(), bytes, 0, Path(staged)));
  if (durable && fsync(file.get()) != 0) {
    return FileError(errno, v1::STAGE_AUDIT, "flush", Path(staged));
  }
  return Rename(staged, name, durable);
}

absl::Status FolderWriter::Rename(const std::string& from,
                                  const std::string& to, bool durable) const {
  RETURN_IF_ERROR(MakeFolders(to));
  if (renameat(folder_.fd(), from.c_str(), folder_.fd(), to.c_str()) != 0) {
    return FileError(errno, v1::STAGE_AUDIT, "rename", Path(from));
  }
  return durable ? FlushFolderOf(to) : absl::OkStatus();
}

absl::Status FolderWriter::FlushFolderOf(const std::string& name) const {
  const size_t slash = name.rfind('/');
  if (slash != std::string::npos) {
    const std::string parent = name.substr(0, slash);
    const FileDescriptor file(openat(folder_.fd(), parent.c_str(),
                                     O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (file.get() < 0 || fsync(file.get()) != 0) {
      return FileError(errno, v1::STAGE_AUDIT, "flush", Path(parent));
    }
  }
  if (fsync(folder_.fd()) != 0) {
    return FileError(errno, v1::STAGE_AUDIT, "flush", folder_.path());
  }
  return absl::OkStatus();
}

absl::Status FolderWriter::MakeFolders(const std::string& name) const {
  for (size_t slash = name.find('/'); slash != std::string::npos;
       slash = name.find('/', slash + 1)) {
    const std::string parent = name.substr(0, slash);
    if (mkdirat(folder_.fd(), parent.c_str(), kLogFolderMode) == 0) {
      RETURN_IF_ERROR(FlushFolderOf(parent));
    } else if (errno != EEXIST) {
      return FileError(errno, v1::STAGE_AUDIT, "create", Path(parent));
    }
  }
  return absl::OkStatus();
}

}  // namespace codeseal::audit
