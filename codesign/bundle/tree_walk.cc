#include "codesign/bundle/tree_walk.h"

#include <fts.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "codesign/base/error.h"

namespace codeseal {
namespace {

struct FtsClose {
  void operator()(FTS* fts) const { fts_close(fts); }
};

int ByName(const FTSENT** a, const FTSENT** b) {
  return std::strcmp((*a)->fts_name, (*b)->fts_name);
}

NodeType TypeOf(const FTSENT& entry) {
  switch (entry.fts_info) {
    case FTS_F:
      return NodeType::kFile;
    case FTS_D:
      return NodeType::kDirectory;
    case FTS_SL:
    case FTS_SLNONE:
      return NodeType::kSymlink;
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
      return NodeType::kUnreadable;
    default:
      return NodeType::kOther;
  }
}

// From relative to the root to relative to the base.
std::string FromBase(const std::string& path, const std::string& root,
                     const std::string& base) {
  if (root == base) return path;
  const std::string inside = base.substr(root.size() + 1) + "/";
  if (path.starts_with(inside)) return path.substr(inside.size());
  return "../" + path;
}

}  // namespace

absl::Status WalkTree(const std::string& root, const std::string& base,
                      const TreeVisitor& visit) {
  std::string start = root;  // fts_open() wants to write
  char* paths[] = {start.data(), nullptr};
  errno = 0;
  const std::unique_ptr<FTS, FtsClose> fts(
      fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, ByName));
  if (fts == nullptr) return FileError(errno, v1::STAGE_PLAN, "read", root);
  while (FTSENT* entry = fts_read(fts.get())) {
    if (entry->fts_level == FTS_ROOTLEVEL) {
      if (entry->fts_info == FTS_D || entry->fts_info == FTS_DP) continue;
      const int error_number =
          entry->fts_errno != 0 ? entry->fts_errno : ENOTDIR;
      return FileError(error_number, v1::STAGE_PLAN, "read", root);
    }
    if (entry->fts_info == FTS_DP) continue;
    TreeNode node;
    node.type = TypeOf(*entry);
    node.absolute_path.assign(entry->fts_path, entry->fts_pathlen);
    node.name.assign(entry->fts_name, entry->fts_namelen);
    node.path =
        FromBase(node.absolute_path.substr(root.size() + 1), root, base);
    if (entry->fts_info != FTS_NS) {
      node.size = static_cast<uint64_t>(entry->fts_statp->st_size);
      node.mode = entry->fts_statp->st_mode;
    }
    ASSIGN_OR_RETURN(const WalkStep step, visit(node));
    if (step == WalkStep::kSkip && entry->fts_info == FTS_D) {
      fts_set(fts.get(), entry, FTS_SKIP);
    }
  }
  if (errno != 0) return FileError(errno, v1::STAGE_PLAN, "read", root);
  return absl::OkStatus();
}

}  // namespace codeseal
