#include "server/watched_files.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace codeseal {
namespace {

constexpr absl::Duration kLookInterval = absl::Milliseconds(500);

}  // namespace

WatchedFiles::WatchedFiles(std::vector<std::string> paths)
    : paths_(std::move(paths)), identity_(Identity()) {}

bool WatchedFiles::IsTimeToLook(absl::Time now) {
  if (now >= looked_at_ && now < looked_at_ + kLookInterval) return false;
  looked_at_ = now;
  return true;
}

bool WatchedFiles::HaveChanged() {
  std::string identity = Identity();
  const bool changed = identity != identity_;
  identity_ = std::move(identity);
  return changed;
}

std::string WatchedFiles::Identity() const {
  std::string identity;
  for (const std::string& path : paths_) {
    struct stat info{};
    if (stat(path.c_str(), &info) == 0) {
      absl::StrAppend(&identity, info.st_ino, ".", info.st_size, ".",
                      info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec);
    }
    identity += ';';
  }
  return identity;
}

}  // namespace codeseal
