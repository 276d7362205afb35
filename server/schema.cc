#include "server/schema.h"

#include <string>

#include "codesign/base/error.h"

namespace codeseal {
namespace {

// Never change one that was released: add another. All times are numbers since
// 1970, in seconds unless the name says otherwise.
constexpr const char* kMigrations[] = {
    "CREATE TABLE signatures ("
    "  client TEXT NOT NULL,"
    "  request_id TEXT NOT NULL,"
    "  payload_digest BLOB NOT NULL,"
    "  state INTEGER NOT NULL,"
    "  response BLOB NOT NULL DEFAULT x'',"
    "  created_at INTEGER NOT NULL,"
    "  changed_at INTEGER NOT NULL,"
    "  PRIMARY KEY (client, request_id));"
    "CREATE INDEX signatures_by_age ON signatures (changed_at);",

    // Replicas: whose intent it is, and who is alive.
    "ALTER TABLE signatures ADD COLUMN owner TEXT NOT NULL DEFAULT '';"
    "CREATE TABLE replicas ("
    "  id TEXT NOT NULL PRIMARY KEY,"
    "  alive_until_ms INTEGER NOT NULL);",

    // Who may sign how often, and whose job it is.
    "CREATE TABLE quotas ("
    "  name TEXT NOT NULL,"
    "  period_start INTEGER NOT NULL,"
    "  period_end INTEGER NOT NULL,"
    "  used INTEGER NOT NULL,"
    "  PRIMARY KEY (name, period_start));"
    "CREATE INDEX quotas_by_age ON quotas (period_end);"
    "CREATE TABLE identity_tokens ("
    "  issuer TEXT NOT NULL,"
    "  token_id TEXT NOT NULL,"
    "  client TEXT NOT NULL,"
    "  expires_at INTEGER NOT NULL,"
    "  PRIMARY KEY (issuer, token_id));"
    "CREATE INDEX identity_tokens_by_age ON identity_tokens (expires_at);",

    // What people must agree to. `terms` is a serialized v1.Grant that never
    // changes, `approval` a v1.Approval.
    "CREATE TABLE grants ("
    "  id TEXT NOT NULL PRIMARY KEY,"
    "  identity TEXT NOT NULL,"
    "  terms BLOB NOT NULL,"
    "  state INTEGER NOT NULL,"
    "  max_uses INTEGER NOT NULL,"
    "  use_count INTEGER NOT NULL,"
    "  created_at INTEGER NOT NULL,"
    "  expires_at INTEGER NOT NULL);"
    "CREATE INDEX grants_by_age ON grants (created_at);"
    "CREATE TABLE approvals ("
    "  grant_id TEXT NOT NULL,"
    "  approver TEXT NOT NULL,"
    "  approves INTEGER NOT NULL,"
    "  approval BLOB NOT NULL,"
    "  PRIMARY KEY (grant_id, approver));",
};

}  // namespace

std::span<const char* const> SchemaMigrations() { return kMigrations; }

absl::Status CheckSchemaVersion(int version) {
  const int known = static_cast<int>(std::size(kMigrations));
  if (version >= 0 && version <= known) return absl::OkStatus();
  return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TRANSPORT,
                   v1::REASON_STATE_STORE,
                   "a newer codeseald wrote the ledger: its schema has "
                   "version " +
                       std::to_string(version) + ", this program knows " +
                       std::to_string(known));
}

}  // namespace codeseal
