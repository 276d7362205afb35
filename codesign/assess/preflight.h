// What would go wrong after upload, said before it: the notary's complaints and
// the App Store's, in the shape of the notary's log, each with what to do.
//
//   path, profile -> facts -> preflight_rules.cc -> [PreflightReport]
//
// Spec: Apple, "Resolving common notarization issues"; TN2206; TN3125.

#ifndef CODESEAL_CODESIGN_ASSESS_PREFLIGHT_H_
#define CODESEAL_CODESIGN_ASSESS_PREFLIGHT_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "codesign/assess/code_files.h"
#include "codesign/assess/finding.h"
#include "codesign/assess/provisioning_profile.h"
#include "codesign/assess/signer_kind.h"
#include "codesign/base/bytes.h"
#include "codesign/cms/certificate.h"
#include "codesign/image/package_verifier.h"
#include "codesign/macho/mach_o.h"
#include "codesign/verify/description.h"
#include "codesign/verify/verifier.h"

namespace codeseal {

// Where the code is to go.
enum class PreflightPurpose : unsigned {
  kDeveloperId = 1,   // to users, outside the App Store
  kNotarization = 2,  // the same, by way of Apple's notary
  kAppStore = 4,
  kAdHoc = 8,  // to registered devices
};

struct PreflightOptions {
  PreflightPurpose purpose = PreflightPurpose::kNotarization;
  // A profile to hold the code against; without it the one in the bundle.
  std::optional<Bytes> profile = std::nullopt;
  std::string profile_path = {};  // for messages
  // Roots that count as Apple's, for code signed by a CA of one's own.
  std::vector<Certificate> anchors = {};
  absl::Time now = absl::Now();  // tests choose it
};

// --- What the rules look at --------------------------------------------------

// One slice of one Mach-O file; or other code that is signed as a whole: a
// bundle around a script, a disk image.
struct BinaryFacts {
  std::string path;
  std::string relative_path;  // to the item; empty for a file by itself
  bool is_mach_o = true;
  MachOFileType file_type{};  // of a Mach-O
  bool is_main = false;       // the executable of the item itself
  SliceDescription slice;
  SliceReport report;
  SignerKind signer = SignerKind::kNone;
  std::string team;  // of the certificate

  bool is_program() const { return file_type == MachOFileType::kExecute; }
  bool is_library() const { return is_mach_o && !is_program(); }
  bool is_signed() const { return slice.status.ok(); }
  bool HasFlag(uint32_t flag) const { return (slice.flags & flag) != 0; }
  // Null when it does not claim any.
  const PlistDict* entitlements() const {
    return slice.entitlements.has_value() ? &*slice.entitlements : nullptr;
  }
  bool Claims(std::string_view key) const;  // is true
};

struct PreflightFacts {
  std::string path;  // as given
  std::string root;  // of a bundle its folder, else the same
  const PreflightOptions* options = nullptr;
  bool is_bundle = false;
  bool is_disk_image = false;
  bool is_macos = true;           // as opposed to iOS and its relatives
  std::string bundle_identifier;  // CFBundleIdentifier; empty for none
  std::string resource_base;      // of a bundle
  std::vector<FoundFile> files;   // of a bundle, else the one
  std::vector<BinaryFacts> binaries;
  std::vector<Finding> verification;  // rules "signed" and "valid-signature"
  std::optional<PackageReport> package;

  // The one given, else the embedded one.
  std::optional<ProvisioningProfile> profile;
  absl::Status profile_status;  // not OK: it cannot be read
  std::string profile_path;
  bool has_embedded_profile = false;
  bool embedded_profile_is_given_one = false;
};

// --- The answer --------------------------------------------------------------

// What the notary would put into a ticket.
struct TicketContent {
  std::string path;
  std::string architecture;
  DigestKind digest_kind = DigestKind::kSha256;
  CdHash cdhash{};
};

struct PreflightReport {
  std::string path;
  std::vector<Finding> findings;  // in the order of the rules
  std::vector<TicketContent> ticket;
  std::vector<std::string> not_checked;
  bool accepted() const { return !HasErrors(findings); }
};

// Errors: those of opening it. What is wrong with it is in the report.
absl::StatusOr<PreflightReport> Preflight(const std::string& path,
                                          const PreflightOptions& options);

// Every rule by name, in order, with the purposes for which it is an error, a
// warning or a note: what documentation and tests list.
struct PreflightRuleName {
  std::string_view name;
  unsigned errors;  // PreflightPurpose, or-ed
  unsigned warnings;
  unsigned notes;
};
std::vector<PreflightRuleName> PreflightRules();

// preflight_rules.cc: all findings of all rules.
std::vector<Finding> ApplyPreflightRules(const PreflightFacts& facts);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_ASSESS_PREFLIGHT_H_
