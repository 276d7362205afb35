// The threads that work for one token, and the bounded line before them. gRPC's
// threads only put work in; a token that is slow or down fills its own line and
// nobody else's.
//
//   gRPC callback -> [SigningPool of the token] -> check, sign, verify -> reply

#ifndef CODESEAL_SERVER_SIGNING_POOL_H_
#define CODESEAL_SERVER_SIGNING_POOL_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace codeseal {

// UNAVAILABLE REASON_DRAINING: nothing is begun any more.
absl::Status Stopping();

// Admission goes by time, not by length: what would wait longer than its
// deadline, or than anybody should, is refused when it comes, so that nobody
// waits in vain and no work is done for those who have gone.
//
// Thread-safe. Runs every task that Submit() took exactly once: with OK on one
// of its threads, or with the reason why not.
class SigningPool {
 public:
  struct Options {
    size_t thread_count = 1;
    size_t max_waiting = 1024;                    // tasks
    absl::Duration max_wait = absl::Seconds(10);  // of one task
  };
  struct Task {
    absl::Time deadline = absl::InfiniteFuture();
    // Asked when the task's turn comes; true drops it. May be empty.
    std::function<bool()> cancelled;
    // With an error instead of OK the work must not be done any more:
    // DEADLINE_EXCEEDED REASON_DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED
    // REASON_OVERLOADED (waited too long), CANCELLED REASON_DEADLINE_EXCEEDED.
    std::function<void(absl::Status)> run;
    // Goes to the head of the line, however long it is: the rest of work that
    // had its turn already.
    bool resumed = false;
  };

  explicit SigningPool(const Options& options);
  ~SigningPool();  // Stop()
  SigningPool(const SigningPool&) = delete;
  SigningPool& operator=(const SigningPool&) = delete;

  // Errors, and then `task.run` is not called: RESOURCE_EXHAUSTED
  // REASON_OVERLOADED when the line is full, or too slow for this task;
  // UNAVAILABLE REASON_DRAINING.
  absl::Status Submit(Task task);

  // Runs what is waiting with UNAVAILABLE REASON_DRAINING and joins; nothing is
  // taken afterwards.
  void Stop();

  size_t waiting_count() const;

 private:
  struct Waiting {
    Task task;
    absl::Time expires_at;
  };
  void Work();
  void ExpireWaiting();
  // Whether the task whose turn came is to be done: as Task::run says.
  absl::Status Admit(const Waiting& next) const;
  void Measure(bool resumed, absl::Duration sample);
  // How long a thread works for one request, lately; zero: not known.
  absl::Duration WorkTimeLocked() const;
  // Whether one more in the line would be done too late, as far as is known.
  bool IsTooSlowLocked(absl::Time now, absl::Time deadline) const;

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable work_added_;  // for Work()
  std::condition_variable watch_;       // for ExpireWaiting()
  absl::Time watch_until_ = absl::InfinitePast();
  std::deque<Waiting> line_;
  // Of one task, lately; resumed ones are the rest of new ones.
  absl::Duration new_time_ = absl::ZeroDuration();
  absl::Duration resumed_time_ = absl::ZeroDuration();
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_SIGNING_POOL_H_
