// Where the ledger keeps its rows. One thread uses it; every change belongs to
// a transaction, and is durable when Commit() returns.

#ifndef CODESEAL_SERVER_LEDGER_STORE_H_
#define CODESEAL_SERVER_LEDGER_STORE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"

namespace codeseal {

// A request id belongs to its client: nobody learns of another's.
struct LedgerKey {
  std::string client;
  std::string request_id;

  friend auto operator<=>(const LedgerKey&, const LedgerKey&) = default;
};

// Stored: a number never changes its meaning.
enum class LedgerState : uint8_t {
  kIntent = 1,  // the key may have been used
  kSigned = 2,  // it was; the reply waits for its timestamp
  kDone = 3,    // this was, or may have been, the reply
};

struct LedgerRow {
  LedgerState state = LedgerState::kIntent;
  Bytes payload_digest;
  std::string response;  // a serialized SignResponse; empty for an intent
};

// All errors: UNAVAILABLE REASON_STATE_STORE.
class LedgerStore {
 public:
  virtual ~LedgerStore() = default;

  virtual absl::Status Begin() = 0;
  virtual absl::Status Commit() = 0;
  virtual void Rollback() = 0;

  virtual absl::StatusOr<std::optional<LedgerRow>> Find(
      const LedgerKey& key) = 0;
  virtual absl::Status Insert(const LedgerKey& key, ByteView payload_digest,
                              absl::Time now) = 0;
  virtual absl::Status Update(const LedgerKey& key, LedgerState state,
                              const std::string& response, absl::Time now) = 0;
  virtual absl::Status Remove(const LedgerKey& key) = 0;
  // Some of the rows that were last changed before `time`.
  virtual absl::Status RemoveOlderThan(absl::Time time) = 0;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_LEDGER_STORE_H_
