#include "server/admin_http.h"

#include <string_view>
#include <utility>

#include "civetweb.h"
#include "codesign/base/error.h"

namespace codeseal {
namespace {

absl::Status CannotListen(const std::string& address) {
  return WithSubject(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_USAGE,
                v1::REASON_BAD_CONFIG, "cannot listen on " + address),
      "admin.address");
}

int Answer(mg_connection* connection, const HttpPage& page) {
  mg_printf(connection,
            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            page.status, mg_get_response_code_text(connection, page.status),
            page.content_type.c_str(), page.body.size());
  mg_write(connection, page.body.data(), page.body.size());
  return page.status;
}

// CivetWeb's handler for everything.
int Handle(mg_connection* connection, void* pages_pointer) {
  const auto& pages = *static_cast<const AdminHttp::Pages*>(pages_pointer);
  const mg_request_info& request = *mg_get_request_info(connection);
  const std::string_view method = request.request_method;
  const auto page = pages.find(request.local_uri);
  if (page == pages.end())
    return Answer(connection, {404, "text/plain", "not found\n"});
  if (method != "GET")
    return Answer(connection, {405, "text/plain", "only GET\n"});
  return Answer(connection, page->second());
}

}  // namespace

struct AdminHttp::Context {
  mg_context* civetweb = nullptr;

  ~Context() {
    if (civetweb != nullptr) mg_stop(civetweb);
    mg_exit_library();
  }
};

absl::StatusOr<std::unique_ptr<AdminHttp>> AdminHttp::Start(
    const std::string& address, Pages pages) {
  std::unique_ptr<AdminHttp> server(new AdminHttp());
  server->pages_ = std::move(pages);
  mg_init_library(0);
  server->context_ = std::make_unique<Context>();
  // Few threads and short waits: whoever connects here and is slow costs
  // little.
  const char* options[] = {"listening_ports",
                           address.c_str(),
                           "num_threads",
                           "4",
                           "request_timeout_ms",
                           "5000",
                           "max_request_size",
                           "4096",
                           "enable_keep_alive",
                           "no",
                           nullptr};
  const mg_callbacks callbacks{};
  mg_context* const context = mg_start(&callbacks, nullptr, options);
  if (context == nullptr) return CannotListen(address);
  server->context_->civetweb = context;
  mg_server_port port{};
  if (mg_get_server_ports(context, 1, &port) != 1) return CannotListen(address);
  server->bound_address_ =
      address.substr(0, address.rfind(':') + 1) + std::to_string(port.port);
  mg_set_request_handler(context, "/", &Handle, &server->pages_);
  return server;
}

AdminHttp::~AdminHttp() = default;

}  // namespace codeseal
