// Bare signatures over the text of a log's checkpoint: ECDSA by the log's own
// key, which lives on a token, and Ed25519 by witnesses.
//
//   note text + signature bytes + public key -> [log_signature] -> verdict
//
// Spec: FIPS 186-4 (ECDSA with SHA-256, DER Ecdsa-Sig-Value); RFC 8032.

#ifndef CODESEAL_CODESIGN_CMS_LOG_SIGNATURE_H_
#define CODESEAL_CODESIGN_CMS_LOG_SIGNATURE_H_

#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"

struct evp_pkey_st;

namespace codeseal {

inline constexpr size_t kEd25519PublicKeySize = 32;
inline constexpr size_t kEd25519SignatureSize = 64;

// Whether `spki` is a SubjectPublicKeyInfo (DER, nothing behind it) of an EC
// key on P-256 or P-384.
// Errors: INVALID_ARGUMENT REASON_KEY_UNSUPPORTED.
absl::Status CheckEcPublicKey(ByteView spki);

// Errors of both: FAILED_PRECONDITION REASON_BAD_NOTE_SIGNATURE; for a key that
// is none, INVALID_ARGUMENT REASON_KEY_UNSUPPORTED.
absl::Status CheckEcdsaSha256(ByteView spki, ByteView message,
                              ByteView signature);
absl::Status CheckEd25519(ByteView public_key, ByteView message,
                          ByteView signature);

// A witness's private key: software, on a machine that signs no code.
// Thread-safe; copies share the key.
class Ed25519Key {
 public:
  // The first private key of a PEM text, not encrypted.
  // Errors: INVALID_ARGUMENT REASON_KEY_UNSUPPORTED.
  static absl::StatusOr<Ed25519Key> ParsePem(std::string_view pem);

  const Bytes& public_key() const { return public_key_; }  // 32 bytes
  absl::StatusOr<Bytes> Sign(ByteView message) const;

 private:
  Ed25519Key() = default;

  std::shared_ptr<evp_pkey_st> key_;
  Bytes public_key_;
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CMS_LOG_SIGNATURE_H_
