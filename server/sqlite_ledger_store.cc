#include "server/sqlite_ledger_store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <iterator>
#include <string_view>
#include <utility>

#include "codesign/base/error.h"

namespace codeseal {
namespace {

// Each brings the schema from its index to the next version (user_version).
// Never change one that was released: add another.
constexpr const char* kMigrations[] = {
    "CREATE TABLE signatures ("
    "  client TEXT NOT NULL,"
    "  request_id TEXT NOT NULL,"
    "  payload_digest BLOB NOT NULL,"
    "  state INTEGER NOT NULL,"
    "  response BLOB NOT NULL DEFAULT x'',"
    "  created_at INTEGER NOT NULL,"  // seconds since 1970
    "  changed_at INTEGER NOT NULL,"
    "  PRIMARY KEY (client, request_id));"
    "CREATE INDEX signatures_by_age ON signatures (changed_at);",
};
constexpr int kSchemaVersion = static_cast<int>(std::size(kMigrations));

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close(database); }
};
using DatabasePtr = std::unique_ptr<sqlite3, CloseDatabase>;
struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const {
    sqlite3_finalize(statement);
  }
};
using StatementPtr = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

absl::Status Fault(sqlite3* database, std::string_view doing) {
  return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TRANSPORT,
                   v1::REASON_STATE_STORE,
                   "the ledger cannot be " + std::string(doing) + ": " +
                       sqlite3_errmsg(database));
}

// One use of a prepared statement; ready for the next when it is gone.
class Use {
 public:
  explicit Use(sqlite3_stmt* statement) : statement_(statement) {}
  ~Use() {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

  // In the order of the question marks. Text and bytes must live until Step().
  Use& Text(std::string_view text) {
    sqlite3_bind_text(statement_, ++bound_count_, text.data(),
                      static_cast<int>(text.size()), SQLITE_STATIC);
    return *this;
  }
  Use& Blob(ByteView bytes) {
    // No pointer would be NULL.
    sqlite3_bind_blob(
        statement_, ++bound_count_,
        bytes.empty() ? reinterpret_cast<const uint8_t*>("") : bytes.data(),
        static_cast<int>(bytes.size()), SQLITE_STATIC);
    return *this;
  }
  Use& Number(int64_t number) {
    sqlite3_bind_int64(statement_, ++bound_count_, number);
    return *this;
  }
  int Step() { return sqlite3_step(statement_); }

  int64_t NumberAt(int column) const {
    return sqlite3_column_int64(statement_, column);
  }
  ByteView BlobAt(int column) const {
    const void* const bytes = sqlite3_column_blob(statement_, column);
    const auto size =
        static_cast<size_t>(sqlite3_column_bytes(statement_, column));
    return {static_cast<const uint8_t*>(bytes), size};
  }

 private:
  sqlite3_stmt* statement_;
  int bound_count_ = 0;
};

class SqliteLedgerStore : public LedgerStore {
 public:
  explicit SqliteLedgerStore(DatabasePtr database)
      : database_(std::move(database)) {}

  absl::Status Prepare() {
    const struct {
      StatementPtr& statement;
      const char* sql;
    } statements[] = {
        {begin_, "BEGIN IMMEDIATE"},
        {commit_, "COMMIT"},
        {rollback_, "ROLLBACK"},
        {find_,
         "SELECT state, payload_digest, response FROM signatures "
         "WHERE client = ? AND request_id = ?"},
        {insert_,
         "INSERT INTO signatures (payload_digest, state, created_at, "
         "changed_at, client, request_id) VALUES (?, ?, ?, ?, ?, ?)"},
        {update_,
         "UPDATE signatures SET state = ?, response = ?, changed_at = ? "
         "WHERE client = ? AND request_id = ?"},
        {remove_, "DELETE FROM signatures WHERE client = ? AND request_id = ?"},
        {remove_old_,
         "DELETE FROM signatures WHERE (client, request_id) IN (SELECT client, "
         "request_id FROM signatures WHERE changed_at < ? LIMIT 500)"},
    };
    for (const auto& each : statements) {
      sqlite3_stmt* made = nullptr;
      if (sqlite3_prepare_v3(database_.get(), each.sql, -1,
                             SQLITE_PREPARE_PERSISTENT, &made,
                             nullptr) != SQLITE_OK) {
        return Fault(database_.get(), "used");
      }
      each.statement.reset(made);
    }
    return absl::OkStatus();
  }

  absl::Status Begin() override { return Run(begin_, "changed"); }
  absl::Status Commit() override { return Run(commit_, "changed"); }
  void Rollback() override { Run(rollback_, "changed").IgnoreError(); }

  absl::StatusOr<std::optional<LedgerRow>> Find(const LedgerKey& key) override {
    Use use(find_.get());
    use.Text(key.client).Text(key.request_id);
    const int result = use.Step();
    if (result == SQLITE_DONE) return std::optional<LedgerRow>();
    if (result != SQLITE_ROW) return Fault(database_.get(), "read");
    LedgerRow row;
    row.state = static_cast<LedgerState>(use.NumberAt(0));
    row.payload_digest = ToBytes(use.BlobAt(1));
    row.response = ToString(use.BlobAt(2));
    return row;
  }

  absl::Status Insert(const LedgerKey& key, ByteView payload_digest,
                      absl::Time now) override {
    Use use(insert_.get());
    use.Blob(payload_digest)
        .Number(static_cast<int64_t>(LedgerState::kIntent))
        .Number(absl::ToUnixSeconds(now))
        .Number(absl::ToUnixSeconds(now))
        .Text(key.client)
        .Text(key.request_id);
    return Done(use.Step());
  }

  absl::Status Update(const LedgerKey& key, LedgerState state,
                      const std::string& response, absl::Time now) override {
    Use use(update_.get());
    use.Number(static_cast<int64_t>(state))
        .Blob(AsBytes(response))
        .Number(absl::ToUnixSeconds(now))
        .Text(key.client)
        .Text(key.request_id);
    RETURN_IF_ERROR(Done(use.Step()));
    if (sqlite3_changes(database_.get()) == 1) return absl::OkStatus();
    return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TRANSPORT,
                     v1::REASON_STATE_STORE,
                     "the ledger has lost an intent that it had");
  }

  absl::Status Remove(const LedgerKey& key) override {
    Use use(remove_.get());
    use.Text(key.client).Text(key.request_id);
    return Done(use.Step());
  }

  absl::Status RemoveOlderThan(absl::Time time) override {
    Use use(remove_old_.get());
    use.Number(absl::ToUnixSeconds(time));
    return Done(use.Step());
  }

 private:
  absl::Status Run(const StatementPtr& statement, std::string_view doing) {
    Use use(statement.get());
    return use.Step() == SQLITE_DONE ? absl::OkStatus()
                                     : Fault(database_.get(), doing);
  }
  absl::Status Done(int result) {
    return result == SQLITE_DONE ? absl::OkStatus()
                                 : Fault(database_.get(), "changed");
  }

  const DatabasePtr database_;
  // Gone before the database is closed.
  StatementPtr begin_, commit_, rollback_, find_, insert_, update_, remove_,
      remove_old_;
};

absl::Status Execute(sqlite3* database, const std::string& sql) {
  return sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr) ==
                 SQLITE_OK
             ? absl::OkStatus()
             : Fault(database, "opened");
}

absl::StatusOr<int> ReadSchemaVersion(sqlite3* database) {
  sqlite3_stmt* made = nullptr;
  if (sqlite3_prepare_v2(database, "PRAGMA user_version", -1, &made, nullptr) !=
      SQLITE_OK) {
    return Fault(database, "opened");
  }
  const StatementPtr statement(made);
  if (sqlite3_step(made) != SQLITE_ROW) return Fault(database, "opened");
  return sqlite3_column_int(made, 0);
}

absl::Status Migrate(sqlite3* database) {
  ASSIGN_OR_RETURN(const int version, ReadSchemaVersion(database));
  if (version > kSchemaVersion) {
    return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TRANSPORT,
                     v1::REASON_STATE_STORE,
                     "a newer codeseald wrote the ledger: its schema has "
                     "version " +
                         std::to_string(version) + ", this program knows " +
                         std::to_string(kSchemaVersion));
  }
  for (int i = version; i < kSchemaVersion; ++i) {
    RETURN_IF_ERROR(
        Execute(database, std::string("BEGIN IMMEDIATE;") + kMigrations[i] +
                              "PRAGMA user_version = " + std::to_string(i + 1) +
                              ";COMMIT;"));
  }
  return absl::OkStatus();
}

absl::StatusOr<DatabasePtr> Open(const std::string& path) {
  // SQLite itself would let the group and others read.
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return FileError(errno, v1::STAGE_USAGE, "open", path);
  close(file);
  sqlite3* opened = nullptr;
  const int result =
      sqlite3_open_v2(path.c_str(), &opened,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  DatabasePtr database(opened);
  if (result != SQLITE_OK) return Fault(opened, "opened");
  RETURN_IF_ERROR(Execute(opened,
                          // Another server would sign again what is open here.
                          "PRAGMA locking_mode = EXCLUSIVE;"
                          "PRAGMA journal_mode = WAL;"
                          "PRAGMA synchronous = FULL;"
                          "PRAGMA foreign_keys = ON;"));
  RETURN_IF_ERROR(Migrate(opened));
  return database;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LedgerStore>> OpenSqliteLedgerStore(
    const std::string& path) {
  absl::StatusOr<DatabasePtr> database = Open(path);
  absl::Status status = database.status();
  if (status.ok()) {
    auto store = std::make_unique<SqliteLedgerStore>(*std::move(database));
    status = store->Prepare();
    if (status.ok()) return store;
  }
  return WithSubject(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_USAGE,
                v1::REASON_STATE_STORE, Message(status)),
      path);
}

}  // namespace codeseal
