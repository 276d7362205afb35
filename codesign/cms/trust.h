// Whether a certificate chain may sign code.
//
//   CMS -> certificates -> BuildChain -> [trust] -> verdict
//
// Spec: RFC 5280 section 6; Apple's code signing policy, which asks
//       less than browsers do: marker extensions of Apple's are critical and
//       unknown to everyone else, so criticality is ignored.

#ifndef CODESEAL_CODESIGN_CMS_TRUST_H_
#define CODESEAL_CODESIGN_CMS_TRUST_H_

#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/cms/certificate.h"

namespace codeseal {

// Checks signatures, CA constraints and path length of a chain as BuildChain()
// makes it, and that its leaf may sign code. Not checked: dates, revocation,
// and whether anybody trusts the root.
// Errors: FAILED_PRECONDITION REASON_CHAIN_NOT_TRUSTED.
absl::Status CheckCodeSigningChain(std::span<const Certificate> chain);

// The same for a leaf that signs installer packages.
// Errors: those, and FAILED_PRECONDITION REASON_NOT_INSTALLER_CERTIFICATE.
absl::Status CheckPackageSigningChain(std::span<const Certificate> chain);

// Every certificate is valid at `at`.
// Errors: FAILED_PRECONDITION REASON_CERTIFICATE_EXPIRED, also for one that is
// not yet valid.
absl::Status CheckValidityDates(std::span<const Certificate> chain,
                                absl::Time at);

// The Team ID that code claims against the one of its signer's certificate.
// Only developer certificates of Apple's have one: any other chain fits, and so
// does code that claims none.
// Errors: FAILED_PRECONDITION REASON_TEAM_IDENTIFIER_MISMATCH.
absl::Status CheckTeamIdentifier(std::string_view claimed,
                                 std::span<const Certificate> chain);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CMS_TRUST_H_
