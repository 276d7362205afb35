// What a certificate authority wants to see of a key in a token: a certificate
// request signed with it. And, for tests and throw-away worlds, a self-signed
// certificate.
//
//   KeyBackend -> [certificate request] -> CA -> certificate

#ifndef CODESEAL_HSM_CERTIFICATE_REQUEST_H_
#define CODESEAL_HSM_CERTIFICATE_REQUEST_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "hsm/key_backend.h"

namespace codeseal {

// `subject` is "CN=...,O=...,OU=...,C=...": in the order of the certificate, a
// comma or backslash inside a value after a backslash. Names: C CN DC
// emailAddress L O OU ST UID. SHA-256; SHA-384 for P-384.
// Errors: INVALID_ARGUMENT STAGE_USAGE REASON_BAD_OPTION for the subject; those
// of KeyBackend::Sign().

// PKCS#10, PEM.
absl::StatusOr<std::string> BuildCertificateRequest(
    std::shared_ptr<KeyBackend> key, std::string_view subject,
    absl::Time deadline);

// X.509 v3 for code signing, PEM: not a CA, keyUsage digitalSignature,
// extendedKeyUsage codeSigning.
absl::StatusOr<std::string> BuildSelfSignedCertificate(
    std::shared_ptr<KeyBackend> key, std::string_view subject,
    absl::Time not_before, absl::Time not_after, absl::Time deadline);

}  // namespace codeseal

#endif  // CODESEAL_HSM_CERTIFICATE_REQUEST_H_
