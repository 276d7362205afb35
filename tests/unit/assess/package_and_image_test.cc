// Installer packages and disk images: the situations in which people find
// theirs rejected, and what makes them pass.

#include <string>
#include <vector>

#include "codesign/assess/assessment.h"
#include "codesign/assess/preflight.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/cms/digest_signature.h"
#include "codesign/image/package_plan.h"
#include "gmock/gmock.h"
#include "tests/support/apple_like.h"
#include "tests/support/disk_image_builder.h"
#include "tests/support/made_tree.h"
#include "tests/support/package_builder.h"
#include "tests/support/signed_bundle.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::AppleLikeRoot;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::MadeTree;
using ::codeseal::testing::MakeAppleLikeChain;
using ::codeseal::testing::TestChain;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kInstallerMarker[] = "1.2.840.113635.100.6.1.14";
constexpr char kInstallerUsage[] = "1.2.840.113635.100.4.13";

const TestChain& Installer() {
  static const TestChain* const chain = new TestChain(MakeAppleLikeChain(
      {.common_name = "Developer ID Installer: Example (TEAMID1234)",
       .markers = {kInstallerMarker},
       .purposes = {kInstallerUsage},
       .key = testing::KeyType::kRsa2048}));
  return *chain;
}

// An installer certificate that Apple's Developer ID CA did not issue.
const TestChain& OwnInstaller() {
  static const TestChain* const chain =
      new TestChain(MakeAppleLikeChain({.common_name = "Installer: Own",
                                        .markers = {},
                                        .purposes = {kInstallerUsage},
                                        .key = testing::KeyType::kRsa2048}));
  return *chain;
}

void SignPackage(const std::string& path, const TestChain& chain,
                 bool is_stamped) {
  const std::vector<Certificate> certificates = chain.certificates();
  const PackagePlan plan = PackagePlan::Create(MappedFile::Open(path).value(),
                                               {.force = true}, certificates)
                               .value();
  const CmsSigner signer{chain.leaf.key(), nullptr, certificates};
  const Bytes rsa =
      SignRsaDigest(signer, plan.checksum_kind(), plan.checksum()).value();
  Bytes cms = BuildAppleCms(signer, DescribeBytes(plan.checksum()), absl::Now())
                  .value();
  if (is_stamped) cms = testing::AddTimestamp(cms);
  ASSERT_THAT(plan.Stage(path, rsa, cms).value().Commit(), IsOk());
}

class PackageAndImageTest : public ::testing::Test {
 protected:
  std::vector<Finding> Look(const std::string& name) {
    PreflightOptions options;
    options.anchors = {AppleLikeRoot().certificate()};
    const absl::StatusOr<PreflightReport> report =
        Preflight(tree_.Path(name), options);
    EXPECT_THAT(report, IsOk());
    if (!report.ok()) return {};
    EXPECT_FALSE(report->not_checked.empty());
    return report->findings;
  }

  Assessment AssessAs(AssessmentType type, const std::string& name) {
    AssessOptions options;
    options.type = type;
    options.anchors = {AppleLikeRoot().certificate()};
    const absl::StatusOr<Assessment> assessment =
        Assess(tree_.Path(name), options);
    EXPECT_THAT(assessment, IsOk());
    return assessment.ok() ? *assessment : Assessment();
  }

  MadeTree tree_;
};

// Each finding's hint is followed by the next step.
TEST_F(PackageAndImageTest, PackageFromUnsignedToAccepted) {
  tree_.File("Demo.pkg", testing::MakePackage());
  std::vector<Finding> found = Look("Demo.pkg");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].rule, "installer-certificate");
  EXPECT_THAT(found[0].fix, HasSubstr("Developer ID Installer"));

  SignPackage(tree_.Path("Demo.pkg"), OwnInstaller(), true);
  found = Look("Demo.pkg");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_THAT(found[0].detail, HasSubstr("Installer: Own"));
  EXPECT_THAT(found[0].fix, HasSubstr("Developer ID Installer"));
  const Assessment own = AssessAs(AssessmentType::kInstall, "Demo.pkg");
  EXPECT_FALSE(own.accepted);
  EXPECT_EQ(own.source, AssessmentSource::kNone);

  SignPackage(tree_.Path("Demo.pkg"), Installer(), false);
  found = Look("Demo.pkg");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_THAT(found[0].fix, HasSubstr("--timestamp"));

  SignPackage(tree_.Path("Demo.pkg"), Installer(), true);
  EXPECT_THAT(Look("Demo.pkg"), IsEmpty());
  // Only the notary is missing; what was signed long ago does without.
  const Assessment good = AssessAs(AssessmentType::kInstall, "Demo.pkg");
  EXPECT_EQ(AssessmentSourceName(good.source), "Unnotarized Developer ID");
  EXPECT_EQ(good.origin, "Developer ID Installer: Example (TEAMID1234)");
  SignPackage(tree_.Path("Demo.pkg"), Installer(), false);
  EXPECT_EQ(AssessmentSourceName(
                AssessAs(AssessmentType::kInstall, "Demo.pkg").source),
            "Developer ID");
  EXPECT_TRUE(AssessAs(AssessmentType::kInstall, "Demo.pkg").accepted);
  // Nobody executes a package.
  EXPECT_FALSE(AssessAs(AssessmentType::kExecute, "Demo.pkg").accepted);
}

TEST_F(PackageAndImageTest, ChangedPackageIsAFault) {
  tree_.File("Demo.pkg", testing::MakePackage());
  SignPackage(tree_.Path("Demo.pkg"), Installer(), true);
  std::string bytes(
      AsText(MappedFile::Open(tree_.Path("Demo.pkg")).value().bytes()));
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  tree_.File("Demo.pkg", bytes);
  const Assessment assessment = AssessAs(AssessmentType::kInstall, "Demo.pkg");
  EXPECT_FALSE(assessment.accepted);
  EXPECT_FALSE(assessment.broken.ok());
  EXPECT_EQ(Look("Demo.pkg").size(), 1u);
}

TEST_F(PackageAndImageTest, DiskImageShouldBeSigned) {
  const std::string image = testing::MakeDiskImage();
  tree_.File("Demo.dmg", image);
  std::vector<Finding> found = Look("Demo.dmg");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].rule, "disk-image");
  EXPECT_EQ(found[0].severity, Severity::kWarning);
  EXPECT_THAT(found[0].fix, HasSubstr("codeseal sign"));
  EXPECT_EQ(
      AssessmentSourceName(AssessAs(AssessmentType::kOpen, "Demo.dmg").source),
      "no usable signature");
}

}  // namespace
}  // namespace codeseal
