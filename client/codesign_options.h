// The command line of Apple's codesign, for when codeseal is invoked by that
// name.
//
//   codesign -fs ID --timestamp=none App.app -> [ParseCodesign] -> SignCommand
//
// Spec: codesign(1), and the usage that it prints.

#ifndef CODESEAL_CLIENT_CODESIGN_OPTIONS_H_
#define CODESEAL_CLIENT_CODESIGN_OPTIONS_H_

#include <string>
#include <vector>

#include "client/options.h"

namespace codeseal::client {

// As getopt_long(3) reads it: short options may be joined (-dvvv, -fsID), long
// ones cut short while they fit one name, and paths may stand before options.
// What can't exist off a Mac becomes PrintedText that says what to use instead;
// what needs no doing here (--keychain) is taken and left alone.
Invocation ParseCodesign(const std::vector<std::string>& arguments);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_CODESIGN_OPTIONS_H_
