// A TimestampAuthority behind HTTP on the loopback, with switches for delay and
// for everything that a web server can do wrong.

#ifndef CODESEAL_TESTS_SUPPORT_TIMESTAMP_SERVER_H_
#define CODESEAL_TESTS_SUPPORT_TIMESTAMP_SERVER_H_

#include <condition_variable>
#include <mutex>
#include <string>

#include "absl/time/time.h"
#include "tests/support/http_server.h"
#include "tests/support/timestamp_authority.h"

namespace codeseal::testing {

enum class HttpFault {
  kNone,
  kStatus500,
  kStall,     // takes the query and never answers
  kHangUp,    // takes the query and closes
  kRedirect,  // to another path of the same server
  kEndless,   // an answer that does not end
  kEndlessHeaders,
};

// Thread-safe.
class TimestampServer {
 public:
  // Borrows the authority.
  explicit TimestampServer(TimestampAuthority& authority);
  TimestampServer(const TimestampServer&) = delete;
  TimestampServer& operator=(const TimestampServer&) = delete;

  // "http://127.0.0.1:41235/ts"
  std::string url() const { return server_.Url("/ts"); }

  void SetLie(TsaLie lie);
  void SetFault(HttpFault fault);
  void SetDelay(absl::Duration delay);  // before each answer

  int query_count() const;
  int most_at_once() const;  // queries
  // Waits until so many queries came in all; false after ten seconds.
  bool WaitForQueries(int count);

 private:
  bool Answer(const HttpRequest& request, HttpServer::Connection& connection);

  TimestampAuthority& authority_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  TsaLie lie_ = TsaLie::kNone;
  HttpFault fault_ = HttpFault::kNone;
  absl::Duration delay_ = absl::ZeroDuration();
  int query_count_ = 0;
  int at_once_ = 0;
  int most_at_once_ = 0;
  HttpServer server_;  // last: its threads use all of the above
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_TIMESTAMP_SERVER_H_
