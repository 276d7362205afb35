#include "codesign/cms/trust.h"

#include <openssl/ts.h>

#include "codesign/cms/openssl.h"
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

// A timestamp authority made of OpenSSL's own responder.
class TimestampTest : public ::testing::Test {
 protected:
  TimestampTest() : root_(MakeRoot(NamedSpec("stamp root"))) {
    CertificateSpec spec = NamedSpec("stamp signer");
    spec.extended_key_usage = {testing::kTimeStamping};
    signer_.emplace(Issue(spec, root_));
  }

  static CertificateSpec NamedSpec(const char* common_name) {
    CertificateSpec spec;
    spec.common_name = common_name;
    return spec;
  }

  // The token alone, without the response around it.
  Bytes Stamp(ByteView stamped, const TestIdentity& signer) const {
    const Bytes imprint = ComputeImprint(stamped);
    const OpenSslPtr<TS_MSG_IMPRINT, TS_MSG_IMPRINT_free> message(
        TS_MSG_IMPRINT_new());
    const OpenSslPtr<X509_ALGOR, X509_ALGOR_free> algorithm(X509_ALGOR_new());
    X509_ALGOR_set_md(algorithm.get(), EVP_sha256());
    TS_MSG_IMPRINT_set_algo(message.get(), algorithm.get());
    TS_MSG_IMPRINT_set_msg(message.get(), const_cast<uint8_t*>(imprint.data()),
                           static_cast<int>(imprint.size()));
    const OpenSslPtr<TS_REQ, TS_REQ_free> request(TS_REQ_new());
    TS_REQ_set_version(request.get(), 1);
    TS_REQ_set_msg_imprint(request.get(), message.get());
    TS_REQ_set_cert_req(request.get(), 1);
    const BioPtr bio(BIO_new(BIO_s_mem()));
    i2d_TS_REQ_bio(bio.get(), request.get());

    const OpenSslPtr<TS_RESP_CTX, TS_RESP_CTX_free> responder(
        TS_RESP_CTX_new());
    const X509StackPtr certificates(sk_X509_new_null());
    sk_X509_push(certificates.get(), root_.certificate().x509());
    const ObjectPtr policy(OBJ_txt2obj("1.2.3.4.5.6", 1));
    TS_RESP_CTX_set_signer_cert(responder.get(), signer.certificate().x509());
    TS_RESP_CTX_set_signer_key(responder.get(), signer.key());
    TS_RESP_CTX_set_signer_digest(responder.get(), EVP_sha256());
    TS_RESP_CTX_set_certs(responder.get(), certificates.get());
    TS_RESP_CTX_set_def_policy(responder.get(), policy.get());
    TS_RESP_CTX_add_md(responder.get(), EVP_sha256());
    TS_RESP_CTX_set_serial_cb(
        responder.get(),
        [](TS_RESP_CTX*, void*) {
          ASN1_INTEGER* serial = ASN1_INTEGER_new();
          ASN1_INTEGER_set(serial, 1);
          return serial;
        },
        nullptr);
    const OpenSslPtr<TS_RESP, TS_RESP_free> response(
        TS_RESP_create_response(responder.get(), bio.get()));
    PKCS7* token = TS_RESP_get_token(response.get());
    return token == nullptr ? Bytes()
                            : EncodeDer<const PKCS7*>(i2d_PKCS7, token);
  }

  static Bytes ComputeImprint(ByteView stamped) {
    Bytes imprint(32);
    EVP_Digest(stamped.data(), stamped.size(), imprint.data(), nullptr,
               EVP_sha256(), nullptr);
    return imprint;
  }

  const Bytes stamped_ = ToBytes("a signature value");
  TestIdentity root_;
  std::optional<TestIdentity> signer_;
};

TEST_F(TimestampTest, TellsTimeAndAuthority) {
  const Bytes token = Stamp(stamped_, *signer_);
  ASSERT_FALSE(token.empty()) << DrainOpenSslErrors("no token");
  const absl::StatusOr<Timestamp> timestamp =
      VerifyTimestampToken(token, stamped_, {});
  ASSERT_THAT(timestamp, IsOk());
  EXPECT_LT(absl::AbsDuration(timestamp->time - absl::Now()), absl::Minutes(5));
  EXPECT_EQ(timestamp->chain.front(), signer_->certificate());
  EXPECT_EQ(timestamp->chain.back(), root_.certificate());
}

TEST_F(TimestampTest, BelongsToOneSignature) {
  const Bytes token = Stamp(stamped_, *signer_);
  EXPECT_THAT(VerifyTimestampToken(token, ToBytes("another signature"), {}),
              HasReason(v1::REASON_BAD_TIMESTAMP));
}

TEST_F(TimestampTest, AnyFlippedByteIsNoticed) {
  const Bytes token = Stamp(stamped_, *signer_);
  const absl::StatusOr<Timestamp> original =
      VerifyTimestampToken(token, stamped_, {});
  ASSERT_THAT(original, IsOk());
  // A low bit: the digits of the time stay digits.
  for (size_t offset = 0; offset < token.size(); offset += 3) {
    Bytes changed = token;
    changed[offset] ^= 0x01;
    const absl::StatusOr<Timestamp> timestamp =
        VerifyTimestampToken(changed, stamped_, {});
    EXPECT_EQ(timestamp.ok() ? timestamp->time : original->time, original->time)
        << offset;
  }
  EXPECT_THAT(VerifyTimestampToken(ByteView(token).first(100), stamped_, {}),
              HasReason(v1::REASON_BAD_TIMESTAMP));
}

TEST_F(TimestampTest, SignerMustBeForTimestamps) {
  const TestIdentity other = Issue(NamedSpec("not for stamps"), root_);
  // OpenSSL's responder does not even take such a certificate; the token is
  // then made by a signer whose certificate has the right purpose but an
  // issuer that nobody has.
  EXPECT_TRUE(Stamp(stamped_, other).empty());
  DrainOpenSslErrors("");
  CertificateSpec spec = NamedSpec("stranger");
  spec.extended_key_usage = {testing::kTimeStamping};
  const TestIdentity stranger = Issue(spec, MakeRoot(NamedSpec("elsewhere")));
  EXPECT_THAT(VerifyTimestampToken(Stamp(stamped_, stranger), stamped_, {}),
              HasReason(v1::REASON_BAD_TIMESTAMP));
}

}  // namespace
}  // namespace codeseal
