// Code-signing certificates without a public authority: self-signed ones, and
// those of a root whose key is on a token.
//
//   KeyBackend -> root certificate
//   request or key -> [IssueCodeSigningCertificate] -> leaf -> chain of code
//
// Spec: RFC 5280. What Apple's code signing policy asks of a leaf is in
//       codesign/cms/certificate.h; these carry it as critical extensions, and
//       no other purpose.

#ifndef CODESEAL_HSM_CERTIFICATE_ISSUER_H_
#define CODESEAL_HSM_CERTIFICATE_ISSUER_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "hsm/key_backend.h"

namespace codeseal {

// Each function below returns X.509 v3, PEM, with a serial number of 128 random
// bits, signed with SHA-256, or SHA-384 for P-384 keys. Subjects are written as
// in certificate_parts.h, "CN=...,O=...".
// Errors of all: INVALID_ARGUMENT STAGE_USAGE REASON_BAD_OPTION for a subject
// or time that cannot be; those of KeyBackend::Sign().

// A leaf that is its own root.
absl::StatusOr<std::string> BuildSelfSignedCertificate(
    std::shared_ptr<KeyBackend> key, std::string_view subject,
    absl::Time not_before, absl::Time not_after, absl::Time deadline);

// A certificate authority that issues leaves only: basicConstraints CA with
// path length 0, keyUsage keyCertSign and cRLSign.
absl::StatusOr<std::string> BuildRootCertificate(
    std::shared_ptr<KeyBackend> key, std::string_view subject,
    absl::Time not_before, absl::Time not_after, absl::Time deadline);

// Whom a certificate is for.
struct CertificateApplicant {
  Bytes subject;     // DER Name
  Bytes public_key;  // DER SubjectPublicKeyInfo
};

absl::StatusOr<CertificateApplicant> DescribeApplicant(std::string_view subject,
                                                       ByteView public_key);

// The applicant of a PKCS#10 request (PEM). Its signature must verify; the
// extensions that it asks for are ignored.
// Errors: INVALID_ARGUMENT REASON_BAD_CERTIFICATE; REASON_KEY_UNSUPPORTED.
absl::StatusOr<CertificateApplicant> ReadCertificateRequest(
    std::string_view pem);

// A code-signing leaf. `root` (DER) is the authority's certificate and `key`
// its key; the result is checked with the certificate's public key.
// Errors: REASON_BAD_CERTIFICATE when `root` is no authority or the applicant
// has no common name; REASON_BAD_OPTION when the leaf would outlive the root,
// or the applicant is the root itself; REASON_KEY_MISMATCH when `key` is not
// the root's.
absl::StatusOr<std::string> IssueCodeSigningCertificate(
    std::shared_ptr<KeyBackend> key, ByteView root,
    const CertificateApplicant& applicant, absl::Time not_before,
    absl::Time not_after, absl::Time deadline);

}  // namespace codeseal

#endif  // CODESEAL_HSM_CERTIFICATE_ISSUER_H_
