// `codeseald token ...` and `codeseald key ...`: a thin shell over hsm/ for the
// people who look after tokens. No command exports a private key.

#ifndef CODESEAL_SERVER_TOKEN_COMMANDS_H_
#define CODESEAL_SERVER_TOKEN_COMMANDS_H_

#include <ostream>
#include <string>

#include "absl/status/status.h"

namespace codeseal {

// Which token, and which key on it: by URI, or by the name that a token has in
// a configuration file.
struct TokenArguments {
  std::string uri;     // RFC 7512
  std::string config;  // path of the configuration
  std::string token;   // name under `tokens`
  std::string id;     // of the key, hexadecimal; beside or instead of the URI's
  std::string label;  // of the key
  bool json = false;  // for list and probe
};

// All print to `out` what was asked for, and nothing when they fail.
// Errors: those of hsm/token.h; INVALID_ARGUMENT STAGE_USAGE REASON_USAGE.

// The token with its keys and certificates, attributes included.
absl::Status ListToken(const TokenArguments& arguments, std::ostream& out);

// A real test signature with the key that is named, or, with a configuration
// alone, with the key of every active and staged identity version. Prints a
// line for each and returns the first fault.
absl::Status ProbeToken(const TokenArguments& arguments, std::ostream& out);

// "rsa2048", "rsa3072", "rsa4096", "p256" or "p384". Prints the public key,
// PEM.
absl::Status GenerateKey(const TokenArguments& arguments,
                         const std::string& algorithm, std::ostream& out);

// Prints a PKCS#10 request, PEM.
absl::Status RequestCertificate(const TokenArguments& arguments,
                                const std::string& subject, std::ostream& out);

// Stores the first certificate of the PEM file beside its key.
absl::Status ImportCertificate(const TokenArguments& arguments,
                               const std::string& certificate_path,
                               std::ostream& out);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_TOKEN_COMMANDS_H_
