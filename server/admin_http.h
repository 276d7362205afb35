// The port for those who have no client certificate: orchestrators that ask
// whether the server lives and is ready, and Prometheus. Plain HTTP; it shows
// no request and changes nothing, and belongs on loopback or a private network.
//
//   GET /livez, /readyz, /metrics -> [AdminHttp] -> pages
//
// CivetWeb speaks HTTP, on threads of its own.

#ifndef CODESEAL_SERVER_ADMIN_HTTP_H_
#define CODESEAL_SERVER_ADMIN_HTTP_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace codeseal {

struct HttpPage {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

class AdminHttp {
 public:
  // By path. Called on several threads at once.
  using Pages = std::map<std::string, std::function<HttpPage()>>;

  // `address`: "127.0.0.1:9443", "[::1]:9443"; port 0: any free one.
  // Errors: FAILED_PRECONDITION REASON_BAD_CONFIG.
  static absl::StatusOr<std::unique_ptr<AdminHttp>> Start(
      const std::string& address, Pages pages);
  // Waits for answers that are on their way.
  ~AdminHttp();
  AdminHttp(const AdminHttp&) = delete;
  AdminHttp& operator=(const AdminHttp&) = delete;

  // "127.0.0.1:41235": what the port 0 became.
  const std::string& bound_address() const { return bound_address_; }

 private:
  AdminHttp() = default;

  Pages pages_;
  std::string bound_address_;
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_ADMIN_HTTP_H_
