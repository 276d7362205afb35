#include "hsm/provider.h"

#include <openssl/cms.h>
#include <openssl/pem.h>

#include <array>
#include <thread>

#include "hsm/openssl_ptr.h"
#include "hsm/public_key.h"
#include "tests/support/software_key.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::SoftwareKey;

using UniqueCms = OpenSslPtr<CMS_ContentInfo, CMS_ContentInfo_free>;

// Borrows `text`.
UniqueBio TextBio(const char* text) {
  return UniqueBio(BIO_new_mem_buf(text, -1));
}

// A self-signed certificate whose only signer is the key itself.
UniqueX509 MakeCertificate(EVP_PKEY* key, const EVP_MD* md) {
  UniqueX509 certificate(X509_new());
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 7);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_NAME_add_entry_by_txt(
      X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
      reinterpret_cast<const unsigned char*>("t"), -1, -1, 0);
  X509_set_issuer_name(certificate.get(),
                       X509_get_subject_name(certificate.get()));
  if (X509_set_pubkey(certificate.get(), key) != 1 ||
      X509_sign(certificate.get(), key, md) == 0) {
    return nullptr;
  }
  return certificate;
}

// What another program makes of the CMS: nothing but its bytes is left.
bool Verifies(CMS_ContentInfo* cms) {
  unsigned char* der = nullptr;
  const int size = i2d_CMS_ContentInfo(cms, &der);
  const UniqueBuffer owner(der);
  const unsigned char* cursor = der;
  const UniqueCms parsed(d2i_CMS_ContentInfo(nullptr, &cursor, size));
  const UniqueBio content = TextBio("content");
  return parsed != nullptr &&
         CMS_verify(parsed.get(), nullptr, nullptr, content.get(), nullptr,
                    CMS_BINARY | CMS_NO_SIGNER_CERT_VERIFY) == 1;
}

class ProviderTest : public ::testing::TestWithParam<const char*> {
 protected:
  ProviderTest() : backend_(SoftwareKey::Cached(GetParam())) {}
  void SetUp() override {
    absl::StatusOr<UniqueEvpPkey> key = MakeTokenPkey(backend_);
    ASSERT_THAT(key, IsOk());
    key_ = *std::move(key);
    absl::StatusOr<UniqueEvpPkey> public_key =
        ParsePublicKey(backend_->public_key());
    ASSERT_THAT(public_key, IsOk());
    public_key_ = *std::move(public_key);
  }
  ~ProviderTest() override { DrainOpenSslErrors(); }

  std::shared_ptr<SoftwareKey> backend_;
  UniqueEvpPkey key_;
  UniqueEvpPkey public_key_;
};

class RsaProviderTest : public ProviderTest {};

TEST_P(ProviderTest, DigestSignVerifiesWithThePublicKey) {
  const std::string text = "what is signed";
  for (const char* digest : {"SHA256", "SHA384", "SHA512", "SHA1"}) {
    const UniqueEvpMdCtx context(EVP_MD_CTX_new());
    ASSERT_EQ(EVP_DigestSignInit_ex(context.get(), nullptr, digest,
                                    TokenLibraryContext(), nullptr, key_.get(),
                                    nullptr),
              1)
        << DrainOpenSslErrors();
    ASSERT_EQ(EVP_DigestSignUpdate(context.get(), text.data(), text.size()), 1);
    size_t size = 0;
    ASSERT_EQ(EVP_DigestSignFinal(context.get(), nullptr, &size), 1);
    Bytes signature(size);
    ASSERT_EQ(EVP_DigestSignFinal(context.get(), signature.data(), &size), 1)
        << DrainOpenSslErrors();
    signature.resize(size);

    const UniqueEvpMdCtx verify(EVP_MD_CTX_new());
    ASSERT_EQ(EVP_DigestVerifyInit_ex(verify.get(), nullptr, digest,
                                      TokenLibraryContext(), nullptr,
                                      public_key_.get(), nullptr),
              1);
    EXPECT_EQ(EVP_DigestVerify(verify.get(), signature.data(), signature.size(),
                               reinterpret_cast<const uint8_t*>(text.data()),
                               text.size()),
              1)
        << digest << ": " << DrainOpenSslErrors();
  }
  EXPECT_EQ(backend_->sign_count(), 4);
}

TEST_P(ProviderTest, DigestSignWithoutADigestNameUsesSha256) {
  const UniqueEvpMdCtx context(EVP_MD_CTX_new());
  ASSERT_EQ(EVP_DigestSignInit_ex(context.get(), nullptr, nullptr,
                                  TokenLibraryContext(), nullptr, key_.get(),
                                  nullptr),
            1)
      << DrainOpenSslErrors();
  Bytes signature(static_cast<size_t>(EVP_PKEY_get_size(key_.get())));
  size_t size = signature.size();
  ASSERT_EQ(EVP_DigestSign(context.get(), signature.data(), &size,
                           reinterpret_cast<const uint8_t*>("abc"), 3),
            1)
      << DrainOpenSslErrors();
  const UniqueEvpMdCtx verify(EVP_MD_CTX_new());
  ASSERT_EQ(EVP_DigestVerifyInit_ex(verify.get(), nullptr, "SHA256",
                                    TokenLibraryContext(), nullptr,
                                    public_key_.get(), nullptr),
            1);
  EXPECT_EQ(EVP_DigestVerify(verify.get(), signature.data(), size,
                             reinterpret_cast<const uint8_t*>("abc"), 3),
            1);
}

// CMS makes its own size query and duplicates the context in between.
TEST_P(ProviderTest, CmsVerifies) {
  const UniqueX509 certificate = MakeCertificate(key_.get(), EVP_sha256());
  ASSERT_NE(certificate, nullptr) << DrainOpenSslErrors();
  for (const unsigned extra : {0u, unsigned{CMS_NOATTR}}) {
    const int before = backend_->sign_count();
    constexpr unsigned kFlags = CMS_DETACHED | CMS_BINARY | CMS_PARTIAL;
    const UniqueBio content = TextBio("content");
    const UniqueCms signed_cms(CMS_sign_ex(nullptr, nullptr, nullptr, nullptr,
                                           kFlags | extra,
                                           TokenLibraryContext(), nullptr));
    ASSERT_NE(signed_cms, nullptr) << DrainOpenSslErrors();
    ASSERT_NE(CMS_add1_signer(signed_cms.get(), certificate.get(), key_.get(),
                              EVP_sha256(), kFlags | extra),
              nullptr)
        << DrainOpenSslErrors();
    ASSERT_EQ(
        CMS_final(signed_cms.get(), content.get(), nullptr, kFlags | extra), 1)
        << DrainOpenSslErrors();
    EXPECT_EQ(backend_->sign_count(), before + 1);
    EXPECT_TRUE(Verifies(signed_cms.get())) << DrainOpenSslErrors();
  }
}

TEST_P(RsaProviderTest, PssCmsVerifies) {
  const UniqueX509 certificate = MakeCertificate(key_.get(), EVP_sha256());
  ASSERT_NE(certificate, nullptr) << DrainOpenSslErrors();
  constexpr unsigned kFlags =
      CMS_DETACHED | CMS_BINARY | CMS_PARTIAL | CMS_KEY_PARAM;
  const UniqueCms cms(CMS_sign_ex(nullptr, nullptr, nullptr, nullptr, kFlags,
                                  TokenLibraryContext(), nullptr));
  CMS_SignerInfo* signer = CMS_add1_signer(cms.get(), certificate.get(),
                                           key_.get(), EVP_sha256(), kFlags);
  ASSERT_NE(signer, nullptr) << DrainOpenSslErrors();
  ASSERT_EQ(EVP_PKEY_CTX_set_rsa_padding(CMS_SignerInfo_get0_pkey_ctx(signer),
                                         RSA_PKCS1_PSS_PADDING),
            1);
  const UniqueBio content = TextBio("content");
  ASSERT_EQ(CMS_final(cms.get(), content.get(), nullptr, kFlags), 1)
      << DrainOpenSslErrors();
  X509_ALGOR* algorithm = nullptr;
  CMS_SignerInfo_get0_algs(signer, nullptr, nullptr, nullptr, &algorithm);
  EXPECT_EQ(OBJ_obj2nid(algorithm->algorithm), NID_rsassaPss);
  EXPECT_TRUE(Verifies(cms.get())) << DrainOpenSslErrors();
}

TEST_P(RsaProviderTest, PssRefusesAnotherSaltThanTheDigest) {
  const UniqueEvpMdCtx context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* parameters = nullptr;  // owned by `context`
  ASSERT_EQ(EVP_DigestSignInit_ex(context.get(), &parameters, "SHA256",
                                  TokenLibraryContext(), nullptr, key_.get(),
                                  nullptr),
            1);
  ASSERT_EQ(EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING), 1);
  EXPECT_EQ(EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, 32), 1);
  EXPECT_EQ(
      EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, RSA_PSS_SALTLEN_DIGEST), 1);
  EXPECT_LE(EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, 20), 0);
  EXPECT_LE(EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, RSA_PSS_SALTLEN_MAX),
            0);
  EXPECT_LE(EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_NO_PADDING), 0);
}

TEST_P(ProviderTest, CertificateRequestVerifies) {
  for (const EVP_MD* md : {EVP_sha256(), EVP_sha384()}) {
    const UniqueX509Req request(X509_REQ_new());
    ASSERT_EQ(X509_REQ_set_pubkey(request.get(), key_.get()), 1)
        << DrainOpenSslErrors();
    ASSERT_NE(X509_REQ_sign(request.get(), key_.get(), md), 0)
        << DrainOpenSslErrors();
    EXPECT_EQ(X509_REQ_verify(request.get(), public_key_.get()), 1)
        << DrainOpenSslErrors();
  }
}

TEST_P(ProviderTest, SelfSignedCertificateMatchesAndVerifies) {
  const UniqueX509 certificate = MakeCertificate(key_.get(), EVP_sha256());
  ASSERT_NE(certificate, nullptr) << DrainOpenSslErrors();
  EXPECT_EQ(X509_verify(certificate.get(), public_key_.get()), 1)
      << DrainOpenSslErrors();
  EXPECT_EQ(X509_check_private_key(certificate.get(), key_.get()), 1)
      << DrainOpenSslErrors();

  const auto other = SoftwareKey::Generate(GetParam());
  const absl::StatusOr<UniqueEvpPkey> other_key = MakeTokenPkey(other);
  ASSERT_THAT(other_key, IsOk());
  EXPECT_EQ(X509_check_private_key(certificate.get(), other_key->get()), 0);
}

// PV-2
TEST_P(ProviderTest, PrivateHalfIsNeverExported) {
  const UniqueBio out(BIO_new(BIO_s_mem()));
  EXPECT_EQ(PEM_write_bio_PrivateKey(out.get(), key_.get(), nullptr, nullptr, 0,
                                     nullptr, nullptr),
            0);
  EXPECT_EQ(BIO_pending(out.get()), 0);
  OSSL_PARAM* params = nullptr;
  EXPECT_EQ(EVP_PKEY_todata(key_.get(), EVP_PKEY_KEYPAIR, &params), 0);
  const UniqueParams owner(params);
  EXPECT_EQ(PEM_write_bio_PUBKEY(out.get(), key_.get()), 1);
}

TEST_P(ProviderTest, SizeAndTypeAreThoseOfThePublicKey) {
  EXPECT_EQ(EVP_PKEY_get_size(key_.get()),
            EVP_PKEY_get_size(public_key_.get()));
  EXPECT_EQ(EVP_PKEY_get_bits(key_.get()),
            EVP_PKEY_get_bits(public_key_.get()));
  EXPECT_EQ(EVP_PKEY_get_id(key_.get()), EVP_PKEY_get_id(public_key_.get()));
  EXPECT_EQ(EVP_PKEY_eq(key_.get(), public_key_.get()), 1);
}

TEST_P(ProviderTest, TwoHandlesOfOneKeyAreEqual) {
  const absl::StatusOr<UniqueEvpPkey> twin = MakeTokenPkey(backend_);
  const absl::StatusOr<UniqueEvpPkey> other =
      MakeTokenPkey(SoftwareKey::Generate(GetParam()));
  ASSERT_THAT(twin, IsOk());
  ASSERT_THAT(other, IsOk());
  EXPECT_EQ(EVP_PKEY_eq(key_.get(), twin->get()), 1);
  EXPECT_EQ(EVP_PKEY_eq(key_.get(), other->get()), 0);
}

TEST_P(ProviderTest, ScopeGivesTheDeadlineAndTheTokensStatus) {
  const absl::Time deadline = absl::FromUnixSeconds(1234567890);
  const auto sign = [this] {
    const UniqueX509Req request(X509_REQ_new());
    X509_REQ_set_pubkey(request.get(), key_.get());
    return X509_REQ_sign(request.get(), key_.get(), EVP_sha256()) != 0;
  };
  {
    SignScope scope(deadline);
    EXPECT_TRUE(sign());
    EXPECT_EQ(backend_->last_deadline(), deadline);
    EXPECT_THAT(scope.token_status(), IsOk());
  }
  EXPECT_TRUE(sign());
  EXPECT_EQ(backend_->last_deadline(), absl::InfiniteFuture());

  backend_->Fail(MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TOKEN,
                           v1::REASON_TOKEN_DOWN, "gone"));
  SignScope outer(deadline);
  {
    SignScope inner(deadline);
    EXPECT_FALSE(sign());
    EXPECT_THAT(inner.token_status(), HasReason(v1::REASON_TOKEN_DOWN));
  }
  EXPECT_THAT(outer.token_status(), IsOk());
  EXPECT_FALSE(sign());
  EXPECT_THAT(outer.token_status(), HasReason(v1::REASON_TOKEN_DOWN));
  EXPECT_NE(DrainOpenSslErrors().find("gone"), std::string::npos);
}

TEST_P(ProviderTest, ThreadsShareAKey) {
  std::array<int, 4> verified_counts{};
  std::array<std::thread, 4> threads;
  for (size_t i = 0; i < threads.size(); ++i) {
    threads[i] = std::thread([this, &count = verified_counts[i]] {
      for (int n = 0; n < 20; ++n) {
        const UniqueX509Req request(X509_REQ_new());
        X509_REQ_set_pubkey(request.get(), key_.get());
        if (X509_REQ_sign(request.get(), key_.get(), EVP_sha256()) != 0 &&
            X509_REQ_verify(request.get(), public_key_.get()) == 1) {
          ++count;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(verified_counts, ::testing::Each(20));
}

INSTANTIATE_TEST_SUITE_P(Keys, ProviderTest,
                         ::testing::Values("rsa2048", "p256", "p384"));

INSTANTIATE_TEST_SUITE_P(Keys, RsaProviderTest, ::testing::Values("rsa2048"));

// Everything but the token's keys stays with the default provider.
// PV-1
TEST(ProviderContextTest, KeysMadeInTheContextAreOrdinary) {
  // A signature first: it puts our provider into OpenSSL's caches.
  for (const char* algorithm : {"rsa2048", "p256"}) {
    const auto key = MakeTokenPkey(SoftwareKey::Cached(algorithm));
    ASSERT_THAT(key, IsOk());
    ASSERT_NE(MakeCertificate(key->get(), EVP_sha256()), nullptr);
  }
  const UniqueEvpPkey rsa(
      EVP_PKEY_Q_keygen(TokenLibraryContext(), nullptr, "RSA", size_t{2048}));
  ASSERT_NE(rsa, nullptr) << DrainOpenSslErrors();
  const UniqueEvpPkey ec(
      EVP_PKEY_Q_keygen(TokenLibraryContext(), nullptr, "EC", "P-256"));
  ASSERT_NE(ec, nullptr) << DrainOpenSslErrors();
  const UniqueBio out(BIO_new(BIO_s_mem()));
  EXPECT_EQ(PEM_write_bio_PrivateKey(out.get(), ec.get(), nullptr, nullptr, 0,
                                     nullptr, nullptr),
            1);
}

// PV-3
TEST(ProviderContextTest, ProviderTakesNoPrivateKeyFromOutside) {
  const auto software = SoftwareKey::Generate("p256");
  OSSL_PARAM* params = nullptr;
  ASSERT_EQ(EVP_PKEY_todata(software->key(), EVP_PKEY_KEYPAIR, &params), 1);
  const UniqueParams owner(params);
  const UniqueEvpPkeyCtx context(EVP_PKEY_CTX_new_from_name(
      TokenLibraryContext(), "EC", "provider=codeseal"));
  ASSERT_EQ(EVP_PKEY_fromdata_init(context.get()), 1);
  EVP_PKEY* key = nullptr;
  EXPECT_NE(
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_KEYPAIR, owner.get()), 1);
  EVP_PKEY_free(key);
  DrainOpenSslErrors();
}

TEST(ProviderContextTest, RefusesKeysThatAreNotSupported) {
  for (const char* algorithm : {"rsa1024", "P-521", "secp256k1"}) {
    EXPECT_THAT(MakeTokenPkey(SoftwareKey::Generate(algorithm)),
                HasReason(v1::REASON_KEY_UNSUPPORTED))
        << algorithm;
  }
}

}  // namespace
}  // namespace codeseal
