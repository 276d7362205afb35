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

absl::Status Stopping() {
  return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TRANSPORT,
                   v1::REASON_DRAINING, "the server is stopping");
}

}  // namespace

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
    if (!task.resumed && !line_.empty() &&
        IsTooSlowLocked(now, task.deadline)) {
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

// Those before it, then its own time on the token: with all threads busy, each
// works for as long as it takes all of them to begin once.
bool SigningPool::IsTooSlowLocked(absl::Time now, absl::Time deadline) const {
  const absl::Duration wait = static_cast<int64_t>(line_.size()) * interval_;
  const absl::Duration work =
      static_cast<int64_t>(options_.thread_count) * interval_;
  return wait > options_.max_wait ||
         now + wait + work > deadline - kTimeForReply;
}

// A new task begins. The mean of the last few: one that hangs is soon
// forgotten.
void SigningPool::MeasureLocked(absl::Time now) {
  constexpr int kWeight = 8;
  if (taken_at_ != absl::InfinitePast()) {
    const absl::Duration sample = now - taken_at_;
    interval_ = interval_ == absl::ZeroDuration()
                    ? sample
                    : interval_ + (sample - interval_) / kWeight;
  }
  taken_at_ = line_.empty() ? absl::InfinitePast() : now;
}

void SigningPool::Work() {
  for (;;) {
    std::unique_lock lock(mutex_);
    work_added_.wait(lock, [this] { return stopping_ || !line_.empty(); });
    if (line_.empty()) return;
    Waiting next = std::move(line_.front());
    line_.pop_front();
    const absl::Time now = absl::Now();
    if (!next.task.resumed) MeasureLocked(now);
    lock.unlock();
    if (next.task.cancelled && next.task.cancelled()) {
      next.task.run(MakeError(absl::StatusCode::kCancelled, v1::STAGE_TRANSPORT,
                              v1::REASON_DEADLINE_EXCEEDED,
                              "the caller gave up"));
    } else if (now >= next.expires_at) {
      next.task.run(Expired(now, next.task.deadline));
    } else {
      next.task.run(absl::OkStatus());
    }
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
