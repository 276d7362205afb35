// From the command line's "who signs" options to a Signer.

#ifndef CODESEAL_CLIENT_OPEN_SIGNER_H_
#define CODESEAL_CLIENT_OPEN_SIGNER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "client/commands.h"
#include "client/signer.h"
#include "codeseal/v1/signing.pb.h"

namespace codeseal::client {

// A token's signer with --token, else a server's. `timestamp` is for the
// server; `validate_only` is a dry run. Asks for a PIN when the token URI names
// no source; connects to nothing yet.
absl::StatusOr<std::unique_ptr<Signer>> OpenSigner(const SignerOptions& options,
                                                   v1::TimestampMode timestamp,
                                                   bool validate_only);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_OPEN_SIGNER_H_
