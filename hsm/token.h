// A PKCS#11 token behind a supervised worker process. The vendor module is
// loaded only there: its calls cannot be cancelled, so each request has a
// deadline, and a worker that hangs or dies is replaced.
//
//   Token (this process) -- socketpair --> worker process --> PKCS#11 module
//
// Spec: PKCS#11 v2.40; RFC 7512 for URIs.

#ifndef CODESEAL_HSM_TOKEN_H_
#define CODESEAL_HSM_TOKEN_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "hsm/key_backend.h"

namespace codeseal {

enum class KeyPolicy : uint8_t {
  kStrict,           // generated inside the token, never extractable
  kImportedAllowed,  // still sensitive and not extractable now
};

struct TokenConfig {
  std::string name;    // in logs and errors
  std::string module;  // path of the PKCS#11 shared object
  std::string label;   // CK_TOKEN_INFO.label; empty: `serials` decide
  // The first of them that is there; empty: any. A cluster has several.
  std::vector<std::string> serials;
  // Where the worker reads the PIN: "file:/path" or "credential:NAME" (a file
  // under $CREDENTIALS_DIRECTORY). Never the PIN itself.
  std::string pin_source;
  std::string init_args;  // C_Initialize pReserved string (NSS softokn)
  uint32_t session_count = 4;
  absl::Duration operation_timeout = absl::Seconds(5);
  // The module is not thread-safe: one call at a time, all on one thread.
  bool serialize = false;
  // How often an idle token has to prove itself with a test signature.
  absl::Duration idle_ping = absl::Seconds(20);
  // Where it is remembered that the token refused a PIN; shared by all programs
  // that use the token. Empty: forgotten when this program ends.
  std::string state_folder;
  // C_Initialize without CKF_OS_LOCKING_OK, for modules that fail with it; one
  // call at a time then.
  bool no_os_locking = false;
  // Every signature wants the PIN, though the module does not show it in
  // CKA_ALWAYS_AUTHENTICATE.
  bool pin_per_signature = false;
  // Program started as "<path> token-worker <fd>"; empty: this very program.
  std::string worker_path;
};

// Which key: every given field must match; at least one is given.
struct KeyReference {
  Bytes id;           // CKA_ID
  std::string label;  // CKA_LABEL
};

enum class KeyAlgorithm : uint8_t {
  kRsa2048,
  kRsa3072,
  kRsa4096,
  kP256,
  kP384
};

// What the module says of a private key.
struct KeyAttributes {
  bool sensitive = false;
  bool always_sensitive = false;
  bool extractable = true;
  bool never_extractable = false;
  bool local = false;
  bool sign = false;
  bool decrypt = false;
  bool unwrap = false;
  bool always_authenticate = false;
};

struct KeyListing {
  Bytes id;
  std::string label;
  std::string algorithm;  // "rsa2048", "p256"
  KeyAttributes attributes;
  Bytes public_key;  // SubjectPublicKeyInfo DER; empty when not readable
};

struct CertificateListing {
  Bytes id;
  std::string label;
  Bytes der;
};

struct TokenListing {
  std::string label;
  std::string serial;
  std::string manufacturer;
  std::string model;
  std::vector<KeyListing> keys;
  std::vector<CertificateListing> certificates;
};

// Thread-safe. Calls never block past their deadline. Destruction drains what
// is in flight, then ends the worker.
class Token {
 public:
  // Checks the configuration only; the worker starts with the first call.
  static absl::StatusOr<std::shared_ptr<Token>> Create(TokenConfig config);
  virtual ~Token() = default;

  // Finds the key, checks its attributes against `policy` and, when
  // `certificate_der` is not empty, that the certificate holds its public key.
  // The result keeps working across worker restarts: the key is found again by
  // id, label and public key, and the first signature of each new worker is
  // verified before it is used.
  // Errors: NOT_FOUND REASON_KEY_NOT_FOUND; FAILED_PRECONDITION
  // REASON_KEY_POLICY, REASON_KEY_MISMATCH, REASON_PIN_REJECTED,
  // REASON_PIN_HOLD; UNAVAILABLE REASON_TOKEN_DOWN; DEADLINE_EXCEEDED
  // REASON_TOKEN_TIMEOUT.
  virtual absl::StatusOr<std::shared_ptr<KeyBackend>> LoadKey(
      const KeyReference& key, KeyPolicy policy, ByteView certificate_der,
      absl::Time deadline) = 0;

  // Everything on the token. Without a PIN source, public objects only.
  virtual absl::StatusOr<TokenListing> List(absl::Time deadline) = 0;

  // Makes a real test signature with the key; OK when it verifies.
  virtual absl::Status Probe(const KeyReference& key, absl::Time deadline) = 0;

  // Generates a key pair inside the token: sensitive, not extractable, for
  // signing only. Refuses an id or label in use (ALREADY_EXISTS
  // REASON_KEY_EXISTS). Returns its SubjectPublicKeyInfo.
  virtual absl::StatusOr<Bytes> GenerateKey(const KeyReference& key,
                                            KeyAlgorithm algorithm,
                                            absl::Time deadline) = 0;

  // Stores a certificate beside the key that it belongs to. Errors:
  // REASON_KEY_MISMATCH when the key has another public key.
  virtual absl::Status ImportCertificate(const KeyReference& key,
                                         ByteView certificate_der,
                                         absl::Time deadline) = 0;

  // Forgets that the token refused a PIN or that a login was interrupted: the
  // PIN is sent again, once. The only way on, for operators who have looked at
  // the token. Its own flags (locked, final try) still hold.
  virtual absl::Status ClearPinHold(absl::Time deadline) = 0;

  virtual const TokenConfig& config() const = 0;
};

// What main() calls when argv[1] is "token-worker": serves the socket `fd`
// until it closes. Returns the exit status.
int RunTokenWorker(int fd);

}  // namespace codeseal

#endif  // CODESEAL_HSM_TOKEN_H_
