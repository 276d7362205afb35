#include "tests/support/postgres_cluster.h"

#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "absl/time/clock.h"
#include "tests/support/subprocess.h"

namespace codeseal::testing {
namespace {

constexpr char kPrograms[] = "/usr/lib/postgresql/15/bin/";
constexpr char kUser[] = "nobody";

[[noreturn]] void Abort(const std::string& why) {
  std::fprintf(stderr, "PostgreSQL: %s\n", why.c_str());
  std::abort();
}

std::string Run(const std::vector<std::string>& command) {
  const SubprocessResult result = RunProgram(command);
  if (result.exit_code != 0) {
    Abort(command[0] + ": " + result.out + result.err);
  }
  return result.out;
}

}  // namespace

PostgresCluster& PostgresCluster::Get() {
  static PostgresCluster cluster;
  return cluster;
}

PostgresCluster::PostgresCluster() {
  if (geteuid() == 0) {
    const passwd* const user = getpwnam(kUser);
    if (user == nullptr ||
        chown(folder_.path().c_str(), user->pw_uid, user->pw_gid) != 0) {
      Abort("cannot give a folder to " + std::string(kUser));
    }
  }
  // Nothing here outlives a crash of the machine, so nothing waits for a disk.
  Run(AsUser({std::string(kPrograms) + "initdb", "-D", folder_.Path("data"),
              "-U", "codeseal", "-A", "trust", "-E", "UTF8", "--locale=C",
              "--no-sync", "--no-instructions"}));
  Start();
}

PostgresCluster::~PostgresCluster() { Stop(); }

std::vector<std::string> PostgresCluster::AsUser(
    std::vector<std::string> command) const {
  if (geteuid() != 0) return command;
  std::vector<std::string> wrapped = {"setpriv", "--pdeathsig",   "KILL",
                                      "--reuid", kUser,           "--regid",
                                      "nogroup", "--clear-groups"};
  wrapped.insert(wrapped.end(), command.begin(), command.end());
  return wrapped;
}

void PostgresCluster::Start() {
  pid_ = StartProgram(AsUser(
      {std::string(kPrograms) + "postgres", "-D", folder_.Path("data"), "-k",
       folder_.path(), "-c", "listen_addresses=", "-c", "fsync=off", "-c",
       "max_connections=60", "-c", "shared_buffers=16MB"}));
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (RunProgram({std::string(kPrograms) + "pg_isready", "-q", "-h",
                     folder_.path()})
             .exit_code != 0) {
    if (absl::Now() > deadline) Abort("does not start");
    absl::SleepFor(absl::Milliseconds(50));
  }
}

void PostgresCluster::Stop() {
  if (pid_ < 0) return;
  Continue();
  kill(pid_, SIGQUIT);  // "immediate"
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

void PostgresCluster::SignalAll(int signal) const {
  std::ifstream children("/proc/" + std::to_string(pid_) + "/task/" +
                         std::to_string(pid_) + "/children");
  // The parent first when it is frozen, so that it starts no more.
  kill(pid_, signal);
  for (pid_t child = 0; children >> child;) kill(child, signal);
}

void PostgresCluster::Freeze() { SignalAll(SIGSTOP); }
void PostgresCluster::Continue() { SignalAll(SIGCONT); }

std::string PostgresCluster::AddDatabase() {
  const std::string name = "test" + std::to_string(++database_count_);
  Run({std::string(kPrograms) + "createdb", "-h", folder_.path(), "-U",
       "codeseal", name});
  return "host=" + folder_.path() + " user=codeseal dbname=" + name;
}

std::string PostgresCluster::Query(const std::string& dsn,
                                   const std::string& sql) const {
  return Run({std::string(kPrograms) + "psql", "-X", "-q", "-A", "-t", "-v",
              "ON_ERROR_STOP=1", "-c", sql, dsn});
}

}  // namespace codeseal::testing
