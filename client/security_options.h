// The command line of Apple's security, as far as build tools use it to sign:
// for when codeseal is invoked by that name.
//
//   find-identity           the identities of the server or token
//   cms -D                  the content of a provisioning profile
//   create-keychain, ...    nothing to do: keys are not in keychains here
//
// Spec: security(1).

#ifndef CODESEAL_CLIENT_SECURITY_OPTIONS_H_
#define CODESEAL_CLIENT_SECURITY_OPTIONS_H_

#include <string>
#include <vector>

#include "client/options.h"

namespace codeseal::client {

// What prepares a keychain for a build, and clears it away, succeeds with a
// remark on standard error, so that build scripts run as they are: they name
// the identity again when they sign, and that is looked for on the server. What
// would have to return something out of a keychain fails and says what to use.
Invocation ParseSecurity(const std::vector<std::string>& arguments);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_SECURITY_OPTIONS_H_
