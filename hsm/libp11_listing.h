// What is on a token, listed through libp11. Runs in a worker of its own that
// ends with the listing: libp11 0.4.12 waits forever when a session cannot be
// opened, and does not share a process with our session pool.

#ifndef CODESEAL_HSM_LIBP11_LISTING_H_
#define CODESEAL_HSM_LIBP11_LISTING_H_

#include <string>

#include "absl/status/statusor.h"
#include "hsm/token_objects.h"
#include "hsm/worker.pb.h"
#include "hsm/worker_message.h"

namespace codeseal {

// `module` is initialised, the token in `slot` logged in when private keys are
// to be seen; `objects` reads the attributes that libp11 does not show.
// Errors: UNAVAILABLE REASON_TOKEN_FUNCTION_FAILED with libp11's words.
absl::StatusOr<hsm::Listing> ListToken(const std::string& module,
                                       unsigned long slot,
                                       const TokenObjects& objects);

}  // namespace codeseal

#endif  // CODESEAL_HSM_LIBP11_LISTING_H_
