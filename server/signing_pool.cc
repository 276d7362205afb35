#include "server/signing_pool.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "codesign/base/error.h"

namespace codeseal {
namespace {

// Work that can't be done and sent back in this time is not begun.
constexpr absl::Duration kTimeForReply = absl::Milliseconds(20);

absl::Status Expired(absl::Time now, absl::Time deadline) {
  if (now >= deadline - kTimeForReply) {
    return MakeError(absl::StatusCode::kDeadlineExceeded, v1::STAGE_TRANSPORT,
                     v1::REASON_DEADLINE_EXCEEDED,
                     "the deadline passed before the token was free");
  }
  return MakeError(absl::StatusCode::kResourceExhausted, v1::STAGE_TRANSPORT,
                   v1::REASON_OVERLOADED,
                   "the token was busy for too long; try again later");
}

}  // namespace

absl::Status Stopping() {
  return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TRANSPORT,
                   v1::REASON_DRAINING, "the server is stopping");
}

SigningPool::SigningPool(const Options& options) : options_(options) {
  for (size_t i = 0; i < options_.thread_count; ++i) {
    threads_.emplace_back([this] { Work(); });
  }
  threads_.emplace_back([this] { ExpireWaiting(); });
}

SigningPool::~SigningPool() { Stop(); }

void SigningPool::Stop() {
  std::deque<Waiting> rest;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    rest.swap(line_);
  }
  work_added_.notify_all();
  watch_.notify_all();
  for (Waiting& each : rest) each.task.run(Stopping());
  for (std::thread& each : threads_) each.join();
  threads_.clear();
}

absl::Status SigningPool::Submit(Task task) {
  const absl::Time now = absl::Now();
  const absl::Time expires_at =
      std::min(task.deadline - kTimeForReply, now + options_.max_wait);
  bool wake_watch = false;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Stopping();
    if (!task.resumed && line_.size() >= options_.max_waiting) {
      return MakeError(absl::StatusCode::kResourceExhausted,
                       v1::STAGE_TRANSPORT, v1::REASON_OVERLOADED,
                       "too many requests wait for the token; try again later");
    }
    if (!task.resumed && IsTooSlowLocked(now, task.deadline)) {
      return MakeError(absl::StatusCode::kResourceExhausted,
                       v1::STAGE_TRANSPORT, v1::REASON_OVERLOADED,
                       "the token will not be free in time; try again later");
    }
    wake_watch = expires_at < watch_until_;
    if (task.resumed) {
      line_.push_front({std::move(task), expires_at});
    } else {
      line_.push_back({std::move(task), expires_at});
    }
  }
  work_added_.notify_one();
  if (wake_watch) watch_.notify_one();
  return absl::OkStatus();
}

size_t SigningPool::waiting_count() const {
  const std::lock_guard lock(mutex_);
  return line_.size();
}

absl::Duration SigningPool::WorkTimeLocked() const {
  return new_time_ + resumed_time_;
}

bool SigningPool::IsTooSlowLocked(absl::Time now, absl::Time deadline) const {
  if (line_.empty()) return false;  // what is known may be old
  const absl::Duration wait = static_cast<int64_t>(line_.size()) *
                              WorkTimeLocked() /
                              static_cast<int64_t>(options_.thread_count);
  return wait > options_.max_wait ||
         now + wait + WorkTimeLocked() > deadline - kTimeForReply;
}

absl::Status SigningPool::Admit(const Waiting& next) const {
  const absl::Time now = absl::Now();
  if (next.task.cancelled && next.task.cancelled()) {
    return MakeError(absl::StatusCode::kCancelled, v1::STAGE_TRANSPORT,
                     v1::REASON_DEADLINE_EXCEEDED, "the caller gave up");
  }
  if (now >= next.expires_at) return Expired(now, next.task.deadline);
  if (next.task.resumed) return absl::OkStatus();
  const std::lock_guard lock(mutex_);
  if (!line_.empty() &&
      now + WorkTimeLocked() > next.task.deadline - kTimeForReply) {
    return Expired(now, next.task.deadline);
  }
  return absl::OkStatus();
}

// The mean of the last few: a task that hangs is soon forgotten.
void SigningPool::Measure(bool resumed, absl::Duration sample) {
  constexpr int kWeight = 8;
  const std::lock_guard lock(mutex_);
  absl::Duration& mean = resumed ? resumed_time_ : new_time_;
  mean =
      mean == absl::ZeroDuration() ? sample : mean + (sample - mean) / kWeight;
}

void SigningPool::Work() {
  for (;;) {
    std::unique_lock lock(mutex_);
    work_added_.wait(lock, [this] { return stopping_ || !line_.empty(); });
    if (line_.empty()) return;
    const Waiting next = std::move(line_.front());
    line_.pop_front();
    lock.unlock();
    const absl::Status admitted = Admit(next);
    const absl::Time begun = absl::Now();
    next.task.run(admitted);
    // What nobody waited for any more says nothing of the token.
    if (admitted.ok()) Measure(next.task.resumed, absl::Now() - begun);
  }
}

// Answers those whose time is up even while every thread waits for the token.
// Sleeps until the first expiry that it knows of; a nearer one wakes it.
void SigningPool::ExpireWaiting() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const absl::Time now = absl::Now();
    watch_until_ = now + options_.max_wait;
    auto expired = line_.end();
    for (auto each = line_.begin(); each != line_.end(); ++each) {
      if (each->expires_at <= now) expired = each;
      watch_until_ = std::min(watch_until_, each->expires_at);
    }
    if (expired == line_.end()) {
      watch_.wait_for(lock, absl::ToChronoNanoseconds(watch_until_ - now));
      continue;
    }
    Waiting dropped = std::move(*expired);
    line_.erase(expired);
    lock.unlock();
    dropped.task.run(Expired(now, dropped.task.deadline));
    lock.lock();
  }
}

}  // namespace codeseal
