// Objects on a token, through one session: keys and their attributes,
// signatures, new keys and certificates. In the worker only.

#ifndef CODESEAL_HSM_TOKEN_OBJECTS_H_
#define CODESEAL_HSM_TOKEN_OBJECTS_H_

#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "hsm/pkcs11_module.h"
#include "hsm/token.h"

namespace codeseal {

struct TokenObject {
  CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
  KeyListing key;
};

// Borrows both; one thread at a time.
class TokenObjects {
 public:
  TokenObjects(const Pkcs11Module& module, CK_SESSION_HANDLE session)
      : module_(module), session_(session) {}

  // The private key that `reference` names. With `public_key` (DER
  // SubjectPublicKeyInfo), keys that are known to have another one are left
  // out: a number that a token gives out again never leads to a wrong key.
  // Errors: NOT_FOUND REASON_KEY_NOT_FOUND when none or several fit;
  // TokenError.
  absl::StatusOr<TokenObject> FindKey(const KeyReference& reference,
                                      ByteView public_key) const;

  // What the token says of a private key, with its public half where it shows
  // that.
  absl::StatusOr<KeyListing> ReadKey(CK_OBJECT_HANDLE handle) const;

  // Every private key, and every certificate; without a login, what the token
  // shows to everybody.
  absl::StatusOr<std::vector<KeyListing>> ListKeys() const;
  absl::StatusOr<std::vector<CertificateListing>> ListCertificates() const;

  // As KeyBackend::Sign(), but `digest` may be cut to the curve's size. `login`
  // is called between C_SignInit and C_Sign when it is set.
  absl::StatusOr<Bytes> Sign(CK_OBJECT_HANDLE key, SignMechanism mechanism,
                             SignDigest digest_kind, ByteView digest,
                             const std::function<absl::Status()>& login) const;

  // As Token::GenerateKey(); the session is read-write.
  absl::StatusOr<KeyListing> GenerateKey(const KeyReference& reference,
                                         KeyAlgorithm algorithm) const;

  // As Token::ImportCertificate(); the session is read-write.
  absl::Status ImportCertificate(const KeyReference& reference,
                                 ByteView certificate_der) const;

 private:
  absl::StatusOr<std::vector<CK_OBJECT_HANDLE>> Find(
      std::span<CK_ATTRIBUTE> search) const;
  // Empty when the object does not show the attribute.
  absl::StatusOr<Bytes> Read(CK_OBJECT_HANDLE handle,
                             CK_ATTRIBUTE_TYPE type) const;
  // Several at once: a network HSM answers each call after a round trip. The
  // values in the order of `types`.
  absl::StatusOr<std::vector<Bytes>> ReadAll(
      CK_OBJECT_HANDLE handle, std::span<const CK_ATTRIBUTE_TYPE> types) const;
  // From the private key itself or from the public key or certificate with the
  // same CKA_ID; empty when none shows it.
  absl::StatusOr<Bytes> ReadPublicKey(CK_OBJECT_HANDLE private_key,
                                      const Bytes& id) const;
  absl::StatusOr<Bytes> ReadPublicParts(CK_OBJECT_HANDLE key) const;

  const Pkcs11Module& module_;
  CK_SESSION_HANDLE session_;
};

}  // namespace codeseal

#endif  // CODESEAL_HSM_TOKEN_OBJECTS_H_
