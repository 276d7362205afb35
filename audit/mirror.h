// A copy of a log on another machine: every entry under a checkpoint that
// grew out of the one before, and nothing else. A log that contradicts what is
// here was rewritten, and this is the evidence.
//
//   server's checkpoint and entries -> [LogMirror] -> a folder as the log's own
//
// Every command for a log's folder works on the copy. Beside what a log has, it
// keeps each checkpoint that it took (`checkpoints/SIZE`) and, when there was
// one, the checkpoint that contradicts them (`refused`).

#ifndef CODESEAL_AUDIT_MIRROR_H_
#define CODESEAL_AUDIT_MIRROR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "audit/checkpoint.h"
#include "audit/log_folder.h"
#include "audit/merkle.h"
#include "audit/note.h"
#include "codesign/base/bytes.h"

namespace codeseal::audit {

// The roots of the complete subtrees that a tree consists of: all that is
// needed to go on from there. Copyable.
class Frontier {
 public:
  static absl::StatusOr<Frontier> Of(const LogTree& tree);
  void Append(TreeHash leaf_hash);
  TreeHash Root() const;

 private:
  uint64_t size_ = 0;
  std::vector<TreeHash> hashes_;  // by height; valid where size_ has a bit
};

// One thread, and one process at a folder.
class LogMirror {
 public:
  // Makes the folder when there is none. What a crash left behind the last
  // checkpoint is ignored.
  // Errors: FAILED_PRECONDITION REASON_AUDIT_INCONSISTENT when the copy itself
  // is not what its checkpoint says, or is another log's; those of files.
  static absl::StatusOr<std::unique_ptr<LogMirror>> Open(
      const std::string& path, NoteKey key);
  LogMirror(const LogMirror&) = delete;
  LogMirror& operator=(const LogMirror&) = delete;

  uint64_t size() const { return tree_.size(); }  // entries

  // At least one entry from `begin` on, at most `max_count`.
  using EntryReader = std::function<absl::StatusOr<std::vector<Bytes>>(
      uint64_t begin, size_t max_count)>;
  // Takes a signed checkpoint and the entries that are new under it; how many
  // those were. They are in memory meanwhile: begin a mirror of a long log with
  // a copy of its folder.
  // Errors: FAILED_PRECONDITION REASON_AUDIT_INCONSISTENT when the log is not
  // what it was, or REASON_BAD_NOTE_SIGNATURE; then nothing has changed but
  // `refused`. The reader's; those of files.
  absl::StatusOr<uint64_t> Take(const std::string& note,
                                const EntryReader& read);

 private:
  LogMirror(std::shared_ptr<LogFolder> folder, NoteKey key)
      : folder_(std::move(folder)), key_(std::move(key)), tree_(folder_) {}

  absl::Status Load();
  absl::Status Refuse(const std::string& note, const std::string& why) const;

  const std::shared_ptr<LogFolder> folder_;
  const NoteKey key_;
  LogTree tree_;
  Frontier frontier_;  // of tree_
  TreeHead head_;
  Bytes growing_;  // the entries after the last full bundle
};

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_MIRROR_H_
