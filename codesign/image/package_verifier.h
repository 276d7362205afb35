// Judges a signed flat package.
//
//   FlatPackage -> checksum, files, RSA and CMS signatures -> [PackageReport]
//
// Spec: what pkgutil(1) --check-signature looks at. Like our verifier of code,
//       it makes every check and keeps them all.

#ifndef CODESEAL_CODESIGN_IMAGE_PACKAGE_VERIFIER_H_
#define CODESEAL_CODESIGN_IMAGE_PACKAGE_VERIFIER_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/base/mapped_file.h"
#include "codesign/cms/certificate.h"
#include "codesign/cms/revocation.h"
#include "codesign/cms/signer_verdict.h"

namespace codeseal {

struct PackageVerifyOptions {
  std::vector<Certificate> anchors;  // roots to accept beside Apple's
  // False: any self-signed root will do for a valid package; `trusted` still
  // tells whether it is Apple's or given.
  bool require_trusted_anchor = false;
  // Judge certificates at this time; without it at the timestamp, else the
  // signing time, else now.
  std::optional<absl::Time> at;
  bool check_expiration = false;
  std::shared_ptr<RevocationChecker> revocation;  // null: nobody is asked
  absl::Time now = absl::Now();                   // tests choose it
};

// The names are stable: "signed", "package-checksum", "package-files",
// "rsa-signature", "cms-signature", "timestamp", and those of JudgeSigner().
using PackageCheck = SignerCheck;

struct PackageReport {
  std::string path;
  bool is_signed = false;
  DigestKind checksum_kind = DigestKind::kSha1;
  Bytes checksum;                          // computed
  std::vector<std::string> identifiers;    // of the package and its components
  std::vector<std::string> files;          // paths in the archive, in its order
  std::vector<Certificate> authorities;    // leaf first
  std::optional<absl::Time> signing_time;  // the signer's word
  std::optional<absl::Time> timestamp;     // the timestamp authority's
  bool trusted = false;
  bool has_ticket = false;  // a notarization ticket, which is not judged
  std::vector<PackageCheck> checks;

  // OK, or the first failed check's Status.
  absl::Status Validity() const;
  const PackageCheck* Find(std::string_view name) const;
};

// A Status only when the file is no flat package that can be read; every
// verdict, also "not signed" (REASON_NOT_SIGNED), is in the report. Not
// checked: the ticket, what the payload holds; revocation, unless asked for.
absl::StatusOr<PackageReport> VerifyPackage(
    const MappedFile& file, const PackageVerifyOptions& options);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_IMAGE_PACKAGE_VERIFIER_H_
