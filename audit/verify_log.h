// An auditor's work: reads a whole log from its folder, recomputes everything,
// and says all that is wrong. Needs no server, and trusts nothing in the folder
// but what the log's key and earlier checkpoints vouch for.
//
//   folder + key + saved checkpoints -> [VerifyLog] -> LogReport

#ifndef CODESEAL_AUDIT_VERIFY_LOG_H_
#define CODESEAL_AUDIT_VERIFY_LOG_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "audit/checkpoint.h"
#include "audit/log_folder.h"
#include "audit/note.h"
#include "audit/receipt.h"

namespace codeseal::audit {

struct LogReport {
  // Each says what is wrong and where; empty: the log is what it claims to be.
  std::vector<std::string> problems;
  Checkpoint checkpoint;         // the folder's, if it could be opened
  uint64_t size = 0;             // entries in the folder
  uint64_t uncovered_count = 0;  // of them behind the checkpoint
  uint64_t intent_count = 0;
  uint64_t signed_count = 0;
  uint64_t failed_count = 0;
  uint64_t indeterminate_count = 0;
  uint64_t event_count = 0;
  // Request ids of intents without an end: in flight, or a crash that nobody
  // has resolved yet.
  std::vector<std::string> open_intents;
};

// `saved`: signed checkpoints that the auditor kept. Every entry is read and
// every tile recomputed; the log must grow out of each saved checkpoint, and
// hold together: each outcome belongs to an intent, no request id of a client
// was signed twice with different results.
// Errors: only when the folder cannot be read at all.
absl::StatusOr<LogReport> VerifyLog(const LogFolder& folder, const NoteKey& key,
                                    std::span<const std::string> saved);

// The parts of a folder that readers need, opened and checked against the
// folder's checkpoint.
struct OpenedLog {
  Checkpoint checkpoint;
  std::string note;
  ScannedLog scanned;
  std::shared_ptr<const LogTree> tree;
};
// Errors: FAILED_PRECONDITION REASON_AUDIT_INCONSISTENT when the folder has
// fewer entries than its checkpoint, or others; those of OpenCheckpoint().
absl::StatusOr<OpenedLog> OpenLog(std::shared_ptr<const LogFolder> folder,
                                  const NoteKey& key);

// At most `max_count` entries from `begin` on; fewer at a bundle's end.
absl::StatusOr<std::vector<Bytes>> ReadEntries(const LogFolder& folder,
                                               const ScannedLog& log,
                                               uint64_t begin,
                                               size_t max_count);

// A receipt for an entry under the folder's checkpoint.
absl::StatusOr<Receipt> ProveEntry(const LogFolder& folder,
                                   const OpenedLog& log, uint64_t index);

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_VERIFY_LOG_H_
