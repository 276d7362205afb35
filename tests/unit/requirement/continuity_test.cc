// Certificate chains built like Apple's: one root, the Developer ID authorities
// of both generations under it, and their marker extensions.

#include "codesign/requirement/continuity.h"

#include "codesign/base/error.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::Issue;
using ::codeseal::testing::IssueForKey;
using ::codeseal::testing::kCodeSigning;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::TestIdentity;
using Chain = std::vector<Certificate>;

constexpr char kDeveloperIdCa[] = "1.2.840.113635.100.6.2.6";
constexpr char kWwdrCa[] = "1.2.840.113635.100.6.2.1";
constexpr char kDeveloperIdLeaf[] = "1.2.840.113635.100.6.1.13";
constexpr char kTeam[] = "ABCDE12345";

CertificateSpec Authority(const std::string& common_name,
                          const std::vector<std::string>& markers) {
  CertificateSpec spec;
  spec.common_name = common_name;
  spec.organization = "Apple Inc.";
  spec.certificate_authority = true;
  spec.markers = markers;
  return spec;
}

const TestIdentity& AppleRoot() {
  static const TestIdentity* const root =
      new TestIdentity(MakeRoot(Authority("Test Apple Root CA", {})));
  return *root;
}

bool IsTestAppleRoot(const Certificate& certificate) {
  return certificate == AppleRoot().certificate();
}

struct LeafChoice {
  std::string team = kTeam;
  std::vector<std::string> markers = {kDeveloperIdLeaf};
  std::string common_name = "Developer ID Application: Example (ABCDE12345)";
};

// Leaf, an authority of its own with `markers`, the Apple root.
Chain MakeChain(const std::string& authority,
                const std::vector<std::string>& markers,
                const LeafChoice& choice = {}) {
  const TestIdentity intermediate =
      Issue(Authority(authority, markers), AppleRoot());
  CertificateSpec leaf;
  leaf.common_name = choice.common_name;
  leaf.organization = "Example";
  leaf.organizational_unit = choice.team;
  leaf.markers = choice.markers;
  leaf.extended_key_usage = {kCodeSigning};
  return {Issue(leaf, intermediate).certificate(), intermediate.certificate(),
          AppleRoot().certificate()};
}

Chain DeveloperIdG1(const LeafChoice& choice = {}) {
  return MakeChain("Developer ID Certification Authority", {kDeveloperIdCa},
                   choice);
}
Chain DeveloperIdG2(const LeafChoice& choice = {}) {
  return MakeChain("Developer ID Certification Authority G2", {kDeveloperIdCa},
                   choice);
}

absl::Status Check(const Chain& before, const Chain& after) {
  return CheckContinuity(before, after, &IsTestAppleRoot);
}

TEST(ContinuityTest, DeveloperIdG1ToG2AndBack) {
  EXPECT_THAT(Check(DeveloperIdG1(), DeveloperIdG2()), IsOk());
  EXPECT_THAT(Check(DeveloperIdG2(), DeveloperIdG1()), IsOk());
  LeafChoice renamed;
  renamed.common_name = "Developer ID Application: Example Ltd (ABCDE12345)";
  EXPECT_THAT(Check(DeveloperIdG1(), DeveloperIdG2(renamed)), IsOk());
}

TEST(ContinuityTest, AnotherTeamIsAnotherProgram) {
  LeafChoice other;
  other.team = "ZYXWV98765";
  const absl::Status refused = Check(DeveloperIdG1(), DeveloperIdG2(other));
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(refused, HasReason(v1::REASON_REQUIREMENT_CHANGES));
  EXPECT_EQ(GetErrorDetail(refused)->rule(),
            "certificate leaf[subject.OU] = ABCDE12345");
  EXPECT_THAT(refused, HasMessage("has the clause certificate "
                                  "leaf[subject.OU] = ABCDE12345 (it is "
                                  "ZYXWV98765)"));
}

TEST(ContinuityTest, AnAuthorityWithoutTheMarkerIsNoDeveloperId) {
  const absl::Status refused =
      Check(DeveloperIdG1(), MakeChain("Some Other Authority", {kWwdrCa}));
  EXPECT_THAT(refused, HasReason(v1::REASON_REQUIREMENT_CHANGES));
  EXPECT_EQ(GetErrorDetail(refused)->rule(),
            "certificate 1[field.1.2.840.113635.100.6.2.6] exists");
  EXPECT_THAT(refused, HasMessage("\"Some Other Authority\""));
  // Nothing but the clause that breaks is blamed.
  EXPECT_EQ(std::string(Message(refused)).find("subject.OU"),
            std::string::npos);
}

TEST(ContinuityTest, ALeafWithoutTheMarkerIsNoDeveloperIdApplication) {
  LeafChoice plain;
  plain.markers = {};
  const absl::Status refused = Check(DeveloperIdG1(), DeveloperIdG2(plain));
  EXPECT_EQ(GetErrorDetail(refused)->rule(),
            "certificate leaf[field.1.2.840.113635.100.6.1.13] exists");
}

TEST(ContinuityTest, AnotherRootIsNotApple) {
  CertificateSpec spec;
  spec.common_name = "Impostor Root";
  const TestIdentity impostor = MakeRoot(spec);
  const TestIdentity authority =
      Issue(Authority("Developer ID Certification Authority", {kDeveloperIdCa}),
            impostor);
  CertificateSpec leaf;
  leaf.organizational_unit = kTeam;
  leaf.markers = {kDeveloperIdLeaf};
  const Chain chain = {Issue(leaf, authority).certificate(),
                       authority.certificate(), impostor.certificate()};
  const absl::Status refused = Check(DeveloperIdG1(), chain);
  EXPECT_EQ(GetErrorDetail(refused)->rule(), "anchor apple generic");
  EXPECT_THAT(refused, HasMessage("the root is \"Impostor Root\""));
}

TEST(ContinuityTest, DevelopmentCertificatesAreBoundToTheirName) {
  LeafChoice first;
  first.common_name = "Apple Development: A (1234567890)";
  LeafChoice second = first;
  second.common_name = "Apple Development: B (0987654321)";
  const Chain before = MakeChain("WWDR", {kWwdrCa}, first);
  EXPECT_THAT(Check(before, MakeChain("WWDR G6", {kWwdrCa}, first)), IsOk());
  EXPECT_EQ(GetErrorDetail(Check(before, MakeChain("WWDR", {kWwdrCa}, second)))
                ->rule(),
            "certificate leaf[subject.CN] = \"Apple Development: A "
            "(1234567890)\"");
}

TEST(ContinuityTest, OwnAuthoritiesAreBoundToTheRootOfTheOrganization) {
  CertificateSpec root_spec;
  root_spec.common_name = "Example Root";
  root_spec.organization = "Example";
  const TestIdentity root = MakeRoot(root_spec);
  const TestIdentity other_root = MakeRoot(root_spec);
  CertificateSpec leaf;
  leaf.organization = "Example";
  const auto chain = [&](const TestIdentity& issuer) {
    return Chain{Issue(leaf, issuer).certificate(), issuer.certificate()};
  };
  EXPECT_THAT(CheckContinuity(chain(root), chain(root)), IsOk());
  const absl::Status refused = CheckContinuity(chain(root), chain(other_root));
  EXPECT_EQ(
      GetErrorDetail(refused)->rule(),
      "certificate root = H\"" + HexEncode(root.certificate().Sha1()) + "\"");
  // Without the organisation every leaf is a program of its own.
  leaf.organization = "";
  EXPECT_THAT(CheckContinuity(chain(root), chain(root)),
              HasReason(v1::REASON_REQUIREMENT_CHANGES));
}

TEST(ContinuityTest, TheRequirementAsText) {
  EXPECT_EQ(DescribeDesignated(DeveloperIdG2(), &IsTestAppleRoot),
            "anchor apple generic and certificate "
            "1[field.1.2.840.113635.100.6.2.6] exists and certificate "
            "leaf[field.1.2.840.113635.100.6.1.13] exists and certificate "
            "leaf[subject.OU] = ABCDE12345");
}

}  // namespace
}  // namespace codeseal
