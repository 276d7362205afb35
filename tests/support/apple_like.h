// A certificate authority that imitates Apple's, so that tests can have what
// only Apple issues: Developer ID certificates, secure timestamps, provisioning
// profiles. Its root counts as Apple's only where a test says so (anchors).
//
//   const TestChain& chain = DeveloperId();
//   options.anchors = {AppleLikeRoot().certificate()};

#ifndef CODESEAL_TESTS_SUPPORT_APPLE_LIKE_H_
#define CODESEAL_TESTS_SUPPORT_APPLE_LIKE_H_

#include <string>
#include <vector>

#include "codesign/base/bytes.h"
#include "codesign/bundle/property_list.h"
#include "tests/support/test_pki.h"

namespace codeseal::testing {

inline constexpr char kTeam[] = "TEAMID1234";
inline constexpr char kOtherTeam[] = "OTHERTEAM2";

// Markers below 1.2.840.113635.100.6.
inline constexpr char kDeveloperIdMarker[] = "1.2.840.113635.100.6.1.13";
inline constexpr char kDeveloperIdCaMarker[] = "1.2.840.113635.100.6.2.6";
inline constexpr char kDistributionMarker[] = "1.2.840.113635.100.6.1.7";
inline constexpr char kDevelopmentMarker[] = "1.2.840.113635.100.6.1.12";
inline constexpr char kMacAppStoreMarker[] = "1.2.840.113635.100.6.1.9";
inline constexpr char kAppleSoftwareMarker[] = "1.2.840.113635.100.6.22";

// All chains below have this root.
const TestIdentity& AppleLikeRoot();

struct AppleLikeSpec {
  std::string common_name = "Developer ID Application: Example (TEAMID1234)";
  std::string team = kTeam;
  std::vector<std::string> markers = {kDeveloperIdMarker};  // of the leaf
  std::vector<std::string> issuer_markers = {kDeveloperIdCaMarker};
  std::vector<std::string> purposes = {kCodeSigning};
  absl::Time not_before = absl::Now() - absl::Hours(24);
  absl::Time not_after = absl::Now() + absl::Hours(24 * 365);
  KeyType key = KeyType::kP256;
};
TestChain MakeAppleLikeChain(const AppleLikeSpec& spec = {});

// Of kTeam, made once.
const TestChain& DeveloperId();

// The CMS with a timestamp token of an authority of its own; the time is now.
Bytes AddTimestamp(ByteView cms);

// A profile that grants `entitlements` to `certificates` of `team`; with
// "ProvisionsAllDevices", as for Developer ID. `changes` replace entries.
struct ProfileSpec {
  std::string team = kTeam;
  std::string application_identifier = "TEAMID1234.com.example.demo";
  PlistDict entitlements = {};
  std::vector<Certificate> certificates = {DeveloperId().leaf.certificate()};
  absl::Time expires_at = absl::Now() + absl::Hours(24 * 365);
  PlistDict changes = {};
};
Bytes MakeProfile(const ProfileSpec& spec = {});

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_APPLE_LIKE_H_
