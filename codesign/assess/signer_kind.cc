#include "codesign/assess/signer_kind.h"

namespace codeseal {
namespace {

std::string Marker(std::string_view suffix) {
  return "1.2.840.113635.100.6." + std::string(suffix);
}

}  // namespace

SignerKind KindOfSigner(std::span<const Certificate> chain, bool is_apples) {
  if (chain.empty()) return SignerKind::kNone;
  if (!is_apples) return SignerKind::kOther;
  const Certificate& leaf = chain.front();
  const auto leaf_has = [&](std::string_view suffix) {
    return leaf.HasExtension(Marker(suffix));
  };
  const bool issued_for_developer_id =
      chain.size() > 1 && chain[1].HasExtension(Marker("2.6"));
  if (leaf_has("22")) return SignerKind::kAppleSystem;
  if (leaf_has("1.9")) return SignerKind::kMacAppStore;
  if (leaf_has("1.10")) return SignerKind::kMacAppStorePackage;
  if (leaf_has("1.13") && issued_for_developer_id) {
    return SignerKind::kDeveloperId;
  }
  if (leaf_has("1.14") && issued_for_developer_id) {
    return SignerKind::kDeveloperIdPackage;
  }
  if (leaf_has("1.7") || leaf_has("1.4")) return SignerKind::kDistribution;
  if (leaf_has("1.8")) return SignerKind::kDistributionPackage;
  if (leaf_has("1.2") || leaf_has("1.12")) return SignerKind::kDevelopment;
  if (chain.size() > 1 && chain[1].CommonName() ==
                              "Apple Software Update Certification Authority") {
    return SignerKind::kAppleInstaller;
  }
  return SignerKind::kOtherApple;
}

std::string_view SignerKindName(SignerKind kind) {
  switch (kind) {
    case SignerKind::kNone:
      return "ad-hoc";
    case SignerKind::kOther:
      return "a certificate that Apple did not issue";
    case SignerKind::kAppleSystem:
      return "Apple System";
    case SignerKind::kMacAppStore:
      return "Mac App Store";
    case SignerKind::kMacAppStorePackage:
      return "Mac App Store installer";
    case SignerKind::kAppleInstaller:
      return "Apple Installer";
    case SignerKind::kDeveloperId:
      return "Developer ID Application";
    case SignerKind::kDeveloperIdPackage:
      return "Developer ID Installer";
    case SignerKind::kDistribution:
      return "Apple Distribution";
    case SignerKind::kDistributionPackage:
      return "3rd Party Mac Developer Installer";
    case SignerKind::kDevelopment:
      return "Apple Development";
    case SignerKind::kOtherApple:
      return "another certificate of Apple's";
  }
  return "unknown";
}

std::string TeamOfSigner(std::span<const Certificate> chain, SignerKind kind) {
  switch (kind) {
    case SignerKind::kNone:
    case SignerKind::kOther:
    case SignerKind::kAppleSystem:
    case SignerKind::kMacAppStore:
    case SignerKind::kMacAppStorePackage:
    case SignerKind::kAppleInstaller:
    case SignerKind::kOtherApple:
      return "";
    case SignerKind::kDeveloperId:
    case SignerKind::kDeveloperIdPackage:
    case SignerKind::kDistribution:
    case SignerKind::kDistributionPackage:
    case SignerKind::kDevelopment:
      break;
  }
  std::vector<std::string> units = chain.front().SubjectValues("OU");
  return units.empty() ? "" : units.front();
}

}  // namespace codeseal
