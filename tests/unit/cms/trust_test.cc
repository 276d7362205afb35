#include "codesign/cms/trust.h"

#include "gmock/gmock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::Issue;
using ::codeseal::testing::MakeCodeSigningChain;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::TestChain;
using ::codeseal::testing::TestIdentity;

TEST(CodeSigningChainTest, AcceptsRootIntermediateLeaf) {
  EXPECT_THAT(CheckCodeSigningChain(MakeCodeSigningChain().certificates()),
              IsOk());
}

TEST(CodeSigningChainTest, AcceptsApplesCriticalMarkers) {
  const TestIdentity root = MakeRoot({});
  CertificateSpec spec;
  spec.common_name = "leaf";
  spec.extended_key_usage = {testing::kCodeSigning};
  spec.markers = {"1.2.840.113635.100.6.1.13"};
  const std::vector<Certificate> chain = {Issue(spec, root).certificate(),
                                          root.certificate()};
  EXPECT_THAT(CheckCodeSigningChain(chain), IsOk());
}

TEST(CodeSigningChainTest, LeafMustBeForSigningCode) {
  const TestIdentity root = MakeRoot({});
  CertificateSpec spec;
  spec.common_name = "leaf";
  spec.extended_key_usage = {testing::kServerAuth};
  const std::vector<Certificate> chain = {Issue(spec, root).certificate(),
                                          root.certificate()};
  EXPECT_THAT(CheckCodeSigningChain(chain),
              HasReason(v1::REASON_CHAIN_NOT_TRUSTED));
  EXPECT_THAT(CheckCodeSigningChain({}),
              HasReason(v1::REASON_CHAIN_NOT_TRUSTED));
}

TEST(CodeSigningChainTest, LeafCannotIssue) {
  const TestIdentity root = MakeRoot({});
  CertificateSpec spec;
  spec.extended_key_usage = {testing::kCodeSigning};
  spec.common_name = "leaf";
  const TestIdentity leaf = Issue(spec, root);
  spec.common_name = "forged";
  const std::vector<Certificate> chain = {
      Issue(spec, leaf).certificate(), leaf.certificate(), root.certificate()};
  EXPECT_THAT(CheckCodeSigningChain(chain),
              HasReason(v1::REASON_CHAIN_NOT_TRUSTED));
}

TEST(ValidityDatesTest, NamesCertificateAndTime) {
  const TestIdentity root = MakeRoot({});
  CertificateSpec spec;
  spec.common_name = "short-lived";
  spec.not_before = absl::FromUnixSeconds(1'700'000'000);
  spec.not_after = absl::FromUnixSeconds(1'700'000'100);
  const std::vector<Certificate> chain = {Issue(spec, root).certificate()};
  EXPECT_THAT(CheckValidityDates(chain, spec.not_before), IsOk());
  EXPECT_THAT(CheckValidityDates(chain, spec.not_after), IsOk());
  for (const absl::Time at : {spec.not_before - absl::Seconds(1),
                              spec.not_after + absl::Seconds(1)}) {
    const absl::Status status = CheckValidityDates(chain, at);
    EXPECT_THAT(status, HasReason(v1::REASON_CERTIFICATE_EXPIRED));
    EXPECT_THAT(status, HasMessage("short-lived"));
  }
}

}  // namespace
}  // namespace codeseal
