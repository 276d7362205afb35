#include "audit/log_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "audit/entry.h"
#include "audit/file_descriptor.h"
#include "codesign/base/error.h"

namespace codeseal::audit {
namespace {

constexpr size_t kMaxCachedTiles = 128;  // 2 MiB

}  // namespace

absl::Status AuditInconsistent(const std::string& message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_AUDIT,
                   v1::REASON_AUDIT_INCONSISTENT, message);
}

absl::StatusOr<std::shared_ptr<LogFolder>> LogFolder::Open(
    const std::string& path) {
  std::shared_ptr<LogFolder> folder(new LogFolder());
  folder->path_ = path;
  folder->fd_ = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder->fd_ < 0) return FileError(errno, v1::STAGE_AUDIT, "open", path);
  return folder;
}

LogFolder::~LogFolder() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<std::optional<Bytes>> LogFolder::Read(const std::string& name,
                                                     size_t max_size) const {
  const std::string path = path_ + "/" + name;
  const FileDescriptor file(
      openat(fd_, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (file.get() < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    return FileError(errno, v1::STAGE_AUDIT, "open", path);
  }
  struct stat status{};
  if (fstat(file.get(), &status) != 0) {
    return FileError(errno, v1::STAGE_AUDIT, "read", path);
  }
  if (!S_ISREG(status.st_mode) ||
      static_cast<uint64_t>(status.st_size) > max_size) {
    return MakeError(
        absl::StatusCode::kInvalidArgument, v1::STAGE_AUDIT,
        v1::REASON_BAD_AUDIT_LOG,
        path + " is no file of at most " + std::to_string(max_size) + " bytes");
  }
  Bytes bytes(static_cast<size_t>(status.st_size));
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t size = pread(file.get(), bytes.data() + done,
                               bytes.size() - done, static_cast<off_t>(done));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return FileError(errno, v1::STAGE_AUDIT, "read", path);
    if (size == 0) break;  // it became shorter
    done += static_cast<size_t>(size);
  }
  bytes.resize(done);
  return bytes;
}

bool LogFolder::Has(const std::string& name) const {
  return faccessat(fd_, name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

absl::StatusOr<std::shared_ptr<const Tile>> LogFolder::ReadTile(
    int level, uint64_t index) const {
  {
    const std::lock_guard lock(mutex_);
    const auto found = tiles_.find({level, index});
    if (found != tiles_.end()) return found->second;
  }
  const std::string name = TilePath(level, index);
  ASSIGN_OR_RETURN(const std::optional<Bytes> bytes,
                   Read(name, kTileWidth * kTreeHashSize));
  if (!bytes.has_value()) return AuditInconsistent("there is no " + name);
  absl::StatusOr<Tile> parsed = Tile::Parse(*bytes);
  if (!parsed.ok() || !parsed->is_full()) {
    return AuditInconsistent(name + " is no full tile");
  }
  auto tile = std::make_shared<const Tile>(*std::move(parsed));
  const std::lock_guard lock(mutex_);
  if (tiles_.size() >= kMaxCachedTiles) tiles_.clear();
  tiles_[{level, index}] = tile;
  return tile;
}

absl::StatusOr<Bytes> LogFolder::ReadBundle(uint64_t index) const {
  const std::string name = BundlePath(index);
  ASSIGN_OR_RETURN(std::optional<Bytes> bytes, Read(name, kMaxBundleSize));
  if (!bytes.has_value()) return AuditInconsistent("there is no " + name);
  const auto entries = ParseBundle(*bytes);
  if (!entries.ok() || entries->size() != kTileWidth) {
    return AuditInconsistent(name + " is no full bundle");
  }
  return *std::move(bytes);
}

absl::StatusOr<LogTree> LogTree::Load(std::shared_ptr<const LogFolder> folder,
                                      uint64_t bundle_count,
                                      const std::vector<ByteView>& growing) {
  LogTree tree(std::move(folder));
  tree.size_ = bundle_count * kTileWidth;
  tree.edge_.emplace_back();
  uint64_t tile_count = bundle_count;  // full ones of the level below
  for (int level = 1; tile_count > 0; ++level) {
    Tile& tile = tree.edge_.emplace_back();
    for (uint64_t i = tile_count - tile_count % kTileWidth; i < tile_count;
         ++i) {
      ASSIGN_OR_RETURN(const std::shared_ptr<const Tile> below,
                       tree.folder_->ReadTile(level - 1, i));
      tile.Append(below->root());
    }
    tile_count /= kTileWidth;
  }
  for (const ByteView entry : growing) tree.Append(HashLeaf(entry));
  return tree;
}

absl::StatusOr<TreeHead> LogTree::Head() const {
  TreeHead head;
  head.size = size_;
  ASSIGN_OR_RETURN(head.root, ComputeRoot(*this, size_));
  return head;
}

absl::StatusOr<TreeHash> LogTree::Subtree(int height, uint64_t index) const {
  const auto level = static_cast<size_t>(height / kTileHeight);
  const int inner = height % kTileHeight;
  const uint64_t tile_index = index >> (kTileHeight - inner);
  const size_t place = index & ((size_t{1} << (kTileHeight - inner)) - 1);
  const TreeHash* hash = nullptr;
  if (level < edge_.size() &&
      tile_index == size_ >> (static_cast<size_t>(kTileHeight) * (level + 1))) {
    hash = edge_[level].Find(inner, place);
    if (hash != nullptr) return *hash;
  } else {
    ASSIGN_OR_RETURN(const std::shared_ptr<const Tile> tile,
                     folder_->ReadTile(static_cast<int>(level), tile_index));
    hash = tile->Find(inner, place);
    if (hash != nullptr) return *hash;
  }
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_AUDIT,
                   v1::REASON_AUDIT_NOT_FOUND,
                   "the log has no such entries yet");
}

void LogTree::Append(const TreeHash& leaf_hash) {
  if (edge_.empty()) edge_.emplace_back();
  edge_[0].Append(leaf_hash);
  ++size_;
}

std::vector<LogTree::FullTile> LogTree::TakeFullTiles() {
  std::vector<FullTile> full;
  for (size_t level = 0; level < edge_.size() && edge_[level].is_full();
       ++level) {
    const uint64_t index =
        (size_ >> (static_cast<size_t>(kTileHeight) * (level + 1))) - 1;
    const TreeHash root = edge_[level].root();
    full.push_back(
        {static_cast<int>(level), index, std::exchange(edge_[level], Tile())});
    if (level + 1 == edge_.size()) edge_.emplace_back();
    edge_[level + 1].Append(root);
  }
  return full;
}

uint64_t ScannedLog::size() const {
  return bundle_count * kTileWidth + ParseWholeEntries(growing).size();
}

absl::StatusOr<ScannedLog> ScanLog(const LogFolder& folder,
                                   uint64_t first_bundle) {
  ScannedLog log;
  log.bundle_count = first_bundle;
  std::optional<Bytes> growing;
  // A live log may finish its bundle between the two looks.
  for (int attempt = 0; attempt < 3; ++attempt) {
    ASSIGN_OR_RETURN(growing, folder.Read(kGrowingFile, kMaxBundleSize));
    const uint64_t before = log.bundle_count;
    while (folder.Has(BundlePath(log.bundle_count))) ++log.bundle_count;
    if (log.bundle_count == before && attempt > 0) break;
  }
  if (!growing.has_value()) return log;
  size_t whole_size = 0;
  for (const ByteView entry : ParseWholeEntries(*growing)) {
    if (!IsWholeEntry(entry)) break;
    whole_size += 2 + entry.size();
  }
  log.broken_size = growing->size() - whole_size;
  growing->resize(whole_size);
  log.growing = *std::move(growing);
  return log;
}

}  // namespace codeseal::audit
