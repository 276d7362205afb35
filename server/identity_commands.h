// `codeseald identity ...`: an administrator's side of rotation, spoken to the
// running server.
//
//   command line -> [identity_commands] -> IdentityService -> what it says

#ifndef CODESEAL_SERVER_IDENTITY_COMMANDS_H_
#define CODESEAL_SERVER_IDENTITY_COMMANDS_H_

#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "codeseal/v1/error_detail.pb.h"
#include "server/admin_client.h"

namespace codeseal {

struct IdentityArguments {
  AdminConnection connection;
  std::string identity;
  std::string version;
  std::vector<std::string> keys;  // "TOKEN:id=%01"
  std::string chain;              // PEM file
  std::string at;                 // RFC 3339; empty: now
  std::string because;
  bool allow_requirement_change = false;
  bool dry_run = false;
  bool even_if_active = false;
  bool json = false;
};

// Each prints the version, or versions, as they are afterwards.
// Errors: those of IdentityAdmin; INVALID_ARGUMENT STAGE_USAGE REASON_USAGE.
absl::Status ListVersions(const IdentityArguments& arguments,
                          std::ostream& out);
absl::Status StageVersion(const IdentityArguments& arguments,
                          std::ostream& out);
absl::Status ProbeVersion(const IdentityArguments& arguments,
                          std::ostream& out);
absl::Status ActivateVersion(const IdentityArguments& arguments,
                             std::ostream& out);
absl::Status RetireVersion(const IdentityArguments& arguments,
                           std::ostream& out);
absl::Status DisableVersion(const IdentityArguments& arguments,
                            std::ostream& out);

// What an administrator can do about a refusal; empty when the message says it.
std::string AdminHint(v1::Reason reason);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_IDENTITY_COMMANDS_H_
