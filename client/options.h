// The command line. CLI11 stays in options.cc: everything else sees plain
// structs.

#ifndef CODESEAL_CLIENT_OPTIONS_H_
#define CODESEAL_CLIENT_OPTIONS_H_

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "client/commands.h"
#include "client/completion.h"
#include "client/exit_code.h"

namespace codeseal::client {

struct CompletionRequest {
  std::string shell;  // "bash", "zsh" or "fish"
};

// Nothing to run: help, the version, a remark or a complaint.
struct PrintedText {
  std::string out;
  std::string err;
  ExitCode exit_code = ExitCode::kDone;
};

using Command = std::variant<
    PrintedText, CompletionRequest, SignCommand, VerifyCommand, ShowCommand,
    AssessCommand, PreflightCommand, StripCommand, DetachCommand, AttachCommand,
    AuditCommand, AuditCollectCommand, CheckConstraintCommand,
    IdentitiesListCommand, IdentitiesShowCommand, IdentitiesDoctorCommand,
    GrantRequestCommand, GrantListCommand, GrantShowCommand, ApproveCommand,
    RequirementCompileCommand, RequirementDumpCommand, RequirementTestCommand,
    SecurityFindIdentityCommand, SecurityDecodeCmsCommand>;

struct Invocation {
  std::string name;  // "sign", "identities show"
  OutputOptions output;
  Command command;
};

// The command line of codeseal itself. Never fails: a wrong one becomes
// PrintedText.
Invocation ParseCommandLine(const std::vector<std::string>& arguments,
                            const Environment& environment);

// The same for whatever name the program was invoked by: codesign, csreq,
// security and spctl have the command lines of Apple's tools, any other name
// that of codeseal. `program` may be a path.
Invocation ParseByName(std::string_view program,
                       const std::vector<std::string>& arguments,
                       const Environment& environment);

// The commands and options themselves, for shell completion.
CommandTree DescribeCommandLine();

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_OPTIONS_H_
