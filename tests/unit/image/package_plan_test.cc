#include "codesign/image/package_plan.h"

#include "codesign/cms/apple_cms.h"
#include "codesign/cms/digest_signature.h"
#include "codesign/image/flat_package.h"
#include "gmock/gmock.h"
#include "tests/support/package_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::KeyType;
using ::codeseal::testing::MakePackage;
using ::codeseal::testing::TempFolder;
using ::codeseal::testing::TestIdentity;
using ::testing::ElementsAre;
using ::testing::SizeIs;

constexpr char kInstallerUsage[] = "1.2.840.113635.100.4.13";

struct Chain {
  TestIdentity root;
  TestIdentity leaf;
  std::vector<Certificate> certificates() const {
    return {leaf.certificate(), root.certificate()};
  }
};

Chain MakeChain(KeyType key, const std::string& usage) {
  CertificateSpec authority;
  authority.common_name = "Installer CA";
  TestIdentity root = testing::MakeRoot(authority);
  CertificateSpec spec;
  spec.key = key;
  spec.common_name = "Installer: Test";
  spec.extended_key_usage = {usage};
  TestIdentity leaf = testing::Issue(spec, root);
  return {root, leaf};
}

// RSA keys take long to make.
const Chain& RsaChain() {
  static const Chain* const chain =
      new Chain(MakeChain(KeyType::kRsa2048, kInstallerUsage));
  return *chain;
}

absl::StatusOr<PackagePlan> Plan(const std::string& path,
                                 const PackageSigningOptions& options = {},
                                 const Chain& chain = RsaChain()) {
  absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  return PackagePlan::Create(*std::move(file), options, chain.certificates());
}

absl::Status SignTo(const std::string& path, const PackagePlan& plan) {
  const std::vector<Certificate> chain = RsaChain().certificates();
  const CmsSigner signer{RsaChain().leaf.key(), nullptr, chain};
  ASSIGN_OR_RETURN(const Bytes rsa, SignRsaDigest(signer, plan.checksum_kind(),
                                                  plan.checksum()));
  ASSIGN_OR_RETURN(
      const Bytes cms,
      BuildAppleCms(signer, DescribeBytes(plan.checksum()), absl::UnixEpoch()));
  ASSIGN_OR_RETURN(StagedFile staged, plan.Stage(path, rsa, cms));
  return staged.Commit();
}

class PackagePlanTest : public ::testing::Test {
 protected:
  TempFolder folder_;
};

TEST_F(PackagePlanTest, SignsAndSignsAgain) {
  const std::string original = MakePackage();
  const std::string path = folder_.Write("a.pkg", original);
  for (const bool again : {false, true}) {
    EXPECT_EQ(GetReason(Plan(path).status()),
              again ? v1::REASON_ALREADY_SIGNED : v1::REASON_UNSPECIFIED);
    const absl::StatusOr<PackagePlan> plan = Plan(path, {.force = true});
    ASSERT_THAT(plan, IsOk());
    EXPECT_EQ(plan->replaces_signature(), again);
    EXPECT_THAT(plan->identifiers(),
                ElementsAre("com.example.tool.product", "com.example.tool"));
    EXPECT_THAT(plan->members(), SizeIs(2));
    ASSERT_THAT(SignTo(path, *plan), IsOk());

    const std::string file = folder_.Read("a.pkg");
    const absl::StatusOr<FlatPackage> package =
        FlatPackage::Parse(AsBytes(file));
    ASSERT_THAT(package, IsOk());
    EXPECT_THAT(package->CheckChecksum(), IsOk());
    EXPECT_THAT(package->CheckFiles(), IsOk());
    const PackageSignature* rsa =
        package->table().Find(PackageSignatureKind::kRsa);
    const PackageSignature* cms =
        package->table().Find(PackageSignatureKind::kCms);
    ASSERT_NE(rsa, nullptr);
    ASSERT_NE(cms, nullptr);
    EXPECT_EQ(rsa->place.offset, 20u);
    EXPECT_EQ(rsa->place.size, 256u);
    EXPECT_EQ(cms->place.offset, 276u);
    EXPECT_EQ(cms->place.size % 1024, 0u);
    for (const PackageSignature* each : {rsa, cms}) {
      EXPECT_THAT(each->certificates,
                  ElementsAre(ToBytes(RsaChain().leaf.der()),
                              ToBytes(RsaChain().root.der())));
    }
    const Certificate& leaf = RsaChain().leaf.certificate();
    EXPECT_THAT(CheckRsaSignature(leaf, DigestKind::kSha1, plan->checksum(),
                                  package->At(rsa->place)),
                IsOk());
    EXPECT_THAT(VerifyAppleCms(package->At(cms->place),
                               DescribeBytes(plan->checksum())),
                IsOk());
  }
}

TEST_F(PackagePlanTest, StrippingGivesTheOriginalTableBack) {
  const std::string original = MakePackage();
  const std::string path = folder_.Write("a.pkg", original);
  EXPECT_THAT(StripPackage(path), HasReason(v1::REASON_NOT_SIGNED));
  ASSERT_THAT(SignTo(path, *Plan(path)), IsOk());
  ASSERT_THAT(StripPackage(path), IsOk());
  const std::string stripped = folder_.Read("a.pkg");
  const auto before = FlatPackage::Parse(AsBytes(original));
  const auto after = FlatPackage::Parse(AsBytes(stripped));
  ASSERT_THAT(after, IsOk());
  EXPECT_EQ(after->table().xml(), before->table().xml());
  EXPECT_TRUE(Equal(after->content(), before->content()));
  EXPECT_THAT(after->CheckChecksum(), IsOk());
}

TEST_F(PackagePlanTest, ChangesTheChecksumWhenAsked) {
  const std::string path = folder_.Write("a.pkg", MakePackage());
  const auto plan = Plan(path, {.digest = DigestKind::kSha256});
  ASSERT_THAT(plan, IsOk());
  ASSERT_THAT(SignTo(path, *plan), IsOk());
  const std::string file = folder_.Read("a.pkg");
  const auto package = FlatPackage::Parse(AsBytes(file));
  ASSERT_THAT(package, IsOk());
  EXPECT_EQ(package->table().checksum_kind(), DigestKind::kSha256);
  EXPECT_THAT(package->CheckChecksum(), IsOk());
  EXPECT_THAT(package->CheckFiles(), IsOk());
  EXPECT_EQ(package->table().Find(PackageSignatureKind::kRsa)->place.offset,
            32u);
  EXPECT_THAT(Plan(path, {.force = true, .digest = DigestKind::kSha384}),
              HasReason(v1::REASON_UNSUPPORTED_DIGEST));
}

TEST_F(PackagePlanTest, RefusesWhatMacOsWouldNotInstall) {
  const std::string path = folder_.Write("a.pkg", MakePackage());
  EXPECT_THAT(Plan(path, {}, MakeChain(KeyType::kP256, kInstallerUsage)),
              HasReason(v1::REASON_KEY_UNSUPPORTED));
  EXPECT_THAT(Plan(path, {}, MakeChain(KeyType::kP256, testing::kCodeSigning)),
              HasReason(v1::REASON_NOT_INSTALLER_CERTIFICATE));
  std::string damaged = MakePackage();
  damaged.back() ^= 1;
  EXPECT_THAT(Plan(folder_.Write("b.pkg", damaged)),
              HasReason(v1::REASON_PACKAGE_MODIFIED));
}

TEST_F(PackagePlanTest, RefusesSignaturesThatDoNotFit) {
  const std::string path = folder_.Write("a.pkg", MakePackage());
  const auto plan = Plan(path, {.reserved_cms_size = 100});
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(plan->Stage(path, Bytes(256), Bytes(101)),
              HasReason(v1::REASON_SIGNATURE_TOO_LARGE));
  EXPECT_THAT(plan->Stage(path, Bytes(255), Bytes(100)),
              HasReason(v1::REASON_SIGNATURE_TOO_LARGE));
  EXPECT_THAT(plan->Stage(path, Bytes(256), Bytes(100)), IsOk());
}

TEST_F(PackagePlanTest, NoticesThatTheFileWasChanged) {
  const std::string path = folder_.Write("a.pkg", MakePackage());
  const auto plan = Plan(path);
  ASSERT_THAT(plan, IsOk());
  folder_.Write("a.pkg", MakePackage() + " ");
  EXPECT_THAT(plan->Stage(path, Bytes(256), Bytes(100)),
              HasReason(v1::REASON_FILE_CHANGED));
}

}  // namespace
}  // namespace codeseal
