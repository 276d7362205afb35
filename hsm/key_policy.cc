#include "hsm/key_policy.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "codesign/base/error.h"

namespace codeseal {

absl::Status CheckKeyPolicy(const KeyAttributes& attributes, KeyPolicy policy) {
  struct Rule {
    const char* name;
    bool strict_only;
    bool holds;
    const char* complaint;
  };
  const Rule rules[] = {
      {"KP-1", false, attributes.sign, "CKA_SIGN is false: it cannot sign"},
      {"KP-2", false, attributes.sensitive,
       "CKA_SENSITIVE is false: its value can be read in plain"},
      {"KP-3", false, !attributes.extractable,
       "CKA_EXTRACTABLE is true: it can be wrapped and taken out"},
      {"KP-4", true, attributes.always_sensitive,
       "CKA_ALWAYS_SENSITIVE is false: it was readable once"},
      {"KP-5", true, attributes.never_extractable,
       "CKA_NEVER_EXTRACTABLE is false: it could be taken out once"},
      {"KP-6", true, attributes.local,
       "CKA_LOCAL is false: it was not generated inside the token"},
      {"KP-7", true, !attributes.decrypt && !attributes.unwrap,
       "CKA_DECRYPT or CKA_UNWRAP is true: it is not for signing only"},
  };
  std::string complaints;
  const char* first = nullptr;
  for (const Rule& rule : rules) {
    if (rule.holds || (rule.strict_only && policy != KeyPolicy::kStrict)) {
      continue;
    }
    if (first == nullptr) first = rule.name;
    absl::StrAppend(&complaints, complaints.empty() ? "" : "; ",
                    rule.complaint);
  }
  if (first == nullptr) return absl::OkStatus();
  return WithRule(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_TOKEN,
                v1::REASON_KEY_POLICY, "the key is refused: " + complaints),
      first);
}

absl::Status CheckKeyMatch(ByteView key, ByteView certified) {
  if (!key.empty() && Equal(key, certified)) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_TOKEN,
                   v1::REASON_KEY_MISMATCH,
                   key.empty()
                       ? "the token does not show the key's public half, so "
                         "the certificate cannot be compared with it"
                       : "the certificate holds another public key than the "
                         "token's key");
}

}  // namespace codeseal
