// What certificate requests and certificates are made of: names, extensions,
// the digest that fits a key, and OpenSSL's faults as a Status.

#ifndef CODESEAL_HSM_CERTIFICATE_PARTS_H_
#define CODESEAL_HSM_CERTIFICATE_PARTS_H_

#include <openssl/evp.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hsm/openssl_ptr.h"
#include "hsm/provider.h"

namespace codeseal {

// "CN=...,O=...,OU=...,C=...": in the order of the certificate, a comma or
// backslash inside a value after a backslash. Names: C CN DC emailAddress L O
// OU ST UID.
// Errors: INVALID_ARGUMENT STAGE_USAGE REASON_BAD_OPTION.
absl::StatusOr<UniqueX509Name> ParseSubject(std::string_view subject);

// SHA-256; SHA-384 for P-384.
const EVP_MD* DigestFor(const EVP_PKEY* key);

// INTERNAL with OpenSSL's own words; empties its queue.
absl::Status OpenSslError(std::string_view what);

// The same after a failed signature, or the token's Status when it was the
// token that failed.
absl::Status SignError(const SignScope& scope, std::string_view what);

// Everything that was written to a memory BIO.
std::string ReadAll(BIO* bio);

}  // namespace codeseal

#endif  // CODESEAL_HSM_CERTIFICATE_PARTS_H_
