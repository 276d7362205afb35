// A PostgreSQL of the test's own: a cluster in a temporary folder, on a Unix
// socket there, with nobody's rights when the test has root's.
//
//   PostgresCluster -> dsn -> state: {postgres: {dsn_file: ...}}

#ifndef CODESEAL_TESTS_SUPPORT_POSTGRES_CLUSTER_H_
#define CODESEAL_TESTS_SUPPORT_POSTGRES_CLUSTER_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/support/temp_folder.h"

namespace codeseal::testing {

// Failures abort the test program.
class PostgresCluster {
 public:
  // The one of this program: making one takes seconds. Ends with it.
  static PostgresCluster& Get();

  PostgresCluster();
  ~PostgresCluster();
  PostgresCluster(const PostgresCluster&) = delete;
  PostgresCluster& operator=(const PostgresCluster&) = delete;

  // A new, empty database; libpq's connection string for it.
  std::string AddDatabase();

  // What a query returns, one row a line, columns between '|'.
  std::string Query(const std::string& dsn, const std::string& sql) const;

  void Start();
  // As a crash would; connections break at once.
  void Stop();
  // Nobody answers any more, but nothing breaks. Until Continue().
  void Freeze();
  void Continue();

 private:
  std::vector<std::string> AsUser(std::vector<std::string> command) const;
  void SignalAll(int signal) const;

  TempFolder folder_;
  pid_t pid_ = -1;
  int database_count_ = 0;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_POSTGRES_CLUSTER_H_
