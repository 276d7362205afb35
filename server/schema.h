// The tables, the same in SQLite and in PostgreSQL, and how an older database
// becomes a current one.

#ifndef CODESEAL_SERVER_SCHEMA_H_
#define CODESEAL_SERVER_SCHEMA_H_

#include <span>

#include "absl/status/status.h"

namespace codeseal {

// SQL in SQLite's words. Element n brings the schema from version n to n + 1.
std::span<const char* const> SchemaMigrations();

// Whether this program may use a database of that version.
// Errors: UNAVAILABLE REASON_STATE_STORE for one that a newer codeseald wrote.
absl::Status CheckSchemaVersion(int version);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_SCHEMA_H_
