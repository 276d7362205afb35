// Every rule of preflight: the table at the end of this file names each with
// its severity for each purpose, its words and its advice; the function beside
// the name is what it looks at.

#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "codesign/assess/library_rule.h"
#include "codesign/assess/preflight.h"
#include "codesign/base/error.h"
#include "codesign/code_directory.h"

namespace codeseal {
namespace {

constexpr absl::Duration kSoon = absl::Hours(24 * 30);
constexpr uint32_t kOldestSdk = 0x000a0900;  // 10.9

constexpr char kGetTaskAllow[] = "com.apple.security.get-task-allow";
constexpr char kGetTaskAllowIos[] = "get-task-allow";
constexpr char kSandbox[] = "com.apple.security.app-sandbox";
constexpr char kAppGroups[] = "com.apple.security.application-groups";
constexpr char kHardenedRuntimeExceptions[] = "com.apple.security.cs.";
constexpr char kNoLibraryValidation[] =
    "com.apple.security.cs.disable-library-validation";

// Where a rule puts what it finds: the place, and what was found there. A fix
// of its own takes the place of the rule's.
using Found =
    std::function<void(const std::string& path, const std::string& architecture,
                       std::string detail, std::string fix)>;

void At(const Found& found, const BinaryFacts& binary, std::string detail = "",
        std::string fix = "") {
  found(binary.path, binary.slice.architecture, std::move(detail),
        std::move(fix));
}

// --- Signatures --------------------------------------------------------------

void FindVerificationFaults(const PreflightFacts& facts, std::string_view rule,
                            const Found& found) {
  for (const Finding& fault : facts.verification) {
    if (fault.rule == rule && !facts.is_disk_image) {
      found(fault.path, fault.architecture, fault.detail, fault.fix);
    }
  }
}

void CheckSigned(const PreflightFacts& facts, const Found& found) {
  FindVerificationFaults(facts, "signed", found);
}

void CheckValidSignature(const PreflightFacts& facts, const Found& found) {
  FindVerificationFaults(facts, "valid-signature", found);
}

// Who signed it, for people.
std::string SignedBy(const BinaryFacts& binary) {
  if (binary.HasFlag(kLinkerSignedFlag)) {
    return "only the linker signed it, ad-hoc";
  }
  if (binary.signer == SignerKind::kNone) return "it is signed ad-hoc";
  return absl::StrCat("it is signed by ",
                      binary.report.authorities.front().CommonName(), ": ",
                      std::string(SignerKindName(binary.signer)));
}

void CheckSignedBy(const PreflightFacts& facts, SignerKind wanted,
                   const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.is_signed() && binary.signer != wanted) {
      At(found, binary, SignedBy(binary));
    }
  }
}

void CheckDeveloperId(const PreflightFacts& facts, const Found& found) {
  CheckSignedBy(facts, SignerKind::kDeveloperId, found);
}

void CheckDistribution(const PreflightFacts& facts, const Found& found) {
  CheckSignedBy(facts, SignerKind::kDistribution, found);
}

void CheckTimestamp(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.is_signed() && !binary.slice.ad_hoc &&
        !binary.report.timestamp.has_value()) {
      At(found, binary,
         binary.slice.signing_time.has_value()
             ? "it has the signer's own word on the time only"
             : "");
    }
  }
}

void CheckWeakDigest(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.is_signed() && binary.slice.digest_kind == DigestKind::kSha1) {
      At(found, binary, "its only CodeDirectory is hashed with SHA-1");
    }
  }
}

void CheckTeamIdentifier(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.is_signed() && !binary.team.empty() &&
        binary.slice.team_identifier.empty()) {
      At(found, binary, "the certificate's team is " + binary.team);
    }
  }
}

void CheckOneTeam(const PreflightFacts& facts, const Found& found) {
  const auto main =
      std::find_if(facts.binaries.begin(), facts.binaries.end(),
                   [](const BinaryFacts& each) { return each.is_main; });
  if (main == facts.binaries.end() || main->team.empty()) return;
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.is_signed() && binary.team != main->team) {
      At(found, binary,
         absl::StrCat(
             "it is signed by ",
             binary.team.empty() ? "nobody's team" : "team " + binary.team,
             ", the app by team ", main->team));
    }
  }
}

void CheckCertificateExpiry(const PreflightFacts& facts, const Found& found) {
  std::set<std::string> told;  // one finding for each certificate
  for (const BinaryFacts& binary : facts.binaries) {
    for (const Certificate& certificate : binary.report.authorities) {
      if (certificate.not_after() > facts.options->now + kSoon ||
          !told.insert(HexEncode(certificate.Sha1())).second) {
        continue;
      }
      const std::string date = absl::FormatTime(
          "%Y-%m-%d", certificate.not_after(), absl::UTCTimeZone());
      const bool is_over = certificate.not_after() < facts.options->now;
      At(found, binary,
         absl::StrCat(certificate.CommonName(),
                      is_over ? " expired on " : " expires on ", date,
                      binary.report.timestamp.has_value()
                          ? ": what is signed and timestamped by then stays "
                            "valid"
                          : ": without a timestamp the signature then counts "
                            "for nothing"));
    }
  }
}

// --- Hardened runtime --------------------------------------------------------

void CheckHardenedRuntime(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (facts.is_macos && binary.is_signed() && binary.is_program() &&
        !binary.HasFlag(kRuntimeFlag)) {
      At(found, binary);
    }
  }
}

void CheckRuntimeExceptions(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.entitlements() == nullptr || binary.HasFlag(kRuntimeFlag)) {
      continue;
    }
    for (const auto& [key, value] : *binary.entitlements()) {
      if (key.starts_with(kHardenedRuntimeExceptions)) {
        At(found, binary, key);
        break;
      }
    }
  }
}

// Whether macOS lets the program load libraries of its own team and Apple's
// only.
bool ValidatesLibraries(const BinaryFacts& program) {
  return program.HasFlag(kLibraryValidationFlag) ||
         (program.HasFlag(kRuntimeFlag) &&
          !program.Claims(kNoLibraryValidation));
}

void ExplainLibraryValidation(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.is_signed() && binary.is_program() &&
        binary.HasFlag(kRuntimeFlag) &&
        !binary.HasFlag(kLibraryValidationFlag)) {
      At(found, binary,
         binary.Claims(kNoLibraryValidation)
             ? "the hardened runtime would ask for it; the entitlement "
               "disable-library-validation forgoes that"
             : "the hardened runtime does not set the flag, and asks for the "
               "same as long as the entitlement disable-library-validation is "
               "not there");
    }
  }
}

void CheckLibraryValidationConflict(const PreflightFacts& facts,
                                    const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.is_program() && binary.HasFlag(kLibraryValidationFlag) &&
        binary.Claims(kNoLibraryValidation)) {
      At(found, binary);
    }
  }
}

void CheckLibraryTeams(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& program : facts.binaries) {
    if (!program.is_main || !program.is_program() || !program.is_signed() ||
        !ValidatesLibraries(program)) {
      continue;
    }
    for (const BinaryFacts& library : facts.binaries) {
      if (!library.is_library() || !library.is_signed() ||
          library.slice.architecture != program.slice.architecture ||
          library.signer == SignerKind::kAppleSystem) {
        continue;
      }
      const std::string& team = library.slice.team_identifier;
      if (!team.empty() && team == program.slice.team_identifier) continue;
      At(found, library,
         absl::StrCat("its team is ", team.empty() ? "not set" : team, ", ",
                      program.path, " has ",
                      program.slice.team_identifier.empty()
                          ? "none"
                          : program.slice.team_identifier));
    }
  }
}

void CheckLibraryPathRule(const PreflightFacts& facts, const Found& found) {
  if (!facts.is_bundle || !facts.is_macos) return;
  for (const Finding& each : CheckLibraryPaths(facts.root, facts.files)) {
    found(each.path, each.architecture, each.detail, each.fix);
  }
}

void CheckSdk(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (!binary.is_mach_o) continue;
    const auto& version = binary.slice.build_version;
    if (!version.has_value()) {
      At(found, binary, "it does not say which SDK it was built with");
    } else if (version->platform == static_cast<uint32_t>(Platform::kMacOs) &&
               version->sdk < kOldestSdk) {
      At(found, binary,
         absl::StrFormat("it was built with the SDK of %d.%d",
                         version->sdk >> 16, version->sdk >> 8 & 0xff));
    }
  }
}

// --- Entitlements ------------------------------------------------------------

// Programs that load other people's plug-ins may be debuggable, so that those
// people can debug their plug-ins: Apple's notary takes both entitlements
// together.
bool IsHostOfPlugIns(const PreflightFacts& facts, const BinaryFacts& binary) {
  return facts.options->purpose != PreflightPurpose::kAppStore &&
         facts.is_macos && binary.Claims(kNoLibraryValidation);
}

void CheckGetTaskAllow(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    for (const char* key : {kGetTaskAllow, kGetTaskAllowIos}) {
      if (binary.Claims(key) && !IsHostOfPlugIns(facts, binary)) {
        At(found, binary, key);
      }
    }
  }
}

void CheckDebuggableHost(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.Claims(kGetTaskAllow) && IsHostOfPlugIns(facts, binary)) {
      At(found, binary,
         "the notary takes it together with disable-library-validation, for "
         "hosts of plug-ins");
    }
  }
}

void CheckSandbox(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (facts.is_macos && binary.is_signed() && binary.is_program() &&
        !binary.Claims(kSandbox)) {
      At(found, binary);
    }
  }
}

void CheckPrivateEntitlements(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.entitlements() == nullptr) continue;
    for (const auto& [key, value] : *binary.entitlements()) {
      if (key.starts_with("com.apple.private.")) At(found, binary, key);
    }
  }
}

void CheckLibraryEntitlements(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.is_library() && binary.entitlements() != nullptr &&
        !binary.entitlements()->empty()) {
      At(found, binary, binary.entitlements()->begin()->first + ", ...");
    }
  }
}

// On macOS a group belongs to a team by its prefix; "group.", as iOS has it,
// needs a profile.
void CheckAppGroups(const PreflightFacts& facts, const Found& found) {
  if (!facts.is_macos) return;
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.entitlements() == nullptr) continue;
    const PlistArray* groups =
        FindInDict<PlistArray>(*binary.entitlements(), kAppGroups);
    if (groups == nullptr) continue;
    for (const PlistValue& each : *groups) {
      const auto* group = each.As<std::string>();
      if (group == nullptr ||
          (!binary.team.empty() && group->starts_with(binary.team + "."))) {
        continue;
      }
      if (facts.profile.has_value() &&
          facts.profile->Allows(kAppGroups, PlistValue{PlistArray{each}})) {
        continue;
      }
      At(found, binary,
         absl::StrCat("group ", *group, " does not begin with ",
                      binary.team.empty() ? "a Team ID" : binary.team + "."));
    }
  }
}

// Those that mean nothing, or keep the code from starting, without a profile.
// On iOS all of them need one.
bool NeedsProfile(std::string_view key, bool is_macos) {
  return !is_macos || key.starts_with("com.apple.developer.") ||
         key == "com.apple.application-identifier" ||
         key == "keychain-access-groups";
}

bool NeedsProfile(const PreflightFacts& facts, const BinaryFacts& binary) {
  if (binary.entitlements() == nullptr || !binary.is_main) return false;
  return std::any_of(binary.entitlements()->begin(),
                     binary.entitlements()->end(), [&](const auto& claim) {
                       return NeedsProfile(claim.first, facts.is_macos);
                     });
}

// --- Provisioning profile ----------------------------------------------------

void CheckProfileMissing(const PreflightFacts& facts, const Found& found) {
  if (facts.profile.has_value() || !facts.profile_status.ok()) return;
  for (const BinaryFacts& binary : facts.binaries) {
    if (!NeedsProfile(facts, binary)) continue;
    for (const auto& [key, value] : *binary.entitlements()) {
      if (!NeedsProfile(key, facts.is_macos)) continue;
      At(found, binary, key + " is granted by a profile only");
      break;
    }
  }
}

void CheckProfileReadable(const PreflightFacts& facts, const Found& found) {
  if (!facts.profile_status.ok()) {
    found(facts.profile_path, "", std::string(Message(facts.profile_status)),
          "");
  }
}

void CheckProfileEmbedded(const PreflightFacts& facts, const Found& found) {
  if (!facts.is_bundle || !facts.options->profile.has_value()) return;
  if (!facts.has_embedded_profile) {
    found(facts.path, "", "the bundle holds no profile", "");
  } else if (!facts.embedded_profile_is_given_one) {
    found(facts.path, "", "the bundle holds another profile than the one given",
          "");
  }
}

void CheckProfileExpired(const PreflightFacts& facts, const Found& found) {
  if (facts.profile.has_value() &&
      facts.profile->expires_at < facts.options->now) {
    found(facts.profile_path, "",
          "it expired on " + absl::FormatTime("%Y-%m-%d",
                                              facts.profile->expires_at,
                                              absl::UTCTimeZone()),
          "");
  }
}

void CheckProfileKind(const PreflightFacts& facts, const Found& found) {
  if (!facts.profile.has_value()) return;
  const ProvisioningProfile& profile = *facts.profile;
  switch (facts.options->purpose) {
    case PreflightPurpose::kDeveloperId:
    case PreflightPurpose::kNotarization:
      if (!profile.provisions_all_devices) {
        found(facts.profile_path, "", "it is not for Developer ID", "");
      }
      break;
    case PreflightPurpose::kAppStore:
      if (profile.lists_devices || profile.provisions_all_devices) {
        found(facts.profile_path, "", "it is not for the App Store", "");
      }
      break;
    case PreflightPurpose::kAdHoc:
      if (!profile.lists_devices) {
        found(facts.profile_path, "", "it lists no devices", "");
      }
      break;
  }
}

// Calls with each binary that the profile is for.
void ForProvisioned(
    const PreflightFacts& facts,
    const std::function<void(const BinaryFacts&, const ProvisioningProfile&)>&
        work) {
  if (!facts.profile.has_value()) return;
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.is_main && binary.is_signed()) work(binary, *facts.profile);
  }
}

void CheckProfileTeam(const PreflightFacts& facts, const Found& found) {
  ForProvisioned(facts, [&](const BinaryFacts& binary,
                            const ProvisioningProfile& profile) {
    if (std::find(profile.teams.begin(), profile.teams.end(), binary.team) ==
        profile.teams.end()) {
      At(found, binary,
         absl::StrCat("the profile is of team ",
                      profile.teams.empty() ? "nobody" : profile.teams.front(),
                      ", the code of team ",
                      binary.team.empty() ? "nobody" : binary.team));
    }
  });
}

void CheckProfileApplication(const PreflightFacts& facts, const Found& found) {
  ForProvisioned(facts, [&](const BinaryFacts& binary,
                            const ProvisioningProfile& profile) {
    const std::string allowed = profile.ApplicationIdentifier();
    const std::string claimed = binary.team + "." + binary.slice.identifier;
    if (!allowed.empty() && !MatchesProfilePattern(allowed, claimed)) {
      At(found, binary,
         "the profile is for " + allowed + ", the code is " + claimed);
    }
  });
}

void CheckProfileCertificate(const PreflightFacts& facts, const Found& found) {
  ForProvisioned(facts, [&](const BinaryFacts& binary,
                            const ProvisioningProfile& profile) {
    if (binary.report.authorities.empty()) return;  // said already
    const Certificate& leaf = binary.report.authorities.front();
    if (std::find(profile.certificates.begin(), profile.certificates.end(),
                  leaf) == profile.certificates.end()) {
      At(found, binary,
         leaf.CommonName() + " (SHA-1 " + HexEncode(leaf.Sha1()) +
             ") is not among the profile's certificates");
    }
  });
}

void CheckProfileEntitlements(const PreflightFacts& facts, const Found& found) {
  ForProvisioned(facts, [&](const BinaryFacts& binary,
                            const ProvisioningProfile& profile) {
    if (binary.entitlements() == nullptr) return;
    for (const auto& [key, value] : *binary.entitlements()) {
      if (!NeedsProfile(key, facts.is_macos) || profile.Allows(key, value)) {
        continue;
      }
      const bool has_key = profile.entitlements.contains(key);
      At(found, binary,
         has_key ? key + " is in the profile, with another value"
                 : key + " is not in the profile");
    }
  });
}

void CheckProfileUnclaimed(const PreflightFacts& facts, const Found& found) {
  ForProvisioned(facts, [&](const BinaryFacts& binary,
                            const ProvisioningProfile& profile) {
    for (const auto& [key, value] : profile.entitlements) {
      if (!NeedsProfile(key, facts.is_macos)) continue;
      if (binary.entitlements() == nullptr ||
          !binary.entitlements()->contains(key)) {
        At(found, binary, key);
      }
    }
  });
}

// --- Files and places --------------------------------------------------------

void CheckIdentifier(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.is_main && binary.is_signed() &&
        !facts.bundle_identifier.empty() &&
        binary.slice.identifier != facts.bundle_identifier) {
      At(found, binary,
         "it is signed as " + binary.slice.identifier +
             ", its Info.plist says " + facts.bundle_identifier);
    }
  }
}

// Folders whose contents a seal takes for code.
bool IsCodePlace(std::string_view relative_path) {
  constexpr std::array<std::string_view, 7> kPlaces = {
      "Contents/MacOS/",           "Contents/Frameworks/",
      "Contents/Helpers/",         "Contents/PlugIns/",
      "Contents/Plug-ins/",        "Contents/XPCServices/",
      "Contents/SharedFrameworks/"};
  for (const std::string_view place : kPlaces) {
    if (!relative_path.starts_with(place)) continue;
    relative_path.remove_prefix(place.size());
    // A folder with a dot in its name is a bundle, with places of its own.
    const size_t slash = relative_path.rfind('/');
    return slash == std::string_view::npos ||
           relative_path.substr(0, slash).find('.') == std::string_view::npos;
  }
  return false;
}

// A script that is the executable of its bundle is signed with the bundle.
bool IsMainFile(const PreflightFacts& facts, const FoundFile& file) {
  return std::any_of(facts.binaries.begin(), facts.binaries.end(),
                     [&](const BinaryFacts& binary) {
                       return binary.is_main && binary.path == file.path;
                     });
}

void CheckDataInCodePlaces(const PreflightFacts& facts, const Found& found) {
  for (const FoundFile& file : facts.files) {
    if (IsMainFile(facts, file)) continue;
    if (!file.is_mach_o && IsCodePlace(file.relative_path) &&
        !file.relative_path.ends_with("/.DS_Store")) {
      found(file.path, "",
            file.is_script
                ? "a script can hold its signature in extended attributes only"
                : "it is no code, and cannot hold a signature",
            "");
    }
  }
}

void CheckCodeInResources(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (binary.relative_path.starts_with("Contents/Resources/")) {
      At(found, binary);
    }
  }
}

void CheckFinderFiles(const PreflightFacts& facts, const Found& found) {
  for (const FoundFile& file : facts.files) {
    const std::string name =
        std::filesystem::path(file.path).filename().string();
    if (name.starts_with("._") ||
        file.relative_path.find("__MACOSX/") != std::string::npos) {
      found(file.path, "", "", "");
    }
  }
}

void CheckExecutableBit(const PreflightFacts& facts, const Found& found) {
  for (const BinaryFacts& binary : facts.binaries) {
    if (!binary.is_program()) continue;
    const auto file = std::find_if(
        facts.files.begin(), facts.files.end(),
        [&](const FoundFile& each) { return each.path == binary.path; });
    constexpr mode_t kAnyExecute = 0111;
    if (file != facts.files.end() && (file->mode & kAnyExecute) == 0) {
      At(found, binary,
         absl::StrFormat("its mode is %04o", file->mode & 07777));
    }
  }
}

void CheckArchives(const PreflightFacts& facts, const Found& found) {
  for (const FoundFile& file : facts.files) {
    if (file.is_archive) found(file.path, "", "", "");
  }
}

void CheckDiskImage(const PreflightFacts& facts, const Found& found) {
  if (!facts.is_disk_image) return;
  for (const Finding& fault : facts.verification) {
    found(fault.path, "", fault.detail, "");
  }
}

void CheckPackage(const PreflightFacts& facts, const Found& found) {
  if (!facts.package.has_value()) return;
  const PackageReport& package = *facts.package;
  if (!package.is_signed) {
    return found(facts.path, "", "it is not signed", "");
  }
  if (!package.Validity().ok()) {
    return found(facts.path, "", std::string(Message(package.Validity())),
                 "sign it again with codeseal sign -f");
  }
  const SignerKind signer = KindOfSigner(package.authorities, package.trusted);
  const bool is_for_store =
      facts.options->purpose == PreflightPurpose::kAppStore;
  const SignerKind wanted = is_for_store ? SignerKind::kDistributionPackage
                                         : SignerKind::kDeveloperIdPackage;
  if (signer != wanted) {
    return found(facts.path, "",
                 absl::StrCat("it is signed by ",
                              package.authorities.front().CommonName(), ": ",
                              std::string(SignerKindName(signer))),
                 "sign it with a certificate of the kind " +
                     std::string(SignerKindName(wanted)));
  }
  if (!is_for_store && !package.timestamp.has_value()) {
    found(facts.path, "", "its signature has no secure timestamp",
          "sign it again with --timestamp");
  }
}

// --- The table ---------------------------------------------------------------

constexpr unsigned kD = static_cast<unsigned>(PreflightPurpose::kDeveloperId);
constexpr unsigned kN = static_cast<unsigned>(PreflightPurpose::kNotarization);
constexpr unsigned kS = static_cast<unsigned>(PreflightPurpose::kAppStore);
constexpr unsigned kH = static_cast<unsigned>(PreflightPurpose::kAdHoc);
constexpr unsigned kAll = kD | kN | kS | kH;

constexpr char kNotaryIssues[] =
    "https://developer.apple.com/documentation/security/"
    "resolving-common-notarization-issues";
constexpr char kPlaces[] =
    "https://developer.apple.com/documentation/bundleresources/"
    "placing-content-in-a-bundle";
constexpr char kProfiles[] =
    "https://developer.apple.com/documentation/technotes/"
    "tn3125-inside-code-signing-provisioning-profiles";

struct Rule {
  std::string_view name;
  // For which purposes it is what.
  unsigned errors;
  unsigned warnings;
  unsigned notes;
  std::string_view message;  // the notary's words where it has some
  std::string_view fix;
  std::string_view doc_url;  // empty: none
  void (*check)(const PreflightFacts&, const Found&);
};

constexpr Rule kRules[] = {
    {"signed", kAll, 0, 0, "The binary is not signed.",
     "sign it: codeseal sign -s IDENTITY -o runtime --timestamp --deep APP",
     kNotaryIssues, CheckSigned},
    {"valid-signature", kAll, 0, 0, "The signature of the binary is invalid.",
     "sign it again with codeseal sign -f", kNotaryIssues, CheckValidSignature},
    {"developer-id-certificate", kD | kN, 0, 0,
     "The binary is not signed with a valid Developer ID certificate.",
     "sign it with a Developer ID Application identity; codeseal identities "
     "list shows yours",
     kNotaryIssues, CheckDeveloperId},
    {"distribution-certificate", kS | kH, 0, 0,
     "The binary is not signed with a distribution certificate.",
     "sign it with an Apple Distribution identity; codeseal identities list "
     "shows yours",
     "", CheckDistribution},
    {"secure-timestamp", kN, kD, 0,
     "The signature does not include a secure timestamp.",
     "sign it again with --timestamp", kNotaryIssues, CheckTimestamp},
    {"hardened-runtime", kN, kD, 0,
     "The executable does not have the hardened runtime enabled.",
     "sign it again with -o runtime", kNotaryIssues, CheckHardenedRuntime},
    {"get-task-allow", kN | kS | kH, kD, 0,
     "The executable requests the com.apple.security.get-task-allow "
     "entitlement.",
     "remove it from the entitlements, which are those of a debug build, and "
     "sign again",
     kNotaryIssues, CheckGetTaskAllow},
    {"debuggable", 0, kD | kN | kH, 0,
     "Any program of the user can take over the executable.",
     "remove get-task-allow from the entitlements and sign again, unless "
     "others must debug their plug-ins in it",
     kNotaryIssues, CheckDebuggableHost},
    {"sdk-version", kN, kD, 0,
     "The binary uses an SDK older than the 10.9 SDK.",
     "link it again with the SDK of macOS 10.9 or later", kNotaryIssues,
     CheckSdk},
    {"weak-digest", kN, kD | kS | kH, 0,
     "The signature algorithm used is too weak.",
     "sign it again with --digest-algorithm sha256 (or sha1,sha256 for old "
     "systems)",
     kNotaryIssues, CheckWeakDigest},
    {"library-path", kD | kN, 0, 0,
     "The code loads a library from outside its bundle.",
     "put the library into Contents/Frameworks", "", CheckLibraryPathRule},
    {"library-team", 0, kAll, 0,
     "Library validation keeps the app from loading this library.",
     "sign the library with the app's identity, or claim "
     "com.apple.security.cs.disable-library-validation for the app",
     "", CheckLibraryTeams},
    {"library-validation-conflict", 0, kAll, 0,
     "The flag library-validation overrules the entitlement "
     "disable-library-validation.",
     "sign without the flag, or without the entitlement", "",
     CheckLibraryValidationConflict},
    {"library-validation", 0, 0, kAll,
     "The flag library-validation is not set.",
     "nothing; -o runtime,library-validation sets both flags", "",
     ExplainLibraryValidation},
    {"runtime-exceptions", 0, kAll, 0,
     "Exceptions from the hardened runtime mean nothing without it.",
     "sign it again with -o runtime, or without these entitlements", "",
     CheckRuntimeExceptions},
    {"team-identifier", 0, kAll, 0,
     "The CodeDirectory names no team though the certificate does.",
     "sign it again with codeseal sign -f, which takes the team from the "
     "certificate",
     "", CheckTeamIdentifier},
    {"one-team", kS | kH, 0, 0, "Parts of the app are signed by other teams.",
     "sign the whole app again with --deep -f", "", CheckOneTeam},
    {"certificate-expiry", 0, kAll, 0,
     "A certificate of the signature expires soon, or has expired.",
     "get a new certificate and sign again with --timestamp", "",
     CheckCertificateExpiry},
    {"sandbox", kS, 0, 0, "App sandbox not enabled.",
     "claim com.apple.security.app-sandbox for every executable of the app", "",
     CheckSandbox},
    {"private-entitlement", kAll, 0, 0,
     "The executable claims an entitlement that only Apple's software may "
     "have.",
     "remove it from the entitlements and sign again", "",
     CheckPrivateEntitlements},
    {"library-entitlements", 0, kAll, 0,
     "Entitlements of a library have no effect.",
     "sign libraries without entitlements; the program that loads them needs "
     "them",
     "", CheckLibraryEntitlements},
    {"app-group", kD | kN | kS, 0, 0,
     "An app group does not belong to the team.",
     "name it TEAMID.NAME in the entitlements, or use a profile that grants it",
     "", CheckAppGroups},
    {"profile-readable", kAll, 0, 0, "The provisioning profile cannot be read.",
     "download it again from Apple", kProfiles, CheckProfileReadable},
    {"profile-missing", kAll, 0, 0,
     "An entitlement needs a provisioning profile and there is none.",
     "make a profile with this capability, put it into the bundle "
     "(Contents/embedded.provisionprofile) and sign again; or remove the "
     "entitlement",
     kProfiles, CheckProfileMissing},
    {"profile-embedded", kAll, 0, 0,
     "The profile is not the one inside the bundle.",
     "copy it to Contents/embedded.provisionprofile (embedded.mobileprovision "
     "on iOS) and sign again",
     kProfiles, CheckProfileEmbedded},
    {"profile-expired", kAll, 0, 0, "The provisioning profile has expired.",
     "make a new profile, put it into the bundle and sign again", kProfiles,
     CheckProfileExpired},
    {"profile-kind", kAll, 0, 0,
     "The provisioning profile is for another kind of distribution.",
     "make a profile for this distribution, put it into the bundle and sign "
     "again",
     kProfiles, CheckProfileKind},
    {"profile-team", kAll, 0, 0, "The provisioning profile is another team's.",
     "use a profile of the team whose certificate signs", kProfiles,
     CheckProfileTeam},
    {"profile-application-identifier", kAll, 0, 0,
     "The provisioning profile is for another app.",
     "sign with the identifier that the profile names (-i), or make a profile "
     "for this one",
     kProfiles, CheckProfileApplication},
    {"profile-certificate", kAll, 0, 0,
     "The provisioning profile does not include the signing certificate.",
     "add the certificate to the profile, or sign with one that it includes",
     kProfiles, CheckProfileCertificate},
    {"profile-entitlement", kAll, 0, 0,
     "The provisioning profile doesn't include the entitlement.",
     "add the capability to the app's identifier and make the profile anew; or "
     "remove the entitlement",
     kProfiles, CheckProfileEntitlements},
    {"profile-unclaimed", 0, 0, kAll,
     "The profile grants an entitlement that the code does not claim.",
     "claim it in the entitlements if the app needs it", kProfiles,
     CheckProfileUnclaimed},
    {"bundle-identifier", 0, kAll, 0,
     "The code is signed with another identifier than its Info.plist has.",
     "sign it without -i", "", CheckIdentifier},
    {"data-in-code-place", 0, kAll, 0,
     "A file that is no Mach-O lies where code belongs.",
     "move it to Contents/Resources, leave a symbolic link if it must be found "
     "here, and sign again",
     kPlaces, CheckDataInCodePlaces},
    {"code-in-resources", 0, kAll, 0, "Code lies where data belongs.",
     "move it to Contents/Frameworks, Helpers or MacOS; or sign it with "
     "--sign-resources",
     kPlaces, CheckCodeInResources},
    {"finder-files", 0, kAll, 0,
     "The bundle holds a file that the Finder or an archive left behind.",
     "remove it and sign again; ditto --norsrc makes archives without them", "",
     CheckFinderFiles},
    {"executable-bit", kN, kD | kS | kH, 0,
     "The executable cannot be executed.",
     "chmod +x; signatures do not cover it", "", CheckExecutableBit},
    {"archive", 0, 0, kAll,
     "The notary looks into archives; this tool does not.",
     "unpack it and run preflight on its contents", "", CheckArchives},
    {"disk-image", 0, kAll, 0, "The disk image is not signed well.",
     "sign it: codeseal sign -s IDENTITY --timestamp IMAGE", "",
     CheckDiskImage},
    {"installer-certificate", kAll, 0, 0,
     "The package is not signed with a valid installer certificate.",
     "sign it with a Developer ID Installer identity", kNotaryIssues,
     CheckPackage},
};

std::optional<Severity> SeverityFor(const Rule& rule,
                                    PreflightPurpose purpose) {
  const auto bit = static_cast<unsigned>(purpose);
  if ((rule.errors & bit) != 0) return Severity::kError;
  if ((rule.warnings & bit) != 0) return Severity::kWarning;
  if ((rule.notes & bit) != 0) return Severity::kNote;
  return std::nullopt;
}

}  // namespace

std::vector<PreflightRuleName> PreflightRules() {
  std::vector<PreflightRuleName> names;
  for (const Rule& rule : kRules) {
    names.push_back({rule.name, rule.errors, rule.warnings, rule.notes});
  }
  return names;
}

std::vector<Finding> ApplyPreflightRules(const PreflightFacts& facts) {
  std::vector<Finding> findings;
  for (const Rule& rule : kRules) {
    const std::optional<Severity> severity =
        SeverityFor(rule, facts.options->purpose);
    if (!severity.has_value()) continue;
    rule.check(
        facts, [&](const std::string& path, const std::string& architecture,
                   std::string detail, std::string fix) {
          findings.push_back(
              {.rule = std::string(rule.name),
               .severity = *severity,
               .path = path,
               .architecture = architecture,
               .message = std::string(rule.message),
               .detail = std::move(detail),
               .fix = fix.empty() ? std::string(rule.fix) : std::move(fix),
               .doc_url = std::string(rule.doc_url)});
        });
  }
  return findings;
}

}  // namespace codeseal
