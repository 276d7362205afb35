// The command line. CLI11 stays in options.cc: everything else sees plain
// structs.

#ifndef CODESEAL_CLIENT_OPTIONS_H_
#define CODESEAL_CLIENT_OPTIONS_H_

#include <string>
#include <variant>
#include <vector>

#include "client/commands.h"
#include "client/completion.h"
#include "client/exit_code.h"

namespace codeseal::client {

struct CompletionRequest {
  std::string shell;  // "bash", "zsh" or "fish"
};

// Nothing to run: help, the version or a complaint, and where it goes.
struct PrintedText {
  std::string text;
  bool is_fault = false;  // stderr and exit code 2; else stdout and 0
};

using Command =
    std::variant<PrintedText, CompletionRequest, SignCommand, VerifyCommand,
                 ShowCommand, StripCommand, IdentitiesListCommand,
                 IdentitiesShowCommand, RequirementCompileCommand,
                 RequirementDumpCommand, RequirementTestCommand>;

struct Invocation {
  std::string name;  // "sign", "identities show"
  OutputOptions output;
  Command command;
};

// Never fails: a wrong command line becomes PrintedText.
Invocation ParseCommandLine(const std::vector<std::string>& arguments,
                            const Environment& environment);

// The commands and options themselves, for shell completion.
CommandTree DescribeCommandLine();

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_OPTIONS_H_
