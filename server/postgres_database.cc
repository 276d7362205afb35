#include "server/postgres_database.h"

#include <libpq-fe.h>
#include <poll.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/base/utf8.h"
#include "server/log.h"
#include "server/schema.h"

namespace codeseal {
namespace {

// Object ids of types; fixed for ever.
// Spec: PostgreSQL, src/include/catalog/pg_type.dat.
constexpr Oid kBytea = 17;
constexpr Oid kInt8 = 20;
constexpr Oid kInt4 = 23;
constexpr Oid kText = 25;

// After a failed attempt to connect nobody tries again for this long.
constexpr absl::Duration kReconnectPause = absl::Milliseconds(200);
constexpr int kMigrationAttempts = 10;

struct FinishConnection {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
using ConnectionPtr = std::unique_ptr<PGconn, FinishConnection>;
struct ClearResult {
  void operator()(PGresult* result) const { PQclear(result); }
};
using ResultPtr = std::unique_ptr<PGresult, ClearResult>;

absl::Status PostgresFault(std::string_view doing, std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  while (!message.empty() && message.back() == ' ') message.pop_back();
  return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TRANSPORT,
                   v1::REASON_STATE_STORE,
                   "the database cannot be " + std::string(doing) + ": " +
                       (message.empty() ? "no answer in time" : message));
}

// Waits until the socket can be read or, if asked, written; false at the
// deadline.
bool WaitFor(int socket, bool write, absl::Time deadline) {
  for (;;) {
    const absl::Duration left = deadline - absl::Now();
    if (socket < 0 || left <= absl::ZeroDuration()) return false;
    pollfd poll_fd = {socket,
                      static_cast<short>(write ? POLLIN | POLLOUT : POLLIN), 0};
    const int timeout =
        static_cast<int>(std::max<int64_t>(1, absl::ToInt64Milliseconds(left)));
    const int ready = poll(&poll_fd, 1, timeout);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

// "a = ? AND b = ?" as "a = $1 AND b = $2".
std::string NumberedPlaces(std::string_view sql) {
  std::string out;
  int count = 0;
  for (const char c : sql) {
    if (c == '?') {
      out += "$" + std::to_string(++count);
    } else {
      out.push_back(c);
    }
  }
  return out;
}

// SQLite's types by their names in PostgreSQL.
std::string Translated(std::string sql) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3>
      kWords = {{{"BLOB", "BYTEA"}, {"x''", "''"}, {"INTEGER", "BIGINT"}}};
  for (const auto& [from, to] : kWords) {
    for (size_t at = sql.find(from); at != std::string::npos;
         at = sql.find(from, at + to.size())) {
      sql.replace(at, from.size(), to);
    }
  }
  return sql;
}

// Values in the binary form of the protocol.
class Parameters {
 public:
  explicit Parameters(const std::vector<DatabaseValue>& values) {
    for (const DatabaseValue& each : values) Add(each);
    for (const std::string& each : bytes_) {
      pointers_.push_back(each.data());
      sizes_.push_back(static_cast<int>(each.size()));
      formats_.push_back(1);
    }
  }

  int count() const { return static_cast<int>(bytes_.size()); }
  const Oid* types() const { return types_.data(); }
  const char* const* pointers() const { return pointers_.data(); }
  const int* sizes() const { return sizes_.data(); }
  const int* formats() const { return formats_.data(); }

 private:
  void Add(const DatabaseValue& value) {
    if (const auto* const number = std::get_if<int64_t>(&value)) {
      std::string bytes;
      const auto bits = static_cast<uint64_t>(*number);
      for (int shift = 56; shift >= 0; shift -= 8) {
        bytes.push_back(static_cast<char>((bits >> shift) & 0xff));
      }
      bytes_.push_back(std::move(bytes));
      types_.push_back(kInt8);
    } else if (const auto* const text = std::get_if<std::string>(&value)) {
      // The database takes neither of the two.
      std::string clean = EscapeInvalidUtf8(*text);
      std::replace(clean.begin(), clean.end(), '\0', ' ');
      bytes_.push_back(std::move(clean));
      types_.push_back(kText);
    } else {
      bytes_.push_back(ToString(std::get<Bytes>(value)));
      types_.push_back(kBytea);
    }
  }

  std::vector<std::string> bytes_;
  std::vector<Oid> types_;
  std::vector<const char*> pointers_;
  std::vector<int> sizes_;
  std::vector<int> formats_;
};

DatabaseValue ReadValue(const PGresult* result, int row, int column) {
  const std::string_view bytes(
      PQgetvalue(result, row, column),
      static_cast<size_t>(PQgetlength(result, row, column)));
  switch (PQftype(result, column)) {
    case kInt8:
    case kInt4: {
      uint64_t bits = 0;
      for (const char c : bytes) bits = bits << 8 | static_cast<uint8_t>(c);
      return PQftype(result, column) == kInt8
                 ? static_cast<int64_t>(bits)
                 : int64_t{static_cast<int32_t>(bits)};
    }
    case kBytea:
      return ToBytes(AsBytes(bytes));
    default:
      return std::string(bytes);
  }
}

class PostgresDatabase : public Database {
 public:
  explicit PostgresDatabase(const PostgresOptions& options)
      : options_(options) {}

  absl::Status Begin() override {
    const bool was_connected = connection_ != nullptr;
    RETURN_IF_ERROR(Connect());
    absl::Status status = Execute("BEGIN");
    // The database was restarted since: nothing was begun, so nothing is lost.
    if (!status.ok() && was_connected && connection_ == nullptr) {
      RETURN_IF_ERROR(Connect());
      status = Execute("BEGIN");
    }
    return status;
  }
  absl::Status Commit() override { return Execute("COMMIT"); }
  void Rollback() override {
    if (connection_ != nullptr) Execute("ROLLBACK").IgnoreError();
  }

  absl::StatusOr<DatabaseResult> Run(
      const char* sql, const std::vector<DatabaseValue>& values) override {
    if (connection_ == nullptr)
      return PostgresFault("used", "the connection is lost");
    const Parameters parameters(values);
    ASSIGN_OR_RETURN(const std::string name, Prepared(sql, parameters));
    ASSIGN_OR_RETURN(const ResultPtr result, Finish([&] {
                       return PQsendQueryPrepared(
                           connection_.get(), name.c_str(), parameters.count(),
                           parameters.pointers(), parameters.sizes(),
                           parameters.formats(), 1);
                     }));
    DatabaseResult read;
    for (int row = 0; row < PQntuples(result.get()); ++row) {
      DatabaseRow& values_of_row = read.rows.emplace_back();
      for (int column = 0; column < PQnfields(result.get()); ++column) {
        values_of_row.push_back(ReadValue(result.get(), row, column));
      }
    }
    read.changed_count = std::atoll(PQcmdTuples(result.get()));
    return read;
  }

  bool is_shared() const override { return true; }
  bool connected() const { return connection_ != nullptr; }

  // Several statements without values.
  absl::Status Execute(const std::string& sql) {
    if (connection_ == nullptr)
      return PostgresFault("used", "the connection is lost");
    return Finish([&] { return PQsendQuery(connection_.get(), sql.c_str()); })
        .status();
  }

 private:
  absl::Status Connect() {
    if (connection_ != nullptr) return absl::OkStatus();
    const absl::Time now = absl::Now();
    if (now < connect_at_) return connect_fault_;
    connect_fault_ = TryConnect(now + options_.timeout);
    if (!connect_fault_.ok()) {
      connection_.reset();
      connect_at_ = absl::Now() + kReconnectPause;
    }
    return connect_fault_;
  }

  absl::Status TryConnect(absl::Time deadline) {
    statements_.clear();
    const std::array<const char*, 3> keywords = {"dbname", "application_name",
                                                 nullptr};
    const std::array<const char*, 3> values = {options_.dsn.c_str(),
                                               "codeseald", nullptr};
    connection_.reset(PQconnectStartParams(keywords.data(), values.data(), 1));
    if (connection_ == nullptr) return PostgresFault("reached", "no memory");
    PGconn* const connection = connection_.get();
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    while (PQstatus(connection) != CONNECTION_BAD &&
           state != PGRES_POLLING_OK && state != PGRES_POLLING_FAILED) {
      const bool write = state == PGRES_POLLING_WRITING;
      if (!WaitFor(PQsocket(connection), write, deadline)) {
        return PostgresFault("reached", "");
      }
      state = PQconnectPoll(connection);
    }
    if (PQstatus(connection) != CONNECTION_OK) {
      return PostgresFault("reached", PQerrorMessage(connection));
    }
    PQsetnonblocking(connection, 1);
    // A server that has lost us gives its locks back.
    const std::string milliseconds =
        std::to_string(absl::ToInt64Milliseconds(options_.timeout));
    return Execute("SET statement_timeout = " + milliseconds +
                   "; SET lock_timeout = " + milliseconds +
                   "; SET idle_in_transaction_session_timeout = " +
                   milliseconds + "; SET synchronous_commit = on" +
                   "; SET client_min_messages = warning");
  }

  // The last result of what `send` sends. A connection that does not answer in
  // time is closed: nobody knows what became of the statement.
  template <typename Send>
  absl::StatusOr<ResultPtr> Finish(const Send& send) {
    const absl::Time deadline = absl::Now() + options_.timeout;
    PGconn* const connection = connection_.get();
    ResultPtr last;
    if (send() != 1) return Lost();
    for (;;) {
      const int flushed = PQflush(connection);
      if (flushed < 0) return Lost();
      if (flushed == 0 && PQisBusy(connection) == 0) {
        ResultPtr next(PQgetResult(connection));
        if (next == nullptr) break;
        // The first error is what matters.
        if (last == nullptr || !IsError(last.get())) last = std::move(next);
        continue;
      }
      if (!WaitFor(PQsocket(connection), flushed > 0, deadline)) {
        connection_.reset();
        return PostgresFault("used", "");
      }
      if (PQconsumeInput(connection) != 1) return Lost();
    }
    if (last == nullptr || PQstatus(connection) != CONNECTION_OK) return Lost();
    if (IsError(last.get())) {
      return PostgresFault("used", PQresultErrorMessage(last.get()));
    }
    return last;
  }

  absl::Status Lost() {
    absl::Status status =
        PostgresFault("used", PQerrorMessage(connection_.get()));
    connection_.reset();
    return status;
  }

  static bool IsError(const PGresult* result) {
    const ExecStatusType status = PQresultStatus(result);
    return status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK;
  }

  absl::StatusOr<std::string> Prepared(const char* sql,
                                       const Parameters& parameters) {
    const auto known = statements_.find(sql);
    if (known != statements_.end()) return known->second;
    std::string name = "s" + std::to_string(statements_.size());
    const std::string text = NumberedPlaces(sql);
    RETURN_IF_ERROR(Finish([&] {
                      return PQsendPrepare(connection_.get(), name.c_str(),
                                           text.c_str(), parameters.count(),
                                           parameters.types());
                    }).status());
    statements_[sql] = name;
    return name;
  }

  const PostgresOptions options_;
  ConnectionPtr connection_;  // null: not connected
  absl::Time connect_at_ = absl::InfinitePast();
  absl::Status connect_fault_;
  std::map<const char*, std::string> statements_;
};

absl::Status MigrateOnce(PostgresDatabase& database) {
  RETURN_IF_ERROR(database.Begin());
  RETURN_IF_ERROR(database.Execute(
      "CREATE TABLE IF NOT EXISTS codeseal_schema ("
      "  one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),"
      "  version BIGINT NOT NULL);"
      "INSERT INTO codeseal_schema VALUES (1, 0) ON CONFLICT DO NOTHING"));
  // Others wait here.
  ASSIGN_OR_RETURN(
      const DatabaseResult found,
      database.Run("SELECT version FROM codeseal_schema FOR UPDATE", {}));
  const auto version = static_cast<int>(found.Number(0, 0));
  RETURN_IF_ERROR(CheckSchemaVersion(version));
  const std::span<const char* const> migrations = SchemaMigrations();
  for (size_t i = static_cast<size_t>(version); i < migrations.size(); ++i) {
    RETURN_IF_ERROR(database.Execute(Translated(migrations[i])));
    RETURN_IF_ERROR(database
                        .Run("UPDATE codeseal_schema SET version = ?",
                             {static_cast<int64_t>(i + 1)})
                        .status());
  }
  return database.Commit();
}

std::string NewReplicaId() {
  std::array<uint8_t, 16> id{};
  // Up to 256 bytes come at once or not at all.
  while (getrandom(id.data(), id.size(), 0) !=
         static_cast<ssize_t>(id.size())) {
    if (errno != EINTR) std::abort();
  }
  return HexEncode(id);
}

constexpr char kRenewLease[] =
    "INSERT INTO replicas (id, alive_until_ms) VALUES (?, CAST(extract(epoch "
    "FROM clock_timestamp()) * 1000 AS BIGINT) + ?) ON CONFLICT (id) DO UPDATE "
    "SET alive_until_ms = excluded.alive_until_ms";
constexpr char kEndLease[] = "DELETE FROM replicas WHERE id = ?";
constexpr char kForgetDead[] =
    "DELETE FROM replicas WHERE alive_until_ms < CAST(extract(epoch FROM "
    "clock_timestamp()) * 1000 AS BIGINT) - 86400000";

}  // namespace

std::unique_ptr<Database> MakePostgresDatabase(const PostgresOptions& options) {
  return std::make_unique<PostgresDatabase>(options);
}

absl::Status MigratePostgres(const PostgresOptions& options) {
  PostgresDatabase database(options);
  absl::Status status;
  // Two replicas that make the same table collide once.
  for (int attempt = 0; attempt < kMigrationAttempts; ++attempt) {
    status = MigrateOnce(database);
    if (status.ok() || !database.connected()) return status;
    database.Rollback();
    absl::SleepFor(absl::Milliseconds(50));
  }
  return status;
}

ReplicaLease::ReplicaLease(const PostgresOptions& options)
    : replica_(NewReplicaId()),
      lease_(options.lease),
      database_(MakePostgresDatabase(options)) {}

absl::StatusOr<std::shared_ptr<const ReplicaLease>> ReplicaLease::Take(
    const PostgresOptions& options) {
  std::shared_ptr<ReplicaLease> lease(new ReplicaLease(options));
  RETURN_IF_ERROR(lease->Renew());
  lease->Change(kForgetDead, {}).IgnoreError();
  lease->thread_ = std::thread([each = lease.get()] { each->Work(); });
  return std::shared_ptr<const ReplicaLease>(std::move(lease));
}

ReplicaLease::~ReplicaLease() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_one();
  if (thread_.joinable()) thread_.join();
  Change(kEndLease, {replica_}).IgnoreError();
}

absl::Status ReplicaLease::Change(const char* sql,
                                  const std::vector<DatabaseValue>& values) {
  RETURN_IF_ERROR(database_->Begin());
  absl::Status status = database_->Run(sql, values).status();
  if (status.ok()) status = database_->Commit();
  if (!status.ok()) database_->Rollback();
  return status;
}

absl::Status ReplicaLease::Renew() {
  return Change(kRenewLease,
                {replica_, int64_t{absl::ToInt64Milliseconds(lease_)}});
}

void ReplicaLease::Work() {
  std::unique_lock lock(mutex_);
  while (!stop_.wait_for(lock, absl::ToChronoNanoseconds(lease_ / 4),
                         [this] { return stopping_; })) {
    lock.unlock();
    const absl::Status renewed = Renew();
    if (!renewed.ok()) {
      LogStatus(LogLevel::kError, "lease_not_renewed", renewed,
                {{"replica", replica_}});
    }
    lock.lock();
  }
}

}  // namespace codeseal
