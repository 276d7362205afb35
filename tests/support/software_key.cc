#include "tests/support/software_key.h"

#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "hsm/openssl_ptr.h"
#include "hsm/public_key.h"

namespace codeseal::testing {

std::shared_ptr<SoftwareKey> SoftwareKey::Generate(const char* algorithm) {
  EVP_PKEY* key = nullptr;
  if (std::strncmp(algorithm, "rsa", 3) == 0) {
    key = EVP_RSA_gen(static_cast<unsigned>(std::atoi(algorithm + 3)));
  } else if (std::strcmp(algorithm, "p256") == 0) {
    key = EVP_EC_gen("P-256");
  } else if (std::strcmp(algorithm, "p384") == 0) {
    key = EVP_EC_gen("P-384");
  } else {
    key = EVP_EC_gen(algorithm);
  }
  if (key == nullptr) std::abort();
  return std::make_shared<SoftwareKey>(UniqueEvpPkey(key));
}

std::shared_ptr<SoftwareKey> SoftwareKey::Cached(const char* algorithm) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<SoftwareKey>> keys;
  const std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<SoftwareKey>& made = keys[algorithm];
  if (made == nullptr) made = Generate(algorithm);
  EVP_PKEY_up_ref(made->key());
  return std::make_shared<SoftwareKey>(UniqueEvpPkey(made->key()));
}

SoftwareKey::SoftwareKey(UniqueEvpPkey key) : key_(std::move(key)) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key_.get(), &der);
  const UniqueBuffer owner(der);
  if (size <= 0) std::abort();
  public_key_.assign(der, der + size);
}

absl::StatusOr<Bytes> SoftwareKey::Sign(SignMechanism mechanism,
                                        SignDigest digest_kind, ByteView digest,
                                        absl::Time deadline) {
  ++sign_count_;
  std::function<void()> delay;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    last_deadline_ = deadline;
    if (!failure_.ok()) return failure_;
    delay = delay_;
  }
  if (delay) delay();
  const UniqueEvpPkeyCtx context(
      EVP_PKEY_CTX_new_from_pkey(nullptr, key_.get(), nullptr));
  const UniqueEvpMd md(EVP_MD_fetch(nullptr, DigestName(digest_kind), nullptr));
  Bytes signature(static_cast<size_t>(EVP_PKEY_get_size(key_.get())));
  size_t size = signature.size();
  bool ok = EVP_PKEY_sign_init(context.get()) == 1;
  if (mechanism == SignMechanism::kRsaPss) {
    ok = ok &&
         EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_PSS_PADDING) ==
             1 &&
         EVP_PKEY_CTX_set_rsa_pss_saltlen(context.get(),
                                          RSA_PSS_SALTLEN_DIGEST) == 1;
  }
  ok = ok && EVP_PKEY_CTX_set_signature_md(context.get(), md.get()) == 1 &&
       EVP_PKEY_sign(context.get(), signature.data(), &size, digest.data(),
                     digest.size()) == 1;
  if (!ok) return absl::InternalError(DrainOpenSslErrors());
  signature.resize(size);
  return signature;
}

void SoftwareKey::SetDelay(std::function<void()> delay) {
  const std::lock_guard<std::mutex> lock(mutex_);
  delay_ = std::move(delay);
}

void SoftwareKey::Fail(absl::Status status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  failure_ = std::move(status);
}

absl::Time SoftwareKey::last_deadline() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return last_deadline_;
}

}  // namespace codeseal::testing
