// Judges who signed: may the signer's certificate do that, is its chain whole
// and trusted, was it valid then, has it been revoked, is it of the team that
// the code claims. One judgement for code, for packages, and for what our own
// server has just signed.
//
//   CmsSignature, Timestamp -> SignerFacts -> [JudgeSigner] -> SignerVerdict
//
// Spec: Security, SecStaticCode::verifySignature and its code signing policy.
//       Rules TR-*.

#ifndef CODESEAL_CODESIGN_CMS_SIGNER_VERDICT_H_
#define CODESEAL_CODESIGN_CMS_SIGNER_VERDICT_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/cms/certificate.h"
#include "codesign/cms/revocation.h"
#include "codesign/cms/timestamp.h"

namespace codeseal {

enum class SignerPurpose { kCode, kPackage };

// Borrows what it names.
struct SignerPolicy {
  SignerPurpose purpose = SignerPurpose::kCode;
  std::span<const Certificate> anchors;  // roots to accept beside Apple's
  // False: any self-signed root will do; the verdict still tells.
  bool require_trusted_anchor = false;
  // Judge certificates at this time; without it at the timestamp, else the
  // signing time, else now.
  std::optional<absl::Time> at;
  absl::Time now;
  // Without a timestamp nobody knows when it was signed: an expired certificate
  // then counts only when this is set.
  bool expiration_counts = false;
  RevocationChecker* revocation = nullptr;  // null: nobody is asked
  // What the code claims; ignored for packages.
  std::string_view team_identifier;
};

struct SignerFacts {
  Certificate signer;
  std::vector<Certificate> candidates;  // for the chain, in any order
  std::optional<absl::Time> signing_time;
  std::optional<Timestamp> timestamp;    // verified
  std::vector<Bytes> revocation_values;  // what the CMS carries
};

// One thing that was looked at; see the constants below for the names.
struct SignerCheck {
  std::string name;
  bool made = true;     // false: there was nothing to look at
  absl::Status status;  // why it failed; OK otherwise
  std::string note;     // for people
};

struct SignerVerdict {
  std::vector<Certificate> authorities;  // leaf first, never empty
  bool trusted = false;  // the root is Apple's or an anchor, and all fits
  bool holds = false;    // the chain does: requirements may look at it
  std::vector<SignerCheck> checks;  // in Apple's order

  // OK, or the first failed check's Status.
  absl::Status status() const;
};

inline constexpr char kSignerChain[] = "certificate-chain";
inline constexpr char kSignerDates[] = "certificate-dates";
inline constexpr char kSignerRevocation[] = "revocation";
inline constexpr char kSignerTeam[] = "team-identifier";  // of code only

// Rule of the Status when the root is neither Apple's nor an anchor.
inline constexpr char kRuleRootNotTrusted[] = "TR-1";

// Every fault is in the verdict: FAILED_PRECONDITION with
// REASON_INCOMPLETE_CHAIN, _CHAIN_NOT_TRUSTED, _NOT_INSTALLER_CERTIFICATE,
// _CERTIFICATE_EXPIRED, _CERTIFICATE_REVOKED, _REVOCATION_UNKNOWN or
// _TEAM_IDENTIFIER_MISMATCH.
SignerVerdict JudgeSigner(const SignerFacts& facts, const SignerPolicy& policy);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CMS_SIGNER_VERDICT_H_
