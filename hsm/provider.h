// A key on a token as an EVP_PKEY. A built-in OpenSSL 3 provider, loaded in a
// private library context, sends private operations to a KeyBackend and leaves
// everything public to OpenSSL's default provider.

#ifndef CODESEAL_HSM_PROVIDER_H_
#define CODESEAL_HSM_PROVIDER_H_

#include <openssl/evp.h>
#include <openssl/types.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "hsm/key_backend.h"

namespace codeseal {

struct EvpPkeyDeleter {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using UniqueEvpPkey = std::unique_ptr<EVP_PKEY, EvpPkeyDeleter>;

// The private library context with `default` and `codeseal` loaded; made on
// first use, lives until the process ends. Never the default context, which
// gRPC shares.
OSSL_LIB_CTX* TokenLibraryContext();

// An EVP_PKEY that signs through `backend`. RSA 2048-4096, EC P-256 and P-384;
// its private half cannot be exported. Verification needs a public key in the
// default provider instead.
// Errors: INVALID_ARGUMENT REASON_KEY_UNSUPPORTED.
absl::StatusOr<UniqueEvpPkey> MakeTokenPkey(
    std::shared_ptr<KeyBackend> backend);

// Sets the deadline of every provider signature that the calling thread makes
// while the object lives, and keeps the Status of the last one that failed:
// OpenSSL itself reports only "sign failed".
class SignScope {
 public:
  explicit SignScope(absl::Time deadline);
  ~SignScope();
  SignScope(const SignScope&) = delete;
  SignScope& operator=(const SignScope&) = delete;

  const absl::Status& token_status() const { return token_status_; }

 private:
  friend struct SignScopeAccess;  // the provider
  absl::Time deadline_;
  absl::Status token_status_;
  SignScope* outer_;
};

}  // namespace codeseal

#endif  // CODESEAL_HSM_PROVIDER_H_
