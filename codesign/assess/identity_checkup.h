// What is wrong with the identities one has: why a key cannot sign, why macOS
// would not take its signatures, and what to do.
//
//   server's identities, token's listing -> [ExamineIdentities] -> findings
//
// Spec: RFC 5280; Apple's code signing policy; TN3161 on certificates.

#ifndef CODESEAL_CODESIGN_ASSESS_IDENTITY_CHECKUP_H_
#define CODESEAL_CODESIGN_ASSESS_IDENTITY_CHECKUP_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "codesign/assess/finding.h"
#include "codesign/base/bytes.h"
#include "codesign/cms/certificate.h"

namespace codeseal {

// Findings of one place, a token or a server: the certificates and keys there.
struct IdentityCollection {
  struct Key {
    std::string label;
    Bytes id;               // CKA_ID
    Bytes public_key;       // SubjectPublicKeyInfo; empty when not readable
    std::string algorithm;  // "rsa2048"
    bool can_sign = true;
    bool is_protected = true;  // generated in the token, cannot leave it
  };
  struct Leaf {
    std::string name;  // as the user would name it
    Bytes id;          // CKA_ID; empty when unknown
    Certificate certificate;
    bool is_authority = false;             // of a chain, not to sign with
    std::string unavailable_because = {};  // a server's word; empty: it can
  };
  std::string place;  // "token Release", "server sign.example.com:8443"
  // False: a server tells of identities, not of keys.
  bool has_keys = true;
  std::vector<Key> keys;
  std::vector<Leaf> certificates;
  // Certificates that complete chains and are no leaves of this place.
  std::vector<Certificate> others;
};

struct CheckupOptions {
  absl::Duration soon = absl::Hours(24 * 30);  // before expiry
  std::string team;  // the Team ID that all should have; empty: any
  std::vector<Certificate> anchors;  // roots that count as Apple's
  absl::Time now = absl::Now();      // tests choose it
};

// Rules: key-without-certificate, certificate-without-key, expired,
// expires-soon, not-yet-valid, wrong-purpose, additional-purpose,
// missing-intermediate, issuer-expires-soon, duplicate-key, duplicate-name,
// wrong-team, misleading-name, weak-key, key-cannot-sign, key-not-protected,
// unavailable. In the order of certificates, then keys.
std::vector<Finding> ExamineIdentities(const IdentityCollection& collection,
                                       const CheckupOptions& options);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_ASSESS_IDENTITY_CHECKUP_H_
