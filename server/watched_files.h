// Tells that files which the configuration names were written anew, without
// looking at every call.
//
//   path... -> [WatchedFiles] -> whoever reads them again

#ifndef CODESEAL_SERVER_WATCHED_FILES_H_
#define CODESEAL_SERVER_WATCHED_FILES_H_

#include <string>
#include <vector>

#include "absl/time/time.h"

namespace codeseal {

// Not thread-safe.
class WatchedFiles {
 public:
  // As they are now: make it before reading them, so that a change meanwhile
  // is seen at the next look.
  explicit WatchedFiles(std::vector<std::string> paths);

  // True twice a second at most: then look.
  bool IsTimeToLook(absl::Time now);
  // Whether some file is another one than at the last look.
  bool HaveChanged();

 private:
  std::string Identity() const;

  std::vector<std::string> paths_;
  std::string identity_;
  absl::Time looked_at_ = absl::InfinitePast();
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_WATCHED_FILES_H_
