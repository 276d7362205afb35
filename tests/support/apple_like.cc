#include "tests/support/apple_like.h"

#include <openssl/cms.h>

#include <cstdio>
#include <cstdlib>

#include "codesign/cms/openssl.h"
#include "tests/support/forged_cms.h"
#include "tests/support/timestamp_authority.h"

namespace codeseal::testing {
namespace {

constexpr absl::Duration kYears = absl::Hours(24 * 3650);

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "apple_like: %s\n", what);
  std::abort();
}

using CmsPtr = OpenSslPtr<CMS_ContentInfo, CMS_ContentInfo_free>;

}  // namespace

const TestIdentity& AppleLikeRoot() {
  static const TestIdentity* const root = [] {
    CertificateSpec spec;
    spec.common_name = "Apple-like Root CA";
    spec.not_before = absl::Now() - kYears;
    spec.not_after = absl::Now() + kYears;
    return new TestIdentity(MakeRoot(spec));
  }();
  return *root;
}

TestChain MakeAppleLikeChain(const AppleLikeSpec& spec) {
  CertificateSpec issuer;
  issuer.common_name = "Apple-like Intermediate CA";
  issuer.certificate_authority = true;
  issuer.markers = spec.issuer_markers;
  issuer.not_before = absl::Now() - kYears;
  issuer.not_after = absl::Now() + kYears;
  CertificateSpec leaf;
  leaf.key = spec.key;
  leaf.common_name = spec.common_name;
  leaf.organization = "Example";
  leaf.organizational_unit = spec.team;
  leaf.extended_key_usage = spec.purposes;
  leaf.markers = spec.markers;
  leaf.not_before = spec.not_before;
  leaf.not_after = spec.not_after;
  const TestIdentity intermediate = Issue(issuer, AppleLikeRoot());
  return {Issue(leaf, intermediate), intermediate, AppleLikeRoot()};
}

const TestChain& DeveloperId() {
  static const TestChain* const chain = new TestChain(MakeAppleLikeChain());
  return *chain;
}

Bytes AddTimestamp(ByteView cms) {
  static const std::vector<TestIdentity> authority = MakeTimestampAuthority();
  return StampCms(cms, authority, absl::Now());
}

Bytes MakeProfile(const ProfileSpec& spec) {
  PlistDict granted = spec.entitlements;
  granted["com.apple.application-identifier"].value =
      spec.application_identifier;
  PlistArray certificates;
  for (const Certificate& each : spec.certificates) {
    certificates.push_back({ToBytes(each.der())});
  }
  PlistDict profile;
  profile["Name"].value = std::string("Demo");
  profile["TeamIdentifier"].value = PlistArray{{spec.team}};
  profile["Platform"].value = PlistArray{{std::string("OSX")}};
  profile["ExpirationDate"].value =
      absl::FromUnixSeconds(absl::ToUnixSeconds(spec.expires_at));
  profile["Entitlements"].value = granted;
  profile["DeveloperCertificates"].value = certificates;
  profile["ProvisionsAllDevices"].value = true;
  for (const auto& [key, value] : spec.changes) profile[key] = value;
  const std::string content = BuildXmlPlist(profile);

  const BioPtr in(
      BIO_new_mem_buf(content.data(), static_cast<int>(content.size())));
  const TestIdentity& signer = AppleLikeRoot();
  const CmsPtr cms(CMS_sign(signer.certificate().x509(), signer.key(), nullptr,
                            in.get(), CMS_BINARY | CMS_NOSMIMECAP));
  Require(cms != nullptr, "no profile");
  return EncodeDer<const CMS_ContentInfo*>(i2d_CMS_ContentInfo, cms.get());
}

}  // namespace codeseal::testing
