// A checkpoint: what a log was at one size, as text to be signed.
//
//   tree head -> [checkpoint] -> note -> auditors, witnesses, replies
//
// Spec: c2sp.org/tlog-checkpoint.

#ifndef CODESEAL_AUDIT_CHECKPOINT_H_
#define CODESEAL_AUDIT_CHECKPOINT_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "audit/merkle.h"
#include "audit/note.h"

namespace codeseal::audit {

struct Checkpoint {
  std::string origin;  // the log's name
  TreeHead head;

  friend bool operator==(const Checkpoint&, const Checkpoint&) = default;
};

// The text of a note. `origin` is one line.
std::string FormatCheckpoint(const Checkpoint& checkpoint);
// Ignores extension lines, which we never write.
// Errors: INVALID_ARGUMENT REASON_BAD_AUDIT_LOG.
absl::StatusOr<Checkpoint> ParseCheckpoint(std::string_view text);

// Parses a signed checkpoint and checks its signature by `key`, whose name is
// the log's origin.
// Errors: those of ParseNote(), ParseCheckpoint() and NoteKey::Check();
// FAILED_PRECONDITION REASON_AUDIT_INCONSISTENT for another log's.
absl::StatusOr<Checkpoint> OpenCheckpoint(std::string_view note,
                                          const NoteKey& key);

// That each of these witnesses has cosigned.
// Errors: those of NoteKey::Check().
absl::Status CheckWitnesses(std::string_view note,
                            std::span<const NoteKey> witnesses);

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_CHECKPOINT_H_
