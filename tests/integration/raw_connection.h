// HTTP/2 by hand, for what no gRPC library would send.

#ifndef CODESEAL_TESTS_INTEGRATION_RAW_CONNECTION_H_
#define CODESEAL_TESTS_INTEGRATION_RAW_CONNECTION_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <string>

#include "absl/time/clock.h"
#include "tests/support/server_process.h"

namespace codeseal::testing {

// A connection with a certificate that the server trusts, and no gRPC on it.
class RawConnection {
 public:
  RawConnection(const std::string& address, const ClientFiles& files)
      : context_(SSL_CTX_new(TLS_client_method())) {
    std::signal(SIGPIPE, SIG_IGN);  // the server hangs up when it likes
    SSL_CTX_use_certificate_chain_file(context_, files.certificate.c_str());
    SSL_CTX_use_PrivateKey_file(context_, files.key.c_str(), SSL_FILETYPE_PEM);
    const unsigned char protocols[] = {2, 'h', '2'};
    SSL_CTX_set_alpn_protos(context_, protocols, sizeof protocols);
    socket_ = Connect(address);
    tls_ = SSL_new(context_);
    SSL_set_fd(tls_, socket_);
    connected_ = SSL_connect(tls_) == 1;
  }
  ~RawConnection() {
    SSL_free(tls_);
    close(socket_);
    SSL_CTX_free(context_);
  }
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;

  static int Connect(const std::string& address) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<uint16_t>(
        std::stoi(address.substr(address.rfind(':') + 1))));
    const timeval patience = {.tv_sec = 3, .tv_usec = 0};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
      close(fd);
      return -1;
    }
    return fd;
  }

  void Send(const std::string& bytes) {
    if (connected_ && !bytes.empty()) {
      SSL_write(tls_, bytes.data(), static_cast<int>(bytes.size()));
    }
  }
  // Reads what comes within this time.
  void Drain(absl::Duration time) {
    char buffer[4096];
    const absl::Time deadline = absl::Now() + time;
    while (connected_ && absl::Now() < deadline) {
      pollfd poll_fd = {socket_, POLLIN, 0};
      if (SSL_pending(tls_) == 0 && poll(&poll_fd, 1, 5) == 0) continue;
      if (SSL_read(tls_, buffer, sizeof buffer) <= 0) return;
    }
  }
  // Whether the server ends the connection within three seconds.
  bool IsEnded() {
    char buffer[4096];
    const absl::Time deadline = absl::Now() + absl::Seconds(3);
    while (connected_ && absl::Now() < deadline) {
      pollfd poll_fd = {socket_, POLLIN, 0};
      if (SSL_pending(tls_) == 0 && poll(&poll_fd, 1, 100) == 0) continue;
      if (SSL_read(tls_, buffer, sizeof buffer) <= 0) return true;
    }
    return !connected_;
  }

 private:
  SSL_CTX* const context_;
  SSL* tls_ = nullptr;
  int socket_ = -1;
  bool connected_ = false;
};

// Spec: RFC 9113, section 4.1.
inline std::string Frame(uint32_t size, uint8_t type, uint8_t flags,
                         uint32_t stream, const std::string& payload) {
  std::string frame = {
      static_cast<char>(size >> 16),   static_cast<char>(size >> 8),
      static_cast<char>(size),         static_cast<char>(type),
      static_cast<char>(flags),        static_cast<char>(stream >> 24),
      static_cast<char>(stream >> 16), static_cast<char>(stream >> 8),
      static_cast<char>(stream)};
  return frame + payload;
}
// The client's connection preface, with empty SETTINGS.
inline std::string Preface() {
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(0, 4, 0, 0, "");
}

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_INTEGRATION_RAW_CONNECTION_H_
