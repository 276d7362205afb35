// The log, written: entries become durable in groups, checkpoints are signed,
// callers get receipts. When it cannot write, it says so within a bounded time,
// and nobody signs.
//
//   entry -> [Log] -> growing, fdatasync -> checkpoint signed -> Receipt
//
// Three threads: one writes, one signs checkpoints, one keeps deadlines, so
// that a disk or a token that hangs holds up its own thread and no caller.

#ifndef CODESEAL_AUDIT_LOG_H_
#define CODESEAL_AUDIT_LOG_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "audit/checkpoint_signer.h"
#include "audit/merkle.h"
#include "audit/note.h"
#include "audit/receipt.h"
#include "codesign/base/bytes.h"

namespace codeseal::audit {

struct LogOptions {
  std::string path;    // the folder; made when there is none
  std::string record;  // of what was signed; empty: PATH.signed
  // Appends are refused while the file system has less than this, but those
  // that may use the reserve.
  uint64_t reserve_size = 0;
  absl::Duration timeout = absl::Seconds(2);  // of one append
  size_t max_waiting = 4096;                  // appends
  // Called from the log's threads when it stops or starts to work: why, or OK.
  std::function<void(const absl::Status&)> on_change;
};

struct AppendOptions {
  bool wants_receipt = false;    // otherwise it is enough that it is durable
  bool may_use_reserve = false;  // it concludes what was begun
  absl::Time deadline = absl::InfiniteFuture();  // besides LogOptions::timeout
};

// Thread-safe.
class Log {
 public:
  // Opens the log, or begins it when neither the folder's files nor the record
  // exist. Mends what a crash may leave: cuts a torn entry off, finishes a full
  // bundle. `key` is of type kEcdsa; its name is the log's origin.
  // Errors: FAILED_PRECONDITION REASON_AUDIT_INCONSISTENT when the folder is
  // not what was signed last: restored, cut short, changed, or without its
  // record; those of CheckpointSigner::Open(); those of files.
  static absl::StatusOr<std::unique_ptr<Log>> Open(const LogOptions& options,
                                                   NoteKey key,
                                                   DigestSigner sign);
  // Writes and signs what was taken; gives up after the timeout.
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // `done` is called exactly once, perhaps before Append() returns, perhaps on
  // a thread of the log, which it must not hold up. Without wants_receipt, of
  // the receipt only index and entry are there.
  // Errors: UNAVAILABLE REASON_AUDIT_UNAVAILABLE; the entry may be in the log
  // all the same. INVALID_ARGUMENT REASON_BAD_AUDIT_LOG for one that is empty
  // or too large.
  using Done = std::function<void(absl::StatusOr<Receipt>)>;
  void Append(Bytes entry, const AppendOptions& options, Done done);
  // The same, waiting.
  absl::StatusOr<Receipt> Append(Bytes entry, const AppendOptions& options);

  // Why the log takes no entries now; OK when it does.
  absl::Status fault() const;
  const NoteKey& key() const;
  uint64_t size() const;  // entries that are durable
  // The last signed one; empty before the first.
  std::string checkpoint() const;

  // Of the entries under the last checkpoint; these read files and may take as
  // long as the disk does. Errors: those of BuildInclusionProof() and
  // BuildConsistencyProof().
  absl::StatusOr<Proof> ProveInclusion(uint64_t index, uint64_t size) const;
  absl::StatusOr<Proof> ProveConsistency(uint64_t old_size,
                                         uint64_t size) const;
  // At most `max_count` entries from `begin` on, fewer at a bundle's end; none
  // behind the last. Durable entries that no checkpoint covers yet are among
  // them.
  absl::StatusOr<std::vector<Bytes>> ReadEntries(uint64_t begin,
                                                 size_t max_count) const;

 private:
  struct Impl;
  explicit Log(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

  const std::shared_ptr<Impl> impl_;
};

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_LOG_H_
