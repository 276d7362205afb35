// Time is injected, so that tests choose it.

#ifndef CODESEAL_CODESIGN_BASE_CLOCK_H_
#define CODESEAL_CODESIGN_BASE_CLOCK_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace codeseal {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class SystemClock : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BASE_CLOCK_H_
