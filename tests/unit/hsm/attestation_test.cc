// A synthetic attestation authority, built like Yubico's: vendor's root, the
// certificate that a device holds, and the attestation that it issues for a key
// made inside it. No vendor's certificate is used.

#include "hsm/attestation.h"

#include <openssl/x509v3.h>

#include "codesign/base/error.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::Issue;
using ::codeseal::testing::IssueForKey;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::TestIdentity;

CertificateSpec Named(const std::string& common_name, bool authority = false) {
  CertificateSpec spec;
  spec.common_name = common_name;
  spec.certificate_authority = authority;
  return spec;
}

class SyntheticAttestation : public ::testing::Test {
 protected:
  // The key whose attestation is wanted.
  Bytes PublicKey() const { return key_.certificate().SubjectPublicKeyInfo(); }
  Certificate Attest(const TestIdentity& device) const {
    CertificateSpec spec = Named("Synthetic PIV Attestation 9c");
    spec.raw_extensions = {
        {"1.3.6.1.4.1.41482.3.3", {5, 4, 3}},
        {"1.3.6.1.4.1.41482.3.7", {0x02, 0x04, 0x01, 0x02, 0x03, 0x04}},
        {"1.3.6.1.4.1.41482.3.8", {2, 3}}};
    return IssueForKey(PublicKey(), spec, device);
  }
  std::vector<Certificate> roots() const { return {root_.certificate()}; }
  std::vector<Certificate> devices() const { return {device_.certificate()}; }

  const TestIdentity key_ = MakeRoot(Named("key"));
  const TestIdentity root_ = MakeRoot(Named("Synthetic vendor root"));
  const TestIdentity device_ =
      Issue(Named("Synthetic device f9", /*authority=*/true), root_);
};

TEST_F(SyntheticAttestation, OfThisKeyByTheVendor) {
  const auto attestation =
      CheckAttestation(PublicKey(), Attest(device_), devices(), roots());
  ASSERT_THAT(attestation, IsOk());
  ASSERT_EQ(attestation->chain.size(), 3u);
  EXPECT_EQ(attestation->chain.back().CommonName(), "Synthetic vendor root");
  EXPECT_EQ(attestation->firmware, "5.4.3");
  EXPECT_EQ(attestation->serial, "16909060");
  EXPECT_EQ(attestation->pin_policy, "once");
  EXPECT_EQ(attestation->touch_policy, "cached");
}

TEST_F(SyntheticAttestation, OfAnotherKeyIsNone) {
  const TestIdentity other = MakeRoot(Named("other"));
  const auto refused =
      CheckAttestation(other.certificate().SubjectPublicKeyInfo(),
                       Attest(device_), devices(), roots());
  EXPECT_THAT(refused, HasReason(v1::REASON_BAD_ATTESTATION));
  EXPECT_THAT(refused, HasMessage("is about another key"));
  EXPECT_THAT(CheckAttestation({}, Attest(device_), devices(), roots()),
              HasReason(v1::REASON_BAD_ATTESTATION));
}

TEST_F(SyntheticAttestation, ByAnotherVendorIsNone) {
  const TestIdentity other_root = MakeRoot(Named("Other vendor"));
  const std::vector<Certificate> others = {other_root.certificate()};
  EXPECT_THAT(CheckAttestation(PublicKey(), Attest(device_), devices(), others),
              HasReason(v1::REASON_BAD_ATTESTATION));
  // The root that the attestation brings along is not the one that is trusted.
  std::vector<Certificate> brought = devices();
  brought.push_back(root_.certificate());
  EXPECT_THAT(CheckAttestation(PublicKey(), Attest(device_), brought, others),
              HasMessage("chains to \"Synthetic vendor root\", which is no "
                         "vendor's root of yours"));
}

TEST_F(SyntheticAttestation, ADeviceOfTheSameNameIsNone) {
  const TestIdentity impostor =
      Issue(Named("Synthetic device f9", /*authority=*/true),
            MakeRoot(Named("Synthetic vendor root")));
  EXPECT_THAT(
      CheckAttestation(PublicKey(), Attest(impostor), devices(), roots()),
      HasReason(v1::REASON_BAD_ATTESTATION));
}

// Else whoever has the key could attest it.
TEST_F(SyntheticAttestation, ADeviceThatIsNoAuthorityIsNone) {
  const TestIdentity leaf = Issue(Named("Synthetic device f9"), root_);
  EXPECT_THAT(CheckAttestation(PublicKey(), Attest(leaf),
                               std::vector{leaf.certificate()}, roots()),
              HasReason(v1::REASON_BAD_ATTESTATION));
  EXPECT_THAT(CheckAttestation(PublicKey(), key_.certificate(), {},
                               std::vector{key_.certificate()}),
              HasReason(v1::REASON_BAD_ATTESTATION));
}

TEST_F(SyntheticAttestation, IsFoundOnTheToken) {
  TokenListing listing;
  // What signs code with the key is no attestation.
  listing.certificates.push_back({{1}, "own", ToBytes(key_.der())});
  listing.certificates.push_back({{2}, "other", {1, 2, 3}});
  EXPECT_THAT(FindAttestation(listing, PublicKey(), {}, roots()),
              HasReason(v1::REASON_NO_ATTESTATION));
  listing.certificates.push_back(
      {{3}, "attestation", ToBytes(Attest(device_).der())});
  EXPECT_THAT(FindAttestation(listing, PublicKey(), {}, roots()),
              HasReason(v1::REASON_NO_ATTESTATION));
  EXPECT_THAT(FindAttestation(listing, PublicKey(), devices(), roots()),
              IsOk());
  listing.certificates.push_back({{4}, "device", ToBytes(device_.der())});
  EXPECT_THAT(FindAttestation(listing, PublicKey(), {}, roots()), IsOk());
}

TEST_F(SyntheticAttestation, VendorsMaySayLess) {
  const Certificate plain = IssueForKey(PublicKey(), Named("plain"), device_);
  const auto attestation =
      CheckAttestation(PublicKey(), plain, devices(), roots());
  ASSERT_THAT(attestation, IsOk());
  EXPECT_EQ(attestation->firmware + attestation->serial, "");
}

}  // namespace
}  // namespace codeseal
