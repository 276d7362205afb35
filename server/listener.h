// The listening socket and its accept loop. gRPC 1.51's own listener never
// accepts again once the process has run out of file descriptors, so
// connections are accepted here and handed over.
//
//   TCP connection -> [Listener: caps] -> gRPC's external acceptor -> TLS

#ifndef CODESEAL_SERVER_LISTENER_H_
#define CODESEAL_SERVER_LISTENER_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/config.h"

namespace codeseal {

// The connections that were handed over and are still open. Nobody tells when
// gRPC closes one; a descriptor that no longer names the same socket (its
// inode differs) is closed. One thread at a time.
class ConnectionTable {
 public:
  // Remembers an open socket of `peer`.
  void Add(int fd, const std::string& peer);
  // Whether one more connection of `peer` keeps within both caps.
  bool HasRoom(const std::string& peer, size_t max_total, size_t max_per_peer);

  // Ends every connection that is still open, both ways; what the kernel has
  // taken is still sent.
  void ShutdownAll();

  size_t total_count() const { return connections_.size(); }

 private:
  struct Connection {
    ino_t inode;
    std::string peer;
  };
  bool WithinCaps(const std::string& peer, size_t max_total,
                  size_t max_per_peer) const;
  void Remove(std::map<int, Connection>::iterator at);
  void RemoveClosed();

  std::map<int, Connection> connections_;  // by descriptor
  std::map<std::string, size_t> count_by_peer_;
};

// Owns the socket and one thread. Start(), Stop() and the destructor are
// called by one thread.
class Listener {
 public:
  // Binds and listens; connections wait in the kernel until Start().
  // Errors: FAILED_PRECONDITION REASON_BAD_CONFIG with the address.
  static absl::StatusOr<std::unique_ptr<Listener>> Bind(
      const ListenConfig& config);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // "127.0.0.1:41235": what the port 0 became.
  const std::string& bound_address() const { return bound_address_; }

  // Accepts until Stop(). `on_connection` owns the descriptor it is given
  // (non-blocking, close-on-exec); it is called on the listener's thread.
  // Connections beyond the caps are closed at once, and so are all while the
  // process has no descriptor left; accepting always goes on. The cap is
  // lowered so that connections never take the descriptors that tokens, logs
  // and gRPC need.
  void Start(std::function<void(int fd)> on_connection);

  // Connections that were refused so far.
  uint64_t shed_count() const { return shed_count_; }

  // Closes the socket; new connections are refused by the kernel.
  void Stop();

  // Ends the connections that were handed over and are still open. A caller
  // whose call is on its way sees the connection break, which means "try again
  // elsewhere", where gRPC's own end of a server says "cancelled". Only after
  // Stop().
  void Disconnect() { connections_.ShutdownAll(); }

 private:
  Listener() = default;

  void Run();
  void AcceptOne();
  void Shed(const char* why);

  ListenConfig config_;
  std::string bound_address_;
  std::function<void(int)> on_connection_;
  ConnectionTable connections_;
  int listen_fd_ = -1;
  int stop_fd_ = -1;   // an eventfd that Stop() makes readable
  int spare_fd_ = -1;  // given up to accept and close when none is left
  std::atomic<uint64_t> shed_count_ = 0;
  std::thread thread_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_LISTENER_H_
