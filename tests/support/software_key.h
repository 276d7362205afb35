// A KeyBackend over an ordinary OpenSSL key in memory: what a token does, for
// tests that need no token.

#ifndef CODESEAL_TESTS_SUPPORT_SOFTWARE_KEY_H_
#define CODESEAL_TESTS_SUPPORT_SOFTWARE_KEY_H_

#include <openssl/evp.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "hsm/key_backend.h"
#include "hsm/provider.h"

namespace codeseal::testing {

// Thread-safe.
class SoftwareKey : public KeyBackend {
 public:
  // A new key: "rsa2048", "p256", "p384", ...; aborts on an unknown name.
  static std::shared_ptr<SoftwareKey> Generate(const char* algorithm);
  // A backend of its own over a key of this algorithm that is made only once in
  // a process: RSA keys take long.
  static std::shared_ptr<SoftwareKey> Cached(const char* algorithm);
  explicit SoftwareKey(UniqueEvpPkey key);

  ByteView public_key() const override { return public_key_; }
  absl::StatusOr<Bytes> Sign(SignMechanism mechanism, SignDigest digest_kind,
                             ByteView digest, absl::Time deadline) override;

  // Every Sign() from now on waits for this first.
  void SetDelay(std::function<void()> delay);
  // Every Sign() from now on returns this, unless it is OK.
  void Fail(absl::Status status);

  int sign_count() const { return sign_count_; }
  absl::Time last_deadline() const;
  EVP_PKEY* key() const { return key_.get(); }  // borrowed, with private half

 private:
  UniqueEvpPkey key_;
  Bytes public_key_;
  std::atomic<int> sign_count_ = 0;
  mutable std::mutex mutex_;
  absl::Status failure_;
  std::function<void()> delay_;
  absl::Time last_deadline_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_SOFTWARE_KEY_H_
