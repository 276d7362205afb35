#include "tests/support/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace codeseal::testing {
namespace {

void Require(bool condition, const char* what) {
  if (condition) return;
  std::perror(what);
  std::abort();
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

std::string HttpResponse(std::string_view status, std::string_view body,
                         std::string_view more) {
  return "HTTP/1.1 " + std::string(status) +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         std::string(more) + "\r\n" + std::string(body);
}

bool HttpServer::Connection::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent =
        send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

void HttpServer::Connection::SendEndlessly(std::string_view piece) {
  while (Send(piece)) {
  }
}

bool HttpServer::Connection::Wait(absl::Duration duration) {
  std::unique_lock lock(server_.mutex_);
  return !server_.stopped_.wait_for(lock, absl::ToChronoNanoseconds(duration),
                                    [this] { return server_.stopping_; });
}

void HttpServer::Connection::WaitUntilStopped() {
  std::unique_lock lock(server_.mutex_);
  server_.stopped_.wait(lock, [this] { return server_.stopping_; });
}

HttpServer::HttpServer(Handler handler) : handler_(std::move(handler)) {
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

HttpServer::~HttpServer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const int each : sockets_) shutdown(each, SHUT_RDWR);
  }
  stopped_.notify_all();
  shutdown(listener_, SHUT_RDWR);
  accept_.join();
  for (std::thread& each : threads_) each.join();
  close(listener_);
}

std::string HttpServer::Url(std::string_view path) const {
  return "http://127.0.0.1:" + std::to_string(port_) + std::string(path);
}

void HttpServer::Accept() {
  for (;;) {
    const int socket = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    const std::lock_guard lock(mutex_);
    if (stopping_ || socket < 0) {
      if (socket >= 0) close(socket);
      return;
    }
    sockets_.insert(socket);
    threads_.emplace_back([this, socket] { Serve(socket); });
  }
}

void HttpServer::Serve(int socket) {
  Connection connection(*this, socket);
  std::string buffer;
  for (;;) {
    const size_t head_size = buffer.find("\r\n\r\n");
    if (head_size == std::string::npos ||
        buffer.size() - head_size - 4 <
            BodySize(buffer.substr(0, head_size + 2))) {
      char piece[4096];
      const ssize_t got = recv(socket, piece, sizeof(piece), 0);
      if (got <= 0) break;
      buffer.append(piece, static_cast<size_t>(got));
      continue;
    }
    HttpRequest request;
    request.head = buffer.substr(0, head_size + 2);
    request.body = buffer.substr(head_size + 4, BodySize(request.head));
    buffer.erase(0, head_size + 4 + request.body.size());
    const size_t path_at = request.head.find(' ') + 1;
    request.method = request.head.substr(0, path_at - 1);
    request.path =
        request.head.substr(path_at, request.head.find(' ', path_at) - path_at);
    if (!handler_(request, connection)) break;
  }
  const std::lock_guard lock(mutex_);
  sockets_.erase(socket);
  close(socket);
}

}  // namespace codeseal::testing
