// What a caller keeps of a log entry: the entry, the proof that it is in the
// log, and the log's checkpoint. Enough to check offline, for ever, with the
// log's public key alone.
//
//   log -> [receipt] -> reply, file -> checked with the log's key
//
// Spec: c2sp.org/tlog-proof@v1; the entry is its "extra" data.

#ifndef CODESEAL_AUDIT_RECEIPT_H_
#define CODESEAL_AUDIT_RECEIPT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "audit/checkpoint.h"
#include "audit/merkle.h"
#include "audit/note.h"
#include "codesign/base/bytes.h"

namespace codeseal::audit {

struct Receipt {
  uint64_t index = 0;
  Bytes entry;
  Proof proof;
  std::string checkpoint;  // a signed note

  friend bool operator==(const Receipt&, const Receipt&) = default;
};

std::string FormatReceipt(const Receipt& receipt);
// Errors: INVALID_ARGUMENT REASON_BAD_AUDIT_LOG.
absl::StatusOr<Receipt> ParseReceipt(std::string_view text);

// That the log whose key this is holds the entry at this index. The checkpoint,
// opened.
// Errors: those of OpenCheckpoint() and CheckInclusion().
absl::StatusOr<Checkpoint> CheckReceipt(const Receipt& receipt,
                                        const NoteKey& key);

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_RECEIPT_H_
