// Where the ledger keeps its rows. One thread uses it; every change belongs to
// a transaction, and is durable when Commit() returns.
//
//   Ledger -> [LedgerStore] -> SQLite file, or PostgreSQL for several replicas

#ifndef CODESEAL_SERVER_LEDGER_STORE_H_
#define CODESEAL_SERVER_LEDGER_STORE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "server/database.h"
#include "server/postgres_database.h"

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
  // Another replica has it, and is alive: it will go on.
  bool is_elsewhere = false;
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
  // False when the key is there already: another replica was faster.
  virtual absl::StatusOr<bool> Insert(const LedgerKey& key,
                                      ByteView payload_digest,
                                      absl::Time now) = 0;
  // Makes a row that nobody works on this replica's. False when another one was
  // faster.
  virtual absl::StatusOr<bool> Adopt(const LedgerKey& key) = 0;
  virtual absl::Status Update(const LedgerKey& key, LedgerState state,
                              const std::string& response, absl::Time now) = 0;
  // Nobody works on the row any more.
  virtual absl::Status Release(const LedgerKey& key) = 0;
  virtual absl::Status Remove(const LedgerKey& key) = 0;
  // Some of the rows that were last changed before `changed_before`, and what
  // has no use after `now`.
  virtual absl::Status RemoveOld(absl::Time changed_before, absl::Time now) = 0;

  // For what belongs into the same transaction.
  virtual Database& database() = 0;
  // Whether other processes change it, too.
  virtual bool is_shared() const = 0;
};

// A SQLite file of this process alone.
// Errors: FAILED_PRECONDITION REASON_STATE_STORE, also for a file that another
// process has open or that a newer codeseald wrote.
absl::StatusOr<std::unique_ptr<LedgerStore>> OpenSqliteLedgerStore(
    const std::string& path);

// Connections to PostgreSQL that share one lease: rows that they insert are
// this replica's as long as it lives.
// Errors: FAILED_PRECONDITION REASON_STATE_STORE.
absl::StatusOr<std::vector<std::unique_ptr<LedgerStore>>>
OpenPostgresLedgerStores(const PostgresOptions& options);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_LEDGER_STORE_H_
