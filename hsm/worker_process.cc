#include "hsm/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "codesign/base/error.h"

extern char** environ;

namespace codeseal {
namespace {

// The descriptor of the control socket in the worker; channels follow it.
constexpr int kWorkerFd = 3;
// How long a worker may take to end once its sockets are closed.
constexpr absl::Duration kHangUpTime = absl::Seconds(4);
// Without a pidfd, a killed process is noticed by asking for its end this
// often.
constexpr absl::Duration kReapInterval = absl::Milliseconds(50);

absl::Status StartError(std::string_view what, int error_number) {
  return MakeError(
      absl::StatusCode::kUnavailable, v1::STAGE_TOKEN, v1::REASON_TOKEN_DOWN,
      std::string("cannot start the token worker: ").append(what).append(": ") +
          std::strerror(error_number));
}

// Milliseconds until `when` for poll(), rounded up; -1 for never.
int PollTimeout(absl::Time when) {
  if (when == absl::InfiniteFuture()) return -1;
  const int64_t milliseconds = absl::ToInt64Milliseconds(
      absl::Ceil(when - absl::Now(), absl::Milliseconds(1)));
  return static_cast<int>(
      std::clamp<int64_t>(milliseconds, 0, 24 * 3600 * 1000));
}

// A pair of connected sockets: ours, and the worker's with a number above every
// number that the worker will see, so that dup2 in the child overwrites none
// that is still needed.
absl::StatusOr<std::pair<UniqueFd, UniqueFd>> MakeSocketPair(int worker_floor) {
  std::array<int, 2> fds{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    return StartError("socketpair", errno);
  }
  UniqueFd ours(fds[0]);
  const UniqueFd low(fds[1]);
  UniqueFd theirs(fcntl(low.get(), F_DUPFD_CLOEXEC, worker_floor));
  if (theirs.get() < 0) return StartError("fcntl", errno);
  return std::pair(std::move(ours), std::move(theirs));
}

// -1 when the kernel has none.
UniqueFd OpenPidfd(pid_t pid) {
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

absl::StatusOr<pid_t> Spawn(const std::string& program,
                            const std::vector<UniqueFd>& worker_fds) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  int target = kWorkerFd;
  for (const UniqueFd& fd : worker_fds) {
    posix_spawn_file_actions_adddup2(&actions, fd.get(), target++);
  }
  posix_spawn_file_actions_addclosefrom_np(&actions, target);
  // Signals as in a fresh process, whatever this one blocks or ignores.
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const std::string path = program.empty() ? "/proc/self/exe" : program;
  std::string name = path;
  std::string word = "token-worker";
  std::string number = std::to_string(kWorkerFd);
  std::array<char*, 4> arguments = {name.data(), word.data(), number.data(),
                                    nullptr};
  pid_t pid = -1;
  const int error_number = posix_spawn(&pid, path.c_str(), &actions,
                                       &attributes, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error_number != 0) return StartError(path, error_number);
  return pid;
}

}  // namespace

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<std::shared_ptr<WorkerProcess>> WorkerProcess::Start(
    const std::string& program, const hsm::WorkerConfig& config) {
  const int floor = kWorkerFd + static_cast<int>(config.channel_count()) + 1;
  std::vector<UniqueFd> worker_fds;
  ASSIGN_OR_RETURN(auto control, MakeSocketPair(floor));
  worker_fds.push_back(std::move(control.second));
  std::vector<std::unique_ptr<Channel>> channels;
  for (uint32_t i = 0; i < config.channel_count(); ++i) {
    ASSIGN_OR_RETURN(auto pair, MakeSocketPair(floor));
    channels.push_back(std::make_unique<Channel>(std::move(pair.first)));
    worker_fds.push_back(std::move(pair.second));
  }
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (wake.get() < 0) return StartError("eventfd", errno);
  ASSIGN_OR_RETURN(const pid_t pid, Spawn(program, worker_fds));
  // A worker that is gone already shows in the first call.
  SendFrame(control.first.get(), EncodeFrame(config), MSG_DONTWAIT);
  return std::shared_ptr<WorkerProcess>(
      new WorkerProcess(pid, OpenPidfd(pid), std::move(control.first),
                        std::move(wake), std::move(channels)));
}

WorkerProcess::WorkerProcess(pid_t pid, UniqueFd process_end, UniqueFd control,
                             UniqueFd wake,
                             std::vector<std::unique_ptr<Channel>> channels)
    : pid_(pid),
      process_end_(std::move(process_end)),
      control_(std::move(control)),
      wake_(std::move(wake)),
      channels_(std::move(channels)) {
  for (const auto& channel : channels_) free_.push_back(channel.get());
  supervisor_ = std::thread([this] { Supervise(); });
}

void WorkerProcess::HangUp() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    hang_up_at_ = absl::Now() + kHangUpTime;
    for (const auto& channel : channels_) {
      shutdown(channel->fd.get(), SHUT_RDWR);
    }
    abandoned_.clear();
  }
  shutdown(control_.get(), SHUT_WR);
  Wake();
  Join();
}

void WorkerProcess::Join() {
  const std::lock_guard<std::mutex> lock(join_mutex_);
  if (supervisor_.joinable()) supervisor_.join();
}

void WorkerProcess::Wake() {
  const uint64_t one = 1;
  // Fails only when the counter is full, which wakes as well.
  [[maybe_unused]] const ssize_t written =
      write(wake_.get(), &one, sizeof(one));
}

WorkerProcess::Result WorkerProcess::Call(hsm::Request request,
                                          absl::Time deadline,
                                          absl::Duration patience) {
  Channel* const channel = TakeChannel(deadline);
  if (channel == nullptr) {
    return {dead() ? Outcome::kDied : Outcome::kGaveUp, {}};
  }
  const absl::Time start = absl::Now();
  const absl::Time patience_end = start + patience;
  const absl::Time wait_end = std::min(deadline, patience_end);
  request.set_number(++channel->request_number);
  request.set_timeout_us(
      std::max<int64_t>(1, absl::ToInt64Microseconds(wait_end - start)));
  bool alive = SendFrame(channel->fd.get(), EncodeFrame(request), MSG_DONTWAIT);
  while (alive) {
    pollfd waiting = {channel->fd.get(), POLLIN, 0};
    const int ready = poll(&waiting, 1, PollTimeout(wait_end));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) {
      if (absl::Now() < wait_end) continue;  // poll() has a maximum
      if (wait_end == patience_end) {
        Kill();
        return {Outcome::kTimedOut, {}};
      }
      Abandon(channel, patience_end);
      return {Outcome::kGaveUp, {}};
    }
    switch (channel->reader.Read(MSG_DONTWAIT)) {
      case FrameReader::Result::kPartial:
        continue;
      case FrameReader::Result::kClosed:
        alive = false;
        continue;
      case FrameReader::Result::kFrame:
        break;
    }
    absl::StatusOr<hsm::Reply> reply = ParseReply(channel->reader.frame());
    if (!reply.ok() || reply->number() != channel->request_number) {
      alive = false;
      continue;
    }
    ReturnChannel(channel);
    return {Outcome::kReply, *std::move(reply)};
  }
  Kill();
  return {Outcome::kDied, {}};
}

WorkerProcess::Channel* WorkerProcess::TakeChannel(absl::Time deadline) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!dead_) {
    if (!free_.empty()) {
      Channel* const channel = free_.back();
      free_.pop_back();
      return channel;
    }
    const absl::Duration remaining = deadline - absl::Now();
    if (remaining <= absl::ZeroDuration()) return nullptr;
    // An infinite wait would overflow the clock's arithmetic.
    changed_.wait_for(
        lock, absl::ToChronoNanoseconds(std::min(remaining, absl::Hours(1))));
  }
  return nullptr;
}

void WorkerProcess::ReturnChannel(Channel* channel) {
  const std::lock_guard<std::mutex> lock(mutex_);
  free_.push_back(channel);
  changed_.notify_one();
}

void WorkerProcess::Abandon(Channel* channel, absl::Time until) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    channel->abandoned_until = until;
    abandoned_.push_back(channel);
  }
  Wake();
}

void WorkerProcess::Kill() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (dead_) return;
    kill(pid_, SIGKILL);  // not reaped yet: that happens under this lock
    dead_ = true;
    changed_.notify_all();
  }
  Wake();
}

bool WorkerProcess::dead() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return dead_;
}

WorkerProcess::LoginRecord WorkerProcess::login_record() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return login_record_;
}

void WorkerProcess::Supervise() {
  bool connected = true;
  while (true) {
    absl::Time wake_at = CheckAbandoned();
    bool killed = false;
    // poll() ignores a descriptor of -1.
    std::vector<pollfd> waiting = {{wake_.get(), POLLIN, 0},
                                   {process_end_.get(), POLLIN, 0}};
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      wake_at = std::min(wake_at, hang_up_at_);
      killed = dead_;
      for (const Channel* channel : abandoned_) {
        waiting.push_back({channel->fd.get(), POLLIN, 0});
      }
    }
    if (absl::Now() >= wake_at) {
      Kill();
      killed = true;
    }
    if (!connected || killed) {
      if (Reap()) break;
      if (process_end_.get() < 0) wake_at = absl::Now() + kReapInterval;
    }
    if (connected) waiting.push_back({control_.get(), POLLIN, 0});
    if (poll(waiting.data(), waiting.size(), PollTimeout(wake_at)) < 0) {
      continue;
    }
    uint64_t count = 0;
    if ((waiting.front().revents & POLLIN) != 0) {
      [[maybe_unused]] const ssize_t drained =
          read(wake_.get(), &count, sizeof(count));
    }
    if (waiting[1].revents != 0 && Reap()) break;
    if (connected && waiting.back().revents != 0) connected = ReadControl();
  }
  while (ReadControl()) {
  }
}

bool WorkerProcess::Reap() {
  const std::lock_guard<std::mutex> lock(mutex_);
  const pid_t ended = waitpid(pid_, nullptr, WNOHANG);
  if (ended == 0 || (ended < 0 && errno == EINTR)) return false;
  dead_ = true;
  changed_.notify_all();
  return true;
}

bool WorkerProcess::ReadControl() {
  std::array<uint8_t, 64> events{};
  const ssize_t received =
      recv(control_.get(), events.data(), events.size(), MSG_DONTWAIT);
  if (received < 0 && errno == EINTR) return true;
  if (received <= 0) {
    // Closed; or nothing more comes, because the worker is dead.
    if (received == 0) Kill();
    return received < 0 && !dead();
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const uint8_t event :
       std::span(events).first(static_cast<size_t>(received))) {
    login_record_.in_doubt = false;
    switch (static_cast<LoginEvent>(event)) {
      case LoginEvent::kStarted:
        login_record_.in_doubt = true;
        break;
      case LoginEvent::kAccepted:
        login_record_.accepted = true;
        break;
      case LoginEvent::kRejected:
        login_record_.rejected = true;
        break;
      case LoginEvent::kFailed:
        break;
    }
  }
  return true;
}

absl::Time WorkerProcess::CheckAbandoned() {
  const std::lock_guard<std::mutex> lock(mutex_);
  absl::Time earliest = absl::InfiniteFuture();
  std::vector<Channel*> still_abandoned;
  for (Channel* channel : abandoned_) {
    const FrameReader::Result result = channel->reader.Read(MSG_DONTWAIT);
    switch (result) {
      case FrameReader::Result::kFrame:  // nobody wants it any more
        free_.push_back(channel);
        changed_.notify_one();
        break;
      case FrameReader::Result::kPartial:
        still_abandoned.push_back(channel);
        earliest = std::min(earliest, channel->abandoned_until);
        break;
      case FrameReader::Result::kClosed:
        earliest = absl::InfinitePast();
        break;
    }
  }
  abandoned_ = std::move(still_abandoned);
  return earliest;
}

}  // namespace codeseal
