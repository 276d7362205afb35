// Judges code that is already signed.
//
//   file -> slices -> CodeDirectories, CMS, slots, pages ->
//   [VerificationReport]
//
// Spec: Security, SecStaticCode (StaticCode.cpp), in its order of checks.
// Unlike
//       it, a failed check does not end the work: the report has them all.

#ifndef CODESEAL_CODESIGN_VERIFY_VERIFIER_H_
#define CODESEAL_CODESIGN_VERIFY_VERIFIER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/base/mapped_file.h"
#include "codesign/cms/certificate.h"
#include "codesign/verify/apple_error.h"

namespace codeseal {

struct VerifyOptions {
  std::vector<Certificate> anchors;  // roots to accept beside Apple's
  // False (Apple's rule without demanded anchors): any self-signed root will
  // do for `valid`; `trusted` still tells whether it is Apple's or given.
  bool require_trusted_anchor = false;
  std::optional<Bytes> requirement;  // -R, a requirement blob (fade0c00)
  // Judge certificates at this time; without it at the timestamp, else the
  // signing time, else now.
  std::optional<absl::Time> at;
  bool check_expiration = false;
  absl::Time now = absl::Now();  // tests choose it
  // The file is the main executable of a bundle whose Info.plist and resources
  // the caller checks. Without it, a signature that seals a bundle is refused:
  // half a check must not look like a whole one.
  bool is_part_of_bundle = false;
};

enum class CheckOutcome { kPassed, kFailed, kNotChecked };

// Stable names of checks, in the order in which they are made.
inline constexpr char kCheckSigned[] = "signed";
inline constexpr char kCheckSignatureLayout[] = "signature-layout";
inline constexpr char kCheckCodeDirectories[] = "code-directories";
inline constexpr char kCheckCmsSignature[] = "cms-signature";
inline constexpr char kCheckTimestamp[] = "timestamp";
inline constexpr char kCheckCertificateChain[] = "certificate-chain";
inline constexpr char kCheckCertificateDates[] = "certificate-dates";
inline constexpr char kCheckRevocation[] = "revocation";
inline constexpr char kCheckTeamIdentifier[] = "team-identifier";
inline constexpr char kCheckSpecialSlot[] = "special-slot";  // one for each
inline constexpr char kCheckEntitlements[] = "entitlements-agree";
inline constexpr char kCheckCodePages[] = "code-pages";  // for each digest
inline constexpr char kCheckExplicitRequirement[] = "explicit-requirement";
inline constexpr char kCheckDesignatedRequirement[] = "designated-requirement";
inline constexpr char kCheckStructure[] = "structure";           // of the file
inline constexpr char kCheckSameTeam[] = "same-team-in-slices";  // of the file

// One thing that was looked at, so that a verdict never stands alone.
struct Check {
  std::string name;
  CheckOutcome outcome = CheckOutcome::kNotChecked;
  // Why it failed; OK otherwise. The message starts with Apple's words,
  // byte_offset counts from the file's start, `subject` is path and
  // architecture.
  absl::Status status;
  std::optional<AppleError> apple_error;  // what macOS calls the failure
  std::string note;  // for people: what was compared, or why it was not
};

struct SliceReport {
  std::string architecture;
  uint64_t offset = 0;  // of the slice in the file, bytes
  std::string identifier;
  std::vector<DigestKind> digests;
  std::vector<CdHash> cdhashes;          // in storage order
  CdHash cdhash{};                       // of the best digest
  std::vector<Certificate> authorities;  // leaf first; empty for ad-hoc
  std::string team_identifier;
  std::optional<absl::Time> signing_time;  // the signer's word
  std::optional<absl::Time> timestamp;     // the timestamp authority's
  bool ad_hoc = false;
  bool trusted = false;
  std::vector<Check> checks;  // in Apple's order
};

struct VerificationReport {
  std::string path;
  std::string format;               // "Mach-O thin (arm64)"
  std::vector<SliceReport> slices;  // in Apple's order: x86_64 before arm64
  std::vector<Check> checks;        // of the file as a whole, made last

  // OK: valid on disk. Otherwise the first failed check's Status; its payload
  // names slice, place and rule.
  absl::Status Validity() const;
  // OK: the designated requirement of every slice is satisfied by itself.
  absl::Status DesignatedRequirement() const;
  // OK: the -R requirement holds, or none was given.
  absl::Status ExplicitRequirement() const;
  // The check that Validity() speaks of; null when the code is valid.
  const Check* FirstFailure() const;
};

// A Status only when the file cannot be read or is no Mach-O; every verdict,
// also "not signed at all" (REASON_NOT_SIGNED), is in the report. Not checked:
// revocation, notarization, and what `is_part_of_bundle` leaves to the caller.
absl::StatusOr<VerificationReport> Verify(const MappedFile& file,
                                          const VerifyOptions& options);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_VERIFY_VERIFIER_H_
