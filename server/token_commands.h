// `codeseald token ...` and `codeseald key ...`: a thin shell over hsm/ for the
// people who look after tokens. No command exports a private key.

#ifndef CODESEAL_SERVER_TOKEN_COMMANDS_H_
#define CODESEAL_SERVER_TOKEN_COMMANDS_H_

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hsm/attestation.h"
#include "hsm/token.h"
#include "server/opened_token.h"

namespace codeseal {

// All print to `out` what was asked for, and nothing when they fail.
// Errors: those of hsm/token.h; INVALID_ARGUMENT STAGE_USAGE REASON_USAGE.

// The token with its keys and certificates, attributes included.
absl::Status ListToken(const TokenArguments& arguments, std::ostream& out);

// A real test signature with the key that is named, or, with a configuration
// alone, with the key of every active and staged identity version. Prints a
// line for each and returns the first fault.
absl::Status ProbeToken(const TokenArguments& arguments, std::ostream& out);

// Forgets that the token refused a PIN; a running server that has the same
// configuration goes on within a second.
absl::Status ClearPinHold(const TokenArguments& arguments, std::ostream& out);

// "rsa2048", "rsa3072", "rsa4096", "p256" or "p384". Prints the public key,
// PEM.
absl::Status GenerateKey(const TokenArguments& arguments,
                         const std::string& algorithm, std::ostream& out);

// Prints a PKCS#10 request, PEM.
absl::Status RequestCertificate(const TokenArguments& arguments,
                                const std::string& subject, std::ostream& out);

// Makes a code-signing certificate that the key signs itself, stores it beside
// the key and prints it, PEM.
absl::Status SelfSign(const TokenArguments& arguments,
                      const std::string& subject, uint32_t days,
                      std::ostream& out);

// Stores the first certificate of the PEM file beside its key.
absl::Status ImportCertificate(const TokenArguments& arguments,
                               const std::string& certificate_path,
                               std::ostream& out);

// "p256" and its like; nullopt for an unknown word.
std::optional<KeyAlgorithm> ParseKeyAlgorithm(std::string_view word);

// The vendor's word about a key, all paths PEM files: `attestation` may be
// empty, then the token must store it; so may `intermediates`.
// Errors: those of hsm/attestation.h and of files.
absl::StatusOr<KeyAttestation> AttestKey(Token& token, ByteView public_key,
                                         const std::string& attestation,
                                         const std::string& intermediates,
                                         const std::string& vendor_roots);

struct AttestArguments {
  TokenArguments key;
  std::string attestation;
  std::string intermediates;
  std::string vendor_roots;
};

// Checks the attestation and prints its chain, PEM, after lines that say what
// it says.
absl::Status AttestKey(const AttestArguments& arguments, std::ostream& out);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_TOKEN_COMMANDS_H_
