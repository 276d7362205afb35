#include "server/sqlite_database.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <string_view>
#include <utility>

#include "codesign/base/error.h"
#include "server/schema.h"

namespace codeseal {
namespace {

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

absl::Status SqliteFault(sqlite3* database, std::string_view doing) {
  return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TRANSPORT,
                   v1::REASON_STATE_STORE,
                   "the ledger cannot be " + std::string(doing) + ": " +
                       sqlite3_errmsg(database));
}

// One use of a prepared statement; ready for the next when it is gone. What is
// bound must live as long.
class Use {
 public:
  Use(sqlite3_stmt* statement, const std::vector<DatabaseValue>& values)
      : statement_(statement) {
    int place = 0;
    for (const DatabaseValue& each : values) Bind(++place, each);
  }
  ~Use() {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

  int Step() { return sqlite3_step(statement_); }

  DatabaseRow Row() const {
    DatabaseRow row;
    for (int i = 0; i < sqlite3_column_count(statement_); ++i) {
      row.push_back(Column(i));
    }
    return row;
  }

 private:
  void Bind(int place, const DatabaseValue& value) {
    if (const auto* const number = std::get_if<int64_t>(&value)) {
      sqlite3_bind_int64(statement_, place, *number);
    } else if (const auto* const text = std::get_if<std::string>(&value)) {
      sqlite3_bind_text(statement_, place, text->data(),
                        static_cast<int>(text->size()), SQLITE_STATIC);
    } else {
      const Bytes& bytes = std::get<Bytes>(value);
      // No pointer would be NULL.
      sqlite3_bind_blob(
          statement_, place,
          bytes.empty() ? reinterpret_cast<const uint8_t*>("") : bytes.data(),
          static_cast<int>(bytes.size()), SQLITE_STATIC);
    }
  }
  DatabaseValue Column(int column) const {
    const int type = sqlite3_column_type(statement_, column);
    if (type == SQLITE_INTEGER) {
      return int64_t{sqlite3_column_int64(statement_, column)};
    }
    const auto* const bytes =
        static_cast<const uint8_t*>(sqlite3_column_blob(statement_, column));
    const auto size =
        static_cast<size_t>(sqlite3_column_bytes(statement_, column));
    if (type == SQLITE_TEXT) return ToString({bytes, size});
    return Bytes(bytes, bytes + size);
  }

  sqlite3_stmt* statement_;
};

class SqliteDatabase : public Database {
 public:
  explicit SqliteDatabase(DatabasePtr database)
      : database_(std::move(database)) {}

  absl::Status Begin() override { return Run("BEGIN IMMEDIATE", {}).status(); }
  absl::Status Commit() override { return Run("COMMIT", {}).status(); }
  void Rollback() override { Run("ROLLBACK", {}).status().IgnoreError(); }

  absl::StatusOr<DatabaseResult> Run(
      const char* sql, const std::vector<DatabaseValue>& values) override {
    ASSIGN_OR_RETURN(sqlite3_stmt* const statement, Prepared(sql));
    const int64_t changes = sqlite3_total_changes64(database_.get());
    Use use(statement, values);
    DatabaseResult result;
    int step = use.Step();
    for (; step == SQLITE_ROW; step = use.Step()) {
      result.rows.push_back(use.Row());
    }
    if (step != SQLITE_DONE) {
      return SqliteFault(database_.get(), sqlite3_stmt_readonly(statement) != 0
                                              ? "read"
                                              : "changed");
    }
    result.changed_count = sqlite3_total_changes64(database_.get()) - changes;
    return result;
  }

  bool is_shared() const override { return false; }

 private:
  absl::StatusOr<sqlite3_stmt*> Prepared(const char* sql) {
    StatementPtr& statement = statements_[sql];
    if (statement == nullptr) {
      sqlite3_stmt* made = nullptr;
      if (sqlite3_prepare_v3(database_.get(), sql, -1,
                             SQLITE_PREPARE_PERSISTENT, &made,
                             nullptr) != SQLITE_OK) {
        return SqliteFault(database_.get(), "used");
      }
      statement.reset(made);
    }
    return statement.get();
  }

  const DatabasePtr database_;
  // Gone before the database is closed.
  std::map<const char*, StatementPtr> statements_;
};

absl::Status Execute(sqlite3* database, const std::string& sql) {
  return sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr) ==
                 SQLITE_OK
             ? absl::OkStatus()
             : SqliteFault(database, "opened");
}

absl::StatusOr<int> ReadSchemaVersion(sqlite3* database) {
  sqlite3_stmt* made = nullptr;
  if (sqlite3_prepare_v2(database, "PRAGMA user_version", -1, &made, nullptr) !=
      SQLITE_OK) {
    return SqliteFault(database, "opened");
  }
  const StatementPtr statement(made);
  if (sqlite3_step(made) != SQLITE_ROW) return SqliteFault(database, "opened");
  return sqlite3_column_int(made, 0);
}

absl::Status Migrate(sqlite3* database) {
  ASSIGN_OR_RETURN(const int version, ReadSchemaVersion(database));
  RETURN_IF_ERROR(CheckSchemaVersion(version));
  const std::span<const char* const> migrations = SchemaMigrations();
  for (size_t i = static_cast<size_t>(version); i < migrations.size(); ++i) {
    RETURN_IF_ERROR(
        Execute(database, std::string("BEGIN IMMEDIATE;") + migrations[i] +
                              "PRAGMA user_version = " + std::to_string(i + 1) +
                              ";COMMIT;"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Database>> OpenSqliteDatabase(
    const std::string& path) {
  // SQLite itself would let the group and others read.
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return FileError(errno, v1::STAGE_USAGE, "open", path);
  close(file);
  sqlite3* opened = nullptr;
  const int result =
      sqlite3_open_v2(path.c_str(), &opened,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  DatabasePtr database(opened);
  if (result != SQLITE_OK) return SqliteFault(opened, "opened");
  RETURN_IF_ERROR(Execute(opened,
                          // Another server would sign again what is open here.
                          "PRAGMA locking_mode = EXCLUSIVE;"
                          "PRAGMA journal_mode = WAL;"
                          "PRAGMA synchronous = FULL;"
                          "PRAGMA foreign_keys = ON;"));
  RETURN_IF_ERROR(Migrate(opened));
  return std::make_unique<SqliteDatabase>(std::move(database));
}

}  // namespace codeseal
