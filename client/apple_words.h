// What Apple's codesign says of a fault. Scripts that were written for it look
// for these words; our own reason and advice come below them.

#ifndef CODESEAL_CLIENT_APPLE_WORDS_H_
#define CODESEAL_CLIENT_APPLE_WORDS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace codeseal::client {

// The words behind "path: "; our own message where Apple has none.
std::string AppleWords(const absl::Status& status);

// "path: words", then where in it ("In subcomponent: ...", "In architecture:
// ..."), then why and what to do, each with a final newline. `object` is what
// the command was given.
std::string RenderAppleError(std::string_view object,
                             const absl::Status& status);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_APPLE_WORDS_H_
