// Which identity a person means: by the name that the signer gives it, by the
// SHA-1 of its certificate, or, as with codesign, by the common name of the
// certificate or a part of it.

#ifndef CODESEAL_CLIENT_FIND_IDENTITY_H_
#define CODESEAL_CLIENT_FIND_IDENTITY_H_

#include <string>

#include "absl/status/statusor.h"
#include "client/signer.h"

namespace codeseal::client {

// Errors: those of Signer::GetIdentity(); FAILED_PRECONDITION
// REASON_IDENTITY_NOT_FOUND when several certificates fit.
absl::StatusOr<SigningIdentity> FindIdentity(Signer& signer,
                                             const std::string& name);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_FIND_IDENTITY_H_
