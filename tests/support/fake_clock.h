// A clock that stands still until a test moves it.

#ifndef CODESEAL_TESTS_SUPPORT_FAKE_CLOCK_H_
#define CODESEAL_TESTS_SUPPORT_FAKE_CLOCK_H_

#include <mutex>

#include "absl/time/time.h"
#include "codesign/base/clock.h"

namespace codeseal::testing {

// Thread-safe.
class FakeClock : public Clock {
 public:
  explicit FakeClock(absl::Time now) : now_(now) {}

  absl::Time Now() const override {
    const std::lock_guard lock(mutex_);
    return now_;
  }
  void Advance(absl::Duration by) {
    const std::lock_guard lock(mutex_);
    now_ += by;
  }

 private:
  mutable std::mutex mutex_;
  absl::Time now_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_FAKE_CLOCK_H_
