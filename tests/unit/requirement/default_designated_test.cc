// Chains that end in Apple's roots are in the corpus test: nobody else can make
// one.

#include "codesign/requirement/default_designated.h"

#include "codesign/requirement/requirement.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::Issue;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::MakeSelfSigned;
using ::codeseal::testing::TestIdentity;

CertificateSpec Spec(const std::string& organization) {
  CertificateSpec spec;
  spec.organization = organization;
  return spec;
}

// A chain whose subjects have these organizations, leaf first.
std::vector<Certificate> Chain(const std::string& leaf,
                               const std::string& intermediate,
                               const std::string& root) {
  CertificateSpec intermediate_spec = Spec(intermediate);
  intermediate_spec.certificate_authority = true;
  const TestIdentity root_identity = MakeRoot(Spec(root));
  const TestIdentity intermediate_identity =
      Issue(intermediate_spec, root_identity);
  return {Issue(Spec(leaf), intermediate_identity).certificate(),
          intermediate_identity.certificate(), root_identity.certificate()};
}

std::string Designated(const std::vector<Certificate>& chain) {
  return DumpRequirement(*BuildDefaultDesignated("x", chain));
}

std::string Expected(const std::string& slot, const Certificate& certificate) {
  return "identifier x and certificate " + slot + " = H\"" +
         HexEncode(certificate.Sha1()) + "\"";
}

TEST(DefaultDesignatedTest, ClimbsWhileTheOrganizationIsTheSame) {
  std::vector<Certificate> chain = Chain("A", "B", "B");
  EXPECT_EQ(Designated(chain), Expected("leaf", chain[0]));
  chain = Chain("A", "A", "B");
  EXPECT_EQ(Designated(chain), Expected("1", chain[1]));
  chain = Chain("A", "A", "A");
  EXPECT_EQ(Designated(chain), Expected("root", chain[2]));
  chain = Chain("A", "B", "A");
  EXPECT_EQ(Designated(chain), Expected("leaf", chain[0]));
}

TEST(DefaultDesignatedTest, NoOrganizationPinsTheLeaf) {
  const std::vector<Certificate> chain = Chain("", "", "");
  EXPECT_EQ(Designated(chain), Expected("leaf", chain[0]));
}

TEST(DefaultDesignatedTest, SelfSigned) {
  const std::vector<Certificate> with = {
      MakeSelfSigned(Spec("A")).certificate()};
  EXPECT_EQ(Designated(with), Expected("root", with[0]));
  const std::vector<Certificate> without = {
      MakeSelfSigned(Spec("")).certificate()};
  EXPECT_EQ(Designated(without), Expected("leaf", without[0]));
}

// Apple's markers count for nothing below a root that is not Apple's.
TEST(DefaultDesignatedTest, MarkersNeedAnAppleRoot) {
  CertificateSpec intermediate = Spec("I");
  intermediate.certificate_authority = true;
  intermediate.markers = {"1.2.840.113635.100.6.2.6"};
  const TestIdentity root = MakeRoot(Spec("R"));
  const TestIdentity issuer = Issue(intermediate, root);
  const std::vector<Certificate> chain = {
      Issue(Spec("L"), issuer).certificate(), issuer.certificate(),
      root.certificate()};
  EXPECT_EQ(Designated(chain), Expected("leaf", chain[0]));
}

TEST(DefaultDesignatedTest, BytesAreInPrefixOrder) {
  const std::vector<Certificate> chain = Chain("A", "B", "B");
  const Bytes blob = BuildRequirement(*BuildDefaultDesignated("x", chain));
  EXPECT_EQ(HexEncode(ByteView(blob).first(44)),
            "fade0c00"
            "0000003c"
            "00000001"  // header, length, kind
            "00000006"  // and
            "00000002"
            "00000001"
            "78000000"  // identifier x
            "00000004"
            "00000000"
            "00000014"  // certificate leaf
                + HexEncode(ByteView(chain[0].Sha1()).first(4)));
}

TEST(DefaultDesignatedTest, AdHocCodeHasNone) {
  EXPECT_FALSE(BuildDefaultDesignated("x", {}).has_value());
}

TEST(ImplicitDesignatedTest, AnyOfTheCdHashes) {
  CdHash one;
  one.fill(0x11);
  CdHash two;
  two.fill(0x22);
  const CdHash both[] = {one, two};
  EXPECT_EQ(DumpRequirement(*BuildImplicitDesignated(both)),
            "cdhash H\"1111111111111111111111111111111111111111\" or "
            "cdhash H\"2222222222222222222222222222222222222222\"");
  EXPECT_FALSE(BuildImplicitDesignated({}).has_value());
}

}  // namespace
}  // namespace codeseal
