#include "codesign/base/staged_tree.h"

#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/parallel.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;

// More threads than cores: flushing is waiting, and file systems write many
// waiting files at once.
constexpr size_t kFlushThreadCount = 16;

std::string Join(const std::string& folder, const std::string& relative) {
  return relative.empty() ? folder : folder + "/" + relative;
}

std::string Parent(const std::string& path) {
  return fs::path(path).parent_path().string();
}

bool IsBelow(const std::string& path, const std::string& folder) {
  return path == folder || path.starts_with(folder + "/");
}

// Both names keep existing, each for what the other named.
bool Exchange(const std::string& a, const std::string& b) {
  return renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) ==
         0;
}

// A new folder from a template that ends in XXXXXX; empty when it cannot be.
std::string MakeFolder(std::string name) {
  return mkdtemp(name.data()) == nullptr ? "" : name;
}

bool IsSameTime(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

void SetAttributes(const std::string& path, const struct stat& info) {
  // Only root may give files away; everyone else owns the copy.
  if (lchown(path.c_str(), info.st_uid, info.st_gid) != 0) errno = 0;
  if (!S_ISLNK(info.st_mode)) chmod(path.c_str(), info.st_mode & 07777);
  const timespec times[] = {info.st_atim, info.st_mtim};
  utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW);
}

absl::Status CopyFile(const std::string& from, const std::string& to,
                      const struct stat& info) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(from));
  ASSIGN_OR_RETURN(StagedFile copy, StagedFile::Create(to, file.mode()));
  RETURN_IF_ERROR(copy.CopyFrom(file.fd(), 0, file.bytes().size(), 0));
  RETURN_IF_ERROR(copy.Place());
  SetAttributes(to, info);
  return absl::OkStatus();
}

// Also what is in folders that may not be written.
void RemoveTree(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (!error) return;
  for (fs::recursive_directory_iterator
           it(path, fs::directory_options::skip_permission_denied, error),
       end;
       !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->is_directory(ignored) && !it->is_symlink(ignored)) {
      chmod(it->path().c_str(), 0700);
    }
  }
  fs::remove_all(path, error);
}

}  // namespace

absl::StatusOr<StagedTree> StagedTree::Create(const std::string& folder) {
  StagedTree tree;
  tree.given_ = folder;
  std::error_code error;
  tree.real_ = fs::canonical(folder, error).string();
  if (error) return WriteError(error.value(), "resolve", folder);
  const std::string name = fs::path(tree.real_).filename().string();
  const std::string parent = Parent(tree.real_);

  // A mount point's neighbours are on another file system.
  struct stat inner = {};
  struct stat outer = {};
  if (stat(tree.real_.c_str(), &inner) != 0) {
    return WriteError(errno, "read", folder);
  }
  if (stat(parent.c_str(), &outer) == 0 && inner.st_dev == outer.st_dev) {
    tree.staging_ = MakeFolder(parent + "/." + name + ".codeseal-XXXXXX");
  }
  if (tree.staging_.empty()) {
    tree.is_inside_ = true;
    tree.staging_ = MakeFolder(tree.real_ + "/.codeseal-XXXXXX");
    if (tree.staging_.empty()) return WriteError(errno, "write beside", folder);
  }
  tree.copy_ = tree.staging_ + "/" + name;
  RETURN_IF_ERROR(tree.CopyFolder(""));
  return tree;
}

StagedTree::StagedTree(StagedTree&& other) noexcept {
  *this = std::move(other);
}

StagedTree& StagedTree::operator=(StagedTree&& other) noexcept {
  std::swap(given_, other.given_);
  std::swap(real_, other.real_);
  std::swap(staging_, other.staging_);
  std::swap(copy_, other.copy_);
  std::swap(is_inside_, other.is_inside_);
  std::swap(folders_, other.folders_);
  std::swap(placed_, other.placed_);
  std::swap(removed_, other.removed_);
  return *this;
}

StagedTree::~StagedTree() { RemoveStaging(); }

void StagedTree::RemoveStaging() {
  if (!staging_.empty()) RemoveTree(std::exchange(staging_, ""));
}

absl::Status StagedTree::CopyFolder(const std::string& relative) {
  const std::string from = Join(real_, relative);
  const std::string to = Join(copy_, relative);
  Folder folder = {.path = relative};
  if (lstat(from.c_str(), &folder.original) != 0) {
    return WriteError(errno, "read", from);
  }
  // Its own mode comes at the end: it may forbid what is to be done.
  if (mkdir(to.c_str(), 0700) != 0) return WriteError(errno, "write", to);
  folders_.push_back(folder);

  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(from, error), end; !error && it != end;
       it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return FileError(error.value(), v1::STAGE_WRITE, "read", from);
  for (const std::string& name : names) {
    const std::string entry = relative.empty() ? name : relative + "/" + name;
    struct stat info = {};
    if (lstat(Join(real_, entry).c_str(), &info) != 0) {
      return WriteError(errno, "read", Join(real_, entry));
    }
    if (!S_ISDIR(info.st_mode)) {
      RETURN_IF_ERROR(CopyEntry(entry, info));
    } else if (Join(real_, entry) != staging_) {
      RETURN_IF_ERROR(CopyFolder(entry));
    }
  }
  return absl::OkStatus();
}

absl::Status StagedTree::CopyEntry(const std::string& relative,
                                   const struct stat& info) {
  const std::string from = Join(real_, relative);
  const std::string to = Join(copy_, relative);
  if (link(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  const int link_error = errno;
  if (S_ISLNK(info.st_mode)) {
    std::error_code error;
    const std::string target = fs::read_symlink(from, error).string();
    if (error) return WriteError(error.value(), "read", from);
    if (symlink(target.c_str(), to.c_str()) != 0) {
      return WriteError(errno, "write", to);
    }
    SetAttributes(to, info);
    return absl::OkStatus();
  }
  if (!S_ISREG(info.st_mode)) return WriteError(link_error, "link", from);
  return CopyFile(from, to, info);
}

std::string StagedTree::Map(const std::string& path) const {
  if (!IsBelow(path, given_)) return path;
  return copy_ + path.substr(given_.size());
}

std::string StagedTree::Unmap(const std::string& path) const {
  if (!IsBelow(path, copy_)) return path;
  return given_ + path.substr(copy_.size());
}

absl::Status StagedTree::Place(StagedFile file) {
  if (!IsBelow(file.path(), copy_)) {
    // A symbolic link, whose target would be changed before its time.
    return WithSubject(MakeError(absl::StatusCode::kFailedPrecondition,
                                 v1::STAGE_WRITE, v1::REASON_FILE_NOT_WRITABLE,
                                 file.path() + " is outside of " + given_),
                       file.path());
  }
  placed_.push_back(file.path().substr(copy_.size() + 1));
  return file.Place();
}

absl::Status StagedTree::ReplaceFolder(const std::string& path) {
  RETURN_IF_ERROR(Remove(path));
  const std::string folder = Map(path);
  if (mkdir(folder.c_str(), 0755) != 0 || chmod(folder.c_str(), 0755) != 0) {
    return WriteError(errno, "write", folder);
  }
  return absl::OkStatus();
}

absl::Status StagedTree::Remove(const std::string& path) {
  const std::string copied = Map(path);
  std::error_code error;
  const fs::file_status status = fs::symlink_status(copied, error);
  if (status.type() == fs::file_type::not_found) return absl::OkStatus();
  const auto note = [&](const std::string& file) {
    removed_.push_back(file.substr(copy_.size() + 1));
    std::erase(placed_, removed_.back());
  };
  if (status.type() == fs::file_type::directory) {
    for (fs::recursive_directory_iterator it(copied, error), end;
         !error && it != end; it.increment(error)) {
      if (it->is_symlink() || !it->is_directory()) note(it->path().string());
    }
    const std::string relative = copied.substr(copy_.size() + 1);
    std::erase_if(folders_, [&](const Folder& folder) {
      return IsBelow(folder.path, relative);
    });
  } else {
    note(copied);
  }
  if (!error) fs::remove_all(copied, error);
  if (error) return WriteError(error.value(), "remove", path);
  return absl::OkStatus();
}

absl::Status StagedTree::FlushPlaced() const {
  std::vector<absl::Status> results(placed_.size());
  ParallelFor(
      placed_.size(),
      [&](size_t i) {
        const std::string path = Join(copy_, placed_[i]);
        const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) != 0) {
          results[i] = WriteError(errno, "flush", path);
        }
        if (fd >= 0) close(fd);
      },
      kFlushThreadCount);
  for (const absl::Status& result : results) RETURN_IF_ERROR(result);
  std::set<std::string> parents;
  for (const std::string& path : placed_) {
    parents.insert(Parent(Join(copy_, path)));
  }
  for (const std::string& parent : parents) FlushFolder(parent);
  return absl::OkStatus();
}

absl::Status StagedTree::CheckFoldersUnchanged() const {
  for (const Folder& folder : folders_) {
    const std::string path = Join(real_, folder.path);
    struct stat now = {};
    if (lstat(path.c_str(), &now) == 0 &&
        now.st_ino == folder.original.st_ino &&
        IsSameTime(now.st_mtim, folder.original.st_mtim)) {
      continue;
    }
    return WithSubject(MakeError(absl::StatusCode::kAborted, v1::STAGE_WRITE,
                                 v1::REASON_FILE_CHANGED,
                                 path + " was changed while it was signed"),
                       path);
  }
  return absl::OkStatus();
}

void StagedTree::RestoreFolders() const {
  for (auto it = folders_.rbegin(); it != folders_.rend(); ++it) {
    SetAttributes(Join(copy_, it->path), it->original);
  }
}

absl::Status StagedTree::Commit() {
  absl::Status status = FlushPlaced();
  if (status.ok()) status = CheckFoldersUnchanged();
  if (status.ok()) {
    std::error_code error;
    const bool is_working_folder =
        IsBelow(fs::current_path(error).string(), real_);
    RestoreFolders();
    if (is_inside_ || is_working_folder || !Exchange(copy_, real_)) {
      status = ReplaceFiles();
    } else {
      FlushFolder(staging_);
      FlushFolder(Parent(real_));
    }
  }
  RemoveStaging();
  return status;
}

// Changes files one by one, and back when one of them cannot be.
class StagedTree::Replacement {
 public:
  explicit Replacement(const StagedTree& tree) : tree_(tree) {}

  absl::Status Run() {
    absl::Status status = ReplaceAll();
    if (!status.ok()) Undo();
    for (const std::string& parent : parents_) FlushFolder(parent);
    return status;
  }

 private:
  enum class Kind { kExchanged, kMoved, kMadeFolder };
  struct Step {
    Kind kind;
    std::string from;
    std::string to;
  };

  absl::Status ReplaceAll() {
    const std::set<std::string> placed(tree_.placed_.begin(),
                                       tree_.placed_.end());
    for (const std::string& path : tree_.placed_) {
      if (done_.insert(path).second) RETURN_IF_ERROR(Replace(path));
    }
    for (const std::string& path : tree_.removed_) {
      // A later stage may remove what an earlier one had added.
      if (placed.contains(path) || !done_.insert(path).second) continue;
      const std::string from = Join(tree_.real_, path);
      if (access(from.c_str(), F_OK) != 0) continue;
      RETURN_IF_ERROR(
          Move(from, tree_.staging_ + "/removed-" + std::to_string(count_++)));
    }
    return absl::OkStatus();
  }

  absl::Status Replace(const std::string& path) {
    const std::string from = Join(tree_.copy_, path);
    const std::string to = Join(tree_.real_, path);
    RETURN_IF_ERROR(MakeParents(Parent(to)));
    if (Exchange(from, to)) {
      steps_.push_back({Kind::kExchanged, from, to});
      parents_.insert(Parent(to));
      return absl::OkStatus();
    }
    if (faccessat(AT_FDCWD, to.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
      RETURN_IF_ERROR(
          Move(to, tree_.staging_ + "/old-" + std::to_string(count_++)));
    }
    return Move(from, to);
  }

  absl::Status Move(const std::string& from, const std::string& to) {
    if (rename(from.c_str(), to.c_str()) != 0) {
      return WriteError(errno, "replace", to);
    }
    steps_.push_back({Kind::kMoved, from, to});
    parents_.insert(Parent(to));
    return absl::OkStatus();
  }

  absl::Status MakeParents(const std::string& folder) {
    std::error_code error;
    if (fs::is_directory(folder, error)) return absl::OkStatus();
    RETURN_IF_ERROR(MakeParents(Parent(folder)));
    if (mkdir(folder.c_str(), 0755) != 0 || chmod(folder.c_str(), 0755) != 0) {
      return WriteError(errno, "write", folder);
    }
    steps_.push_back({Kind::kMadeFolder, folder, ""});
    return absl::OkStatus();
  }

  void Undo() {
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
      switch (step->kind) {
        case Kind::kExchanged:
          Exchange(step->from, step->to);
          break;
        case Kind::kMoved:
          if (rename(step->to.c_str(), step->from.c_str()) != 0) errno = 0;
          break;
        case Kind::kMadeFolder:
          rmdir(step->from.c_str());
          break;
      }
    }
  }

  const StagedTree& tree_;
  std::vector<Step> steps_;
  std::set<std::string> done_;
  std::set<std::string> parents_;
  int count_ = 0;
};

absl::Status StagedTree::ReplaceFiles() { return Replacement(*this).Run(); }

}  // namespace codeseal
