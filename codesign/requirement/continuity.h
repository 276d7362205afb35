// Whether macOS takes code of one certificate for an update of code that
// another one signed. What users allowed a program (keychain items, privacy,
// updates) is bound to its designated requirement: a new certificate that does
// not satisfy the old requirement makes another program of it.
//
//   chain before -> designated requirement -> [CheckContinuity] <- chain after
//
// Spec: the requirement is default_designated.h's. Developer ID G1 and G2 share
//       theirs: anchor, both markers and team; the authority's name is not in
//       it.

#ifndef CODESEAL_CODESIGN_REQUIREMENT_CONTINUITY_H_
#define CODESEAL_CODESIGN_REQUIREMENT_CONTINUITY_H_

#include <span>
#include <string>

#include "absl/status/status.h"
#include "codesign/cms/certificate.h"

namespace codeseal {

// OK when code that `after` signs satisfies the designated requirement that
// codesign gives to code that `before` signs, whatever its identifier. Chains
// are leaf first, self-signed root last, not empty. A requirement of the
// author's own is not known here, and not checked.
// Errors: FAILED_PRECONDITION STAGE_POLICY REASON_REQUIREMENT_CHANGES; `rule`
// is the first clause that breaks, the message explains every one.
absl::Status CheckContinuity(
    std::span<const Certificate> before, std::span<const Certificate> after,
    bool (*is_apple_root)(const Certificate&) = &IsAppleRoot);

// The requirement as text without its identifier: "anchor apple generic and
// ...". `chain` is not empty.
std::string DescribeDesignated(
    std::span<const Certificate> chain,
    bool (*is_apple_root)(const Certificate&) = &IsAppleRoot);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_REQUIREMENT_CONTINUITY_H_
