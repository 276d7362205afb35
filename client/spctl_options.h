// The command line of Apple's spctl, for when codeseal is invoked by that name.
//
// Spec: spctl(8).

#ifndef CODESEAL_CLIENT_SPCTL_OPTIONS_H_
#define CODESEAL_CLIENT_SPCTL_OPTIONS_H_

#include <string>
#include <vector>

#include "client/options.h"

namespace codeseal::client {

// spctl --assess [--type execute|open|install] [-v...] path ...; --status.
// There is no database of rules here: what would change it is refused.
Invocation ParseSpctl(const std::vector<std::string>& arguments);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_SPCTL_OPTIONS_H_
