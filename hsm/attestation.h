// The vendor's word that a key was made inside a token. PKCS#11 attributes are
// the module's claim; an attestation certificate is signed by the device, whose
// own certificate the vendor signed.
//
//   public key + attestation certificate -> [CheckAttestation] -> vendor's root
//
// Spec: Yubico "PIV attestation"; other vendors that attest with X.509
// (Nitrokey
//       3, some TPMs) have the same shape without Yubico's extensions.

#ifndef CODESEAL_HSM_ATTESTATION_H_
#define CODESEAL_HSM_ATTESTATION_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/cms/certificate.h"
#include "hsm/token.h"

namespace codeseal {

struct KeyAttestation {
  std::vector<Certificate> chain;  // attestation first, vendor's root last
  // Of a YubiKey; empty when the vendor says nothing.
  std::string firmware;      // "5.4.3"
  std::string serial;        // of the device, decimal
  std::string pin_policy;    // "never", "once", "always", ...
  std::string touch_policy;  // "never", "always", "cached"
};

// Checks that `attestation` is about `public_key` (SubjectPublicKeyInfo, DER)
// and chains to one of `vendor_roots`, over `intermediates` in any order. Not
// checked: dates, which devices cannot know, and revocation.
// Errors: FAILED_PRECONDITION STAGE_TOKEN REASON_BAD_ATTESTATION.
absl::StatusOr<KeyAttestation> CheckAttestation(
    ByteView public_key, const Certificate& attestation,
    std::span<const Certificate> intermediates,
    std::span<const Certificate> vendor_roots);

// The same with what the token itself stores: a certificate for the key that
// chains to a vendor's root over the token's other certificates.
// Errors: NOT_FOUND STAGE_TOKEN REASON_NO_ATTESTATION when none does.
absl::StatusOr<KeyAttestation> FindAttestation(
    const TokenListing& listing, ByteView public_key,
    std::span<const Certificate> intermediates,
    std::span<const Certificate> vendor_roots);

}  // namespace codeseal

#endif  // CODESEAL_HSM_ATTESTATION_H_
