// Which keys codeseal signs with: made inside the token, never able to leave
// it, for signing only. The attributes are the module's claim.

#ifndef CODESEAL_HSM_KEY_POLICY_H_
#define CODESEAL_HSM_KEY_POLICY_H_

#include "absl/status/status.h"
#include "codesign/base/bytes.h"
#include "hsm/token.h"

namespace codeseal {

// Rules, as named in ErrorDetail.rule:
//   KP-1 may sign                        both policies
//   KP-2 sensitive                       both policies
//   KP-3 not extractable                 both policies
//   KP-4 always sensitive                strict
//   KP-5 never extractable               strict
//   KP-6 local: generated in the token   strict
//   KP-7 neither decrypts nor unwraps    strict
// Errors: FAILED_PRECONDITION STAGE_TOKEN REASON_KEY_POLICY; the message lists
// every rule that fails and why it matters, the rule is the first of them.
absl::Status CheckKeyPolicy(const KeyAttributes& attributes, KeyPolicy policy);

// Errors: FAILED_PRECONDITION STAGE_TOKEN REASON_KEY_MISMATCH when the two
// SubjectPublicKeyInfo differ, or when the token does not show its own.
absl::Status CheckKeyMatch(ByteView key, ByteView certified);

}  // namespace codeseal

#endif  // CODESEAL_HSM_KEY_POLICY_H_
