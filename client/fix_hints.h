// What a person can do about a fault. The server and the libraries say what is
// wrong; only the client knows who reads it and which option would help.
//
//   Status + ErrorDetail -> FixHint -> the "fix" line of an error

#ifndef CODESEAL_CLIENT_FIX_HINTS_H_
#define CODESEAL_CLIENT_FIX_HINTS_H_

#include <string_view>

#include "codesign/base/error.h"

namespace codeseal::client {

// Advice in the imperative, without a full stop. Never empty: a reason that is
// newer than this client gets the advice to update.
std::string_view FixHint(Reason reason);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_FIX_HINTS_H_
