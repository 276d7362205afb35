#include "server/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <utility>

#include "codesign/base/error.h"
#include "server/log.h"

namespace codeseal {
namespace {

// Descriptors that connections never take: token workers' sockets, files read
// at a reload, gRPC's own events.
constexpr size_t kReservedDescriptors = 16;

absl::Status BindError(const std::string& address, const std::string& why) {
  return WithSubject(MakeError(absl::StatusCode::kFailedPrecondition,
                               v1::STAGE_USAGE, v1::REASON_BAD_CONFIG,
                               "cannot listen on " + address + ": " + why),
                     "listen.address");
}

std::string FormatAddress(const sockaddr_storage& address, socklen_t size,
                          bool with_port) {
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (getnameinfo(reinterpret_cast<const sockaddr*>(&address), size,
                  host.data(), host.size(), port.data(), port.size(),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "unknown";
  }
  const std::string name = host.data();
  if (!with_port) return name;
  return (name.find(':') == std::string::npos ? name : "[" + name + "]") + ":" +
         port.data();
}

// Whom the cap per peer counts: an IPv4 address, or an IPv6 /64, since one
// host may use all of its own.
std::string PeerName(sockaddr_storage address, socklen_t size) {
  if (address.ss_family == AF_INET6) {
    auto* const v6 = reinterpret_cast<sockaddr_in6*>(&address);
    if (!IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
      std::fill(std::begin(v6->sin6_addr.s6_addr) + 8,
                std::end(v6->sin6_addr.s6_addr), uint8_t{0});
    }
  }
  return FormatAddress(address, size, false);
}

void CloseIfOpen(int& fd) {
  if (fd >= 0) close(fd);
  fd = -1;
}

int OpenSpare() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

// The largest number of connections that leaves the reserve untouched.
size_t DescriptorsForConnections() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return SIZE_MAX;
  std::error_code error;
  const std::filesystem::directory_iterator open_files("/proc/self/fd", error);
  const auto used = static_cast<size_t>(
      error ? 64 : std::distance(begin(open_files), end(open_files)));
  const size_t taken = used + kReservedDescriptors;
  return limit.rlim_cur > taken ? limit.rlim_cur - taken : 1;
}

}  // namespace

void ConnectionTable::Add(int fd, const std::string& peer) {
  // The kernel gave the number anew: what it named before is closed.
  if (const auto old = connections_.find(fd); old != connections_.end()) {
    Remove(old);
  }
  struct stat info{};
  if (fstat(fd, &info) != 0) return;
  connections_[fd] = {info.st_ino, peer};
  ++count_by_peer_[peer];
}

bool ConnectionTable::HasRoom(const std::string& peer, size_t max_total,
                              size_t max_per_peer) {
  if (WithinCaps(peer, max_total, max_per_peer)) return true;
  RemoveClosed();
  return WithinCaps(peer, max_total, max_per_peer);
}

bool ConnectionTable::WithinCaps(const std::string& peer, size_t max_total,
                                 size_t max_per_peer) const {
  const auto count = count_by_peer_.find(peer);
  return connections_.size() < max_total &&
         (count == count_by_peer_.end() || count->second < max_per_peer);
}

void ConnectionTable::Remove(std::map<int, Connection>::iterator at) {
  const auto count = count_by_peer_.find(at->second.peer);
  if (--count->second == 0) count_by_peer_.erase(count);
  connections_.erase(at);
}

void ConnectionTable::RemoveClosed() {
  for (auto at = connections_.begin(); at != connections_.end();) {
    const auto each = at++;
    struct stat info{};
    if (fstat(each->first, &info) != 0 || info.st_ino != each->second.inode) {
      Remove(each);
    }
  }
}

void ConnectionTable::ShutdownAll() {
  RemoveClosed();
  for (const auto& each : connections_) shutdown(each.first, SHUT_RDWR);
}

absl::StatusOr<std::unique_ptr<Listener>> Listener::Bind(
    const ListenConfig& config) {
  std::unique_ptr<Listener> listener(new Listener());
  listener->config_ = config;

  // "[::]:8443" or "127.0.0.1:8443"; the configuration checked the shape.
  const size_t colon = config.address.rfind(':');
  if (colon == std::string::npos) {
    return BindError(config.address, "want HOST:PORT");
  }
  std::string host = config.address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int lookup = getaddrinfo(
      host.c_str(), config.address.substr(colon + 1).c_str(), &hints, &found);
  if (lookup != 0) return BindError(config.address, gai_strerror(lookup));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> address(
      found, &freeaddrinfo);

  listener->listen_fd_ =
      socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  const int off = 0;
  const int fd = listener->listen_fd_;
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      (address->ai_family == AF_INET6 &&
       setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) != 0) ||
      bind(fd, address->ai_addr, address->ai_addrlen) != 0 ||
      listen(fd, SOMAXCONN) != 0) {
    return BindError(config.address, std::strerror(errno));
  }
  sockaddr_storage bound{};
  socklen_t bound_size = sizeof bound;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &bound_size) != 0) {
    return BindError(config.address, std::strerror(errno));
  }
  listener->bound_address_ = FormatAddress(bound, bound_size, true);
  listener->stop_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  listener->spare_fd_ = OpenSpare();
  if (listener->stop_fd_ < 0 || listener->spare_fd_ < 0) {
    return BindError(config.address, std::strerror(errno));
  }
  return listener;
}

Listener::~Listener() {
  Stop();
  CloseIfOpen(listen_fd_);
  CloseIfOpen(stop_fd_);
  CloseIfOpen(spare_fd_);
}

void Listener::Start(std::function<void(int fd)> on_connection) {
  on_connection_ = std::move(on_connection);
  const size_t room = DescriptorsForConnections();
  if (room < config_.max_connections) {
    Log(LogLevel::kWarning, "connections_capped",
        {{"configured", std::to_string(config_.max_connections)},
         {"possible", std::to_string(room)},
         {"because", "the limit of open files (ulimit -n) allows no more"}});
    config_.max_connections = static_cast<uint32_t>(room);
  }
  thread_ = std::thread([this] { Run(); });
}

void Listener::Stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  while (write(stop_fd_, &one, sizeof one) < 0 && errno == EINTR) {
  }
  thread_.join();
  CloseIfOpen(listen_fd_);
}

void Listener::Run() {
  for (;;) {
    std::array<pollfd, 2> events = {
        {{stop_fd_, POLLIN, 0}, {listen_fd_, POLLIN, 0}}};
    if (poll(events.data(), events.size(), -1) < 0) continue;
    if (events[0].revents != 0) return;
    if (events[1].revents != 0) AcceptOne();
  }
}

void Listener::AcceptOne() {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  const int fd = accept4(listen_fd_, reinterpret_cast<sockaddr*>(&address),
                         &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS &&
        errno != ENOMEM) {
      return;  // the peer has gone already
    }
    // Take the connection off the queue all the same, or poll() would spin.
    CloseIfOpen(spare_fd_);
    const int shed = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (shed >= 0) close(shed);
    spare_fd_ = OpenSpare();
    if (shed < 0 || spare_fd_ < 0) {  // another thread took the descriptor
      pollfd stop{stop_fd_, POLLIN, 0};
      poll(&stop, 1, 10);
    }
    Shed("no file descriptor left");
    return;
  }
  const std::string peer = PeerName(address, size);
  if (!connections_.HasRoom(peer, config_.max_connections, config_.per_peer)) {
    close(fd);
    Shed("too many connections");
    return;
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  connections_.Add(fd, peer);
  on_connection_(fd);
}

void Listener::Shed(const char* why) {
  const uint64_t refused = ++shed_count_;
  // A flood must not become a flood of log lines: 1, 2, 4, 8, ...
  if (!std::has_single_bit(refused)) return;
  Log(LogLevel::kWarning, "connection_refused",
      {{"because", why}, {"refused_so_far", std::to_string(refused)}});
}

}  // namespace codeseal
