// The public half of a token key: parsed for OpenSSL's default provider, named,
// compared, and used to check what the token signed.
//
//   SubjectPublicKeyInfo -> [EVP_PKEY] -> verification of a fresh signature

#ifndef CODESEAL_HSM_PUBLIC_KEY_H_
#define CODESEAL_HSM_PUBLIC_KEY_H_

#include <openssl/evp.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "hsm/key_backend.h"
#include "hsm/provider.h"

namespace codeseal {

// Parses a SubjectPublicKeyInfo (DER, nothing behind it) in the private library
// context. Only what codeseal signs with: RSA of 2048 to 4096 bits, EC on P-256
// and P-384.
// Errors: INVALID_ARGUMENT STAGE_TOKEN REASON_KEY_UNSUPPORTED.
absl::StatusOr<UniqueEvpPkey> ParsePublicKey(ByteView spki);

// "rsa2048", "p256", "p384"; for keys that ParsePublicKey() refuses, OpenSSL's
// own name of the type.
std::string PublicKeyAlgorithm(const EVP_PKEY* key);
// The same for a SubjectPublicKeyInfo; "unknown" when it does not parse.
std::string PublicKeyAlgorithm(ByteView spki);

// DER SubjectPublicKeyInfo of the raw parts that PKCS#11 keeps, big-endian.
// Any size of RSA key, any named curve: listings show more than we sign with.
// Errors: INVALID_ARGUMENT STAGE_TOKEN REASON_KEY_UNSUPPORTED.
absl::StatusOr<Bytes> BuildRsaPublicKey(ByteView modulus, ByteView exponent);
// `ec_parameters` is CKA_EC_PARAMS (DER), `ec_point` CKA_EC_POINT: the DER
// OCTET STRING of the standard, or the bare point that some modules return.
absl::StatusOr<Bytes> BuildEcPublicKey(ByteView ec_parameters,
                                       ByteView ec_point);

// The public key of a certificate (DER), as SubjectPublicKeyInfo.
// Errors: INVALID_ARGUMENT STAGE_TOKEN REASON_BAD_CERTIFICATE.
absl::StatusOr<Bytes> CertificatePublicKey(ByteView certificate_der);

// Bytes of a digest.
size_t DigestSize(SignDigest kind);
// OpenSSL's name of a digest, "SHA2-256".
const char* DigestName(SignDigest kind);

// Checks that `signature`, as KeyBackend::Sign() returns it, signs `digest`.
// Errors: DATA_LOSS STAGE_TOKEN REASON_SELF_VERIFY_FAILED.
absl::Status VerifyDigest(EVP_PKEY* public_key, SignMechanism mechanism,
                          SignDigest digest_kind, ByteView digest,
                          ByteView signature);

// Has the key sign something random, in the way certificates are signed, and
// checks it. A key that fails the check is told with Distrust().
// Errors: those of KeyBackend::Sign() and VerifyDigest().
absl::Status ProveKey(KeyBackend& key, absl::Time deadline);

// What OpenSSL's error queue of this thread says, oldest first, as one line;
// empties the queue.
std::string DrainOpenSslErrors();

}  // namespace codeseal

#endif  // CODESEAL_HSM_PUBLIC_KEY_H_
