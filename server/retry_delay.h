// How long a caller should wait before it tries again, where the error knows
// better than its code.

#ifndef CODESEAL_SERVER_RETRY_DELAY_H_
#define CODESEAL_SERVER_RETRY_DELAY_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace codeseal {

// The same error with the delay, whole seconds, at least one. No effect on OK.
absl::Status WithRetryDelay(absl::Status status, absl::Duration delay);

std::optional<absl::Duration> GetRetryDelay(const absl::Status& status);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_RETRY_DELAY_H_
