#include "tests/support/timestamp_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace codeseal::testing {
namespace {

void Require(bool condition, const char* what) {
  if (condition) return;
  std::perror(what);
  std::abort();
}

bool SendAll(int connection, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent =
        send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

std::string Response(std::string_view status, std::string_view body,
                     std::string_view more = "") {
  return "HTTP/1.1 " + std::string(status) +
         "\r\nContent-Type: application/timestamp-reply\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n" + std::string(more) + "\r\n" +
         std::string(body);
}

// The value of Content-Length.
size_t BodySize(std::string head) {
  std::transform(head.begin(), head.end(), head.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  const size_t at = head.find("\r\ncontent-length:");
  return at == std::string::npos
             ? 0
             : std::strtoul(head.c_str() + at + 17, nullptr, 10);
}

}  // namespace

TimestampServer::TimestampServer(TimestampAuthority& authority)
    : authority_(authority) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  Require(listener_ >= 0, "socket");
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  Require(bind(listener_, reinterpret_cast<sockaddr*>(&address),
               sizeof(address)) == 0,
          "bind");
  Require(listen(listener_, 1024) == 0, "listen");
  socklen_t size = sizeof(address);
  getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  accept_ = std::thread([this] { Accept(); });
}

TimestampServer::~TimestampServer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const int connection : connections_) shutdown(connection, SHUT_RDWR);
  }
  changed_.notify_all();
  shutdown(listener_, SHUT_RDWR);
  accept_.join();
  for (std::thread& each : threads_) each.join();
  close(listener_);
}

std::string TimestampServer::url() const {
  return "http://127.0.0.1:" + std::to_string(port_) + "/ts";
}

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

void TimestampServer::Accept() {
  for (;;) {
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    const std::lock_guard lock(mutex_);
    if (stopping_ || connection < 0) {
      if (connection >= 0) close(connection);
      return;
    }
    connections_.insert(connection);
    threads_.emplace_back([this, connection] { Serve(connection); });
  }
}

void TimestampServer::Serve(int connection) {
  std::string buffer;
  for (;;) {
    char piece[4096];
    const size_t head_size = buffer.find("\r\n\r\n");
    if (head_size == std::string::npos ||
        buffer.size() - head_size - 4 <
            BodySize(buffer.substr(0, head_size + 2))) {
      const ssize_t got = recv(connection, piece, sizeof(piece), 0);
      if (got <= 0) break;
      buffer.append(piece, static_cast<size_t>(got));
      continue;
    }
    const std::string head = buffer.substr(0, head_size + 2);
    const std::string body = buffer.substr(head_size + 4, BodySize(head));
    buffer.erase(0, head_size + 4 + body.size());
    const size_t path_at = head.find(' ') + 1;
    if (!AnswerQuery(connection,
                     head.substr(path_at, head.find(' ', path_at) - path_at),
                     body)) {
      break;
    }
  }
  const std::lock_guard lock(mutex_);
  connections_.erase(connection);
  close(connection);
}

bool TimestampServer::AnswerQuery(int connection, const std::string& path,
                                  const std::string& body) {
  TsaLie lie = TsaLie::kNone;
  HttpFault fault = HttpFault::kNone;
  {
    std::unique_lock lock(mutex_);
    ++query_count_;
    most_at_once_ = std::max(most_at_once_, ++at_once_);
    changed_.notify_all();
    lie = lie_;
    fault = path == "/ts" ? fault_ : HttpFault::kNone;
    const auto stopped = [this] { return stopping_; };
    if (fault == HttpFault::kStall) {
      changed_.wait(lock, stopped);
    } else if (delay_ > absl::ZeroDuration()) {
      changed_.wait_for(lock, absl::ToChronoNanoseconds(delay_), stopped);
    }
    --at_once_;
    if (stopping_) return false;
  }
  switch (fault) {
    case HttpFault::kNone:
      return SendAll(
          connection,
          Response("200 OK", AsText(authority_.Answer(AsBytes(body), lie))));
    case HttpFault::kStatus500:
      return SendAll(connection, Response("500 Internal Server Error", "no"));
    case HttpFault::kRedirect:
      return SendAll(connection,
                     Response("302 Found", "", "Location: /elsewhere\r\n"));
    case HttpFault::kEndless: {
      const std::string piece(size_t{64} << 10, '0');
      bool sent = SendAll(connection,
                          "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n"
                          "\r\n");
      while (sent) sent = SendAll(connection, piece);
      return false;
    }
    case HttpFault::kStall:
    case HttpFault::kHangUp:
      break;
  }
  return false;
}

}  // namespace codeseal::testing
