#include "server/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

// Keeps the accepted descriptors, as gRPC would.
class ListenerTest : public ::testing::Test {
 protected:
  void Start(ListenConfig config) {
    config.address = "127.0.0.1:0";
    absl::StatusOr<std::unique_ptr<Listener>> listener = Listener::Bind(config);
    ASSERT_THAT(listener, IsOk());
    listener_ = *std::move(listener);
    listener_->Start([this](int fd) {
      const std::lock_guard lock(mutex_);
      accepted_.push_back(fd);
      changed_.notify_all();
    });
  }
  ~ListenerTest() override {
    listener_.reset();
    for (const int fd : accepted_) close(fd);
    for (const int fd : clients_) close(fd);
  }

  bool WaitForAccepted(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10),
                             [&] { return accepted_.size() >= count; });
  }
  void CloseAccepted() {
    const std::lock_guard lock(mutex_);
    for (const int fd : accepted_) close(fd);
    accepted_.clear();
  }

  int NewSocket() {
    clients_.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return clients_.back();
  }
  void Connect(int fd) {
    const std::string& bound = listener_->bound_address();
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(
        static_cast<uint16_t>(std::stoi(bound.substr(bound.rfind(':') + 1))));
    ASSERT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address),
                      sizeof address),
              0);
  }
  // Whether the other side closes the connection.
  static bool IsClosed(int fd) {
    pollfd event{fd, POLLIN, 0};
    char byte = 0;
    return poll(&event, 1, 10'000) == 1 && recv(fd, &byte, 1, 0) <= 0;
  }

  std::unique_ptr<Listener> listener_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int> accepted_;
  std::vector<int> clients_;
};

TEST_F(ListenerTest, HandsOverNonBlockingConnections) {
  Start({});
  Connect(NewSocket());
  ASSERT_TRUE(WaitForAccepted(1));
  EXPECT_NE(fcntl(accepted_[0], F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(fcntl(accepted_[0], F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(ListenerTest, CapPerPeerIsFreedByClosing) {
  ListenConfig config;
  config.per_peer = 2;
  Start(config);
  Connect(NewSocket());
  Connect(NewSocket());
  ASSERT_TRUE(WaitForAccepted(2));
  const int third = NewSocket();
  Connect(third);
  EXPECT_TRUE(IsClosed(third));
  CloseAccepted();
  Connect(NewSocket());
  EXPECT_TRUE(WaitForAccepted(1));
}

TEST_F(ListenerTest, TotalCapHolds) {
  ListenConfig config;
  config.max_connections = 1;
  Start(config);
  Connect(NewSocket());
  ASSERT_TRUE(WaitForAccepted(1));
  const int second = NewSocket();
  Connect(second);
  EXPECT_TRUE(IsClosed(second));
}

TEST_F(ListenerTest, SurvivesRunningOutOfDescriptors) {
#ifdef CODESEAL_SANITIZED
  GTEST_SKIP() << "UBSan opens a pipe to look at a vptr, which must fail here";
#endif
  Start({});
  std::vector<int> sockets;
  for (int i = 0; i < 8; ++i) sockets.push_back(NewSocket());
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const int next = dup(0);  // the lowest free descriptor
  close(next);
  rlimit low = limit;
  low.rlim_cur = static_cast<rlim_t>(next);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  int failing = 0;
  for (const int each : sockets) {
    Connect(each);
    failing += IsClosed(each) ? 1 : 0;
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(failing, 8);
  Connect(NewSocket());
  EXPECT_TRUE(WaitForAccepted(1));
}

TEST_F(ListenerTest, StopRefusesConnections) {
  Start({});
  const std::string bound = listener_->bound_address();
  listener_->Stop();
  ListenConfig again;
  again.address = bound;
  EXPECT_THAT(Listener::Bind(again), IsOk());
}

TEST_F(ListenerTest, DisconnectEndsWhatIsOpen) {
  Start({});
  const int client = NewSocket();
  Connect(client);
  ASSERT_TRUE(WaitForAccepted(1));
  listener_->Stop();
  listener_->Disconnect();
  EXPECT_TRUE(IsClosed(client));
}

TEST_F(ListenerTest, AnAddressInUseIsAnError) {
  Start({});
  ListenConfig again;
  again.address = listener_->bound_address();
  EXPECT_THAT(Listener::Bind(again), HasReason(v1::REASON_BAD_CONFIG));
}

TEST(ConnectionTableTest, AReusedDescriptorIsANewConnection) {
  ConnectionTable table;
  const int first = socket(AF_INET, SOCK_STREAM, 0);
  table.Add(first, "a");
  EXPECT_FALSE(table.HasRoom("a", 10, 1));
  close(first);
  const int second = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(second, first);
  EXPECT_TRUE(table.HasRoom("a", 10, 1));
  table.Add(second, "b");
  EXPECT_EQ(table.total_count(), 1u);
  EXPECT_FALSE(table.HasRoom("c", 1, 10));
  close(second);
  EXPECT_TRUE(table.HasRoom("c", 1, 10));
  EXPECT_EQ(table.total_count(), 0u);
}

}  // namespace
}  // namespace codeseal
