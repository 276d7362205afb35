// A token and a key on it by one line of text, as other PKCS#11 tools write it:
//   pkcs11:token=release;object=developer-id
//     ?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin
//
// Spec: RFC 7512. Used: token, serial, id, object, type=private, module-path,
//       pin-source. Refused: pin-value (it would show in process lists), a
//       pin-source that runs a program, and every other attribute of the path,
//       because ignoring one could mean another key than was asked for.

#ifndef CODESEAL_HSM_TOKEN_URI_H_
#define CODESEAL_HSM_TOKEN_URI_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "hsm/token.h"

namespace codeseal {

struct TokenUri {
  TokenConfig config;  // as Token::Create() takes it; module may be empty
  KeyReference key;    // empty when the URI names a token only
};

// A pin-source is "file:/path", "/path" or our own "credential:NAME".
// Errors: INVALID_ARGUMENT STAGE_USAGE REASON_BAD_TOKEN_URI. Messages never
// quote the URI's query, which may hold a PIN.
absl::StatusOr<TokenUri> ParseTokenUri(std::string_view text);

}  // namespace codeseal

#endif  // CODESEAL_HSM_TOKEN_URI_H_
