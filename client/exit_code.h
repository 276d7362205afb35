// The exit codes that scripts rely on, and the one place that chooses them.

#ifndef CODESEAL_CLIENT_EXIT_CODE_H_
#define CODESEAL_CLIENT_EXIT_CODE_H_

#include "absl/status/status.h"

namespace codeseal::client {

enum class ExitCode : int {
  kDone = 0,               // done and true
  kNo = 1,                 // signature invalid, policy refused, cannot be done
  kUsage = 2,              // command line or configuration
  kRequirementFailed = 3,  // valid code that does not satisfy a requirement
  kTryAgain = 4,           // server, token or TSA unavailable
  kInternal = 5,           // a fault of codeseal's own
};

ExitCode ExitCodeFor(const absl::Status& status);

// Of two paths' codes the one to return. A definite answer outranks "try
// again": trying again would not make the run succeed.
ExitCode Worse(ExitCode a, ExitCode b);

// What Apple's tools return in its place: they know 1, 2 and 3, and 2 is for
// the shape of the command line only, which the parser judges.
ExitCode AppleExitCode(ExitCode code);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_EXIT_CODE_H_
