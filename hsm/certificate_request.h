// What a certificate authority wants to see of a key in a token: a certificate
// request signed with it.
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

// PKCS#10, PEM, signed with SHA-256; SHA-384 for P-384. `subject` as in
// certificate_parts.h, "CN=...,O=...".
// Errors: INVALID_ARGUMENT STAGE_USAGE REASON_BAD_OPTION for the subject; those
// of KeyBackend::Sign().
absl::StatusOr<std::string> BuildCertificateRequest(
    std::shared_ptr<KeyBackend> key, std::string_view subject,
    absl::Time deadline);

}  // namespace codeseal

#endif  // CODESEAL_HSM_CERTIFICATE_REQUEST_H_
