// Signs checkpoints of one log, and never one that contradicts an earlier one.
// What it signed last is kept in a file of its own, outside the log's folder:
// a folder that was restored from an old snapshot is refused.
//
//   tree head + proof from the last one -> [CheckpointSigner] -> signed note
//
// Spec: c2sp.org/tlog-checkpoint, "MUST not sign any checkpoint which is
//       inconsistent with any checkpoint it previously signed".
//
// The file has two slots of 4 KiB that are written in turn, so that a torn
// write leaves the other one; a slot is whole when its signature verifies.

#ifndef CODESEAL_AUDIT_CHECKPOINT_SIGNER_H_
#define CODESEAL_AUDIT_CHECKPOINT_SIGNER_H_

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "audit/checkpoint.h"
#include "audit/note.h"
#include "codesign/base/bytes.h"

namespace codeseal::audit {

// Makes the DER ECDSA signature of a SHA-256 digest: a token does.
using DigestSigner =
    std::function<absl::StatusOr<Bytes>(ByteView sha256, absl::Time deadline)>;

struct SignedCheckpoint {
  TreeHead head;
  std::string note;
};

// One thread at a time.
class CheckpointSigner {
 public:
  // Opens the record of what was signed and locks it against other processes;
  // `may_create`: makes it when there is none. `key` is of type kEcdsa and its
  // name is the log's origin.
  // Errors: NOT_FOUND REASON_FILE_NOT_FOUND; FAILED_PRECONDITION
  // REASON_AUDIT_INCONSISTENT for a record that is not this key's or not whole;
  // UNAVAILABLE REASON_AUDIT_UNAVAILABLE while another process has it.
  static absl::StatusOr<std::unique_ptr<CheckpointSigner>> Open(
      const std::string& path, NoteKey key, DigestSigner sign, bool may_create);
  ~CheckpointSigner();
  CheckpointSigner(const CheckpointSigner&) = delete;
  CheckpointSigner& operator=(const CheckpointSigner&) = delete;

  const NoteKey& key() const { return key_; }
  // Nothing before the first.
  const std::optional<SignedCheckpoint>& last() const { return last_; }

  // `proof` leads from last() to `head`; it is empty for the first. The result
  // verifies and is on disk.
  // Errors: FAILED_PRECONDITION REASON_AUDIT_INCONSISTENT; the token's; those
  // of writing. After any of them last() is as it was.
  absl::StatusOr<SignedCheckpoint> Sign(const TreeHead& head,
                                        std::span<const TreeHash> proof,
                                        absl::Time deadline);

  // Whether the record is still the file that was opened.
  absl::Status CheckRecord() const;

 private:
  CheckpointSigner(std::string path, NoteKey key, DigestSigner sign)
      : path_(std::move(path)), key_(std::move(key)), sign_(std::move(sign)) {}

  absl::Status Load();
  absl::Status Record(const std::string& note);

  const std::string path_;
  const NoteKey key_;
  const DigestSigner sign_;
  int fd_ = -1;
  size_t next_slot_ = 0;
  std::optional<SignedCheckpoint> last_;
};

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_CHECKPOINT_SIGNER_H_
