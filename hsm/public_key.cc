#include "hsm/public_key.h"

#include <openssl/err.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "codesign/base/error.h"
#include "hsm/openssl_ptr.h"

namespace codeseal {
namespace {

absl::Status Unsupported(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_TOKEN,
                   v1::REASON_KEY_UNSUPPORTED, message);
}

// d2i functions take a long.
constexpr size_t kMaxDerSize = size_t{1} << 20;

UniqueEvpPkey ReadPublicKey(ByteView spki) {
  if (spki.size() > kMaxDerSize) return nullptr;
  const unsigned char* cursor = spki.data();
  UniqueEvpPkey key(d2i_PUBKEY_ex(nullptr, &cursor,
                                  static_cast<long>(spki.size()),
                                  TokenLibraryContext(), "provider=default"));
  if (key != nullptr && cursor != spki.data() + spki.size()) key.reset();
  return key;
}

// The curve's name; empty for keys that are not EC.
std::string GroupName(const EVP_PKEY* key) {
  std::array<char, 64> name{};
  size_t size = 0;
  if (EVP_PKEY_get_group_name(key, name.data(), name.size(), &size) != 1) {
    return "";
  }
  return std::string(name.data(), std::min(size, name.size()));
}

absl::StatusOr<Bytes> EncodePublicKey(EVP_PKEY* key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  const UniqueBuffer owner(der);
  if (size <= 0) return Unsupported(DrainOpenSslErrors());
  return Bytes(der, der + size);
}

absl::StatusOr<Bytes> BuildPublicKey(const char* type, OSSL_PARAM* params) {
  const UniqueEvpPkeyCtx context(EVP_PKEY_CTX_new_from_name(
      TokenLibraryContext(), type, "provider=default"));
  EVP_PKEY* raw = nullptr;
  const bool ok =
      context != nullptr && params != nullptr &&
      EVP_PKEY_fromdata_init(context.get()) == 1 &&
      EVP_PKEY_fromdata(context.get(), &raw, EVP_PKEY_PUBLIC_KEY, params) == 1;
  const UniqueEvpPkey key(raw);
  if (!ok) return Unsupported(DrainOpenSslErrors());
  return EncodePublicKey(key.get());
}

}  // namespace

absl::StatusOr<UniqueEvpPkey> ParsePublicKey(ByteView spki) {
  UniqueEvpPkey key = ReadPublicKey(spki);
  if (key == nullptr) {
    DrainOpenSslErrors();
    return Unsupported("the public key does not parse");
  }
  const std::string algorithm = PublicKeyAlgorithm(key.get());
  const int bits = EVP_PKEY_get_bits(key.get());
  const bool good = EVP_PKEY_is_a(key.get(), "RSA")
                        ? bits >= 2048 && bits <= 4096
                        : algorithm == "p256" || algorithm == "p384";
  if (!good) {
    return Unsupported(absl::StrCat(
        algorithm, " keys are not supported: RSA 2048-4096, P-256 and P-384"));
  }
  return key;
}

std::string PublicKeyAlgorithm(const EVP_PKEY* key) {
  if (EVP_PKEY_is_a(key, "RSA")) {
    return absl::StrCat("rsa", EVP_PKEY_get_bits(key));
  }
  const std::string group = GroupName(key);
  if (group == "prime256v1") return "p256";
  if (group == "secp384r1") return "p384";
  if (!group.empty()) return group;
  const char* name = EVP_PKEY_get0_type_name(key);
  return name == nullptr ? "unknown" : name;
}

std::string PublicKeyAlgorithm(ByteView spki) {
  const UniqueEvpPkey key = ReadPublicKey(spki);
  if (key != nullptr) return PublicKeyAlgorithm(key.get());
  DrainOpenSslErrors();
  return "unknown";
}

absl::StatusOr<Bytes> BuildRsaPublicKey(ByteView modulus, ByteView exponent) {
  if (modulus.empty() || modulus.size() > 2048 || exponent.empty() ||
      exponent.size() > 2048) {
    return Unsupported("the RSA modulus or exponent is missing");
  }
  const UniqueBigNum n(
      BN_bin2bn(modulus.data(), static_cast<int>(modulus.size()), nullptr));
  const UniqueBigNum e(
      BN_bin2bn(exponent.data(), static_cast<int>(exponent.size()), nullptr));
  const UniqueParamBuilder builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
  const UniqueParams params(OSSL_PARAM_BLD_to_param(builder.get()));
  return BuildPublicKey("RSA", params.get());
}

absl::StatusOr<Bytes> BuildEcPublicKey(ByteView ec_parameters,
                                       ByteView ec_point) {
  if (ec_parameters.size() > kMaxDerSize || ec_point.size() > kMaxDerSize) {
    return Unsupported("the EC parameters are too long");
  }
  const unsigned char* cursor = ec_parameters.data();
  const OpenSslPtr<ASN1_OBJECT, ASN1_OBJECT_free> curve(d2i_ASN1_OBJECT(
      nullptr, &cursor, static_cast<long>(ec_parameters.size())));
  if (curve == nullptr) {
    DrainOpenSslErrors();
    return Unsupported("CKA_EC_PARAMS is not a named curve");
  }
  const char* group = OBJ_nid2sn(OBJ_obj2nid(curve.get()));

  cursor = ec_point.data();
  const UniqueAsn1OctetString wrapped(d2i_ASN1_OCTET_STRING(
      nullptr, &cursor, static_cast<long>(ec_point.size())));
  ByteView point = ec_point;
  if (wrapped != nullptr && cursor == ec_point.data() + ec_point.size()) {
    point = {ASN1_STRING_get0_data(wrapped.get()),
             static_cast<size_t>(ASN1_STRING_length(wrapped.get()))};
  }
  ERR_clear_error();

  const UniqueParamBuilder builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME,
                                  group, 0);
  OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY,
                                   point.data(), point.size());
  const UniqueParams params(OSSL_PARAM_BLD_to_param(builder.get()));
  return BuildPublicKey("EC", params.get());
}

absl::StatusOr<Bytes> CertificatePublicKey(ByteView certificate_der) {
  const auto bad = [](std::string_view message) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_TOKEN,
                     v1::REASON_BAD_CERTIFICATE, message);
  };
  if (certificate_der.size() > kMaxDerSize) {
    return bad("the certificate is too long");
  }
  const unsigned char* cursor = certificate_der.data();
  const UniqueX509 certificate(
      d2i_X509(nullptr, &cursor, static_cast<long>(certificate_der.size())));
  if (certificate == nullptr ||
      cursor != certificate_der.data() + certificate_der.size()) {
    DrainOpenSslErrors();
    return bad("the certificate is not DER X.509");
  }
  unsigned char* der = nullptr;
  const int size =
      i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate.get()), &der);
  const UniqueBuffer owner(der);
  if (size <= 0) return bad(DrainOpenSslErrors());
  return Bytes(der, der + size);
}

size_t DigestSize(SignDigest kind) {
  switch (kind) {
    case SignDigest::kSha1:
      return 20;
    case SignDigest::kSha256:
      return 32;
    case SignDigest::kSha384:
      return 48;
    case SignDigest::kSha512:
      return 64;
  }
  return 0;
}

const char* DigestName(SignDigest kind) {
  switch (kind) {
    case SignDigest::kSha1:
      return "SHA1";
    case SignDigest::kSha256:
      return "SHA2-256";
    case SignDigest::kSha384:
      return "SHA2-384";
    case SignDigest::kSha512:
      return "SHA2-512";
  }
  return "";
}

absl::Status VerifyDigest(EVP_PKEY* public_key, SignMechanism mechanism,
                          SignDigest digest_kind, ByteView digest,
                          ByteView signature) {
  const UniqueEvpMd md(
      EVP_MD_fetch(TokenLibraryContext(), DigestName(digest_kind), nullptr));
  const UniqueEvpPkeyCtx context(EVP_PKEY_CTX_new_from_pkey(
      TokenLibraryContext(), public_key, "provider=default"));
  bool ok = md != nullptr && context != nullptr &&
            EVP_PKEY_verify_init(context.get()) == 1;
  if (ok && mechanism != SignMechanism::kEcdsa) {
    const bool pss = mechanism == SignMechanism::kRsaPss;
    ok = EVP_PKEY_CTX_set_rsa_padding(
             context.get(), pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) ==
             1 &&
         (!pss || EVP_PKEY_CTX_set_rsa_pss_saltlen(
                      context.get(), RSA_PSS_SALTLEN_DIGEST) == 1);
  }
  ok = ok && EVP_PKEY_CTX_set_signature_md(context.get(), md.get()) == 1 &&
       EVP_PKEY_verify(context.get(), signature.data(), signature.size(),
                       digest.data(), digest.size()) == 1;
  if (ok) return absl::OkStatus();
  DrainOpenSslErrors();
  return MakeError(absl::StatusCode::kDataLoss, v1::STAGE_TOKEN,
                   v1::REASON_SELF_VERIFY_FAILED,
                   "the token returned a signature that its public key does "
                   "not verify");
}

absl::Status ProveKey(KeyBackend& key, absl::Time deadline) {
  ASSIGN_OR_RETURN(const UniqueEvpPkey public_key,
                   ParsePublicKey(key.public_key()));
  Bytes digest(DigestSize(SignDigest::kSha256));
  if (RAND_bytes(digest.data(), static_cast<int>(digest.size())) != 1) {
    return MakeError(absl::StatusCode::kInternal, v1::STAGE_TOKEN,
                     v1::REASON_INTERNAL, DrainOpenSslErrors());
  }
  const SignMechanism mechanism = EVP_PKEY_is_a(public_key.get(), "RSA") == 1
                                      ? SignMechanism::kRsaPkcs1
                                      : SignMechanism::kEcdsa;
  ASSIGN_OR_RETURN(const Bytes signature,
                   key.Sign(mechanism, SignDigest::kSha256, digest, deadline));
  absl::Status status = VerifyDigest(public_key.get(), mechanism,
                                     SignDigest::kSha256, digest, signature);
  if (!status.ok()) key.Distrust(status);
  return status;
}

std::string DrainOpenSslErrors() {
  std::string line;
  const char* data = nullptr;
  int flags = 0;
  while (const unsigned long code =
             ERR_get_error_all(nullptr, nullptr, nullptr, &data, &flags)) {
    if (!line.empty()) line += "; ";
    const char* reason = ERR_reason_error_string(code);
    line += reason == nullptr ? absl::StrCat("error ", code) : reason;
    if ((flags & ERR_TXT_STRING) != 0 && *data != '\0') {
      line += absl::StrCat(": ", data);
    }
  }
  return line.empty() ? "OpenSSL gives no reason" : line;
}

}  // namespace codeseal
