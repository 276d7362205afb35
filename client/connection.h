// An authenticated channel to codeseald: mutual TLS, and the rules by which a
// call is tried again.

#ifndef CODESEAL_CLIENT_CONNECTION_H_
#define CODESEAL_CLIENT_CONNECTION_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/connection_settings.h"
#include "codesign/base/clock.h"

namespace codeseal::client {

// How long one call may take, and how often it is made.
struct CallLimits {
  absl::Duration timeout = absl::Seconds(120);  // of each attempt
  int attempt_count = 4;
  absl::Duration first_delay = absl::Milliseconds(250);  // doubles each time
};

// Reads the PEM files and makes a channel to each server that the settings
// name; the connections themselves are made by the first call. Our own
// certificate's dates are checked here, because a server that refuses it can
// only hang up. Errors: STAGE_USAGE or STAGE_TRANSPORT: REASON_FILE_NOT_FOUND,
// _NOT_READABLE, REASON_BAD_CERTIFICATE, REASON_CERTIFICATE_EXPIRED, with the
// file as subject.
absl::StatusOr<std::vector<std::shared_ptr<grpc::Channel>>> OpenChannels(
    const ConnectionSettings& settings, const Clock& clock);

// Whether the call may succeed later: with the same request id, but for
// REASON_INDETERMINATE, which wants a new one.
bool MayTryAgain(const absl::Status& status);

// Calls `attempt` until it succeeds, fails for good, or limits.attempt_count is
// reached, and waits in between. The last Status.
absl::Status CallWithRetry(const CallLimits& limits,
                           const std::function<absl::Status()>& attempt);

// Random UUID, version 4, in canonical text form (RFC 9562).
std::string NewRequestId();

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_CONNECTION_H_
