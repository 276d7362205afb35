// A web server on the loopback that answers as a test wants, also in ways that
// no web server should.

#ifndef CODESEAL_TESTS_SUPPORT_HTTP_SERVER_H_
#define CODESEAL_TESTS_SUPPORT_HTTP_SERVER_H_

#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/time/time.h"

namespace codeseal::testing {

struct HttpRequest {
  std::string method;
  std::string path;
  std::string head;  // lines as they came
  std::string body;
};

// "HTTP/1.1 200 OK", the headers, the body. `more`: header lines, each with its
// "\r\n".
std::string HttpResponse(std::string_view status, std::string_view body,
                         std::string_view more = "");

// A thread for each connection. Thread-safe.
class HttpServer {
 public:
  // What a handler answers with. Borrows the server.
  class Connection {
   public:
    // False when the client is gone.
    bool Send(std::string_view bytes);
    // Sends the same piece until the client has enough of it.
    void SendEndlessly(std::string_view piece);
    // False when the server stops meanwhile.
    bool Wait(absl::Duration duration);
    void WaitUntilStopped();

   private:
    friend class HttpServer;
    Connection(HttpServer& server, int socket)
        : server_(server), socket_(socket) {}
    HttpServer& server_;
    const int socket_;
  };
  // Runs on the connection's thread. False: the connection is closed.
  using Handler = std::function<bool(const HttpRequest&, Connection&)>;

  explicit HttpServer(Handler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // "http://127.0.0.1:41235" and the path.
  std::string Url(std::string_view path) const;

 private:
  void Accept();
  void Serve(int socket);

  const Handler handler_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stopping_ = false;
  std::set<int> sockets_;
  std::vector<std::thread> threads_;
  std::thread accept_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_HTTP_SERVER_H_
