// Leaves a server alone that fails nearly always, so that nobody waits for its
// next failure.
//
//   closed --nearly all of the last answers are failures--> open
//   open --after a pause, which doubles--> one probe --good--> closed

#ifndef CODESEAL_TSA_BREAKER_H_
#define CODESEAL_TSA_BREAKER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace codeseal {

// Not thread-safe.
class Breaker {
 public:
  enum class Change { kNone, kOpened, kClosed };

  // Whether a query may be sent: always while closed, one at a time when the
  // pause is over.
  bool MayAsk(absl::Time now) const {
    return !open_ || (now >= probe_at_ && !probing_);
  }
  void Asked() { probing_ = open_; }

  // The outcome of a query.
  Change Answered(bool good, absl::Time now) {
    history_ = (history_ << 1 | (good ? 0u : 1u)) & kHistoryMask;
    history_count_ = std::min(history_count_ + 1, kHistoryCount);
    if (good) {
      if (!open_) return Change::kNone;
      *this = Breaker();
      return Change::kClosed;
    }
    if (open_ ? !probing_ : !FailsNearlyAlways()) return Change::kNone;
    pause_ = open_ ? std::min(pause_ * 2, kLongestPause) : kFirstPause;
    open_ = true;
    probing_ = false;
    probe_at_ = now + pause_;
    return Change::kOpened;
  }

  absl::Duration pause() const { return pause_; }

 private:
  // A server that fails four times in ten, as Apple's does on bad days, must
  // stay in use: 18 failures in 20 answers do not happen to it.
  static constexpr int kHistoryCount = 20;
  static constexpr uint32_t kHistoryMask = (uint32_t{1} << kHistoryCount) - 1;
  static constexpr int kLeastCount = 6;
  static constexpr absl::Duration kFirstPause = absl::Seconds(5);
  static constexpr absl::Duration kLongestPause = absl::Seconds(60);

  bool FailsNearlyAlways() const {
    return history_count_ >= kLeastCount &&
           __builtin_popcount(history_) * 10 >= history_count_ * 9;
  }

  uint32_t history_ = 0;  // the last answers, a bit for each failure
  int history_count_ = 0;
  bool open_ = false;
  bool probing_ = false;
  absl::Time probe_at_ = absl::InfinitePast();
  absl::Duration pause_ = absl::ZeroDuration();
};

}  // namespace codeseal

#endif  // CODESEAL_TSA_BREAKER_H_
