// The ledger's rows in a SQLite file: WAL, and a sync for every transaction.

#ifndef CODESEAL_SERVER_SQLITE_LEDGER_STORE_H_
#define CODESEAL_SERVER_SQLITE_LEDGER_STORE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/ledger_store.h"

namespace codeseal {

// Makes the file (mode 0600) when it is not there, and brings an older schema
// up to date. One process has the file to itself as long as the store lives.
// Errors: FAILED_PRECONDITION REASON_STATE_STORE, also for a file that another
// process has open or that a newer codeseald wrote.
absl::StatusOr<std::unique_ptr<LedgerStore>> OpenSqliteLedgerStore(
    const std::string& path);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_SQLITE_LEDGER_STORE_H_
