// Walks the files of a bundle as codesign does: physically, without following
// symbolic links.
//
//   folder -> [WalkTree] -> one TreeNode after another -> seal, plan
//
// Spec: Security, resources.cpp, ResourceBuilder::scan.

#ifndef CODESEAL_CODESIGN_BUNDLE_TREE_WALK_H_
#define CODESEAL_CODESIGN_BUNDLE_TREE_WALK_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace codeseal {

enum class NodeType {
  kFile,
  kDirectory,  // before its contents
  kSymlink,
  kUnreadable,  // a folder that cannot be listed, something without a stat
  kOther,       // pipe, socket, device
};

struct TreeNode {
  NodeType type = NodeType::kOther;
  std::string path;  // relative to `base`; "../NAME" beside it
  std::string absolute_path;
  std::string name;   // last part of the path
  uint64_t size = 0;  // bytes
  mode_t mode = 0;
};

enum class WalkStep {
  kContinue,
  kSkip,  // does not go into this directory
};

using TreeVisitor =
    std::function<absl::StatusOr<WalkStep>(const TreeNode& node)>;

// Visits everything below `root`, but not `root` itself, in order of names.
// `root` has no slash at its end.
// Paths are relative to `base`, which is `root` or a folder right in it
// (--seal-root).
//
// Errors: those of `visit`, which end the walk; REASON_FILE_NOT_FOUND,
// REASON_FILE_NOT_READABLE for `root`.
absl::Status WalkTree(const std::string& root, const std::string& base,
                      const TreeVisitor& visit);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BUNDLE_TREE_WALK_H_
