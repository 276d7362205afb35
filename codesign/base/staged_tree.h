// Changes many files of a folder at once. All work is done in a copy of the
// folder, whose unchanged files are hard links to the originals; at the end the
// two folders change places in one step.
//
//   folder -> [StagedTree] copy of links -> changed files in it -> exchange
//
// A process killed at any moment leaves the folder as it was or complete, and
// at most a folder ".<name>.codeseal-XXXXXX" beside it, which may be deleted.
//
// Where folders cannot change places (an older file system, a mount point, a
// layer of a container, a parent folder that must not be written, or when the
// caller's working folder is inside), every changed file changes places for
// itself. An error is still undone then, but a kill between the first and the
// last of these steps, some microseconds for each file, leaves a mixture.

#ifndef CODESEAL_CODESIGN_BASE_STAGED_TREE_H_
#define CODESEAL_CODESIGN_BASE_STAGED_TREE_H_

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/staged_file.h"

namespace codeseal {

// Movable; one thread at a time. Without Commit() the destructor removes the
// copy, and the folder is as it was.
class StagedTree {
 public:
  // `folder` has no slash at its end and may be a symbolic link to a folder.
  // Files that cannot be linked are copied.
  // Errors: REASON_FILE_NOT_FOUND, _FILE_NOT_READABLE, _FILE_NOT_WRITABLE,
  // _DISK_FULL.
  static absl::StatusOr<StagedTree> Create(const std::string& folder);

  StagedTree(StagedTree&& other) noexcept;
  StagedTree& operator=(StagedTree&& other) noexcept;
  ~StagedTree();

  // The same place in the copy: of the folder itself or a path that begins with
  // it. Other paths stay as they are.
  std::string Map(const std::string& path) const;
  // The other way round.
  std::string Unmap(const std::string& path) const;

  // Puts a file, which was staged for a path in the copy, there. All files of
  // the copy that change must go this way.
  absl::Status Place(StagedFile file);

  // Empties the folder at a path of the original, or makes it. Its mode becomes
  // 0755.
  absl::Status ReplaceFolder(const std::string& path);
  // Takes a file or folder away; it need not be there.
  absl::Status Remove(const std::string& path);

  // Everything takes effect, and is on disk once this returns OK. The copy is
  // gone in any case.
  // Errors: ABORTED REASON_FILE_CHANGED when somebody else added, removed or
  // renamed something in the folder meanwhile; REASON_FILE_NOT_WRITABLE,
  // _DISK_FULL.
  absl::Status Commit();

 private:
  struct Folder {
    std::string path;  // relative; empty for the root
    struct stat original = {};
  };
  class Replacement;

  StagedTree() = default;

  absl::Status CopyFolder(const std::string& relative);
  absl::Status CopyEntry(const std::string& relative, const struct stat& info);
  absl::Status FlushPlaced() const;
  absl::Status CheckFoldersUnchanged() const;
  void RestoreFolders() const;
  absl::Status ReplaceFiles();
  void RemoveStaging();

  std::string given_;            // as Create() was told
  std::string real_;             // the folder itself
  std::string staging_;          // where the copy is; empty when there is none
  std::string copy_;             // staging_ + name of the folder
  bool is_inside_ = false;       // staging_ lies in real_
  std::vector<Folder> folders_;  // of the original
  std::vector<std::string> placed_;   // relative, in order
  std::vector<std::string> removed_;  // relative; files and links
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BASE_STAGED_TREE_H_
