// X.509 certificates as code signing sees them: Apple's marker extensions, the
// Team ID, the chain from leaf to root.
//
//   PEM or DER -> [Certificate] -> chain -> CMS, requirements, Team ID
//
// Spec: RFC 5280; facts of Apple's Security project, requirement language
//       "certificate" terms; marker OIDs under 1.2.840.113635.100.6.

#ifndef CODESEAL_CODESIGN_CMS_CERTIFICATE_H_
#define CODESEAL_CODESIGN_CMS_CERTIFICATE_H_

#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"

struct x509_st;

namespace codeseal {

// Immutable; copies share the parsed object. Thread-compatible.
class Certificate {
 public:
  // One certificate and nothing behind it.
  // Errors: INVALID_ARGUMENT REASON_BAD_CERTIFICATE.
  static absl::StatusOr<Certificate> Parse(ByteView der);
  // One that OpenSSL has parsed already, and shares: parsing a public key takes
  // longer than verifying with it. Errors: as above.
  static absl::StatusOr<Certificate> Share(x509_st* x509);
  // Every CERTIFICATE block of a PEM text, in its order; at least one. Other
  // blocks and text between them are ignored.
  static absl::StatusOr<std::vector<Certificate>> ParsePem(
      std::string_view pem);

  ByteView der() const { return object_->der; }  // as given to Parse()
  std::string Pem() const;
  Bytes Sha1() const;                  // of der()
  Bytes Sha256() const;                // of der()
  Bytes SubjectPublicKeyInfo() const;  // DER
  Bytes SerialNumber() const;          // content octets of the INTEGER
  Bytes IssuerName() const;            // DER
  Bytes SubjectName() const;           // DER

  // Whether the first private key of a PEM text (not encrypted) is this
  // certificate's, as TLS needs it.
  // Errors: INVALID_ARGUMENT REASON_BAD_CERTIFICATE.
  absl::Status CheckPrivateKeyPem(std::string_view pem) const;

  // Values of a subject attribute in encoded order, as UTF-8. `name` is one of
  // the requirement language's: C CN D L O OU ST STREET UID. Empty for any
  // other name.
  std::vector<std::string> SubjectValues(std::string_view name) const;
  std::string CommonName() const;  // empty when there is none

  bool HasExtension(std::string_view dotted_oid) const;
  // The octets inside extnValue; nullopt when the extension is absent.
  std::optional<Bytes> ExtensionValue(std::string_view dotted_oid) const;
  // True when certificatePolicies is present and lists the policy.
  bool HasPolicy(std::string_view dotted_oid) const;
  // True when extendedKeyUsage is present and lists the purpose.
  bool HasExtendedKeyUsage(std::string_view dotted_oid) const;
  // What Apple's code signing policy asks of a leaf: extendedKeyUsage with
  // codeSigning; keyUsage, if present, with digitalSignature or
  // nonRepudiation.
  bool IsSuitableForCodeSigning() const;
  // What it asks of who signs an installer package: extendedKeyUsage with the
  // purpose of Developer ID Installer or of the Mac App Store's; keyUsage as
  // above.
  bool IsSuitableForPackageSigning() const;
  absl::Time not_before() const;
  absl::Time not_after() const;
  // Subject equals issuer and the signature verifies with its own key.
  bool IsSelfSigned() const;
  // `issuer`'s subject equals this issuer and its key verifies the signature.
  // Whether `issuer` may issue certificates is not checked.
  bool IsIssuedBy(const Certificate& issuer) const;
  // "rsa2048", "p256", "p384"; the OpenSSL name otherwise.
  std::string KeyAlgorithm() const;

  x509_st* x509() const { return object_->x509.get(); }  // borrowed

  friend bool operator==(const Certificate& a, const Certificate& b) {
    return a.object_->der == b.object_->der;
  }

 private:
  struct Object {
    std::shared_ptr<x509_st> x509;
    Bytes der;
    // A root is asked with every chain that ends in it.
    std::once_flag verified;
    bool is_self_signed = false;
  };

  Certificate() = default;
  static absl::StatusOr<Certificate> Make(std::shared_ptr<x509_st> x509,
                                          Bytes der);

  std::shared_ptr<Object> object_;
};

// The chain leaf, issuer, ..., self-signed root, from certificates in any
// order; `leaf` may be among them. Every issuer in it is a CA certificate. When
// several fit, a self-signed one is taken. Validity dates and revocation are
// not checked.
// Errors: FAILED_PRECONDITION REASON_INCOMPLETE_CHAIN that names the issuer
// that is missing.
absl::StatusOr<std::vector<Certificate>> BuildChain(
    const Certificate& leaf, std::span<const Certificate> candidates);

// Whether the SHA-256 is that of Apple Root CA, G2 or G3.
bool IsAppleRoot(const Certificate& certificate);

// Whether the chain ends in an Apple root and its leaf carries the marker of a
// developer certificate: the chains that have a Team ID. `chain` is leaf first,
// root last, as BuildChain() makes it.
bool IsAppleDeveloperChain(std::span<const Certificate> chain);

// The Team ID of an Apple-issued leaf (its first OU); nullopt for every other
// chain. `chain` is leaf first, root last.
std::optional<std::string> TeamIdentifier(std::span<const Certificate> chain);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CMS_CERTIFICATE_H_
