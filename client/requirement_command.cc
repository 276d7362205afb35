#include <memory>
#include <string>
#include <utility>

#include "client/commands.h"
#include "client/sign_options.h"
#include "client/small_file.h"
#include "codesign/base/error.h"
#include "codesign/requirement/requirement.h"
#include "codesign/verify/stored_code.h"
#include "codesign/verify/verifier.h"

namespace codeseal::client {
namespace {

absl::StatusOr<std::string> DumpFile(const std::string& path) {
  ASSIGN_OR_RETURN(const Bytes content, ReadSmallFile(path));
  return DumpRequirementBlob(content);
}

// OK when every slice of the file is intact and satisfies the requirement.
absl::Status TestFile(const std::string& path, const Bytes& requirement) {
  ASSIGN_OR_RETURN(const StoredCode code, StoredCode::Open(path));
  VerifyOptions options;
  options.requirement = requirement;
  const VerificationReport report = Verify(code, options);
  RETURN_IF_ERROR(report.Validity());
  return report.ExplicitRequirement();
}

// The dump of a set ends its lines; that of a requirement does not.
std::string WithoutLineEnd(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

}  // namespace

void RunRequirementCompile(const RequirementCompileCommand& command,
                           Reporter& reporter) {
  const absl::StatusOr<Bytes> blob =
      ReadRequirementBlob(command.requirement, "");
  absl::Status status = blob.status();
  std::string text;
  if (status.ok()) {
    text = WithoutLineEnd(*DumpRequirementBlob(*blob));
    if (command.output_path == "-") {
      reporter.Raw(AsText(*blob));
    } else if (!command.output_path.empty()) {
      status = WriteWholeFile(command.output_path, *blob);
    }
  }
  if (!status.ok()) {
    reporter.Fail("compile", "the requirement", status);
    return;
  }
  if (command.output_path.empty()) reporter.Raw(text + "\n");
  reporter.Succeed({{"text", text}, {"blob", HexEncode(*blob)}});
}

void RunRequirementDump(const RequirementDumpCommand& command,
                        Reporter& reporter) {
  for (const std::string& path : command.paths) {
    const absl::StatusOr<std::string> text = DumpFile(path);
    if (!text.ok()) {
      reporter.Fail("read the requirement in", path, text.status());
      continue;
    }
    reporter.Raw(WithoutLineEnd(*text) + "\n");
    reporter.Succeed({{"path", path}, {"text", WithoutLineEnd(*text)}});
  }
}

void RunRequirementTest(const RequirementTestCommand& command,
                        Reporter& reporter) {
  const absl::StatusOr<Bytes> requirement =
      ReadRequirement(command.requirement);
  if (!requirement.ok()) {
    reporter.FailAll("test", command.paths, requirement.status());
    return;
  }
  for (const std::string& path : command.paths) {
    reporter.Progress("testing " + path);
    const absl::Status status = TestFile(path, *requirement);
    if (status.ok()) {
      reporter.Say(0, path + ": explicit requirement satisfied");
      reporter.Succeed({{"path", path}});
    } else {
      reporter.Fail("accept", path, status);
    }
  }
}

}  // namespace codeseal::client
