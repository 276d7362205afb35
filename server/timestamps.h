// The timestamp authorities of the configuration, and which of them a request
// gets.
//
//   identity's `timestamp` + request's wishes -> [TimestampPlan] -> Timestamper
//
// A caller never makes the server ask an address that its administrator did not
// write down: a URL in a request only chooses among those of `tsa`.

#ifndef CODESEAL_SERVER_TIMESTAMPS_H_
#define CODESEAL_SERVER_TIMESTAMPS_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "codeseal/v1/signing.pb.h"
#include "codesign/base/clock.h"
#include "server/config.h"
#include "tsa/timestamper.h"

namespace codeseal {

struct TimestampPlan {
  Timestamper* tsa = nullptr;  // borrowed; nullptr: no timestamp
  // Without a token there is no answer; otherwise an answer without one.
  bool required = false;
};

// Thread-safe.
class TimestampAuthorities {
 public:
  // Reads the roots. Asks nobody. Borrows the clock.
  // Errors: INVALID_ARGUMENT REASON_BAD_CONFIG with everything that is wrong.
  static absl::StatusOr<std::unique_ptr<TimestampAuthorities>> Create(
      const std::vector<TsaConfig>& authorities, const Clock& clock);

  // A request asks for no timestamp, for one, for one of a certain authority
  // (timestamp_url), or leaves it to the identity. Asking for one makes it
  // required.
  // Errors: FAILED_PRECONDITION REASON_NO_TIMESTAMP_AUTHORITY when the identity
  // has none; FAILED_PRECONDITION REASON_POLICY_VIOLATION by rule
  // timestamp-required when it must have one and the request wants none, by
  // rule timestamp-url for an address that is not among the identity's.
  absl::StatusOr<TimestampPlan> Plan(
      const v1::SignRequest& request,
      const IdentityTimestampConfig& identity) const;

 private:
  TimestampAuthorities() = default;

  std::map<std::string, std::unique_ptr<Timestamper>> by_name_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_TIMESTAMPS_H_
