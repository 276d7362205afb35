// Which of Apple's kinds of certificate signed: the first question of every
// distribution channel.
//
//   chain -> [SignerKind] -> Assess, Preflight, ExamineIdentities
//
// Spec: Apple's marker extensions below 1.2.840.113635.100.6; the requirements
//       in Security's syspolicy.sql.

#ifndef CODESEAL_CODESIGN_ASSESS_SIGNER_KIND_H_
#define CODESEAL_CODESIGN_ASSESS_SIGNER_KIND_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "codesign/cms/certificate.h"

namespace codeseal {

enum class SignerKind {
  kNone,                 // ad-hoc: there is no certificate
  kOther,                // not issued by Apple
  kAppleSystem,          // Apple's own macOS software
  kMacAppStore,          // signed again by Apple for the Mac App Store
  kMacAppStorePackage,   // the same for its installer packages
  kAppleInstaller,       // Apple's own installer packages
  kDeveloperId,          // Developer ID Application
  kDeveloperIdPackage,   // Developer ID Installer
  kDistribution,         // Apple Distribution, 3rd Party Mac Developer
  kDistributionPackage,  // 3rd Party Mac Developer Installer
  kDevelopment,          // Apple Development, Mac Developer
  kOtherApple,           // any other certificate of Apple's
};

// `chain` is leaf first. `is_apples`: its root is Apple's, or one that the user
// told to count as Apple's.
SignerKind KindOfSigner(std::span<const Certificate> chain, bool is_apples);

// "Developer ID Application": for people.
std::string_view SignerKindName(SignerKind kind);

// The Team ID that a developer certificate of Apple's has in its OU, whoever
// issued it: the caller knows whether its root counts. Empty for other kinds.
std::string TeamOfSigner(std::span<const Certificate> chain, SignerKind kind);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_ASSESS_SIGNER_KIND_H_
