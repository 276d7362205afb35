#include "audit/mirror.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_format.h"
#include "audit/tile.h"
#include "codesign/base/error.h"
#include "codesign/base/staged_file.h"

namespace codeseal::audit {
namespace {

namespace fs = std::filesystem;

absl::Status MakeFolder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error) return absl::OkStatus();
  return FileError(error.value(), v1::STAGE_AUDIT, "create", path.string());
}

absl::StatusOr<StagedFile> Stage(const std::string& folder,
                                 const std::string& name, ByteView bytes) {
  const fs::path path = fs::path(folder) / name;
  RETURN_IF_ERROR(MakeFolder(path.parent_path()));
  ASSIGN_OR_RETURN(StagedFile file,
                   StagedFile::Create(path.string(), kLogFileMode));
  RETURN_IF_ERROR(file.Write(bytes, 0));
  return file;
}

std::string Entries(uint64_t count) {
  return std::to_string(count) + (count == 1 ? " entry" : " entries");
}

}  // namespace

absl::StatusOr<Frontier> Frontier::Of(const LogTree& tree) {
  Frontier frontier;
  frontier.size_ = tree.size();
  for (int height = 0; tree.size() >> height != 0; ++height) {
    TreeHash& hash = frontier.hashes_.emplace_back();
    if ((tree.size() >> height & 1) == 0) continue;
    ASSIGN_OR_RETURN(hash, tree.Subtree(height, (tree.size() >> height) - 1));
  }
  return frontier;
}

void Frontier::Append(TreeHash hash) {
  size_t height = 0;
  for (; (size_ >> height & 1) != 0; ++height) {
    hash = HashChildren(hashes_[height], hash);
  }
  if (height == hashes_.size()) hashes_.emplace_back();
  hashes_[height] = hash;
  ++size_;
}

TreeHash Frontier::Root() const {
  std::optional<TreeHash> root;
  for (size_t height = 0; height < hashes_.size(); ++height) {
    if ((size_ >> height & 1) == 0) continue;
    root = root.has_value() ? HashChildren(hashes_[height], *root)
                            : hashes_[height];
  }
  return root.value_or(EmptyTreeRoot());
}

absl::StatusOr<std::unique_ptr<LogMirror>> LogMirror::Open(
    const std::string& path, NoteKey key) {
  RETURN_IF_ERROR(MakeFolder(path));
  ASSIGN_OR_RETURN(std::shared_ptr<LogFolder> folder, LogFolder::Open(path));
  std::unique_ptr<LogMirror> mirror(
      new LogMirror(std::move(folder), std::move(key)));
  RETURN_IF_ERROR(mirror->Load());
  return mirror;
}

absl::Status LogMirror::Load() {
  ASSIGN_OR_RETURN(const std::optional<Bytes> note,
                   folder_->Read(kCheckpointFile, kMaxNoteSize));
  if (!note.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Checkpoint checkpoint,
                   OpenCheckpoint(AsText(*note), key_));
  const uint64_t bundle_count = checkpoint.head.size / kTileWidth;
  const size_t rest = checkpoint.head.size % kTileWidth;
  // A crash may have come between a bundle that is full now and the checkpoint.
  ASSIGN_OR_RETURN(std::optional<Bytes> bundle,
                   folder_->Read(BundlePath(bundle_count), kMaxBundleSize));
  if (!bundle.has_value()) {
    ASSIGN_OR_RETURN(bundle, folder_->Read(kGrowingFile, kMaxBundleSize));
  }
  const Bytes bytes = bundle.value_or(Bytes());
  std::vector<ByteView> entries = ParseWholeEntries(bytes);
  if (entries.size() < rest) {
    return AuditInconsistent("the copy lacks entries that it had");
  }
  entries.resize(rest);
  for (const ByteView each : entries) AppendToBundle(growing_, each);
  ASSIGN_OR_RETURN(tree_, LogTree::Load(folder_, bundle_count, entries));
  ASSIGN_OR_RETURN(frontier_, Frontier::Of(tree_));
  head_ = checkpoint.head;
  if (frontier_.Root() != head_.root) {
    return AuditInconsistent("the copy is not what its checkpoint says");
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> LogMirror::Take(const std::string& note,
                                         const EntryReader& read) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(note, key_));
  const TreeHead& head = checkpoint.head;
  if (head.size < head_.size) {
    return Refuse(note, "the log has " + Entries(head.size) + "; it had " +
                            std::to_string(head_.size));
  }
  // Every entry before them is ours, so that the root says all.
  LogTree tree = tree_;
  Frontier frontier = frontier_;
  Bytes growing = growing_;
  std::vector<std::pair<std::string, Bytes>> files;
  while (tree.size() < head.size) {
    const uint64_t begin = tree.size();
    const uint64_t wanted =
        std::min<uint64_t>(head.size - begin, kTileWidth - begin % kTileWidth);
    ASSIGN_OR_RETURN(const std::vector<Bytes> entries,
                     read(begin, static_cast<size_t>(wanted)));
    if (entries.empty() || entries.size() > wanted) {
      return Refuse(note, "the log does not give entry " +
                              std::to_string(begin) + " of its checkpoint");
    }
    for (const Bytes& each : entries) {
      if (each.empty() || each.size() > kMaxEntrySize) {
        return Refuse(note, "the log gives something that is no entry");
      }
      AppendToBundle(growing, each);
      tree.Append(HashLeaf(each));
      frontier.Append(HashLeaf(each));
    }
    if (!tree.is_bundle_full()) continue;
    files.emplace_back(BundlePath(tree.size() / kTileWidth - 1),
                       std::exchange(growing, {}));
    for (const LogTree::FullTile& each : tree.TakeFullTiles()) {
      const std::string name = TilePath(each.level, each.index);
      files.emplace_back(name, each.tile.Encode());
    }
  }
  if (frontier.Root() != head.root) {
    return Refuse(note,
                  "the log's entries are not those that its checkpoint, or an "
                  "earlier one, was signed over");
  }
  if (head.size == head_.size && head_.size > 0) return uint64_t{0};
  const std::string kept = absl::StrFormat("checkpoints/%020d", head.size);
  files.emplace_back(kGrowingFile, growing);
  files.emplace_back(kKeyFile, ToBytes(key_.Format() + "\n"));
  files.emplace_back(kept, ToBytes(note));
  files.emplace_back(kCheckpointFile, ToBytes(note));  // last
  std::vector<StagedFile> staged;
  for (const auto& [name, bytes] : files) {
    ASSIGN_OR_RETURN(StagedFile file, Stage(folder_->path(), name, bytes));
    staged.push_back(std::move(file));
  }
  RETURN_IF_ERROR(StagedFile::CommitAll(std::move(staged)));
  const uint64_t taken = head.size - head_.size;
  tree_ = std::move(tree);
  frontier_ = frontier;
  growing_ = std::move(growing);
  head_ = head;
  return taken;
}

absl::Status LogMirror::Refuse(const std::string& note,
                               const std::string& why) const {
  ASSIGN_OR_RETURN(StagedFile file,
                   Stage(folder_->path(), "refused", AsBytes(note)));
  RETURN_IF_ERROR(file.Commit());
  return WithSubject(AuditInconsistent(why), folder_->path());
}

}  // namespace codeseal::audit
