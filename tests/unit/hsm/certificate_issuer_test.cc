#include "hsm/certificate_issuer.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

#include "codesign/cms/certificate.h"
#include "codesign/cms/trust.h"
#include "hsm/certificate_request.h"
#include "hsm/openssl_ptr.h"
#include "hsm/public_key.h"
#include "tests/support/software_key.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::SoftwareKey;

const absl::Time kStart = absl::FromUnixSeconds(1700000000);
const absl::Time kEnd = kStart + absl::Hours(24 * 365);
const absl::Time kNever = absl::InfiniteFuture();

UniqueX509 ReadCertificate(const std::string& pem) {
  const UniqueBio in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return UniqueX509(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
}

bool IsCritical(X509* certificate, int nid) {
  const int index = X509_get_ext_by_NID(certificate, nid, -1);
  return index >= 0 &&
         X509_EXTENSION_get_critical(X509_get_ext(certificate, index)) == 1;
}

// The only purpose is code signing, and whoever does not know it must refuse.
void ExpectCodeSigningLeaf(X509* certificate) {
  EXPECT_EQ(X509_check_ca(certificate), 0);
  EXPECT_EQ(X509_get_key_usage(certificate), uint32_t{KU_DIGITAL_SIGNATURE});
  EXPECT_EQ(X509_get_extended_key_usage(certificate), uint32_t{XKU_CODE_SIGN});
  for (const int nid :
       {NID_basic_constraints, NID_key_usage, NID_ext_key_usage}) {
    EXPECT_TRUE(IsCritical(certificate, nid)) << OBJ_nid2sn(nid);
  }
}

std::string Serial(X509* certificate) {
  const ASN1_INTEGER* const serial = X509_get0_serialNumber(certificate);
  return std::string(
      AsText(ByteView(serial->data, static_cast<size_t>(serial->length))));
}

class CertificateIssuerTest : public ::testing::TestWithParam<const char*> {
 protected:
  static std::shared_ptr<SoftwareKey> RootKey() {
    return SoftwareKey::Cached(std::string_view(GetParam()) == "p384" ? "p256"
                                                                      : "p384");
  }
  static std::shared_ptr<SoftwareKey> LeafKey() {
    return SoftwareKey::Cached(GetParam());
  }
  static Certificate Root() {
    const auto pem = BuildRootCertificate(RootKey(), "CN=Root,O=Example",
                                          kStart, kEnd, kNever);
    EXPECT_THAT(pem, IsOk());
    return Certificate::ParsePem(*pem)->front();
  }
};

TEST_P(CertificateIssuerTest, SelfSignedCertificateIsForCodeSigning) {
  const auto pem =
      BuildSelfSignedCertificate(LeafKey(), "CN=t", kStart, kEnd, kNever);
  ASSERT_THAT(pem, IsOk());
  const UniqueX509 certificate = ReadCertificate(*pem);
  ASSERT_NE(certificate, nullptr);
  const auto public_key = ParsePublicKey(LeafKey()->public_key());
  EXPECT_EQ(X509_verify(certificate.get(), public_key->get()), 1);
  ExpectCodeSigningLeaf(certificate.get());
  const UniqueX509 again = ReadCertificate(
      *BuildSelfSignedCertificate(LeafKey(), "CN=t", kStart, kEnd, kNever));
  EXPECT_NE(Serial(certificate.get()), Serial(again.get()));
  EXPECT_GE(Serial(certificate.get()).size(), 12u);  // of 16, rarely less
}

TEST_P(CertificateIssuerTest, RootMayOnlyIssueLeaves) {
  const Certificate root = Root();
  X509* const certificate = root.x509();
  EXPECT_EQ(X509_check_ca(certificate), 1);
  EXPECT_EQ(X509_get_key_usage(certificate),
            uint32_t{KU_KEY_CERT_SIGN | KU_CRL_SIGN});
  EXPECT_EQ(X509_get_pathlen(certificate), 0);
  EXPECT_TRUE(IsCritical(certificate, NID_basic_constraints));
  EXPECT_TRUE(IsCritical(certificate, NID_key_usage));
  EXPECT_TRUE(root.IsSelfSigned());
  EXPECT_FALSE(root.IsSuitableForCodeSigning());
}

TEST_P(CertificateIssuerTest, LeafOfARequestMakesAChain) {
  const Certificate root = Root();
  const auto request =
      BuildCertificateRequest(LeafKey(), "CN=Release,O=Example", kNever);
  ASSERT_THAT(request, IsOk());
  const auto applicant = ReadCertificateRequest(*request);
  ASSERT_THAT(applicant, IsOk());
  const auto pem = IssueCodeSigningCertificate(
      RootKey(), root.der(), *applicant, kStart, kEnd, kNever);
  ASSERT_THAT(pem, IsOk());
  const Certificate leaf = Certificate::ParsePem(*pem)->front();
  ExpectCodeSigningLeaf(leaf.x509());
  EXPECT_EQ(leaf.CommonName(), "Release");
  const auto chain = BuildChain(leaf, std::vector<Certificate>{root});
  ASSERT_THAT(chain, IsOk());
  EXPECT_THAT(CheckCodeSigningChain(*chain), IsOk());
  EXPECT_EQ(leaf.not_after(), kEnd);
}

TEST_P(CertificateIssuerTest, RequestThatWasChangedIsRefused) {
  const auto request = BuildCertificateRequest(LeafKey(), "CN=Release", kNever);
  ASSERT_THAT(request, IsOk());
  const UniqueBio in(
      BIO_new_mem_buf(request->data(), static_cast<int>(request->size())));
  const UniqueX509Req parsed(
      PEM_read_bio_X509_REQ(in.get(), nullptr, nullptr, nullptr));
  const UniqueX509Name name(X509_NAME_new());
  X509_NAME_add_entry_by_txt(name.get(), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>("Evil"), 4,
                             -1, 0);
  X509_REQ_set_subject_name(parsed.get(), name.get());
  const UniqueBio out(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509_REQ(out.get(), parsed.get());
  char* text = nullptr;
  const auto size = static_cast<size_t>(BIO_get_mem_data(out.get(), &text));
  EXPECT_THAT(ReadCertificateRequest(std::string_view(text, size)),
              HasReason(v1::REASON_BAD_CERTIFICATE));
}

INSTANTIATE_TEST_SUITE_P(Keys, CertificateIssuerTest,
                         ::testing::Values("rsa2048", "p256", "p384"));

class IssueRefusalTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::string> Issue(const CertificateApplicant& applicant,
                                    absl::Time end = kEnd) {
    return IssueCodeSigningCertificate(key_, root_.der(), applicant, kStart,
                                       end, kNever);
  }

  const std::shared_ptr<SoftwareKey> key_ = SoftwareKey::Cached("p256");
  const Certificate root_ =
      Certificate::ParsePem(
          *BuildRootCertificate(key_, "CN=Root", kStart, kEnd, kNever))
          ->front();
  const Bytes leaf_key_ = ToBytes(SoftwareKey::Cached("p384")->public_key());
};

TEST_F(IssueRefusalTest, EachFault) {
  EXPECT_THAT(Issue(*DescribeApplicant("CN=a", leaf_key_)), IsOk());
  EXPECT_THAT(Issue(*DescribeApplicant("O=a", leaf_key_)),
              HasMessage("has no CN"));
  EXPECT_THAT(Issue(*DescribeApplicant("CN=Root", leaf_key_)),
              HasMessage("to itself"));
  EXPECT_THAT(Issue(*DescribeApplicant("CN=a", key_->public_key())),
              HasMessage("to itself"));
  EXPECT_THAT(
      Issue(*DescribeApplicant("CN=a", leaf_key_), kEnd + absl::Seconds(1)),
      HasMessage("outlive the authority's, which ends 2024-11-13"));
  EXPECT_THAT(Issue(*DescribeApplicant("CN=a", leaf_key_), kStart),
              HasReason(v1::REASON_BAD_OPTION));
  EXPECT_THAT(Issue({.subject = {1, 2}, .public_key = leaf_key_}),
              HasReason(v1::REASON_BAD_CERTIFICATE));
  EXPECT_THAT(DescribeApplicant("XX=a", leaf_key_),
              HasReason(v1::REASON_BAD_OPTION));
  EXPECT_THAT(ReadCertificateRequest("nothing"),
              HasReason(v1::REASON_BAD_CERTIFICATE));
}

TEST_F(IssueRefusalTest, OnlyTheAuthoritysOwnKeyAndCertificate) {
  const auto applicant = DescribeApplicant("CN=a", leaf_key_);
  EXPECT_THAT(
      IssueCodeSigningCertificate(SoftwareKey::Cached("rsa2048"), root_.der(),
                                  *applicant, kStart, kEnd, kNever),
      HasReason(v1::REASON_KEY_MISMATCH));
  const Certificate leaf =
      Certificate::ParsePem(
          *BuildSelfSignedCertificate(key_, "CN=x", kStart, kEnd, kNever))
          ->front();
  EXPECT_THAT(IssueCodeSigningCertificate(key_, leaf.der(), *applicant, kStart,
                                          kEnd, kNever),
              HasReason(v1::REASON_BAD_CERTIFICATE));
}

}  // namespace
}  // namespace codeseal
