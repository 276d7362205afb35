// Asks codeseald's plain HTTP port, as a probe or Prometheus does.

#ifndef CODESEAL_TESTS_INTEGRATION_ADMIN_PAGE_H_
#define CODESEAL_TESTS_INTEGRATION_ADMIN_PAGE_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "tests/support/server_process.h"

namespace codeseal::testing {

struct AdminPage {
  long status = 0;  // 0: no answer
  std::string body;
};

// What the log says the port is; add `admin: {address: "127.0.0.1:0"}`.
inline std::string AdminAddress(const ServerProcess& server) {
  const std::string log = server.log();
  const size_t event = log.find("\"admin_listening\"");
  const std::string field = "\"address\":\"";
  const size_t begin = log.find(field, event) + field.size();
  return log.substr(begin, log.find('"', begin) - begin);
}

// `address` is "127.0.0.1:PORT". Waits five seconds for each part.
inline AdminPage GetPage(const std::string& address, const std::string& path) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(
      static_cast<uint16_t>(std::stoi(address.substr(address.find(':') + 1))));
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval patience{5, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  AdminPage page;
  const std::string request =
      "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 &&
      write(fd, request.data(), request.size()) ==
          static_cast<ssize_t>(request.size())) {
    std::string answer;
    char part[4096];
    for (ssize_t size = 0; (size = read(fd, part, sizeof part)) > 0;) {
      answer.append(part, static_cast<size_t>(size));
    }
    const size_t end = answer.find("\r\n\r\n");
    if (answer.starts_with("HTTP/1.1 ") && end != std::string::npos) {
      page.status = std::strtol(answer.c_str() + 9, nullptr, 10);
      page.body = answer.substr(end + 4);
    }
  }
  close(fd);
  return page;
}

// The value of one line of /metrics, such as
// "codeseal_identity_ready{identity=\"ec\"}"; -1 when there is none.
inline double MetricOf(const std::string& text, const std::string& name) {
  const size_t at = text.find("\n" + name + " ");
  if (at == std::string::npos) return -1;
  return std::strtod(text.c_str() + at + name.size() + 2, nullptr);
}

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_INTEGRATION_ADMIN_PAGE_H_
