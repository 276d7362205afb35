// Which token and key an administrator's command is about, and how long it
// waits for them.
//
//   --token-uri, --config, --id, ... -> [OpenKey] -> hsm/token.h

#ifndef CODESEAL_SERVER_OPENED_TOKEN_H_
#define CODESEAL_SERVER_OPENED_TOKEN_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/cms/certificate.h"
#include "hsm/token.h"

namespace codeseal {

// Which token, and which key on it: by URI, or by the name that a token has in
// a configuration file.
struct TokenArguments {
  std::string uri;     // RFC 7512
  std::string config;  // path of the configuration
  std::string token;   // name under `tokens`
  std::string id;     // of the key, hexadecimal; beside or instead of the URI's
  std::string label;  // of the key
  bool json = false;  // for commands that list
};

struct OpenedToken {
  std::shared_ptr<Token> token;
  KeyReference key;
};

// Errors of both: INVALID_ARGUMENT STAGE_USAGE REASON_USAGE; those of
// Token::Create().
absl::StatusOr<OpenedToken> OpenToken(const TokenArguments& arguments);
// The same; the arguments must name a key, which is not looked for yet.
absl::StatusOr<OpenedToken> OpenKey(const TokenArguments& arguments);

// The certificates of a PEM file that an argument names.
// Errors: those of MappedFile; Certificate::ParsePem()'s, with the file as
// subject.
absl::StatusOr<std::vector<Certificate>> ReadCertificates(
    const std::string& path);

absl::Status UsageError(const std::string& message);

// For one call to the token, from now.
absl::Time TokenDeadline();

}  // namespace codeseal

#endif  // CODESEAL_SERVER_OPENED_TOKEN_H_
