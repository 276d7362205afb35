#include "codesign/cms/certificate.h"

#include <set>

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
using ::codeseal::testing::IssueForKey;
using ::codeseal::testing::KeyType;
using ::codeseal::testing::MakeCodeSigningChain;
using ::codeseal::testing::MakeKey;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::MakeSelfSigned;
using ::codeseal::testing::TestChain;
using ::codeseal::testing::TestIdentity;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(CertificateTest, ReadsSubjectInEncodedOrder) {
  CertificateSpec spec;
  spec.common_name = "Jürgen \"J\" Müller";
  spec.organization = "Example Ltd";
  spec.organizational_unit = "ABCDE12345";
  spec.country = "DE";
  const Certificate certificate = MakeSelfSigned(spec).certificate();
  EXPECT_EQ(certificate.CommonName(), "Jürgen \"J\" Müller");
  EXPECT_THAT(certificate.SubjectValues("OU"), ElementsAre("ABCDE12345"));
  EXPECT_THAT(certificate.SubjectValues("O"), ElementsAre("Example Ltd"));
  EXPECT_THAT(certificate.SubjectValues("C"), ElementsAre("DE"));
  EXPECT_THAT(certificate.SubjectValues("UID"), IsEmpty());
  EXPECT_THAT(certificate.SubjectValues("nonsense"), IsEmpty());
}

TEST(CertificateTest, ReadsExtensions) {
  CertificateSpec spec;
  spec.extended_key_usage = {testing::kCodeSigning};
  spec.markers = {"1.2.840.113635.100.6.1.13"};
  const Certificate certificate = MakeSelfSigned(spec).certificate();
  EXPECT_TRUE(certificate.HasExtension("1.2.840.113635.100.6.1.13"));
  EXPECT_FALSE(certificate.HasExtension("1.2.840.113635.100.6.1.14"));
  EXPECT_FALSE(certificate.HasExtension("not an oid"));
  EXPECT_EQ(certificate.ExtensionValue("1.2.840.113635.100.6.1.13"),
            (Bytes{5, 0}));
  EXPECT_TRUE(certificate.HasExtendedKeyUsage(testing::kCodeSigning));
  EXPECT_FALSE(certificate.HasExtendedKeyUsage(testing::kServerAuth));
  EXPECT_TRUE(certificate.IsSuitableForCodeSigning());
  spec.extended_key_usage = {testing::kServerAuth};
  EXPECT_FALSE(MakeSelfSigned(spec).certificate().IsSuitableForCodeSigning());
}

TEST(CertificateTest, ReadsValidityAndSerial) {
  CertificateSpec spec;
  spec.not_before = absl::FromUnixSeconds(1'000'000'000);
  spec.not_after = absl::FromUnixSeconds(4'000'000'000);  // GeneralizedTime
  spec.serial = 0x1234;
  const Certificate certificate = MakeSelfSigned(spec).certificate();
  EXPECT_EQ(certificate.not_before(), spec.not_before);
  EXPECT_EQ(certificate.not_after(), spec.not_after);
  EXPECT_EQ(certificate.SerialNumber(), (Bytes{0x09, 0x1a}));
}

TEST(CertificateTest, NamesKeyAlgorithms) {
  const TestIdentity root = MakeRoot({});
  const auto algorithm_of = [&root](KeyType type) {
    CertificateSpec spec;
    spec.key = type;
    return Issue(spec, root).certificate().KeyAlgorithm();
  };
  EXPECT_EQ(algorithm_of(KeyType::kRsa2048), "rsa2048");
  EXPECT_EQ(algorithm_of(KeyType::kP256), "p256");
  EXPECT_EQ(algorithm_of(KeyType::kP384), "p384");
}

TEST(CertificateTest, RejectsEveryTruncationAndTrailingBytes) {
  const Bytes der = ToBytes(MakeRoot({}).der());
  for (size_t size = 0; size < der.size(); ++size) {
    EXPECT_THAT(Certificate::Parse(ByteView(der).first(size)),
                HasReason(v1::REASON_BAD_CERTIFICATE))
        << size;
  }
  Bytes longer = der;
  longer.push_back(0);
  EXPECT_THAT(Certificate::Parse(longer),
              HasReason(v1::REASON_BAD_CERTIFICATE));
  EXPECT_THAT(Certificate::Parse(der), IsOk());
}

TEST(CertificateTest, ReadsEveryPemBlockAndNoOther) {
  const TestChain chain = MakeCodeSigningChain();
  const std::string pem = "words\n" + chain.leaf.pem() + chain.leaf.key_pem() +
                          chain.root.pem() + "more words\n";
  const absl::StatusOr<std::vector<Certificate>> certificates =
      Certificate::ParsePem(pem);
  ASSERT_THAT(certificates, IsOk());
  EXPECT_THAT(*certificates,
              ElementsAre(chain.leaf.certificate(), chain.root.certificate()));
  EXPECT_THAT(Certificate::ParsePem("nothing here"),
              HasReason(v1::REASON_BAD_CERTIFICATE));
  EXPECT_THAT(Certificate::ParsePem(chain.leaf.key_pem()),
              HasReason(v1::REASON_BAD_CERTIFICATE));
}

TEST(CertificateTest, KnowsItsPrivateKey) {
  const TestIdentity mine = MakeSelfSigned({});
  const TestIdentity other = MakeSelfSigned({});
  const Certificate& certificate = mine.certificate();
  EXPECT_THAT(certificate.CheckPrivateKeyPem(mine.key_pem()), IsOk());
  EXPECT_THAT(certificate.CheckPrivateKeyPem(other.key_pem()),
              HasReason(v1::REASON_BAD_CERTIFICATE));
  EXPECT_THAT(certificate.CheckPrivateKeyPem(mine.pem()),
              HasReason(v1::REASON_BAD_CERTIFICATE));
}

TEST(CertificateTest, IssuedMeansNameAndSignature) {
  const TestIdentity root = MakeRoot({});
  const TestIdentity namesake = MakeRoot({});  // same name, another key
  const TestIdentity leaf = Issue({}, root);
  EXPECT_TRUE(leaf.certificate().IsIssuedBy(root.certificate()));
  EXPECT_FALSE(leaf.certificate().IsIssuedBy(namesake.certificate()));
  EXPECT_TRUE(root.certificate().IsSelfSigned());
  EXPECT_FALSE(leaf.certificate().IsSelfSigned());
}

TEST(CertificateTest, CertifiesKeyFromElsewhere) {
  const TestIdentity root = MakeRoot({});
  CertificateSpec spec;
  spec.key = KeyType::kP384;
  const TestIdentity other = MakeSelfSigned(spec);
  const Certificate certificate =
      IssueForKey(other.certificate().SubjectPublicKeyInfo(), {}, root);
  EXPECT_EQ(certificate.SubjectPublicKeyInfo(),
            other.certificate().SubjectPublicKeyInfo());
  EXPECT_TRUE(certificate.IsIssuedBy(root.certificate()));
}

TEST(BuildChainTest, OrdersShuffledCertificates) {
  const TestChain chain = MakeCodeSigningChain();
  const std::vector<Certificate> candidates = {
      chain.root.certificate(), chain.leaf.certificate(),
      chain.intermediate.certificate(), MakeRoot({}).certificate()};
  const absl::StatusOr<std::vector<Certificate>> built =
      BuildChain(chain.leaf.certificate(), candidates);
  ASSERT_THAT(built, IsOk());
  EXPECT_EQ(*built, chain.certificates());
}

TEST(BuildChainTest, SelfSignedLeafIsWholeChain) {
  const TestIdentity self_signed = MakeSelfSigned({});
  const absl::StatusOr<std::vector<Certificate>> built =
      BuildChain(self_signed.certificate(), {});
  ASSERT_THAT(built, IsOk());
  EXPECT_EQ(built->size(), 1u);
}

TEST(BuildChainTest, NamesMissingIssuer) {
  const TestChain chain = MakeCodeSigningChain();
  const std::vector<Certificate> candidates = {
      chain.intermediate.certificate()};
  const absl::StatusOr<std::vector<Certificate>> built =
      BuildChain(chain.leaf.certificate(), candidates);
  EXPECT_THAT(built, HasReason(v1::REASON_INCOMPLETE_CHAIN));
  EXPECT_THAT(built, HasMessage("codeseal test root"));
}

TEST(BuildChainTest, LeafCannotIssue) {
  const TestIdentity root = MakeRoot({});
  const TestIdentity leaf = Issue({}, root);
  CertificateSpec spec;
  spec.common_name = "forged";
  const TestIdentity forged = Issue(spec, leaf);
  const std::vector<Certificate> candidates = {leaf.certificate(),
                                               root.certificate()};
  EXPECT_THAT(BuildChain(forged.certificate(), candidates),
              HasReason(v1::REASON_INCOMPLETE_CHAIN));
}

TEST(BuildChainTest, CrossSignedPrefersRoot) {
  // The same intermediate key and name, certified twice over: by itself and by
  // another root.
  CertificateSpec spec;
  spec.common_name = "old root";
  const TestIdentity old_root = MakeRoot(spec);
  spec.common_name = "new root";
  const TestIdentity new_root = MakeRoot(spec);
  spec.certificate_authority = true;
  const Certificate cross = IssueForKey(
      new_root.certificate().SubjectPublicKeyInfo(), spec, old_root);
  spec.common_name = "leaf";
  spec.certificate_authority = false;
  const TestIdentity leaf = Issue(spec, new_root);
  const std::vector<Certificate> candidates = {cross, old_root.certificate(),
                                               new_root.certificate()};
  const absl::StatusOr<std::vector<Certificate>> built =
      BuildChain(leaf.certificate(), candidates);
  ASSERT_THAT(built, IsOk());
  EXPECT_THAT(*built, ElementsAre(leaf.certificate(), new_root.certificate()));
}

TEST(TeamIdentifierTest, OnlyAppleChainsHaveOne) {
  CertificateSpec spec;
  spec.organizational_unit = "ABCDE12345";
  spec.markers = {"1.2.840.113635.100.6.1.12"};
  const TestIdentity root = MakeRoot({});
  const std::vector<Certificate> chain = {Issue(spec, root).certificate(),
                                          root.certificate()};
  EXPECT_FALSE(IsAppleRoot(root.certificate()));
  EXPECT_EQ(TeamIdentifier(chain), std::nullopt);
  EXPECT_EQ(TeamIdentifier({}), std::nullopt);
}

}  // namespace
}  // namespace codeseal
