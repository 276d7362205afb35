// One private key, wherever it lives. The OpenSSL provider signs through it.

#ifndef CODESEAL_HSM_KEY_BACKEND_H_
#define CODESEAL_HSM_KEY_BACKEND_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"

namespace codeseal {

// How the token is asked to sign a digest.
enum class SignMechanism : uint8_t {
  kRsaPkcs1 = 1,  // CKM_RSA_PKCS over a DigestInfo
  kRsaPss = 2,    // CKM_RSA_PKCS_PSS, salt as long as the digest
  kEcdsa = 3,     // CKM_ECDSA
};

enum class SignDigest : uint8_t {
  kSha1 = 1,
  kSha256 = 2,
  kSha384 = 3,
  kSha512 = 4
};

// Thread-safe.
class KeyBackend {
 public:
  virtual ~KeyBackend() = default;

  // SubjectPublicKeyInfo, DER. Constant over the object's life.
  virtual ByteView public_key() const = 0;

  // Signs an already computed digest. The result is what X.509 and CMS carry:
  // the RSA block, or the DER ECDSA-Sig-Value.
  // Errors: STAGE_TOKEN; UNAVAILABLE may be tried again, FAILED_PRECONDITION
  // may not; DEADLINE_EXCEEDED when `deadline` passed.
  virtual absl::StatusOr<Bytes> Sign(SignMechanism mechanism,
                                     SignDigest digest_kind, ByteView digest,
                                     absl::Time deadline) = 0;

  // Somebody found that a signature of this key does not verify, and says so
  // with `why`: whoever made it must not be believed until it has proven itself
  // anew.
  virtual void Distrust(const absl::Status& /*why*/) {}
};

}  // namespace codeseal

#endif  // CODESEAL_HSM_KEY_BACKEND_H_
