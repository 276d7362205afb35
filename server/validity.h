// How long a certificate that we make is valid.

#ifndef CODESEAL_SERVER_VALIDITY_H_
#define CODESEAL_SERVER_VALIDITY_H_

#include <cstdint>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace codeseal {

struct ValidityPeriod {
  absl::Time not_before;
  absl::Time not_after;
};

// From a few minutes ago, for machines whose clock is behind this one's.
inline ValidityPeriod ValidityFromNow(uint32_t days) {
  const absl::Time now = absl::Now();
  return {now - absl::Minutes(5), now + absl::Hours(24) * days};
}

}  // namespace codeseal

#endif  // CODESEAL_SERVER_VALIDITY_H_
