// Signs with a token that is plugged into this machine.
//
//   token URI -> hsm Token -> certificate and key by CKA_ID -> CMS, built here

#ifndef CODESEAL_CLIENT_TOKEN_SIGNER_H_
#define CODESEAL_CLIENT_TOKEN_SIGNER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/pin_prompt.h"
#include "client/signer.h"
#include "codesign/base/clock.h"
#include "codesign/cms/certificate.h"
#include "hsm/token.h"
#include "tsa/timestamper.h"

namespace codeseal::client {

struct TokenSignerOptions {
  // Empty, or the only key that may be used: the URI named it.
  KeyReference key;
  // What completes a chain, and leaves that the token does not hold.
  std::vector<Certificate> certificates;
  KeyPolicy key_policy = KeyPolicy::kStrict;
  absl::Duration timeout = absl::Seconds(120);  // of each call to the token
  bool validate_only = false;                   // --dry-run: use no key
  // Told when a call that uses the key has not returned after `hint_after`, on
  // another thread: what the call is for. Many tokens want to be touched then.
  std::function<void(const std::string& what)> on_wait;
  absl::Duration hint_after = absl::Seconds(1);
  // The token's pin_source, if typed: a worker that is replaced reads it again.
  std::shared_ptr<const PromptedPin> typed_pin;
  // Who stamps every signature; null: nobody.
  std::shared_ptr<Timestamper> timestamper;
};

// An identity is a certificate whose private key is on the token: they share
// CKA_ID, or the key's public half is the certificate's. Its names are the
// certificate's common name, its label and its SHA-1. An expired certificate
// is refused.
std::unique_ptr<Signer> MakeTokenSigner(std::shared_ptr<Token> token,
                                        TokenSignerOptions options,
                                        const Clock& clock);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_TOKEN_SIGNER_H_
