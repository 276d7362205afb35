#include "server/ledger_store.h"

#include <utility>

#include "codesign/base/error.h"
#include "server/sqlite_database.h"

namespace codeseal {
namespace {

// Whether a row's owner is another replica that is alive. The database's clock
// judges, so that the replicas' clocks may differ.
#define CODESEAL_OWNER_LIVES                                             \
  "EXISTS (SELECT 1 FROM replicas WHERE replicas.id = signatures.owner " \
  "AND replicas.alive_until_ms > CAST(extract(epoch FROM "               \
  "clock_timestamp()) * 1000 AS BIGINT))"

constexpr char kFindSignature[] =
    "SELECT state, payload_digest, response, 0 FROM signatures "
    "WHERE client = ? AND request_id = ?";
constexpr char kFindShared[] =
    "SELECT state, payload_digest, response, CASE WHEN owner <> ? "
    "AND " CODESEAL_OWNER_LIVES
    " THEN 1 ELSE 0 END FROM signatures WHERE client = ? AND request_id = ?";
constexpr char kInsertSignature[] =
    "INSERT INTO signatures (payload_digest, state, response, created_at, "
    "changed_at, client, request_id, owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (client, request_id) DO NOTHING";
constexpr char kAdopt[] =
    "UPDATE signatures SET owner = ? WHERE client = ? AND request_id = ? "
    "AND (owner = ? OR NOT " CODESEAL_OWNER_LIVES ")";
constexpr char kUpdate[] =
    "UPDATE signatures SET state = ?, response = ?, changed_at = ? "
    "WHERE client = ? AND request_id = ?";
constexpr char kRelease[] =
    "UPDATE signatures SET owner = '' WHERE client = ? AND request_id = ?";
constexpr char kRemove[] =
    "DELETE FROM signatures WHERE client = ? AND request_id = ?";
constexpr char kRemoveOld[] =
    "DELETE FROM signatures WHERE (client, request_id) IN (SELECT client, "
    "request_id FROM signatures WHERE changed_at < ? LIMIT 500)";
constexpr char kRemoveOldQuotas[] = "DELETE FROM quotas WHERE period_end < ?";
constexpr char kRemoveOldTokens[] =
    "DELETE FROM identity_tokens WHERE expires_at < ?";

class SqlLedgerStore : public LedgerStore {
 public:
  // The lease may be null: then the database is this process's alone.
  SqlLedgerStore(std::unique_ptr<Database> database,
                 std::shared_ptr<const ReplicaLease> lease)
      : database_(std::move(database)), lease_(std::move(lease)) {}

  absl::Status Begin() override { return database_->Begin(); }
  absl::Status Commit() override { return database_->Commit(); }
  void Rollback() override { database_->Rollback(); }

  absl::StatusOr<std::optional<LedgerRow>> Find(const LedgerKey& key) override {
    absl::StatusOr<DatabaseResult> found =
        lease_ == nullptr
            ? database_->Run(kFindSignature, {key.client, key.request_id})
            : database_->Run(kFindShared,
                             {owner(), key.client, key.request_id});
    if (!found.ok()) return found.status();
    if (found->rows.empty()) return std::optional<LedgerRow>();
    LedgerRow row;
    row.state = static_cast<LedgerState>(found->Number(0, 0));
    row.payload_digest = found->Blob(0, 1);
    row.response = ToString(found->Blob(0, 2));
    row.is_elsewhere =
        row.state != LedgerState::kDone && found->Number(0, 3) != 0;
    return row;
  }

  absl::StatusOr<bool> Insert(const LedgerKey& key, ByteView payload_digest,
                              absl::Time now) override {
    return Changes(
        kInsertSignature,
        {ToBytes(payload_digest), static_cast<int64_t>(LedgerState::kIntent),
         Bytes(), absl::ToUnixSeconds(now), absl::ToUnixSeconds(now),
         key.client, key.request_id, owner()});
  }

  absl::StatusOr<bool> Adopt(const LedgerKey& key) override {
    if (lease_ == nullptr) return true;
    return Changes(kAdopt, {owner(), key.client, key.request_id, owner()});
  }

  absl::Status Update(const LedgerKey& key, LedgerState state,
                      const std::string& response, absl::Time now) override {
    ASSIGN_OR_RETURN(
        const bool updated,
        Changes(kUpdate,
                {static_cast<int64_t>(state), ToBytes(AsBytes(response)),
                 absl::ToUnixSeconds(now), key.client, key.request_id}));
    if (updated) return absl::OkStatus();
    return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TRANSPORT,
                     v1::REASON_STATE_STORE,
                     "the ledger has lost an intent that it had");
  }

  absl::Status Release(const LedgerKey& key) override {
    if (lease_ == nullptr) return absl::OkStatus();
    return Changes(kRelease, {key.client, key.request_id}).status();
  }

  absl::Status Remove(const LedgerKey& key) override {
    return Changes(kRemove, {key.client, key.request_id}).status();
  }

  absl::Status RemoveOld(absl::Time changed_before, absl::Time now) override {
    const int64_t seconds = absl::ToUnixSeconds(now);
    RETURN_IF_ERROR(Changes(kRemoveOldQuotas, {seconds}).status());
    RETURN_IF_ERROR(Changes(kRemoveOldTokens, {seconds}).status());
    return Changes(kRemoveOld, {absl::ToUnixSeconds(changed_before)}).status();
  }

  Database& database() override { return *database_; }
  bool is_shared() const override { return lease_ != nullptr; }

 private:
  std::string owner() const {
    return lease_ == nullptr ? std::string() : lease_->replica();
  }
  absl::StatusOr<bool> Changes(const char* sql,
                               const std::vector<DatabaseValue>& values) {
    ASSIGN_OR_RETURN(const DatabaseResult result, database_->Run(sql, values));
    return result.changed_count > 0;
  }

  const std::unique_ptr<Database> database_;
  const std::shared_ptr<const ReplicaLease> lease_;
};

absl::Status CannotOpen(const absl::Status& status,
                        const std::string& subject) {
  return WithSubject(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_USAGE,
                v1::REASON_STATE_STORE, Message(status)),
      subject);
}

}  // namespace

absl::StatusOr<std::unique_ptr<LedgerStore>> OpenSqliteLedgerStore(
    const std::string& path) {
  absl::StatusOr<std::unique_ptr<Database>> database = OpenSqliteDatabase(path);
  if (!database.ok()) return CannotOpen(database.status(), path);
  return std::make_unique<SqlLedgerStore>(*std::move(database), nullptr);
}

absl::StatusOr<std::vector<std::unique_ptr<LedgerStore>>>
OpenPostgresLedgerStores(const PostgresOptions& options) {
  const absl::Status migrated = MigratePostgres(options);
  if (!migrated.ok()) return CannotOpen(migrated, "state.postgres");
  absl::StatusOr<std::shared_ptr<const ReplicaLease>> lease =
      ReplicaLease::Take(options);
  if (!lease.ok()) return CannotOpen(lease.status(), "state.postgres");
  std::vector<std::unique_ptr<LedgerStore>> stores;
  for (uint32_t i = 0; i < options.connection_count; ++i) {
    stores.push_back(std::make_unique<SqlLedgerStore>(
        MakePostgresDatabase(options), *lease));
  }
  return stores;
}

}  // namespace codeseal
