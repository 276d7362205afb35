#include "tests/support/token_issuer.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include <array>
#include <cstdlib>
#include <vector>

#include "absl/strings/escaping.h"

namespace codeseal::testing {
namespace {

std::string Number(EVP_PKEY* key, const char* name, int size) {
  BIGNUM* number = nullptr;
  if (EVP_PKEY_get_bn_param(key, name, &number) != 1) std::abort();
  std::vector<uint8_t> bytes(
      static_cast<size_t>(size > 0 ? size : BN_num_bytes(number)));
  BN_bn2binpad(number, bytes.data(), static_cast<int>(bytes.size()));
  BN_free(number);
  return Base64Url({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// r and s, 32 bytes each, of a DER Ecdsa-Sig-Value.
std::string RawSignature(const std::vector<uint8_t>& der) {
  const unsigned char* at = der.data();
  ECDSA_SIG* const signature =
      d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()));
  if (signature == nullptr) std::abort();
  std::array<uint8_t, 64> raw{};
  BN_bn2binpad(ECDSA_SIG_get0_r(signature), raw.data(), 32);
  BN_bn2binpad(ECDSA_SIG_get0_s(signature), raw.data() + 32, 32);
  ECDSA_SIG_free(signature);
  return {reinterpret_cast<const char*>(raw.data()), raw.size()};
}

std::string SignedPart(const nlohmann::json& header,
                       const nlohmann::json& claims) {
  return Base64Url(header.dump()) + "." + Base64Url(claims.dump());
}

}  // namespace

std::string Base64Url(std::string_view bytes) {
  std::string text;
  absl::WebSafeBase64Escape(absl::string_view(bytes.data(), bytes.size()),
                            &text);
  return text;
}

TokenIssuer::TokenIssuer(KeyType type, std::string key_id)
    : key_(MakeKey(type)),
      key_id_(std::move(key_id)),
      algorithm_(type == KeyType::kP256 ? "ES256" : "RS256") {}

std::string TokenIssuer::KeySet() const {
  nlohmann::json key = {{"kid", key_id_}, {"use", "sig"}, {"alg", algorithm_}};
  if (algorithm_ == "ES256") {
    key["kty"] = "EC";
    key["crv"] = "P-256";
    key["x"] = Number(key_.get(), OSSL_PKEY_PARAM_EC_PUB_X, 32);
    key["y"] = Number(key_.get(), OSSL_PKEY_PARAM_EC_PUB_Y, 32);
  } else {
    key["kty"] = "RSA";
    key["n"] = Number(key_.get(), OSSL_PKEY_PARAM_RSA_N, 0);
    key["e"] = Number(key_.get(), OSSL_PKEY_PARAM_RSA_E, 0);
  }
  return nlohmann::json{{"keys", {key}}}.dump();
}

std::string TokenIssuer::public_key_pem() const {
  BIO* const bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PUBKEY(bio, key_.get());
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  std::string pem(text, static_cast<size_t>(size));
  BIO_free(bio);
  return pem;
}

nlohmann::json TokenIssuer::Claims(absl::Time now) {
  std::array<uint8_t, 16> id{};
  RAND_bytes(id.data(), id.size());
  return {
      {"iss", kIssuer},
      {"aud", kAudience},
      {"sub", "repo:example/tool:ref:refs/heads/main"},
      {"jti", Base64Url({reinterpret_cast<const char*>(id.data()), id.size()})},
      {"iat", absl::ToUnixSeconds(now)},
      {"nbf", absl::ToUnixSeconds(now)},
      {"exp", absl::ToUnixSeconds(now + absl::Minutes(5))},
      {"repository", "example/tool"},
      {"repository_id", "123456"},
      {"repository_owner_id", "789"},
      {"ref", "refs/heads/main"},
      {"job_workflow_ref",
       "example/tool/.github/workflows/release.yml@refs/heads/main"}};
}

std::string TokenIssuer::Sign(const nlohmann::json& claims,
                              const nlohmann::json& header) const {
  nlohmann::json whole = {
      {"typ", "JWT"}, {"alg", algorithm_}, {"kid", key_id_}};
  whole.update(header);
  const std::string text = SignedPart(whole, claims);
  EVP_MD_CTX* const context = EVP_MD_CTX_new();
  std::vector<uint8_t> signature(
      static_cast<size_t>(EVP_PKEY_get_size(key_.get())));
  size_t size = signature.size();
  if (EVP_DigestSignInit(context, nullptr, EVP_sha256(), nullptr, key_.get()) !=
          1 ||
      EVP_DigestSign(context, signature.data(), &size,
                     reinterpret_cast<const uint8_t*>(text.data()),
                     text.size()) != 1) {
    std::abort();
  }
  EVP_MD_CTX_free(context);
  signature.resize(size);
  return text + "." +
         Base64Url(algorithm_ == "ES256"
                       ? RawSignature(signature)
                       : std::string(signature.begin(), signature.end()));
}

std::string TokenIssuer::SignWithSecret(const nlohmann::json& claims,
                                        const nlohmann::json& header,
                                        const std::string& secret) {
  const std::string text = SignedPart(header, claims);
  std::array<uint8_t, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const uint8_t*>(text.data()), text.size(),
       digest.data(), &size);
  return text + "." +
         Base64Url({reinterpret_cast<const char*>(digest.data()), size});
}

}  // namespace codeseal::testing
