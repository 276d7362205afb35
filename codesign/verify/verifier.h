// Judges code that is already signed.
//
//   path -> StoredCode -> each slice: CodeDirectories, CMS, slots, pages
//        -> the bundle: resources, nested code, shape -> [VerificationReport]
//
// Spec: Security, SecStaticCode (StaticCode.cpp), in its order of checks. A
//       failed check does not end the work, as it does there: the report has
//       them all.

#ifndef CODESEAL_CODESIGN_VERIFY_VERIFIER_H_
#define CODESEAL_CODESIGN_VERIFY_VERIFIER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/bundle/resource_seal.h"
#include "codesign/cms/certificate.h"
#include "codesign/cms/revocation.h"
#include "codesign/cms/signer_verdict.h"
#include "codesign/verify/apple_error.h"
#include "codesign/verify/stored_code.h"

namespace codeseal {

struct VerifyOptions {
  std::vector<Certificate> anchors = {};  // roots to accept beside Apple's
  // False (Apple's rule without demanded anchors): any self-signed root will
  // do for `valid`; `trusted` still tells whether it is Apple's or given.
  bool require_trusted_anchor = false;
  std::optional<Bytes> requirement =
      std::nullopt;  // -R, a requirement blob (fade0c00)
  // Judge certificates at this time; without it at the timestamp, else the
  // signing time, else now.
  std::optional<absl::Time> at = std::nullopt;
  bool check_expiration = false;
  // --check-revocation: whom to ask. Null: nobody is.
  std::shared_ptr<RevocationChecker> revocation = nullptr;
  absl::Time now = absl::Now();  // tests choose it

  // --deep: nested code is verified as thoroughly as the code itself. Without
  // it, only its signature is, and that it is what the seal expects.
  bool is_deep = false;
  // False, --no-strict: no rules about the structure of files and bundles, and
  // old seals will do.
  bool is_strict = true;
  // --strict=symlinks: links must lead to what a seal covers.
  bool restricts_symlinks = false;
  bool ignores_resources = false;  // --ignore-resources
};

enum class CheckOutcome { kPassed, kFailed, kNotChecked };

// Stable names of checks, in the order in which they are made. Of a slice:
inline constexpr char kCheckSigned[] = "signed";
inline constexpr char kCheckSignatureLayout[] = "signature-layout";
inline constexpr char kCheckCodeDirectories[] = "code-directories";
inline constexpr char kCheckCmsSignature[] = "cms-signature";
inline constexpr char kCheckTimestamp[] = "timestamp";
inline constexpr auto& kCheckCertificateChain = kSignerChain;
inline constexpr auto& kCheckCertificateDates = kSignerDates;
inline constexpr auto& kCheckRevocation = kSignerRevocation;
inline constexpr auto& kCheckTeamIdentifier = kSignerTeam;
inline constexpr char kCheckSpecialSlot[] = "special-slot";  // one for each
inline constexpr char kCheckEntitlements[] = "entitlements-agree";
inline constexpr char kCheckCodePages[] = "code-pages";  // for each digest
inline constexpr char kCheckExplicitRequirement[] = "explicit-requirement";
inline constexpr char kCheckDesignatedRequirement[] = "designated-requirement";
// Of the file or bundle as a whole, made after all slices.
inline constexpr char kCheckSameTeam[] = "same-team-in-slices";
inline constexpr char kCheckResourceSeal[] = "resource-seal";
inline constexpr char kCheckNestedCode[] = "nested-code";  // one for each
inline constexpr char kCheckResources[] = "resources";
inline constexpr char kCheckSignatureFolder[] = "signature-folder";
inline constexpr char kCheckBundleShape[] = "bundle-shape";
inline constexpr char kCheckStructure[] = "structure";
inline constexpr char kCheckNotarization[] = "notarization";  // never made

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
  std::string subcomponent = {};  // path of the nested code that failed
};

struct SliceReport {
  std::string architecture;  // empty for what is no Mach-O
  uint64_t offset = 0;       // of the slice in the file, bytes
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

// The seal of a bundle against what is on disk.
struct ResourceReport {
  int version = 0;  // of the seal: 1 or 2
  size_t rule_count = 0;
  size_t file_count = 0;                  // sealed
  std::vector<ResourceProblem> problems;  // in order of paths
};

struct NestedReport;

struct VerificationReport {
  std::string path;                 // as given; of nested code where it is
  std::string format;               // "app bundle with Mach-O thin (arm64)"
  std::vector<SliceReport> slices;  // in Apple's order: x86_64 before arm64
  std::optional<ResourceReport> resources;  // of a bundle whose seal was read
  std::vector<NestedReport> nested;         // in order of paths
  std::vector<Check> checks;                // of the file or bundle as a whole

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

// Code in a bundle that the bundle's seal names. Its explicit requirement is
// the one that the seal has.
struct NestedReport {
  // A version of a framework that is not the current one.
  bool is_other_version = false;
  std::string requirement;  // as the seal has it
  // Not OK: it could not be opened, and `report` has its path only.
  absl::Status status;
  VerificationReport report;
};

// Every verdict, also "not signed at all" (REASON_NOT_SIGNED), is in the
// report. Not checked: notarization; revocation, unless asked for.
VerificationReport Verify(const StoredCode& code, const VerifyOptions& options);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_VERIFY_VERIFIER_H_
