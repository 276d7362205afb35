// codeseal: see client/options.h for the command line and client/commands.h
// for what the commands do.

#include <grpc/support/log.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "client/commands.h"
#include "client/completion.h"
#include "client/options.h"
#include "client/render.h"
#include "hsm/token.h"

namespace codeseal::client {
namespace {

// Each open plan holds its file; a large app has thousands.
void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// What gRPC has to say is in the Status that we print.
void SilenceGrpc() {
  if (std::getenv("GRPC_VERBOSITY") != nullptr) return;
  gpr_set_log_function([](gpr_log_func_args*) {});
}

ExitCode PrintText(const PrintedText& printed) {
  std::cout << printed.out << std::flush;
  std::cerr << printed.err << std::flush;
  return printed.exit_code;
}

void Run(const CompletionRequest& request, Reporter& reporter) {
  const absl::StatusOr<std::string> script =
      CompletionScript(DescribeCommandLine(), request.shell);
  if (script.ok()) {
    reporter.Raw(*script);
  } else {
    reporter.Fail("write", "completion", script.status());
  }
}
void Run(const SignCommand& command, Reporter& reporter) {
  RunSign(command, reporter);
}
void Run(const VerifyCommand& command, Reporter& reporter) {
  RunVerify(command, reporter);
}
void Run(const ShowCommand& command, Reporter& reporter) {
  RunShow(command, reporter);
}
void Run(const AssessCommand& command, Reporter& reporter) {
  RunAssess(command, reporter);
}
void Run(const PreflightCommand& command, Reporter& reporter) {
  RunPreflight(command, reporter);
}
void Run(const StripCommand& command, Reporter& reporter) {
  RunStrip(command, reporter);
}
void Run(const DetachCommand& command, Reporter& reporter) {
  RunDetach(command, reporter);
}
void Run(const AttachCommand& command, Reporter& reporter) {
  RunAttach(command, reporter);
}
void Run(const CheckConstraintCommand& command, Reporter& reporter) {
  RunCheckConstraint(command, reporter);
}
void Run(const AuditCommand& command, Reporter& reporter) {
  RunAudit(command, reporter);
}
void Run(const AuditCollectCommand& command, Reporter& reporter) {
  RunAuditCollect(command, reporter);
}
void Run(const IdentitiesListCommand& command, Reporter& reporter) {
  RunIdentitiesList(command, reporter);
}
void Run(const IdentitiesShowCommand& command, Reporter& reporter) {
  RunIdentitiesShow(command, reporter);
}
void Run(const IdentitiesDoctorCommand& command, Reporter& reporter) {
  RunIdentitiesDoctor(command, reporter);
}
void Run(const GrantRequestCommand& command, Reporter& reporter) {
  RunGrantRequest(command, reporter);
}
void Run(const GrantListCommand& command, Reporter& reporter) {
  RunGrantList(command, reporter);
}
void Run(const GrantShowCommand& command, Reporter& reporter) {
  RunGrantShow(command, reporter);
}
void Run(const ApproveCommand& command, Reporter& reporter) {
  RunApprove(command, reporter);
}
void Run(const RequirementCompileCommand& command, Reporter& reporter) {
  RunRequirementCompile(command, reporter);
}
void Run(const RequirementDumpCommand& command, Reporter& reporter) {
  RunRequirementDump(command, reporter);
}
void Run(const RequirementTestCommand& command, Reporter& reporter) {
  RunRequirementTest(command, reporter);
}

void Run(const SecurityFindIdentityCommand& command, Reporter& reporter) {
  RunSecurityFindIdentity(command, reporter);
}
void Run(const SecurityDecodeCmsCommand& command, Reporter& reporter) {
  RunSecurityDecodeCms(command, reporter);
}

ExitCode Main(const std::string& program,
              const std::vector<std::string>& arguments) {
  const Invocation invocation =
      ParseByName(program, arguments, ProcessEnvironment());
  if (const auto* printed = std::get_if<PrintedText>(&invocation.command)) {
    return PrintText(*printed);
  }
  SilenceGrpc();
  RaiseFileLimit();
  Reporter reporter(invocation.name, invocation.output, std::cout, std::cerr,
                    isatty(STDERR_FILENO) == 1);
  std::visit(
      [&](const auto& command) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(command)>,
                                      PrintedText>) {
          Run(command, reporter);
        }
      },
      invocation.command);
  return reporter.Finish();
}

}  // namespace
}  // namespace codeseal::client

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0),
                                           argv + argc);
  // How hsm/ starts a token's worker: this very program.
  if (int fd = -1; arguments.size() == 2 && arguments[0] == "token-worker" &&
                   absl::SimpleAtoi(arguments[1], &fd)) {
    return codeseal::RunTokenWorker(fd);
  }
  return static_cast<int>(
      codeseal::client::Main(argc > 0 ? argv[0] : "", arguments));
}
