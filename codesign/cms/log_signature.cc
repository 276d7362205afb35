#include "codesign/cms/log_signature.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <string>

#include "codesign/base/error.h"
#include "codesign/cms/openssl.h"

namespace codeseal {
namespace {

absl::Status Unsupported(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_AUDIT,
                   v1::REASON_KEY_UNSUPPORTED, DrainOpenSslErrors(message));
}

absl::StatusOr<EvpPkeyPtr> ParseEcKey(ByteView spki) {
  const unsigned char* at = spki.data();
  EvpPkeyPtr key(d2i_PUBKEY(nullptr, &at, static_cast<long>(spki.size())));
  if (key == nullptr || at != spki.data() + spki.size()) {
    return Unsupported("the log's key is no SubjectPublicKeyInfo");
  }
  char group[64] = "";
  size_t size = 0;
  if (EVP_PKEY_is_a(key.get(), "EC") == 1 &&
      EVP_PKEY_get_group_name(key.get(), group, sizeof group, &size) == 1) {
    const std::string name(group, size);
    if (name == "prime256v1" || name == "secp384r1") return key;
  }
  return Unsupported("checkpoints are signed with EC keys on P-256 or P-384");
}

// `digest` is nullptr for algorithms that hash by themselves.
absl::Status CheckWith(EVP_PKEY* key, const EVP_MD* digest, ByteView message,
                       ByteView signature) {
  const EvpMdContextPtr context(EVP_MD_CTX_new());
  if (context != nullptr && key != nullptr &&
      EVP_DigestVerifyInit(context.get(), nullptr, digest, nullptr, key) == 1 &&
      EVP_DigestVerify(context.get(), signature.data(), signature.size(),
                       message.data(), message.size()) == 1) {
    return absl::OkStatus();
  }
  DrainOpenSslErrors("");
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_AUDIT,
                   v1::REASON_BAD_NOTE_SIGNATURE,
                   "the signature does not verify with its key");
}

}  // namespace

absl::Status CheckEcPublicKey(ByteView spki) {
  return ParseEcKey(spki).status();
}

absl::Status CheckEcdsaSha256(ByteView spki, ByteView message,
                              ByteView signature) {
  ASSIGN_OR_RETURN(const EvpPkeyPtr key, ParseEcKey(spki));
  return CheckWith(key.get(), EVP_sha256(), message, signature);
}

absl::Status CheckEd25519(ByteView public_key, ByteView message,
                          ByteView signature) {
  const EvpPkeyPtr key(EVP_PKEY_new_raw_public_key(
      EVP_PKEY_ED25519, nullptr, public_key.data(), public_key.size()));
  if (key == nullptr) {
    return Unsupported("an Ed25519 public key has 32 bytes");
  }
  return CheckWith(key.get(), nullptr, message, signature);
}

absl::StatusOr<Ed25519Key> Ed25519Key::ParsePem(std::string_view pem) {
  const BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  // No passphrase is ever asked for.
  const auto no_passphrase = [](char*, int, int, void*) { return -1; };
  Ed25519Key parsed;
  parsed.key_ = std::shared_ptr<evp_pkey_st>(
      bio == nullptr
          ? nullptr
          : PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr),
      EVP_PKEY_free);
  Bytes public_key(kEd25519PublicKeySize);
  size_t size = public_key.size();
  if (parsed.key_ == nullptr ||
      EVP_PKEY_is_a(parsed.key_.get(), "ED25519") != 1 ||
      EVP_PKEY_get_raw_public_key(parsed.key_.get(), public_key.data(),
                                  &size) != 1 ||
      size != public_key.size()) {
    return Unsupported(
        "want an Ed25519 private key, PEM, as `openssl genpkey -algorithm "
        "ed25519` makes it");
  }
  parsed.public_key_ = std::move(public_key);
  DrainOpenSslErrors("");
  return parsed;
}

absl::StatusOr<Bytes> Ed25519Key::Sign(ByteView message) const {
  const EvpMdContextPtr context(EVP_MD_CTX_new());
  Bytes signature(kEd25519SignatureSize);
  size_t size = signature.size();
  if (context == nullptr ||
      EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr,
                         key_.get()) != 1 ||
      EVP_DigestSign(context.get(), signature.data(), &size, message.data(),
                     message.size()) != 1 ||
      size != signature.size()) {
    return MakeError(absl::StatusCode::kInternal, v1::STAGE_AUDIT,
                     v1::REASON_INTERNAL,
                     DrainOpenSslErrors("the key did not sign"));
  }
  return signature;
}

}  // namespace codeseal
