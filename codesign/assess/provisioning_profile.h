// A provisioning profile: Apple's permission for a team's app to claim
// entitlements that nobody may simply take.
//
//   .provisionprofile, .mobileprovision -> [ProvisioningProfile] -> Preflight
//
// Spec: Apple TN3125, "Inside Code Signing: Provisioning Profiles".

#ifndef CODESEAL_CODESIGN_ASSESS_PROVISIONING_PROFILE_H_
#define CODESEAL_CODESIGN_ASSESS_PROVISIONING_PROFILE_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/bundle/property_list.h"
#include "codesign/cms/certificate.h"

namespace codeseal {

struct ProvisioningProfile {
  // Not checked: that Apple signed it.
  // Errors: those of OpenSignedMessage(); INVALID_ARGUMENT REASON_BAD_PLIST.
  static absl::StatusOr<ProvisioningProfile> Parse(ByteView bytes);

  std::string name;
  std::vector<std::string> teams;      // one
  std::vector<std::string> platforms;  // "OSX", "iOS"; empty in old ones
  absl::Time expires_at = absl::InfiniteFuture();
  PlistDict entitlements;                 // what may be claimed
  std::vector<Certificate> certificates;  // who may sign with it
  bool provisions_all_devices = false;    // Developer ID, in-house
  bool lists_devices = false;             // development, ad hoc

  // "TEAMID.com.example.*"; empty when there is none.
  std::string ApplicationIdentifier() const;
  // Whether it lets code claim `value` for `key`. A profile's "*" stands for
  // any rest of a text; each element of an array must be allowed.
  bool Allows(std::string_view key, const PlistValue& value) const;
};

// Whether `text` is what `pattern` says: the same, or with "*" at its end, the
// same up to there.
bool MatchesProfilePattern(std::string_view pattern, std::string_view text);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_ASSESS_PROVISIONING_PROFILE_H_
