// A log's folder, read: what the server reads back, and all that an auditor
// has.
//
//   checkpoint            the latest signed tree head
//   tile/entries/<N>      256 entries each; never change again
//   tile/<L>/<N>          256 hashes each; never change again
//   growing               the entries after the last full bundle
//   key                   the log's public key, for convenience
//
// Spec: c2sp.org/tlog-tiles, but that the partial bundle is the file `growing`
// and partial tiles, which follow from it, are not stored.

#ifndef CODESEAL_AUDIT_LOG_FOLDER_H_
#define CODESEAL_AUDIT_LOG_FOLDER_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "audit/merkle.h"
#include "audit/tile.h"
#include "codesign/base/bytes.h"

namespace codeseal::audit {

inline constexpr char kCheckpointFile[] = "checkpoint";
inline constexpr char kGrowingFile[] = "growing";
inline constexpr char kKeyFile[] = "key";

// Of whatever is in a log's folder, also in that of a copy.
inline constexpr mode_t kLogFileMode = 0640;
inline constexpr mode_t kLogFolderMode = 0750;

absl::Status AuditInconsistent(const std::string& message);

// Holds the folder open: whatever is later put in its place is not read.
// Thread-safe.
class LogFolder {
 public:
  // Errors: NOT_FOUND REASON_FILE_NOT_FOUND and its like.
  static absl::StatusOr<std::shared_ptr<LogFolder>> Open(
      const std::string& path);
  ~LogFolder();
  LogFolder(const LogFolder&) = delete;
  LogFolder& operator=(const LogFolder&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_; }

  // A whole file by its name in the folder; nullopt when there is none.
  // Errors: REASON_FILE_NOT_READABLE; REASON_BAD_AUDIT_LOG over `max_size`.
  absl::StatusOr<std::optional<Bytes>> Read(const std::string& name,
                                            size_t max_size) const;
  bool Has(const std::string& name) const;

  // A full tile. What was read is kept for a while.
  // Errors: FAILED_PRECONDITION REASON_AUDIT_INCONSISTENT when it is missing or
  // malformed.
  absl::StatusOr<std::shared_ptr<const Tile>> ReadTile(int level,
                                                       uint64_t index) const;
  // The bytes of a full bundle. Errors: as ReadTile().
  absl::StatusOr<Bytes> ReadBundle(uint64_t index) const;

 private:
  LogFolder() = default;

  std::string path_;
  int fd_ = -1;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<int, uint64_t>, std::shared_ptr<const Tile>>
      tiles_;
};

// A log at one size: the full tiles of a folder and, in memory, the tiles that
// are not full. Copyable; a const one may be read by many threads.
class LogTree : public TreeReader {
 public:
  explicit LogTree(std::shared_ptr<const LogFolder> folder)
      : folder_(std::move(folder)) {}

  // The tree of the folder's full bundles, `bundle_count` of them, and of these
  // entries after them. Reads the tiles on the right edge only.
  // Errors: those of ReadTile().
  static absl::StatusOr<LogTree> Load(std::shared_ptr<const LogFolder> folder,
                                      uint64_t bundle_count,
                                      const std::vector<ByteView>& growing);

  uint64_t size() const { return size_; }
  absl::StatusOr<TreeHead> Head() const;
  absl::StatusOr<TreeHash> Subtree(int height, uint64_t index) const override;

  // A tile that has become full and must be written.
  struct FullTile {
    int level;
    uint64_t index;
    Tile tile;
  };
  // The last tile of level 0 must not be full.
  void Append(const TreeHash& leaf_hash);
  bool is_bundle_full() const { return !edge_.empty() && edge_[0].is_full(); }
  // Moves full tiles out of the edge, lowest first. Until they are written,
  // only a copy made before knows their hashes.
  std::vector<FullTile> TakeFullTiles();

 private:
  std::shared_ptr<const LogFolder> folder_;
  uint64_t size_ = 0;
  std::vector<Tile> edge_;  // of each level; perhaps empty
};

// An auditor's view: every full bundle in sequence, and the growing one.
struct ScannedLog {
  uint64_t bundle_count = 0;  // full ones
  Bytes growing;              // whole entries only
  size_t broken_size = 0;     // bytes after them that are no entry

  uint64_t size() const;
};
// Counts from `first_bundle` on, whose predecessors are taken for granted.
absl::StatusOr<ScannedLog> ScanLog(const LogFolder& folder,
                                   uint64_t first_bundle);

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_LOG_FOLDER_H_
