// Where the state that several requests, restarts and replicas share is kept:
// SQL, in the words that SQLite and PostgreSQL have in common.
//
//   Ledger's thread -> LedgerStore, Admission -> [Database] -> rows

#ifndef CODESEAL_SERVER_DATABASE_H_
#define CODESEAL_SERVER_DATABASE_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"

namespace codeseal {

using DatabaseValue = std::variant<int64_t, std::string, Bytes>;
using DatabaseRow = std::vector<DatabaseValue>;

struct DatabaseResult {
  std::vector<DatabaseRow> rows;
  int64_t changed_count = 0;  // rows inserted, updated or deleted

  int64_t Number(size_t row, size_t column) const {
    return std::get<int64_t>(rows[row][column]);
  }
  const std::string& Text(size_t row, size_t column) const {
    return std::get<std::string>(rows[row][column]);
  }
  const Bytes& Blob(size_t row, size_t column) const {
    return std::get<Bytes>(rows[row][column]);
  }
};

// One connection, for one thread. Every call ends in bounded time.
// All errors: UNAVAILABLE REASON_STATE_STORE.
class Database {
 public:
  virtual ~Database() = default;

  // A transaction; durable when Commit() returns. Begin() connects again when
  // the connection was lost.
  virtual absl::Status Begin() = 0;
  virtual absl::Status Commit() = 0;
  virtual void Rollback() = 0;

  // Runs one statement inside the transaction. `sql` has '?' in the places of
  // the values; it is prepared once for each address, so it must be a literal.
  virtual absl::StatusOr<DatabaseResult> Run(
      const char* sql, const std::vector<DatabaseValue>& values) = 0;

  // Whether other processes change it, too.
  virtual bool is_shared() const = 0;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_DATABASE_H_
