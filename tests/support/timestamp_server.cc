#include "tests/support/timestamp_server.h"

#include <algorithm>
#include <string>

namespace codeseal::testing {

TimestampServer::TimestampServer(TimestampAuthority& authority)
    : authority_(authority),
      server_([this](const HttpRequest& request,
                     HttpServer::Connection& connection) {
        return Answer(request, connection);
      }) {}

void TimestampServer::SetLie(TsaLie lie) {
  const std::lock_guard lock(mutex_);
  lie_ = lie;
}

void TimestampServer::SetFault(HttpFault fault) {
  const std::lock_guard lock(mutex_);
  fault_ = fault;
}

void TimestampServer::SetDelay(absl::Duration delay) {
  const std::lock_guard lock(mutex_);
  delay_ = delay;
}

int TimestampServer::query_count() const {
  const std::lock_guard lock(mutex_);
  return query_count_;
}

int TimestampServer::most_at_once() const {
  const std::lock_guard lock(mutex_);
  return most_at_once_;
}

bool TimestampServer::WaitForQueries(int count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(10),
                           [&] { return query_count_ >= count; });
}

bool TimestampServer::Answer(const HttpRequest& request,
                             HttpServer::Connection& connection) {
  TsaLie lie = TsaLie::kNone;
  HttpFault fault = HttpFault::kNone;
  absl::Duration delay;
  {
    const std::lock_guard lock(mutex_);
    ++query_count_;
    most_at_once_ = std::max(most_at_once_, ++at_once_);
    lie = lie_;
    fault = request.path == "/ts" ? fault_ : HttpFault::kNone;
    delay = delay_;
  }
  changed_.notify_all();
  bool goes_on = true;
  if (fault == HttpFault::kStall) {
    connection.WaitUntilStopped();
    goes_on = false;
  } else if (delay > absl::ZeroDuration()) {
    goes_on = connection.Wait(delay);
  }
  {
    const std::lock_guard lock(mutex_);
    --at_once_;
  }
  if (!goes_on) return false;
  switch (fault) {
    case HttpFault::kNone:
      return connection.Send(HttpResponse(
          "200 OK", AsText(authority_.Answer(AsBytes(request.body), lie)),
          "Content-Type: application/timestamp-reply\r\n"));
    case HttpFault::kStatus500:
      return connection.Send(HttpResponse("500 Internal Server Error", "no"));
    case HttpFault::kRedirect:
      return connection.Send(
          HttpResponse("302 Found", "", "Location: /elsewhere\r\n"));
    case HttpFault::kEndless:
      if (connection.Send("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n"
                          "\r\n")) {
        connection.SendEndlessly(std::string(size_t{64} << 10, '0'));
      }
      return false;
    case HttpFault::kEndlessHeaders:
      if (connection.Send("HTTP/1.1 200 OK\r\n")) {
        connection.SendEndlessly("X-More: " + std::string(1000, 'x') + "\r\n");
      }
      return false;
    case HttpFault::kStall:
    case HttpFault::kHangUp:
      break;
  }
  return false;
}

}  // namespace codeseal::testing
