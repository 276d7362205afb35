// State in PostgreSQL, for several replicas. A connection is made when it is
// needed, and made again when it was lost; no call takes longer than
// PostgresOptions::timeout, twice that when it has to connect.
//
//   PostgresOptions -> MigratePostgres -> ReplicaLease, [PostgresDatabase]

#ifndef CODESEAL_SERVER_POSTGRES_DATABASE_H_
#define CODESEAL_SERVER_POSTGRES_DATABASE_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/database.h"

namespace codeseal {

struct PostgresOptions {
  std::string dsn;  // libpq's connection string; a secret
  absl::Duration timeout = absl::Seconds(3);  // of one statement
  // How long after its last sign of life a replica counts as dead.
  absl::Duration lease = absl::Seconds(10);
  uint32_t connection_count = 4;
};

// Connects to nothing yet.
std::unique_ptr<Database> MakePostgresDatabase(const PostgresOptions& options);

// Brings the schema up to date; several replicas may try at once.
// Errors: UNAVAILABLE REASON_STATE_STORE.
absl::Status MigratePostgres(const PostgresOptions& options);

// Tells the other replicas that this one is alive, a few times in each lease.
// Thread-safe.
class ReplicaLease {
 public:
  // The lease is taken when this returns. Errors: Database's.
  static absl::StatusOr<std::shared_ptr<const ReplicaLease>> Take(
      const PostgresOptions& options);
  // Ends it: what this replica left open is known to be abandoned at once.
  ~ReplicaLease();
  ReplicaLease(const ReplicaLease&) = delete;
  ReplicaLease& operator=(const ReplicaLease&) = delete;

  // New for every start of the program.
  const std::string& replica() const { return replica_; }

 private:
  explicit ReplicaLease(const PostgresOptions& options);

  absl::Status Change(const char* sql,
                      const std::vector<DatabaseValue>& values);
  absl::Status Renew();
  void Work();

  const std::string replica_;
  const absl::Duration lease_;
  const std::unique_ptr<Database> database_;  // the thread's, once it runs
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_POSTGRES_DATABASE_H_
