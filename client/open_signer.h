// From the command line's "who signs" options to a Signer.

#ifndef CODESEAL_CLIENT_OPEN_SIGNER_H_
#define CODESEAL_CLIENT_OPEN_SIGNER_H_

#include <grpcpp/channel.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/commands.h"
#include "client/pin_prompt.h"
#include "client/sign_options.h"
#include "client/signer.h"
#include "hsm/token.h"

namespace codeseal::client {

// A token's signer with --token, else a server's. `validate_only` is a dry run.
// Asks for a PIN when the token URI names no source; connects to nothing yet.
absl::StatusOr<std::unique_ptr<Signer>> OpenSigner(
    const SignerOptions& options, const TimestampWish& timestamp,
    bool validate_only);

// What that signer could sign with. Errors: OpenSigner()'s and the signer's.
absl::StatusOr<std::vector<SigningIdentity>> ListIdentities(
    const SignerOptions& options);

// A token on this machine, its PIN asked for if the URI has no pin-source.
struct LocalToken {
  std::shared_ptr<Token> token;
  KeyReference key;  // empty: the URI names no key
  // The token's pin_source, if typed: must live as long as the token.
  std::shared_ptr<const PromptedPin> typed_pin;
};

// A call to the token may take `patience`, or what a token gets by default if
// that is more.
// Errors: INVALID_ARGUMENT REASON_BAD_TOKEN_URI; those of PromptedPin::Ask()
// and Token::Create().
absl::StatusOr<LocalToken> OpenLocalToken(
    const std::string& uri, absl::Duration patience = absl::ZeroDuration());

// The settings for a server, with the identity token if there is one: from
// --oidc-token-file, CODESEAL_OIDC_TOKEN_FILE or CODESEAL_OIDC_TOKEN.
// Errors: ResolveConnection()'s; those of files.
absl::StatusOr<std::vector<std::shared_ptr<grpc::Channel>>> OpenServers(
    const SignerOptions& options);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_OPEN_SIGNER_H_
