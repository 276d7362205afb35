// Shell completion, written from the command line's own description.

#ifndef CODESEAL_CLIENT_COMPLETION_H_
#define CODESEAL_CLIENT_COMPLETION_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace codeseal::client {

struct CommandTree {
  struct Option {
    std::vector<std::string> names;  // "-f", "--force"
    std::string description;
    bool takes_value = false;
  };
  std::string name;
  std::string description;
  std::vector<Option> options;
  std::vector<CommandTree> commands;
};

// A script for `shell` to source. Where no option or command fits, the shell
// completes file names.
// Errors: INVALID_ARGUMENT REASON_USAGE for another shell.
absl::StatusOr<std::string> CompletionScript(const CommandTree& tree,
                                             std::string_view shell);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_COMPLETION_H_
