// State in a SQLite file of this server alone: WAL, and a sync for every
// transaction.

#ifndef CODESEAL_SERVER_SQLITE_DATABASE_H_
#define CODESEAL_SERVER_SQLITE_DATABASE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/database.h"

namespace codeseal {

// Makes the file (mode 0600) when it is not there, and brings an older schema
// up to date. One process has the file to itself as long as the result lives.
// Errors: those of files; UNAVAILABLE REASON_STATE_STORE, also for a file that
// another process has open or that a newer codeseald wrote.
absl::StatusOr<std::unique_ptr<Database>> OpenSqliteDatabase(
    const std::string& path);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_SQLITE_DATABASE_H_
