// `audit ...` on the command line, the same words in both programs.

#ifndef CODESEAL_AUDIT_COMMAND_LINE_H_
#define CODESEAL_AUDIT_COMMAND_LINE_H_

#include <functional>
#include <ostream>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"

namespace codeseal::audit {

using AuditRun = std::function<absl::Status(std::ostream& out)>;

// Adds `audit` with its commands, and returns it for more of the program's own.
// The one that is chosen sets `run`; `subject` is the folder or file that it is
// about. What the options fill lives as long as `run`.
CLI::App& AddAuditCommands(CLI::App& app, AuditRun& run, std::string& subject);

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_COMMAND_LINE_H_
