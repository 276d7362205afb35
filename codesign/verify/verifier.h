// Judges code that is already signed.
//
//   file -> slices -> CodeDirectories, pages, slots, CMS -> VerificationReport
//
// Spec: Security, SecStaticCode (StaticCode.cpp), in its order of checks.

#ifndef CODESEAL_CODESIGN_VERIFY_VERIFIER_H_
#define CODESEAL_CODESIGN_VERIFY_VERIFIER_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/digest.h"
#include "codesign/base/mapped_file.h"
#include "codesign/cms/certificate.h"

namespace codeseal {

struct VerifyOptions {
  std::vector<Certificate> anchors;  // roots to accept beside Apple's
  // False (Apple's rule without demanded anchors): any self-signed root will
  // do for `valid`; `trusted` still tells whether it is Apple's or given.
  bool require_trusted_anchor = false;
  std::optional<Bytes> requirement;  // -R, a requirement blob (fade0c00)
  std::optional<absl::Time> at;      // instead of the rule of signing time
  bool check_expiration = false;
};

enum class CheckOutcome { kPassed, kFailed, kNotChecked };

// One thing that was looked at, so that a verdict never stands alone.
struct Check {
  std::string name;  // stable: "code-pages", "cms-signature", ...
  CheckOutcome outcome = CheckOutcome::kNotChecked;
  absl::Status status;  // why it failed; OK otherwise
  std::string note;     // for people: what was compared, or why it was not
};

struct SliceReport {
  std::string architecture;
  std::string identifier;
  std::vector<DigestKind> digests;
  std::vector<CdHash> cdhashes;          // in storage order
  CdHash cdhash{};                       // of the best digest
  std::vector<Certificate> authorities;  // leaf first; empty for ad-hoc
  std::string team_identifier;
  std::optional<absl::Time> signing_time;
  bool ad_hoc = false;
  bool trusted = false;
  std::vector<Check> checks;  // in Apple's order
};

struct VerificationReport {
  std::string path;
  std::string format;  // "Mach-O thin (arm64)"
  std::vector<SliceReport> slices;

  // OK: valid on disk. Otherwise the first failed check's Status; its payload
  // names slice, place and rule.
  absl::Status Validity() const;
  // OK: the designated requirement of every slice is satisfied by itself.
  absl::Status DesignatedRequirement() const;
  // OK: the -R requirement holds, or none was given.
  absl::Status ExplicitRequirement() const;
};

// A Status only when the file cannot be read or is no Mach-O; every verdict,
// also "not signed at all" (REASON_NOT_SIGNED), is in the report.
absl::StatusOr<VerificationReport> Verify(const MappedFile& file,
                                          const VerifyOptions& options);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_VERIFY_VERIFIER_H_
