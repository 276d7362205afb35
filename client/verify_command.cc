#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "client/commands.h"
#include "client/fix_hints.h"
#include "client/http_fetch.h"
#include "client/package_file.h"
#include "client/sign_options.h"
#include "client/small_file.h"
#include "client/stored_files.h"
#include "codesign/base/error.h"
#include "codesign/verify/report_output.h"
#include "codesign/verify/stored_code.h"
#include "codesign/verify/verifier.h"

namespace codeseal::client {
namespace {

// Words may be cut short, as with codesign.
absl::Status ApplyStrictWord(const std::string& word, VerifyOptions& options) {
  const auto is = [&word](std::string_view whole) {
    return !word.empty() && whole.starts_with(word);
  };
  if (is("symlinks") || is("all")) {
    options.restricts_symlinks = true;
  } else if (is("none")) {
    options.is_strict = false;
  } else if (!is("sideband")) {  // forks and the like do not exist here
    return WithSubject(
        MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                  v1::REASON_BAD_OPTION, "invalid strict option - " + word),
        "--strict");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<RevocationChecker>> MakeRevocationChecker(
    const VerifyCommand& command) {
  if (!command.check_revocation && command.list_paths.empty() &&
      command.ocsp_paths.empty()) {
    return nullptr;
  }
  RevocationChecker::Fetch fetch;
  if (command.check_revocation && !command.offline) {
    fetch = [](const std::string& url, const Bytes& body) {
      return FetchOverHttp(url, body);
    };
  }
  auto checker = std::make_shared<RevocationChecker>(std::move(fetch));
  for (const std::string& path : command.list_paths) {
    ASSIGN_OR_RETURN(const Bytes bytes, ReadSmallFile(path));
    RETURN_IF_ERROR(WithSubject(checker->AddLists(bytes), path));
  }
  for (const std::string& path : command.ocsp_paths) {
    ASSIGN_OR_RETURN(const Bytes bytes, ReadSmallFile(path));
    RETURN_IF_ERROR(WithSubject(checker->AddOcspResponse(bytes), path));
  }
  return checker;
}

absl::StatusOr<VerifyOptions> ReadVerifyOptions(const VerifyCommand& command) {
  VerifyOptions options;
  options.check_expiration = command.check_expiration;
  ASSIGN_OR_RETURN(options.revocation, MakeRevocationChecker(command));
  if (!command.anchors_path.empty()) {
    ASSIGN_OR_RETURN(options.anchors, ReadCertificates(command.anchors_path));
    options.require_trusted_anchor = true;
  }
  if (!command.requirement.empty()) {
    ASSIGN_OR_RETURN(options.requirement, ReadRequirement(command.requirement));
  }
  if (!command.at.empty()) {
    absl::Time at;
    std::string fault;
    if (!absl::ParseTime(absl::RFC3339_full, command.at, &at, &fault) &&
        !absl::ParseTime("%Y-%m-%d", command.at, &at, &fault)) {
      return WithSubject(
          MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                    v1::REASON_BAD_OPTION,
                    "'" + command.at +
                        "' is not a time such as 2026-01-31T12:00:00Z"),
          "--at");
    }
    options.at = at;
  }
  options.is_deep = command.deep;
  options.ignores_resources = command.ignore_resources;
  options.is_strict = !command.no_strict;
  for (const std::string& word : command.strict) {
    RETURN_IF_ERROR(ApplyStrictWord(word, options));
  }
  return options;
}

// Each line where it belongs: Apple's tool has all but files on standard error.
void SayVerdict(const ToldReport& told, Reporter& reporter) {
  for (const ReportLine& line : told.lines) {
    switch (line.kind) {
      case ReportLine::Kind::kAnswer:
        reporter.Say(0, line.text);
        break;
      case ReportLine::Kind::kFile:
        if (reporter.is_apple()) {
          reporter.Raw(Printable(line.text) + "\n");
          break;
        }
        [[fallthrough]];
      case ReportLine::Kind::kProgress:
      case ReportLine::Kind::kFault:
        reporter.Complain(line.text);
        break;
    }
  }
}

PackageVerifyOptions PackageOptions(const VerifyOptions& options) {
  PackageVerifyOptions package_options;
  package_options.anchors = options.anchors;
  package_options.require_trusted_anchor = options.require_trusted_anchor;
  package_options.at = options.at;
  package_options.check_expiration = options.check_expiration;
  package_options.revocation = options.revocation;
  return package_options;
}

void VerifyPath(const std::string& path, const VerifyCommand& command,
                const VerifyOptions& options, Reporter& reporter) {
  if (IsPackagePath(path)) {
    if (!command.detached_path.empty()) {
      return reporter.Fail("verify", path, NoDetachedPackage());
    }
    return VerifyPackageFile(path, PackageOptions(options), reporter);
  }
  reporter.Progress("verifying " + path);
  const absl::StatusOr<StoredCode> code =
      OpenStoredCode(path, command.bundle_version, command.detached_path);
  if (!code.ok()) return reporter.Fail("verify", path, code.status());
  const VerificationReport report = Verify(*code, options);

  const bool has_requirement = options.requirement.has_value();
  const ToldReport told =
      TellReport(report, {.style = reporter.is_apple() ? ReportStyle::kCodesign
                                                       : ReportStyle::kCodeseal,
                          .verbosity = reporter.options().verbosity,
                          .has_requirement = has_requirement,
                          .hint = FixHint});
  SayVerdict(told, reporter);
  reporter.Judge(told.verdict, ReportJson(report, has_requirement, FixHint));
}

}  // namespace

void RunVerify(const VerifyCommand& command, Reporter& reporter) {
  const absl::StatusOr<VerifyOptions> options = ReadVerifyOptions(command);
  if (!options.ok()) {
    reporter.FailAll("verify", command.paths, options.status());
    return;
  }
  for (const std::string& path : command.paths) {
    VerifyPath(path, command, *options, reporter);
  }
}

}  // namespace codeseal::client
