// The token as its users see it, over a real SoftHSM.

#include "hsm/token.h"

#include <openssl/pem.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <thread>

#include "absl/time/clock.h"
#include "hsm/certificate_issuer.h"
#include "hsm/openssl_ptr.h"
#include "hsm/public_key.h"
#include "tests/support/softhsm.h"
#include "tests/support/software_key.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::SoftHsm;
using ::codeseal::testing::SoftwareKey;

absl::Time Soon() { return absl::Now() + absl::Seconds(30); }

Bytes PemToDer(const std::string& pem) {
  const UniqueBio in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  const UniqueX509 certificate(
      PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate.get(), &der);
  const UniqueBuffer owner(der);
  return Bytes(der, der + std::max(size, 0));
}

std::string PrivateKeyPem(EVP_PKEY* key) {
  const UniqueBio out(BIO_new(BIO_s_mem()));
  PEM_write_bio_PrivateKey(out.get(), key, nullptr, nullptr, 0, nullptr,
                           nullptr);
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

Bytes SelfSigned(std::shared_ptr<KeyBackend> key) {
  const absl::StatusOr<std::string> pem = BuildSelfSignedCertificate(
      std::move(key), "CN=test", absl::Now() - absl::Hours(1),
      absl::Now() + absl::Hours(1), Soon());
  EXPECT_THAT(pem, IsOk());
  return pem.ok() ? PemToDer(*pem) : Bytes();
}

class TokenTest : public ::testing::Test {
 protected:
  TokenTest() { hsm_.AddToken("release"); }

  std::shared_ptr<Token> Open(const TokenConfig& config) {
    absl::StatusOr<std::shared_ptr<Token>> token = Token::Create(config);
    EXPECT_THAT(token, IsOk());
    return token.ok() ? *token : nullptr;
  }
  std::shared_ptr<Token> Open() { return Open(hsm_.Config("release")); }

  SoftHsm hsm_;
};

struct AlgorithmCase {
  KeyAlgorithm algorithm;
  const char* name;
};

class TokenAlgorithmTest : public TokenTest,
                           public ::testing::WithParamInterface<AlgorithmCase> {
};

TEST_P(TokenAlgorithmTest, GeneratesListsLoadsAndSigns) {
  const std::shared_ptr<Token> token = Open();
  const KeyReference reference = {{0xab, 0xcd}, "developer-id"};
  const absl::StatusOr<Bytes> public_key =
      token->GenerateKey(reference, GetParam().algorithm, Soon());
  ASSERT_THAT(public_key, IsOk());

  const absl::StatusOr<TokenListing> listing = token->List(Soon());
  ASSERT_THAT(listing, IsOk());
  EXPECT_EQ(listing->label, "release");
  EXPECT_FALSE(listing->serial.empty());
  ASSERT_EQ(listing->keys.size(), 1u);
  const KeyListing& key = listing->keys.front();
  EXPECT_EQ(key.id, reference.id);
  EXPECT_EQ(key.label, "developer-id");
  EXPECT_EQ(key.algorithm, GetParam().name);
  EXPECT_EQ(key.public_key, *public_key);
  EXPECT_TRUE(key.attributes.sensitive);
  EXPECT_TRUE(key.attributes.always_sensitive);
  EXPECT_TRUE(key.attributes.never_extractable);
  EXPECT_TRUE(key.attributes.local);
  EXPECT_TRUE(key.attributes.sign);
  EXPECT_FALSE(key.attributes.extractable);
  EXPECT_FALSE(key.attributes.decrypt);
  EXPECT_FALSE(key.attributes.unwrap);

  const absl::StatusOr<std::shared_ptr<KeyBackend>> loaded =
      token->LoadKey(reference, KeyPolicy::kStrict, {}, Soon());
  ASSERT_THAT(loaded, IsOk());
  EXPECT_TRUE(Equal((*loaded)->public_key(), *public_key));
  const absl::StatusOr<UniqueEvpPkey> verifier = ParsePublicKey(*public_key);
  ASSERT_THAT(verifier, IsOk());
  const bool rsa = EVP_PKEY_is_a(verifier->get(), "RSA") == 1;
  for (const SignDigest kind : {SignDigest::kSha1, SignDigest::kSha256,
                                SignDigest::kSha384, SignDigest::kSha512}) {
    const Bytes digest(DigestSize(kind), 0x5a);
    for (const SignMechanism mechanism :
         rsa ? std::vector{SignMechanism::kRsaPkcs1, SignMechanism::kRsaPss}
             : std::vector{SignMechanism::kEcdsa}) {
      const absl::StatusOr<Bytes> signature =
          (*loaded)->Sign(mechanism, kind, digest, Soon());
      ASSERT_THAT(signature, IsOk());
      EXPECT_THAT(
          VerifyDigest(verifier->get(), mechanism, kind, digest, *signature),
          IsOk());
      Bytes other = digest;
      other[0] ^= 1;
      EXPECT_THAT(
          VerifyDigest(verifier->get(), mechanism, kind, other, *signature),
          HasReason(v1::REASON_SELF_VERIFY_FAILED));
    }
  }
  EXPECT_THAT(token->Probe(reference, Soon()), IsOk());
  EXPECT_THAT(token->Probe({{}, "developer-id"}, Soon()), IsOk());
}

INSTANTIATE_TEST_SUITE_P(
    Keys, TokenAlgorithmTest,
    ::testing::Values(AlgorithmCase{KeyAlgorithm::kRsa2048, "rsa2048"},
                      AlgorithmCase{KeyAlgorithm::kRsa3072, "rsa3072"},
                      AlgorithmCase{KeyAlgorithm::kRsa4096, "rsa4096"},
                      AlgorithmCase{KeyAlgorithm::kP256, "p256"},
                      AlgorithmCase{KeyAlgorithm::kP384, "p384"}),
    [](const auto& each) { return std::string(each.param.name); });

TEST_F(TokenTest, SecondKeyWithTheSameNameIsRefused) {
  const std::shared_ptr<Token> token = Open();
  ASSERT_THAT(token->GenerateKey({{1}, "a"}, KeyAlgorithm::kP256, Soon()),
              IsOk());
  EXPECT_THAT(token->GenerateKey({{1}, "b"}, KeyAlgorithm::kP256, Soon()),
              HasReason(v1::REASON_KEY_EXISTS));
  EXPECT_THAT(token->GenerateKey({{2}, "a"}, KeyAlgorithm::kP256, Soon()),
              HasReason(v1::REASON_KEY_EXISTS));
  EXPECT_THAT(token->GenerateKey({{}, "a"}, KeyAlgorithm::kP256, Soon()),
              HasReason(v1::REASON_KEY_EXISTS));
  EXPECT_THAT(token->GenerateKey({{}, "c"}, KeyAlgorithm::kP256, Soon()),
              IsOk());
  const absl::StatusOr<TokenListing> listing = token->List(Soon());
  ASSERT_THAT(listing, IsOk());
  EXPECT_EQ(listing->keys.size(), 2u);
}

TEST_F(TokenTest, ImportedKeyIsRefusedWithTheReason) {
  const auto software = SoftwareKey::Generate("p256");
  hsm_.ImportKey("release", "imported", {7}, PrivateKeyPem(software->key()));
  const std::shared_ptr<Token> token = Open();
  const absl::StatusOr<std::shared_ptr<KeyBackend>> strict =
      token->LoadKey({{7}, ""}, KeyPolicy::kStrict, {}, Soon());
  EXPECT_THAT(strict, HasReason(v1::REASON_KEY_POLICY));
  EXPECT_THAT(strict, HasCode(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(strict, HasMessage("CKA_LOCAL is false"));
  EXPECT_THAT(strict, HasMessage("CKA_NEVER_EXTRACTABLE is false"));

  const absl::StatusOr<std::shared_ptr<KeyBackend>> allowed =
      token->LoadKey({{7}, ""}, KeyPolicy::kImportedAllowed, {}, Soon());
  ASSERT_THAT(allowed, IsOk());
  EXPECT_TRUE(Equal((*allowed)->public_key(), software->public_key()));
}

TEST_F(TokenTest, CertificateHasToMatchTheKey) {
  const std::shared_ptr<Token> token = Open();
  ASSERT_THAT(token->GenerateKey({{1}, "a"}, KeyAlgorithm::kP256, Soon()),
              IsOk());
  const auto key = token->LoadKey({{1}, ""}, KeyPolicy::kStrict, {}, Soon());
  ASSERT_THAT(key, IsOk());
  const Bytes certificate = SelfSigned(*key);
  const Bytes foreign = SelfSigned(SoftwareKey::Generate("p256"));
  EXPECT_THAT(
      token->LoadKey({{1}, ""}, KeyPolicy::kStrict, certificate, Soon()),
      IsOk());
  EXPECT_THAT(token->LoadKey({{1}, ""}, KeyPolicy::kStrict, foreign, Soon()),
              HasReason(v1::REASON_KEY_MISMATCH));
  EXPECT_THAT(
      token->LoadKey({{1}, ""}, KeyPolicy::kStrict, Bytes{1, 2}, Soon()),
      HasReason(v1::REASON_BAD_CERTIFICATE));

  EXPECT_THAT(token->ImportCertificate({{1}, ""}, foreign, Soon()),
              HasReason(v1::REASON_KEY_MISMATCH));
  EXPECT_THAT(token->ImportCertificate({{1}, ""}, certificate, Soon()), IsOk());
  EXPECT_THAT(token->ImportCertificate({{1}, ""}, certificate, Soon()), IsOk());
  const absl::StatusOr<TokenListing> listing = token->List(Soon());
  ASSERT_THAT(listing, IsOk());
  ASSERT_EQ(listing->certificates.size(), 1u);
  EXPECT_EQ(listing->certificates.front().der, certificate);
  EXPECT_EQ(listing->certificates.front().id, Bytes{1});
  EXPECT_EQ(listing->certificates.front().label, "a");
}

TEST_F(TokenTest, UnknownKeyAndUnknownTokenAreNamed) {
  const std::shared_ptr<Token> token = Open();
  EXPECT_THAT(token->LoadKey({{9}, "none"}, KeyPolicy::kStrict, {}, Soon()),
              HasReason(v1::REASON_KEY_NOT_FOUND));
  EXPECT_THAT(token->LoadKey({{9}, "none"}, KeyPolicy::kStrict, {}, Soon()),
              HasMessage("label 'none'"));
  TokenConfig config = hsm_.Config("other");
  const auto missing =
      Open(config)->LoadKey({{9}, ""}, KeyPolicy::kStrict, {}, Soon());
  EXPECT_THAT(missing, HasReason(v1::REASON_TOKEN_NOT_FOUND));
  EXPECT_THAT(missing, HasCode(absl::StatusCode::kUnavailable));
  EXPECT_THAT(missing, HasMessage("'release'"));
  config = hsm_.Config("release");
  config.serials = {"0123"};
  EXPECT_THAT(Open(config)->Probe({{9}, ""}, Soon()),
              HasReason(v1::REASON_TOKEN_NOT_FOUND));
}

TEST_F(TokenTest, AmbiguousLabelIsRefused) {
  const std::shared_ptr<Token> token = Open();
  ASSERT_THAT(token->GenerateKey({{1}, "a"}, KeyAlgorithm::kP256, Soon()),
              IsOk());
  const auto software = SoftwareKey::Generate("p256");
  hsm_.ImportKey("release", "a", {2}, PrivateKeyPem(software->key()));
  EXPECT_THAT(token->LoadKey({{}, "a"}, KeyPolicy::kStrict, {}, Soon()),
              HasReason(v1::REASON_KEY_NOT_FOUND));
  EXPECT_THAT(token->LoadKey({{1}, "a"}, KeyPolicy::kStrict, {}, Soon()),
              IsOk());
}

TEST_F(TokenTest, WithoutAPinSourceOnlyPublicObjectsAreListed) {
  const std::shared_ptr<Token> token = Open();
  ASSERT_THAT(token->GenerateKey({{1}, "a"}, KeyAlgorithm::kP256, Soon()),
              IsOk());
  const auto key = token->LoadKey({{1}, ""}, KeyPolicy::kStrict, {}, Soon());
  ASSERT_THAT(key, IsOk());
  ASSERT_THAT(token->ImportCertificate({{1}, ""}, SelfSigned(*key), Soon()),
              IsOk());
  TokenConfig config = hsm_.Config("release");
  config.pin_source = "";
  const auto listing = Open(config)->List(Soon());
  ASSERT_THAT(listing, IsOk());
  EXPECT_EQ(listing->keys.size(), 0u);
  EXPECT_EQ(listing->certificates.size(), 1u);
}

TEST_F(TokenTest, BadConfigurationIsRefusedAtOnce) {
  const auto reason = [this](auto change) {
    TokenConfig config = hsm_.Config("release");
    change(config);
    return GetReason(Token::Create(config).status());
  };
  EXPECT_EQ(reason([](TokenConfig& c) { c.module = ""; }),
            v1::REASON_BAD_CONFIG);
  EXPECT_EQ(reason([](TokenConfig& c) { c.label = ""; }),
            v1::REASON_BAD_CONFIG);
  EXPECT_EQ(reason([](TokenConfig& c) { c.session_count = 0; }),
            v1::REASON_BAD_CONFIG);
  EXPECT_EQ(reason([](TokenConfig& c) { c.session_count = 5000; }),
            v1::REASON_BAD_CONFIG);
  EXPECT_EQ(reason([](TokenConfig& c) {
              c.operation_timeout = absl::ZeroDuration();
            }),
            v1::REASON_BAD_CONFIG);
  EXPECT_EQ(reason([](TokenConfig& c) { c.pin_source = "1234"; }),
            v1::REASON_PIN_SOURCE);
}

TEST_F(TokenTest, BadModuleAndBadPinFileAreNamed) {
  TokenConfig config = hsm_.Config("release");
  config.module = hsm_.folder().Path("none.so");
  EXPECT_THAT(Open(config)->Probe({{1}, ""}, Soon()),
              HasReason(v1::REASON_MODULE_LOAD));
  config.module = "/lib/x86_64-linux-gnu/libm.so.6";
  EXPECT_THAT(Open(config)->Probe({{1}, ""}, Soon()),
              HasReason(v1::REASON_MODULE_LOAD));
  config = hsm_.Config("release");
  config.pin_source = "file:" + hsm_.folder().Path("none");
  EXPECT_THAT(Open(config)->Probe({{1}, ""}, Soon()),
              HasReason(v1::REASON_PIN_SOURCE));
  config.worker_path = hsm_.folder().Path("none");
  EXPECT_THAT(Open(config)->Probe({{1}, ""}, Soon()),
              HasReason(v1::REASON_TOKEN_DOWN));
}

TEST_F(TokenTest, ManyThreadsShareFewSessions) {
  TokenConfig config = hsm_.Config("release");
  config.session_count = 3;
  for (const bool serialize : {false, true}) {
    config.serialize = serialize;
    const std::shared_ptr<Token> token = Open(config);
    const KeyReference reference = {{1}, ""};
    if (!serialize) {
      ASSERT_THAT(token->GenerateKey(reference, KeyAlgorithm::kP256, Soon()),
                  IsOk());
    }
    const auto key = token->LoadKey(reference, KeyPolicy::kStrict, {}, Soon());
    ASSERT_THAT(key, IsOk());
    std::atomic<int> signature_count = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 25; ++n) {
          if ((*key)
                  ->Sign(SignMechanism::kEcdsa, SignDigest::kSha256,
                         Bytes(32, 1), Soon())
                  .ok()) {
            ++signature_count;
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(signature_count, 8 * 25);
  }
}

TEST_F(TokenTest, KeyOutlivesItsToken) {
  std::shared_ptr<Token> token = Open();
  ASSERT_THAT(token->GenerateKey({{1}, ""}, KeyAlgorithm::kP256, Soon()),
              IsOk());
  const auto key = token->LoadKey({{1}, ""}, KeyPolicy::kStrict, {}, Soon());
  ASSERT_THAT(key, IsOk());
  token.reset();
  EXPECT_THAT((*key)->Sign(SignMechanism::kEcdsa, SignDigest::kSha256,
                           Bytes(32, 1), Soon()),
              IsOk());
}

TEST_F(TokenTest, MechanismHasToFitTheKey) {
  const std::shared_ptr<Token> token = Open();
  ASSERT_THAT(token->GenerateKey({{1}, ""}, KeyAlgorithm::kP256, Soon()),
              IsOk());
  const auto key = token->LoadKey({{1}, ""}, KeyPolicy::kStrict, {}, Soon());
  ASSERT_THAT(key, IsOk());
  EXPECT_THAT((*key)->Sign(SignMechanism::kRsaPkcs1, SignDigest::kSha256,
                           Bytes(32, 1), Soon()),
              HasReason(v1::REASON_BAD_REQUEST));
  EXPECT_THAT((*key)->Sign(SignMechanism::kEcdsa, SignDigest::kSha256,
                           Bytes(20, 1), Soon()),
              HasReason(v1::REASON_BAD_REQUEST));
}

}  // namespace
}  // namespace codeseal
