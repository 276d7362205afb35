#include "codesign/cms/apple_cms.h"

#include <openssl/cms.h>
#include <openssl/provider.h>

#include "codesign/cms/asn1.h"
#include "codesign/cms/openssl.h"
#include "gmock/gmock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::KeyType;
using ::codeseal::testing::MakeCodeSigningChain;
using ::codeseal::testing::TestChain;
using ::testing::ElementsAre;
using ::testing::SizeIs;

// Stands for CodeDirectories: a CMS never looks inside.
const Bytes kSha1Directory = ToBytes("the CodeDirectory with SHA-1 slots");
const Bytes kSha256Directory = ToBytes("the CodeDirectory with SHA-256 slots");
const absl::Time kSigningTime = absl::FromCivil(
    absl::CivilSecond(2026, 3, 4, 5, 6, 7), absl::UTCTimeZone());

CmsContent SingleContent() {
  const CodeDirectoryBlob blobs[] = {{DigestKind::kSha256, kSha256Directory}};
  return DescribeContent(blobs);
}

CmsContent DualContent() {
  const CodeDirectoryBlob blobs[] = {{DigestKind::kSha1, kSha1Directory},
                                     {DigestKind::kSha256, kSha256Directory}};
  return DescribeContent(blobs);
}

absl::StatusOr<Bytes> SignWith(const TestChain& chain,
                               const CmsContent& content) {
  const std::vector<Certificate> certificates = chain.certificates();
  return BuildAppleCms({chain.leaf.key(), nullptr, certificates}, content,
                       kSigningTime);
}

// OpenSSL's own reader: knows nothing of codeseal.
bool OpenSslAccepts(const Bytes& cms, const Certificate& root,
                    const Bytes& content) {
  const unsigned char* der = cms.data();
  const OpenSslPtr<CMS_ContentInfo, CMS_ContentInfo_free> message(
      d2i_CMS_ContentInfo(nullptr, &der, static_cast<long>(cms.size())));
  if (message == nullptr || der != cms.data() + cms.size()) return false;
  const X509StorePtr store(X509_STORE_new());
  X509_STORE_add_cert(store.get(), root.x509());
  X509_STORE_set_purpose(store.get(), X509_PURPOSE_ANY);
  const BioPtr bio(
      BIO_new_mem_buf(content.data(), static_cast<int>(content.size())));
  const bool accepted = CMS_verify(message.get(), nullptr, store.get(),
                                   bio.get(), nullptr, CMS_BINARY) == 1;
  DrainOpenSslErrors("");
  return accepted;
}

class AppleCmsKeyTest : public ::testing::TestWithParam<KeyType> {};

TEST_P(AppleCmsKeyTest, OpenSslAcceptsIt) {
  const TestChain chain = MakeCodeSigningChain(GetParam());
  const absl::StatusOr<Bytes> cms = SignWith(chain, DualContent());
  ASSERT_THAT(cms, IsOk());
  EXPECT_TRUE(OpenSslAccepts(*cms, chain.root.certificate(), kSha1Directory));
  EXPECT_FALSE(
      OpenSslAccepts(*cms, chain.root.certificate(), kSha256Directory));
}

TEST_P(AppleCmsKeyTest, VerifiesAndTellsWhatItSays) {
  const TestChain chain = MakeCodeSigningChain(GetParam());
  const absl::StatusOr<Bytes> cms = SignWith(chain, DualContent());
  ASSERT_THAT(cms, IsOk());
  const absl::StatusOr<CmsSignature> signature =
      VerifyAppleCms(*cms, DualContent());
  ASSERT_THAT(signature, IsOk());
  EXPECT_EQ(signature->signer, chain.leaf.certificate());
  EXPECT_EQ(signature->signing_time, kSigningTime);
  EXPECT_THAT(signature->certificates, SizeIs(3));
  EXPECT_THAT(*signature->cdhashes, SizeIs(2));
  EXPECT_THAT(*signature->agility_digests, SizeIs(2));
  EXPECT_EQ(signature->timestamp_token, std::nullopt);
}

INSTANTIATE_TEST_SUITE_P(Keys, AppleCmsKeyTest,
                         ::testing::Values(KeyType::kRsa2048, KeyType::kP256,
                                           KeyType::kP384),
                         [](const auto& each) {
                           return each.param == KeyType::kRsa2048 ? "Rsa2048"
                                  : each.param == KeyType::kP256  ? "P256"
                                                                  : "P384";
                         });

// Sizes measured on code that Apple's codesign signed.
TEST(AppleCmsTest, AttributesHaveApplesOrderAndSizes) {
  const TestChain chain = MakeCodeSigningChain();
  const absl::StatusOr<Bytes> cms = SignWith(chain, SingleContent());
  ASSERT_THAT(cms, IsOk());
  const absl::StatusOr<CmsSignature> signature = ParseAppleCms(*cms);
  ASSERT_THAT(signature, IsOk());
  const absl::StatusOr<asn1::Element> set =
      asn1::Reader(signature->signed_attributes).Next("attributes");
  ASSERT_THAT(set, IsOk());
  std::vector<size_t> sizes;
  std::vector<uint8_t> last_oid_octets;
  for (asn1::Reader reader(*set); !reader.at_end();) {
    const absl::StatusOr<asn1::Element> attribute = reader.Next("attribute");
    ASSERT_THAT(attribute, IsOk());
    const absl::StatusOr<asn1::Element> oid =
        asn1::Reader(*attribute).Next("oid");
    ASSERT_THAT(oid, IsOk());
    sizes.push_back(attribute->raw.size());
    last_oid_octets.push_back(oid->content.back());
  }
  EXPECT_THAT(sizes, ElementsAre(26, 30, 49, 62, 301));
  // contentType, signingTime, messageDigest, hash agility V2, V1.
  EXPECT_THAT(last_oid_octets, ElementsAre(3, 5, 4, 2, 1));
}

TEST(AppleCmsTest, OuterBytesAreApples) {
  const TestChain chain = MakeCodeSigningChain();
  const absl::StatusOr<Bytes> cms = SignWith(chain, SingleContent());
  ASSERT_THAT(cms, IsOk());
  EXPECT_EQ(HexEncode(ByteView(*cms).first(53)),
            "308006092a864886f70d010702"          // signedData
            "a080"                                //
            "3080020101"                          // version 1
            "310f300d06096086480165030402010500"  // SHA-256, NULL
            "308006092a864886f70d0107010000"      // id-data, detached
            "a0");                                // certificates
  EXPECT_EQ(HexEncode(ByteView(*cms).last(6)), "000000000000");
}

TEST(AppleCmsTest, CertificatesAreSortedByDer) {
  // Lengths rule: the root, without intermediate names, is not the longest.
  const TestChain chain = MakeCodeSigningChain();
  const absl::StatusOr<Bytes> cms = SignWith(chain, SingleContent());
  ASSERT_THAT(cms, IsOk());
  const absl::StatusOr<CmsSignature> signature = ParseAppleCms(*cms);
  ASSERT_THAT(signature, IsOk());
  std::vector<Bytes> stored;
  for (const Certificate& certificate : signature->certificates) {
    stored.push_back(ToBytes(certificate.der()));
  }
  EXPECT_TRUE(std::is_sorted(stored.begin(), stored.end()));
  EXPECT_NE(stored.front(), ToBytes(chain.leaf.der()));
}

TEST(AppleCmsTest, SigningTimeMayBeLeftOut) {
  const TestChain chain = MakeCodeSigningChain();
  const std::vector<Certificate> certificates = chain.certificates();
  const absl::StatusOr<Bytes> cms = BuildAppleCms(
      {chain.leaf.key(), nullptr, certificates}, SingleContent(), std::nullopt);
  ASSERT_THAT(cms, IsOk());
  const absl::StatusOr<CmsSignature> signature =
      VerifyAppleCms(*cms, SingleContent());
  ASSERT_THAT(signature, IsOk());
  EXPECT_EQ(signature->signing_time, std::nullopt);
}

TEST(AppleCmsTest, YearsFrom2050TakeGeneralizedTime) {
  const TestChain chain = MakeCodeSigningChain();
  const std::vector<Certificate> certificates = chain.certificates();
  for (const int year : {1950, 1999, 2049, 2050}) {
    const absl::Time time = absl::FromCivil(
        absl::CivilSecond(year, 12, 31, 23, 59, 59), absl::UTCTimeZone());
    const absl::StatusOr<Bytes> cms = BuildAppleCms(
        {chain.leaf.key(), nullptr, certificates}, SingleContent(), time);
    ASSERT_THAT(cms, IsOk());
    EXPECT_EQ(ParseAppleCms(*cms)->signing_time, time) << year;
    EXPECT_TRUE(
        OpenSslAccepts(*cms, chain.root.certificate(), kSha256Directory));
  }
}

TEST(AppleCmsTest, SignsWithKeyOfAnotherLibraryContext) {
  const OpenSslPtr<OSSL_LIB_CTX, OSSL_LIB_CTX_free> context(OSSL_LIB_CTX_new());
  OSSL_PROVIDER* provider = OSSL_PROVIDER_load(context.get(), "default");
  ASSERT_NE(provider, nullptr);
  {
    const EvpPkeyPtr key(
        EVP_PKEY_Q_keygen(context.get(), nullptr, "EC", "P-256"));
    ASSERT_NE(key, nullptr);
    testing::CertificateSpec spec;
    spec.extended_key_usage = {testing::kCodeSigning};
    const testing::TestIdentity root = testing::MakeRoot({});
    const std::vector<Certificate> chain = {
        testing::IssueForKey(EncodeDer<const EVP_PKEY*>(i2d_PUBKEY, key.get()),
                             spec, root),
        root.certificate()};
    const absl::StatusOr<Bytes> cms = BuildAppleCms(
        {key.get(), context.get(), chain}, SingleContent(), kSigningTime);
    ASSERT_THAT(cms, IsOk());
    EXPECT_THAT(VerifyAppleCms(*cms, SingleContent()), IsOk());
  }
  OSSL_PROVIDER_unload(provider);
}

TEST(AppleCmsTest, RefusesToSignWhatIsIncomplete) {
  const TestChain chain = MakeCodeSigningChain();
  const std::vector<Certificate> no_root = {chain.leaf.certificate(),
                                            chain.intermediate.certificate()};
  EXPECT_THAT(BuildAppleCms({chain.leaf.key(), nullptr, no_root},
                            SingleContent(), kSigningTime),
              HasReason(v1::REASON_INCOMPLETE_CHAIN));
  EXPECT_THAT(BuildAppleCms({chain.leaf.key(), nullptr, {}}, SingleContent(),
                            kSigningTime),
              HasReason(v1::REASON_INCOMPLETE_CHAIN));
  CmsContent content = SingleContent();
  content.message_digest.pop_back();
  EXPECT_THAT(SignWith(chain, content), HasReason(v1::REASON_BAD_CMS));
  content = SingleContent();
  content.code_directories.front().digest.clear();
  EXPECT_THAT(SignWith(chain, content), HasReason(v1::REASON_BAD_CMS));
  content = SingleContent();
  content.code_directories.clear();
  EXPECT_THAT(SignWith(chain, content), HasReason(v1::REASON_BAD_CMS));
}

// Each attribute on its own must bind the code: the others are made to fit.
TEST(AppleCmsTest, EveryDigestIsCompared) {
  const TestChain chain = MakeCodeSigningChain();
  const absl::StatusOr<Bytes> cms = SignWith(chain, DualContent());
  ASSERT_THAT(cms, IsOk());
  CmsContent content = DualContent();
  content.message_digest[31] ^= 1;
  EXPECT_THAT(VerifyAppleCms(*cms, content), HasMessage("messageDigest"));
  content = DualContent();
  content.code_directories[1].digest[31] ^= 1;  // beyond the cdhash
  EXPECT_THAT(VerifyAppleCms(*cms, content), HasMessage("signed digests"));
  content = DualContent();
  content.code_directories[1].digest[0] ^= 1;
  EXPECT_THAT(VerifyAppleCms(*cms, content), HasMessage("list of cdhashes"));
  content = DualContent();
  content.code_directories.pop_back();
  EXPECT_THAT(VerifyAppleCms(*cms, content), HasMessage("list of cdhashes"));
  EXPECT_THAT(VerifyAppleCms(*cms, content),
              HasReason(v1::REASON_CMS_SIGNATURE_INVALID));
}

TEST(AppleCmsTest, HashAgilityV2StandsAlone) {
  const TestChain chain = MakeCodeSigningChain();
  const absl::StatusOr<Bytes> cms = SignWith(chain, DualContent());
  ASSERT_THAT(cms, IsOk());
  absl::StatusOr<CmsSignature> signature = ParseAppleCms(*cms);
  ASSERT_THAT(signature, IsOk());
  signature->cdhashes.reset();  // as if there were no V1 attribute
  EXPECT_THAT(CheckAppleCms(*signature, DualContent()), IsOk());
  CmsContent content = DualContent();
  content.code_directories.pop_back();
  EXPECT_THAT(CheckAppleCms(*signature, content), HasMessage("signed digests"));
}

TEST(AppleCmsTest, AnotherKeyDoesNotVerify) {
  const TestChain chain = MakeCodeSigningChain();
  const TestChain namesake = MakeCodeSigningChain();
  const std::vector<Certificate> certificates = chain.certificates();
  const absl::StatusOr<Bytes> cms =
      BuildAppleCms({namesake.leaf.key(), nullptr, certificates},
                    SingleContent(), kSigningTime);
  ASSERT_THAT(cms, IsOk());
  EXPECT_THAT(VerifyAppleCms(*cms, SingleContent()),
              HasReason(v1::REASON_CMS_SIGNATURE_INVALID));
}

// A CMS that another program made, without Apple's attributes.
TEST(AppleCmsTest, ReadsOpenSslsCms) {
  for (const KeyType type : {KeyType::kRsa2048, KeyType::kP256}) {
    const TestChain chain = MakeCodeSigningChain(type);
    const X509StackPtr others(sk_X509_new_null());
    sk_X509_push(others.get(), chain.intermediate.certificate().x509());
    for (const unsigned int flags : {0u, unsigned{CMS_USE_KEYID}}) {
      const BioPtr content(BIO_new_mem_buf(
          kSha256Directory.data(), static_cast<int>(kSha256Directory.size())));
      const OpenSslPtr<CMS_ContentInfo, CMS_ContentInfo_free> message(
          CMS_sign(nullptr, nullptr, others.get(), content.get(),
                   CMS_BINARY | CMS_DETACHED | CMS_PARTIAL));
      ASSERT_NE(CMS_add1_signer(message.get(), chain.leaf.certificate().x509(),
                                chain.leaf.key(), EVP_sha256(), flags),
                nullptr);
      ASSERT_EQ(CMS_final(message.get(), content.get(), nullptr, CMS_BINARY),
                1);
      const absl::StatusOr<CmsSignature> signature = VerifyAppleCms(
          EncodeDer<const CMS_ContentInfo*>(i2d_CMS_ContentInfo, message.get()),
          SingleContent());
      ASSERT_THAT(signature, IsOk());
      EXPECT_EQ(signature->signer, chain.leaf.certificate());
      EXPECT_EQ(signature->cdhashes, std::nullopt);
      EXPECT_TRUE(signature->signing_time.has_value());
    }
  }
}

TEST(AppleCmsTest, KnownCertificatesAreShared) {
  const TestChain chain = MakeCodeSigningChain();
  const absl::StatusOr<Bytes> cms = SignWith(chain, SingleContent());
  ASSERT_THAT(cms, IsOk());
  const std::vector<Certificate> known = chain.certificates();
  const absl::StatusOr<CmsSignature> signature =
      VerifyAppleCms(*cms, SingleContent(), known);
  ASSERT_THAT(signature, IsOk());
  EXPECT_EQ(signature->signer.x509(), chain.leaf.certificate().x509());
  // A stranger's certificates are of no help and no harm.
  const std::vector<Certificate> strangers =
      MakeCodeSigningChain().certificates();
  const absl::StatusOr<CmsSignature> parsed =
      VerifyAppleCms(*cms, SingleContent(), strangers);
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(parsed->signer, chain.leaf.certificate());
}

TEST(AppleCmsTest, RejectsEveryTruncation) {
  const TestChain chain = MakeCodeSigningChain();
  const absl::StatusOr<Bytes> cms = SignWith(chain, SingleContent());
  ASSERT_THAT(cms, IsOk());
  for (size_t size = 0; size < cms->size(); ++size) {
    EXPECT_THAT(ParseAppleCms(ByteView(*cms).first(size)),
                HasReason(v1::REASON_BAD_CMS))
        << size;
  }
}

// Whatever bit is turned, nobody is told that the old signature still stands
// for what the message now says.
TEST(AppleCmsTest, NoFlippedByteGoesUnnoticed) {
  const TestChain chain = MakeCodeSigningChain();
  const absl::StatusOr<Bytes> cms = SignWith(chain, SingleContent());
  ASSERT_THAT(cms, IsOk());
  const absl::StatusOr<CmsSignature> original = ParseAppleCms(*cms);
  ASSERT_THAT(original, IsOk());
  const std::vector<Certificate> known = chain.certificates();
  int accepted_count = 0;
  for (size_t offset = 0; offset < cms->size(); ++offset) {
    Bytes changed = *cms;
    changed[offset] ^= 0x01;
    const absl::StatusOr<CmsSignature> signature =
        VerifyAppleCms(changed, SingleContent(), known);
    if (!signature.ok()) continue;
    // What may differ is what no signature of the signer covers: version
    // numbers, digestAlgorithms, the certificates of its issuers.
    ++accepted_count;
    EXPECT_EQ(signature->signed_attributes, original->signed_attributes);
    EXPECT_EQ(signature->signature_value, original->signature_value);
    EXPECT_EQ(EVP_PKEY_eq(X509_get0_pubkey(signature->signer.x509()),
                          X509_get0_pubkey(original->signer.x509())),
              1);
  }
  EXPECT_GT(accepted_count, 0);
}

TEST(AppleCmsTest, ZeroPaddingIsIgnoredAndNothingElse) {
  const TestChain chain = MakeCodeSigningChain();
  absl::StatusOr<Bytes> cms = SignWith(chain, SingleContent());
  ASSERT_THAT(cms, IsOk());
  cms->resize(cms->size() + 100);
  EXPECT_THAT(VerifyAppleCms(*cms, SingleContent()), IsOk());
  cms->back() = 1;
  EXPECT_THAT(VerifyAppleCms(*cms, SingleContent()),
              HasReason(v1::REASON_BAD_CMS));
}

TEST(AppleCmsTest, DeepNestingIsRefused) {
  Bytes deep;
  for (int i = 0; i < 100'000; ++i) Append(deep, Bytes{0x30, 0x80});
  EXPECT_THAT(ParseAppleCms(deep), HasReason(v1::REASON_BAD_CMS));
}

}  // namespace
}  // namespace codeseal
