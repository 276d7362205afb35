#include "codesign/cms/digest_signature.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include "codesign/base/error.h"
#include "codesign/cms/openssl.h"

namespace codeseal {
namespace {

const char* AlgorithmName(DigestKind kind) {
  switch (kind) {
    case DigestKind::kSha1:
      return "SHA1";
    case DigestKind::kSha256:
      return "SHA256";
    case DigestKind::kSha384:
      return "SHA384";
    case DigestKind::kSha256Truncated:  // has no DigestInfo
      break;
  }
  return "";
}

// OSSL_SIGNATURE_PARAM_*: PKCS #1 v1.5 with a DigestInfo of this algorithm.
struct Parameters {
  explicit Parameters(DigestKind kind)
      : name(AlgorithmName(kind)),
        list{OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST,
                                              name.data(), 0),
             OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_PAD_MODE, &padding),
             OSSL_PARAM_construct_end()} {}

  std::string name;
  int padding = RSA_PKCS1_PADDING;
  OSSL_PARAM list[3];
};

}  // namespace

size_t RsaSignatureSize(const Certificate& certificate) {
  const EVP_PKEY* key = X509_get0_pubkey(certificate.x509());
  if (EVP_PKEY_is_a(key, "RSA") != 1) return 0;
  return static_cast<size_t>(EVP_PKEY_get_size(key));
}

absl::StatusOr<Bytes> SignRsaDigest(const CmsSigner& signer, DigestKind kind,
                                    ByteView digest) {
  if (EVP_PKEY_is_a(signer.key, "RSA") != 1) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_CMS,
                     v1::REASON_KEY_UNSUPPORTED,
                     "installer packages are signed with RSA keys only");
  }
  const EvpPkeyContextPtr context(
      EVP_PKEY_CTX_new_from_pkey(signer.context, signer.key, nullptr));
  Parameters parameters(kind);
  size_t size = 0;
  if (context == nullptr || digest.size() != DigestSize(kind) ||
      EVP_PKEY_sign_init_ex(context.get(), parameters.list) != 1 ||
      EVP_PKEY_sign(context.get(), nullptr, &size, digest.data(),
                    digest.size()) != 1) {
    return MakeError(absl::StatusCode::kInternal, v1::STAGE_CMS,
                     v1::REASON_INTERNAL,
                     DrainOpenSslErrors("the key does not sign digests"));
  }
  Bytes signature(size);
  if (EVP_PKEY_sign(context.get(), signature.data(), &size, digest.data(),
                    digest.size()) != 1) {
    return MakeError(absl::StatusCode::kInternal, v1::STAGE_CMS,
                     v1::REASON_INTERNAL,
                     DrainOpenSslErrors("the key did not sign"));
  }
  signature.resize(size);
  DrainOpenSslErrors("");
  return signature;
}

absl::Status CheckRsaSignature(const Certificate& signer, DigestKind kind,
                               ByteView digest, ByteView signature) {
  EVP_PKEY* const key = X509_get0_pubkey(signer.x509());
  const EvpPkeyContextPtr context(
      EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr));
  Parameters parameters(kind);
  if (EVP_PKEY_is_a(key, "RSA") == 1 && context != nullptr &&
      digest.size() == DigestSize(kind) &&
      EVP_PKEY_verify_init_ex(context.get(), parameters.list) == 1 &&
      EVP_PKEY_verify(context.get(), signature.data(), signature.size(),
                      digest.data(), digest.size()) == 1) {
    return absl::OkStatus();
  }
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_CMS,
                   v1::REASON_CMS_SIGNATURE_INVALID,
                   DrainOpenSslErrors("the RSA signature does not verify with "
                                      "its signer's key"));
}

}  // namespace codeseal
