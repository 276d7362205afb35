#include "hsm/public_key.h"

#include <openssl/core_names.h>

#include "hsm/openssl_ptr.h"
#include "tests/support/software_key.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::SoftwareKey;

Bytes BigNumber(const EVP_PKEY* key, const char* name) {
  BIGNUM* number = nullptr;
  EXPECT_EQ(EVP_PKEY_get_bn_param(key, name, &number), 1);
  const UniqueBigNum owner(number);
  Bytes bytes(static_cast<size_t>(BN_num_bytes(number)));
  BN_bn2bin(number, bytes.data());
  return bytes;
}

TEST(PublicKeyTest, RsaPartsMakeTheKey) {
  const auto key = SoftwareKey::Cached("rsa2048");
  const auto spki =
      BuildRsaPublicKey(BigNumber(key->key(), OSSL_PKEY_PARAM_RSA_N),
                        BigNumber(key->key(), OSSL_PKEY_PARAM_RSA_E));
  ASSERT_THAT(spki, IsOk());
  EXPECT_TRUE(Equal(*spki, key->public_key()));
  EXPECT_THAT(BuildRsaPublicKey({}, Bytes{1}),
              HasReason(v1::REASON_KEY_UNSUPPORTED));
  EXPECT_THAT(BuildRsaPublicKey(Bytes(5000), Bytes{1}),
              HasReason(v1::REASON_KEY_UNSUPPORTED));
}

// Modules return the point as the standard says, in an OCTET STRING, or bare.
TEST(PublicKeyTest, EcPointMayBeWrappedOrBare) {
  const auto key = SoftwareKey::Cached("p256");
  unsigned char point[65];
  size_t size = 0;
  ASSERT_EQ(EVP_PKEY_get_octet_string_param(key->key(), OSSL_PKEY_PARAM_PUB_KEY,
                                            point, sizeof(point), &size),
            1);
  ASSERT_EQ(size, 65u);
  const Bytes p256 = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};
  auto spki = BuildEcPublicKey(p256, point);
  ASSERT_THAT(spki, IsOk());
  EXPECT_TRUE(Equal(*spki, key->public_key()));
  Bytes wrapped = {4, 65};
  Append(wrapped, point);
  spki = BuildEcPublicKey(p256, wrapped);
  ASSERT_THAT(spki, IsOk());
  EXPECT_TRUE(Equal(*spki, key->public_key()));

  point[64] ^= 1;  // off the curve
  EXPECT_THAT(BuildEcPublicKey(p256, point),
              HasReason(v1::REASON_KEY_UNSUPPORTED));
  EXPECT_THAT(BuildEcPublicKey(Bytes{5, 0}, wrapped),
              HasReason(v1::REASON_KEY_UNSUPPORTED));
  EXPECT_THAT(BuildEcPublicKey({}, {}), HasReason(v1::REASON_KEY_UNSUPPORTED));
}

TEST(PublicKeyTest, NamesAlgorithms) {
  for (const char* name : {"rsa2048", "p256", "p384"}) {
    EXPECT_EQ(PublicKeyAlgorithm(SoftwareKey::Cached(name)->public_key()),
              name);
  }
  EXPECT_EQ(PublicKeyAlgorithm(SoftwareKey::Cached("P-521")->public_key()),
            "secp521r1");
  EXPECT_EQ(PublicKeyAlgorithm(Bytes{1, 2, 3}), "unknown");
}

TEST(PublicKeyTest, TrailingBytesAreRefused) {
  Bytes spki = ToBytes(SoftwareKey::Cached("p256")->public_key());
  EXPECT_THAT(ParsePublicKey(spki), IsOk());
  spki.push_back(0);
  EXPECT_THAT(ParsePublicKey(spki), HasReason(v1::REASON_KEY_UNSUPPORTED));
  EXPECT_THAT(ParsePublicKey({}), HasReason(v1::REASON_KEY_UNSUPPORTED));
}

TEST(PublicKeyTest, EveryBitOfASignatureCounts) {
  const auto key = SoftwareKey::Cached("rsa2048");
  const auto verifier = ParsePublicKey(key->public_key());
  ASSERT_THAT(verifier, IsOk());
  const Bytes digest(32, 3);
  for (const SignMechanism mechanism :
       {SignMechanism::kRsaPkcs1, SignMechanism::kRsaPss}) {
    auto signature = key->Sign(mechanism, SignDigest::kSha256, digest,
                               absl::InfiniteFuture());
    ASSERT_THAT(signature, IsOk());
    EXPECT_THAT(VerifyDigest(verifier->get(), mechanism, SignDigest::kSha256,
                             digest, *signature),
                IsOk());
    const SignMechanism other = mechanism == SignMechanism::kRsaPss
                                    ? SignMechanism::kRsaPkcs1
                                    : SignMechanism::kRsaPss;
    EXPECT_THAT(VerifyDigest(verifier->get(), other, SignDigest::kSha256,
                             digest, *signature),
                HasReason(v1::REASON_SELF_VERIFY_FAILED));
    (*signature)[100] ^= 1;
    EXPECT_THAT(VerifyDigest(verifier->get(), mechanism, SignDigest::kSha256,
                             digest, *signature),
                ::testing::AllOf(HasReason(v1::REASON_SELF_VERIFY_FAILED),
                                 HasCode(absl::StatusCode::kDataLoss)));
  }
}

}  // namespace
}  // namespace codeseal
