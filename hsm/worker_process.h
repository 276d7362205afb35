// One worker process and the channels to it, seen from the process that signs.
// A call takes a channel of its own, so the calling thread itself writes and
// reads: no queue, no thread in between.
//
//   caller -- channel 1 --> worker thread 1 --> session
//   caller -- channel 2 --> worker thread 2 --> session
//   supervisor -- control --> life and logins of the worker

#ifndef CODESEAL_HSM_WORKER_PROCESS_H_
#define CODESEAL_HSM_WORKER_PROCESS_H_

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "hsm/worker_message.h"

namespace codeseal {

// An open file descriptor, closed by the destructor.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueFd();

  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

// Thread-safe. A worker that misses a deadline or breaks the protocol is killed
// and stays dead; the owner starts another.
class WorkerProcess {
 public:
  // How a call ended.
  enum class Outcome : uint8_t {
    kReply,     // the worker answered, with or without success
    kDied,      // it ended meanwhile; the call may be tried on another worker
    kTimedOut,  // it did not answer in its time and was killed
    kGaveUp,    // the caller's deadline passed; the worker goes on
  };
  struct Result {
    Outcome outcome = Outcome::kDied;
    hsm::Reply reply;  // for kReply
  };

  // Starts "<program> token-worker <fd>" and sends it `config`. Does not wait
  // for an answer.
  // Errors: UNAVAILABLE STAGE_TOKEN REASON_TOKEN_DOWN.
  static absl::StatusOr<std::shared_ptr<WorkerProcess>> Start(
      const std::string& program, const hsm::WorkerConfig& config);

  ~WorkerProcess() { HangUp(); }
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  // Sends `request` on a free channel and waits for the answer. Until
  // `deadline` the caller waits, for a channel too; an answer that takes longer
  // than `patience` costs the worker its life. When the caller leaves earlier,
  // the supervisor keeps watching the channel.
  Result Call(hsm::Request request, absl::Time deadline,
              absl::Duration patience);

  // Closes the channels and waits for the process to end; kills it when it does
  // not end by itself within a few seconds. No call may be running.
  void HangUp();
  void Kill();
  bool dead() const;

  // What the worker has said of its logins; after Join(), all it ever said.
  struct LoginRecord {
    bool accepted = false;  // at least once
    bool rejected = false;  // at least once
    bool in_doubt = false;  // one began and did not end
  };
  LoginRecord login_record() const;

  // Waits until a dead worker is gone. Safe to call from several threads.
  void Join();

  pid_t pid() const { return pid_; }

 private:
  struct Channel {
    explicit Channel(UniqueFd channel_fd)
        : fd(std::move(channel_fd)), reader(fd.get(), kMaxReplySize) {}

    UniqueFd fd;
    FrameReader reader;
    uint32_t request_number = 0;
    absl::Time abandoned_until = absl::InfiniteFuture();
  };

  WorkerProcess(pid_t pid, UniqueFd process_end, UniqueFd control,
                UniqueFd wake, std::vector<std::unique_ptr<Channel>> channels);

  // Null when the deadline passes or the worker dies.
  Channel* TakeChannel(absl::Time deadline);
  void ReturnChannel(Channel* channel);
  void Abandon(Channel* channel, absl::Time until);

  void Wake();

  // The supervisor thread: reads the control socket and abandoned channels,
  // kills when their time is up, reaps the process at its end.
  void Supervise();
  // True when the process has ended; from then on its number is not ours.
  bool Reap();
  // False at the end of the control socket.
  bool ReadControl();
  // Reads what abandoned channels got; returns the earliest time at which one
  // of them has waited long enough.
  absl::Time CheckAbandoned();

  const pid_t pid_;
  const UniqueFd process_end_;  // pidfd, readable when it has ended; may be -1
  const UniqueFd control_;
  const UniqueFd wake_;  // eventfd, written to interrupt the supervisor
  std::vector<std::unique_ptr<Channel>> channels_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Channel*> free_;  // last in, first out
  std::vector<Channel*> abandoned_;
  bool dead_ = false;
  absl::Time hang_up_at_ = absl::InfiniteFuture();  // then it is killed
  LoginRecord login_record_;

  std::mutex join_mutex_;
  std::thread supervisor_;
};

}  // namespace codeseal

#endif  // CODESEAL_HSM_WORKER_PROCESS_H_
