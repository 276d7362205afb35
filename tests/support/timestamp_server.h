// A TimestampAuthority behind HTTP on the loopback, with switches for delay and
// for everything that a web server can do wrong.

#ifndef CODESEAL_TESTS_SUPPORT_TIMESTAMP_SERVER_H_
#define CODESEAL_TESTS_SUPPORT_TIMESTAMP_SERVER_H_

#include <condition_variable>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "tests/support/timestamp_authority.h"

namespace codeseal::testing {

enum class HttpFault {
  kNone,
  kStatus500,
  kStall,     // takes the query and never answers
  kHangUp,    // takes the query and closes
  kRedirect,  // to another path of the same server
  kEndless,   // an answer that does not end
};

// A thread for each connection. Thread-safe.
class TimestampServer {
 public:
  // Borrows the authority.
  explicit TimestampServer(TimestampAuthority& authority);
  ~TimestampServer();
  TimestampServer(const TimestampServer&) = delete;
  TimestampServer& operator=(const TimestampServer&) = delete;

  // "http://127.0.0.1:41235/ts"
  std::string url() const;

  void SetLie(TsaLie lie);
  void SetFault(HttpFault fault);
  void SetDelay(absl::Duration delay);  // before each answer

  int query_count() const;
  int most_at_once() const;  // queries
  // Waits until so many queries came in all; false after ten seconds.
  bool WaitForQueries(int count);

 private:
  void Accept();
  void Serve(int connection);
  // False when the connection has to be closed.
  bool AnswerQuery(int connection, const std::string& path,
                   const std::string& body);

  TimestampAuthority& authority_;
  int listener_ = -1;
  uint16_t port_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  TsaLie lie_ = TsaLie::kNone;
  HttpFault fault_ = HttpFault::kNone;
  absl::Duration delay_ = absl::ZeroDuration();
  int query_count_ = 0;
  int at_once_ = 0;
  int most_at_once_ = 0;
  bool stopping_ = false;
  std::set<int> connections_;
  std::vector<std::thread> threads_;
  std::thread accept_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_TIMESTAMP_SERVER_H_
