// The server's judgement: may this identity sign this code?
//
//   CheckedRequest + IdentityRules -> [CheckPolicy] -> yes, or the rule's name

#ifndef CODESEAL_SERVER_POLICY_H_
#define CODESEAL_SERVER_POLICY_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/config.h"
#include "server/request_check.h"

namespace codeseal {

// How far a caller's signing time may be from the server's clock.
inline constexpr absl::Duration kMaxClockDifference = absl::Minutes(5);

struct PolicyInput {
  const std::string& identity;  // names the rules: "release/identifiers"
  const IdentityRules& rules;
  const std::string& team;  // of the certificate; empty for none
  absl::Time now;
};

// Every rule that has something to say must agree. The rules, by name:
//   digest_only        CodeDirectories, unless digests alone are allowed
//   packages           no installer package, unless they are allowed
//   team               the team identifier is the identity's (or none is)
//   identifiers        the identifier fits a pattern; every one of a package
//   require_flags      every CodeDirectory has all flags
//   forbid_flags       and none of these
//   entitlements_deny  no entitlement fits a pattern, unless it is false
//   entitlements_allow every entitlement fits a pattern, or is false
//   min_digest         the best CodeDirectory has at least this digest
//   signing_time       the caller's signing time is about now
// Errors: PERMISSION_DENIED REASON_POLICY_VIOLATION. When several rules say no
// the message has all of them, one a line, and ErrorDetail.rule, which is
// "IDENTITY/NAME", the first.
absl::Status CheckPolicy(const CheckedRequest& request,
                         const PolicyInput& input);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_POLICY_H_
