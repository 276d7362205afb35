#include "codesign/assess/provisioning_profile.h"

#include <algorithm>

#include "codesign/base/error.h"
#include "codesign/cms/signed_message.h"

namespace codeseal {
namespace {

std::vector<std::string> Texts(const PlistDict& dict, std::string_view key) {
  std::vector<std::string> texts;
  if (const PlistArray* array = FindInDict<PlistArray>(dict, key)) {
    for (const PlistValue& each : *array) {
      if (const auto* text = each.As<std::string>()) texts.push_back(*text);
    }
  }
  return texts;
}

// One claimed value, no array, against what the profile has for its key.
bool AllowsOne(const PlistValue& allowed, const PlistValue& claimed) {
  if (const PlistArray* choices = allowed.As<PlistArray>()) {
    return std::any_of(choices->begin(), choices->end(),
                       [&](const PlistValue& choice) {
                         return choice.As<PlistArray>() == nullptr &&
                                AllowsOne(choice, claimed);
                       });
  }
  const auto* pattern = allowed.As<std::string>();
  const auto* text = claimed.As<std::string>();
  if (pattern != nullptr && text != nullptr) {
    return MatchesProfilePattern(*pattern, *text);
  }
  // "*" stands for an array of anything, too.
  if (pattern != nullptr && *pattern == "*") return true;
  return allowed == claimed;
}

}  // namespace

bool MatchesProfilePattern(std::string_view pattern, std::string_view text) {
  if (!pattern.ends_with('*')) return pattern == text;
  pattern.remove_suffix(1);
  return text.starts_with(pattern);
}

absl::StatusOr<ProvisioningProfile> ProvisioningProfile::Parse(ByteView bytes) {
  ASSIGN_OR_RETURN(const SignedMessage message, OpenSignedMessage(bytes));
  ASSIGN_OR_RETURN(const PlistDict dict, ParsePlistDict(message.content));
  ProvisioningProfile profile;
  if (const auto* name = FindInDict<std::string>(dict, "Name")) {
    profile.name = *name;
  }
  profile.teams = Texts(dict, "TeamIdentifier");
  profile.platforms = Texts(dict, "Platform");
  if (const auto* at = FindInDict<absl::Time>(dict, "ExpirationDate")) {
    profile.expires_at = *at;
  }
  if (const auto* claims = FindInDict<PlistDict>(dict, "Entitlements")) {
    profile.entitlements = *claims;
  }
  if (const auto* all = FindInDict<bool>(dict, "ProvisionsAllDevices")) {
    profile.provisions_all_devices = *all;
  }
  profile.lists_devices =
      FindInDict<PlistArray>(dict, "ProvisionedDevices") != nullptr;
  if (const auto* array =
          FindInDict<PlistArray>(dict, "DeveloperCertificates")) {
    for (const PlistValue& each : *array) {
      const Bytes* der = each.As<Bytes>();
      if (der == nullptr) continue;
      ASSIGN_OR_RETURN(Certificate certificate, Certificate::Parse(*der));
      profile.certificates.push_back(std::move(certificate));
    }
  }
  return profile;
}

std::string ProvisioningProfile::ApplicationIdentifier() const {
  for (const char* key :
       {"com.apple.application-identifier", "application-identifier"}) {
    if (const auto* text = FindInDict<std::string>(entitlements, key)) {
      return *text;
    }
  }
  return "";
}

bool ProvisioningProfile::Allows(std::string_view key,
                                 const PlistValue& value) const {
  // Not to claim something needs no permission.
  if (const bool* flag = value.As<bool>(); flag != nullptr && !*flag) {
    return true;
  }
  const auto allowed = entitlements.find(key);
  if (allowed == entitlements.end()) return false;
  if (const PlistArray* claims = value.As<PlistArray>()) {
    return std::all_of(claims->begin(), claims->end(),
                       [&](const PlistValue& claim) {
                         return AllowsOne(allowed->second, claim);
                       });
  }
  return AllowsOne(allowed->second, value);
}

}  // namespace codeseal
