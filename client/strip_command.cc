#include "absl/status/status.h"
#include "client/code_file.h"
#include "client/commands.h"
#include "codesign/base/error.h"
#include "codesign/signing_plan.h"

namespace codeseal::client {
namespace {

absl::Status StripFile(const std::string& path) {
  RETURN_IF_ERROR(OpenCodeFile(path).status());
  return StripSignature(path);
}

}  // namespace

void RunStrip(const StripCommand& command, Reporter& reporter) {
  for (const std::string& path : command.paths) {
    reporter.Progress("stripping " + path);
    if (const absl::Status status = StripFile(path); !status.ok()) {
      reporter.Fail("strip", path, status);
      continue;
    }
    reporter.Say(1, path + ": signature removed");
    reporter.Succeed({{"path", path}});
  }
}

}  // namespace codeseal::client
