#include "audit/verify_log.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "audit/entry.h"
#include "audit/tile.h"
#include "codesign/base/error.h"

namespace codeseal::audit {
namespace {

constexpr size_t kMaxProblems = 100;  // a destroyed log has no end of them

std::string At(uint64_t index) { return "entry " + std::to_string(index); }

// Request ids belong to their client.
using RequestName = std::pair<std::string, std::string>;
RequestName NameOf(const Entry& entry) {
  return {entry.client, entry.request_id};
}

// Reads entries in their order, and keeps what the report needs.
class Auditor {
 public:
  Auditor(const LogFolder& folder, LogReport& report)
      : folder_(folder), report_(report) {}

  void Problem(const std::string& text) {
    if (report_.problems.size() < kMaxProblems) {
      report_.problems.push_back(text);
    }
  }

  // The root at this size is wanted later. Before the first Take().
  void WatchSize(uint64_t size) { roots_[size] = TreeHash(); }
  const TreeHash& RootAt(uint64_t size) const { return roots_.at(size); }

  void Take(ByteView bytes) {
    TakeRoot();
    TakeHash(HashLeaf(bytes));
    Judge(bytes);
    ++report_.size;
    TakeRoot();
  }

  // Every tile that is full must be there.
  void Finish() {
    for (const auto& [request, index] : open_) {
      report_.open_intents.push_back(request.second);
    }
    CheckNames();
  }

 private:
  // Recomputes the tiles from the bottom and compares each that is full.
  void TakeHash(TreeHash hash) {
    for (size_t level = 0;; ++level) {
      if (level == edge_.size()) edge_.emplace_back();
      edge_[level].tile.Append(hash);
      if (!edge_[level].tile.is_full()) return;
      hash = edge_[level].tile.root();
      CheckTile(static_cast<int>(level), edge_[level].count++,
                edge_[level].tile);
      edge_[level].tile = Tile();
    }
  }

  void CheckTile(int level, uint64_t index, const Tile& tile) {
    const std::string name = TilePath(level, index);
    const auto there = folder_.Read(name, kTileWidth * kTreeHashSize);
    if (!there.ok()) {
      Problem(name + ": " + std::string(Message(there.status())));
    } else if (!there->has_value()) {
      Problem(name + ": is missing");
    } else if (!Equal(**there, tile.Encode())) {
      Problem(name + ": does not hold the hashes of its entries");
    }
  }

  // The root of what was taken so far, if it is wanted.
  void TakeRoot() {
    const auto wanted = roots_.find(report_.size);
    if (wanted == roots_.end()) return;
    std::optional<TreeHash> root;
    for (const Level& level : edge_) {
      for (int height = 0; height < kTileHeight; ++height) {
        const size_t count = level.tile.width() >> height;
        if ((count & 1) == 0) continue;
        const TreeHash& left = *level.tile.Find(height, count - 1);
        root = root.has_value() ? HashChildren(left, *root) : left;
      }
    }
    wanted->second = root.value_or(EmptyTreeRoot());
  }

  void Judge(ByteView bytes) {
    const uint64_t index = report_.size;
    const absl::StatusOr<Entry> entry = ParseEntry(bytes);
    if (!entry.ok()) {
      Problem(At(index) + ": " + std::string(Message(entry.status())));
      return;
    }
    switch (entry->kind) {
      case EntryKind::kStarted:
        return;
      case EntryKind::kEvent:
        ++report_.event_count;
        return;
      case EntryKind::kIntent:
        ++report_.intent_count;
        intents_[index] = NameOf(*entry);
        open_[NameOf(*entry)] = index;
        return;
      case EntryKind::kSigned: {
        ++report_.signed_count;
        // A CMS may get its timestamp again; the key's part stays as it is.
        const std::string& made = entry->signature_sha256.empty()
                                      ? entry->cms_sha256
                                      : entry->signature_sha256;
        const auto [first, is_new] = signed_.emplace(NameOf(*entry), made);
        if (!is_new && first->second != made) {
          Problem(At(index) + ": request " + entry->request_id +
                  " was signed twice");
        }
        break;
      }
      case EntryKind::kFailed:
        ++report_.failed_count;
        signed_.erase(NameOf(*entry));  // withheld: it may be signed again
        break;
      case EntryKind::kIndeterminate:
        ++report_.indeterminate_count;
        break;
    }
    const auto intent = entry->intent.has_value()
                            ? intents_.find(*entry->intent)
                            : intents_.end();
    if (intent == intents_.end() || intent->second != NameOf(*entry)) {
      Problem(At(index) + ": says how request " + entry->request_id +
              " ended, which was never begun");
      return;
    }
    const auto open = open_.find(NameOf(*entry));
    if (open != open_.end() && open->second == intent->first) open_.erase(open);
  }

  // Nothing else lies among the tiles, and nothing behind the log's end.
  void CheckNames() {
    namespace fs = std::filesystem;
    const fs::path root = folder_.path();
    std::error_code error;
    fs::recursive_directory_iterator at(root / "tile", error);
    for (; !error && at != fs::recursive_directory_iterator();
         at.increment(error)) {
      if (at->is_directory(error)) continue;
      const std::string name = at->path().lexically_relative(root).string();
      if (name.ends_with(".new")) continue;  // a crash left it
      const std::optional<TileName> tile = ParseTilePath(name);
      constexpr int kHighestLevel = 6;
      const bool is_ours =
          tile.has_value() && tile->level <= kHighestLevel &&
          tile->width == kTileWidth &&
          tile->index < report_.size >> (kTileHeight * (tile->level + 1));
      if (!is_ours) {
        Problem(name + ": does not belong to this log");
      }
    }
  }

  struct Level {
    Tile tile;
    uint64_t count = 0;  // full tiles before this one
  };

  const LogFolder& folder_;
  LogReport& report_;
  std::vector<Level> edge_;
  std::map<uint64_t, TreeHash> roots_;
  std::map<uint64_t, RequestName> intents_;
  std::map<RequestName, uint64_t> open_;       // the last one of a request
  std::map<RequestName, std::string> signed_;  // digest of the signature
};

}  // namespace

absl::StatusOr<LogReport> VerifyLog(const LogFolder& folder, const NoteKey& key,
                                    std::span<const std::string> saved) {
  LogReport report;
  Auditor auditor(folder, report);
  struct Claim {
    std::string name;
    TreeHead head;
  };
  std::vector<Claim> claims;
  const auto claim = [&](const std::string& name, std::string_view note) {
    const absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(note, key);
    if (checkpoint.ok()) {
      claims.push_back({name, checkpoint->head});
      auditor.WatchSize(checkpoint->head.size);
    } else {
      auditor.Problem(name + ": " + std::string(Message(checkpoint.status())));
    }
    return checkpoint;
  };
  // Before the entries: a live log goes on growing.
  ASSIGN_OR_RETURN(const std::optional<Bytes> note,
                   folder.Read(kCheckpointFile, kMaxNoteSize));
  if (note.has_value()) {
    const absl::StatusOr<Checkpoint> own =
        claim(kCheckpointFile, AsText(*note));
    if (own.ok()) report.checkpoint = *own;
  } else if (!saved.empty() || folder.Has(BundlePath(0))) {
    auditor.Problem("checkpoint: is missing");
  }
  for (size_t i = 0; i < saved.size(); ++i) {
    claim("saved checkpoint " + std::to_string(i + 1), saved[i])
        .status()
        .IgnoreError();
  }

  ASSIGN_OR_RETURN(const ScannedLog log, ScanLog(folder, 0));
  for (uint64_t i = 0; i < log.bundle_count; ++i) {
    ASSIGN_OR_RETURN(const std::optional<Bytes> bundle,
                     folder.Read(BundlePath(i), kMaxBundleSize));
    const Bytes bytes = bundle.value_or(Bytes());
    const auto entries = ParseBundle(bytes);
    if (!entries.ok() || entries->size() != kTileWidth) {
      auditor.Problem(BundlePath(i) + ": is no full bundle");
      break;  // what comes after it has no place
    }
    for (const ByteView each : *entries) auditor.Take(each);
  }
  if (report.size == log.bundle_count * kTileWidth) {
    for (const ByteView each : ParseWholeEntries(log.growing)) {
      auditor.Take(each);
    }
  }
  for (const Claim& each : claims) {
    if (each.head.size > report.size) {
      auditor.Problem(each.name + ": has " + std::to_string(each.head.size) +
                      " entries, the folder " + std::to_string(report.size) +
                      ": the log was cut short");
    } else if (each.head.size > 0 &&
               auditor.RootAt(each.head.size) != each.head.root) {
      auditor.Problem(each.name + ": its " + std::to_string(each.head.size) +
                      " entries are not those of the folder");
    }
  }
  if (report.size > report.checkpoint.head.size) {
    report.uncovered_count = report.size - report.checkpoint.head.size;
  }
  auditor.Finish();
  return report;
}

absl::StatusOr<OpenedLog> OpenLog(std::shared_ptr<const LogFolder> folder,
                                  const NoteKey& key) {
  OpenedLog log;
  ASSIGN_OR_RETURN(const std::optional<Bytes> note,
                   folder->Read(kCheckpointFile, kMaxNoteSize));
  if (!note.has_value()) {
    return AuditInconsistent(folder->path() + " has no checkpoint");
  }
  log.note = ToString(*note);
  ASSIGN_OR_RETURN(log.checkpoint, OpenCheckpoint(log.note, key));
  const TreeHead& head = log.checkpoint.head;
  ASSIGN_OR_RETURN(log.scanned, ScanLog(*folder, head.size / kTileWidth));
  const std::vector<ByteView> growing = ParseWholeEntries(log.scanned.growing);
  ASSIGN_OR_RETURN(LogTree tree,
                   LogTree::Load(folder, log.scanned.bundle_count, growing));
  if (tree.size() < head.size) {
    return AuditInconsistent("the folder has " + std::to_string(tree.size()) +
                             " entries, its checkpoint " +
                             std::to_string(head.size));
  }
  ASSIGN_OR_RETURN(const TreeHash root, ComputeRoot(tree, head.size));
  if (root != head.root) {
    return AuditInconsistent(
        "the folder's entries are not those of its checkpoint");
  }
  log.tree = std::make_shared<const LogTree>(std::move(tree));
  return log;
}

absl::StatusOr<std::vector<Bytes>> ReadEntries(const LogFolder& folder,
                                               const ScannedLog& log,
                                               uint64_t begin,
                                               size_t max_count) {
  const uint64_t bundle_index = begin / kTileWidth;
  std::vector<Bytes> entries;
  if (bundle_index > log.bundle_count) return entries;
  Bytes bundle = log.growing;
  if (bundle_index < log.bundle_count) {
    ASSIGN_OR_RETURN(bundle, folder.ReadBundle(bundle_index));
  }
  const std::vector<ByteView> all = ParseWholeEntries(bundle);
  for (uint64_t i = begin % kTileWidth;
       i < all.size() && entries.size() < max_count; ++i) {
    entries.push_back(ToBytes(all[i]));
  }
  return entries;
}

absl::StatusOr<Receipt> ProveEntry(const LogFolder& folder,
                                   const OpenedLog& log, uint64_t index) {
  Receipt receipt;
  receipt.index = index;
  ASSIGN_OR_RETURN(
      receipt.proof,
      BuildInclusionProof(*log.tree, index, log.checkpoint.head.size));
  ASSIGN_OR_RETURN(std::vector<Bytes> entries,
                   ReadEntries(folder, log.scanned, index, 1));
  if (entries.empty()) return AuditInconsistent("the entry is missing");
  receipt.entry = std::move(entries.front());
  receipt.checkpoint = log.note;
  RETURN_IF_ERROR(CheckInclusion(HashLeaf(receipt.entry), index,
                                 log.checkpoint.head, receipt.proof));
  return receipt;
}

}  // namespace codeseal::audit
