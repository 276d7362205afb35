#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/fix_hints.h"
#include "client/http_fetch.h"
#include "client/package_file.h"
#include "client/sign_options.h"
#include "client/small_file.h"
#include "client/stored_files.h"
#include "codesign/base/error.h"
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
  auto checker = std::make_shared<RevocationChecker>(
      command.offline || !command.check_revocation ? RevocationChecker::Fetch()
                                                   : FetchOverHttp);
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

absl::StatusOr<VerifyOptions> ReadOptions(const VerifyCommand& command) {
  VerifyOptions options;
  options.check_expiration = command.check_expiration;
  ASSIGN_OR_RETURN(options.revocation, MakeRevocationChecker(command));
  if (!command.anchors_path.empty()) {
    ASSIGN_OR_RETURN(const Bytes pem, ReadSmallFile(command.anchors_path));
    absl::StatusOr<std::vector<Certificate>> anchors =
        Certificate::ParsePem(AsText(pem));
    if (!anchors.ok()) {
      return WithSubject(anchors.status(), command.anchors_path);
    }
    options.anchors = *std::move(anchors);
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

std::string_view OutcomeName(CheckOutcome outcome) {
  switch (outcome) {
    case CheckOutcome::kPassed:
      return "passed";
    case CheckOutcome::kFailed:
      return "failed";
    case CheckOutcome::kNotChecked:
      return "not checked";
  }
  return "unknown";
}

// Apple's word. Nested code and links that are not as the seal wants them count
// as modified.
std::string_view ChangeName(ResourceChange change) {
  switch (change) {
    case ResourceChange::kAdded:
      return "added";
    case ResourceChange::kMissing:
      return "missing";
    case ResourceChange::kModified:
    case ResourceChange::kBadCode:
      break;
  }
  return "modified";
}

nlohmann::json DescribeChecks(const std::vector<Check>& checks) {
  nlohmann::json json = nlohmann::json::array();
  for (const Check& check : checks) {
    nlohmann::json described = {
        {"name", check.name},
        {"outcome", std::string(OutcomeName(check.outcome))}};
    if (!check.note.empty()) described["note"] = check.note;
    if (!check.status.ok()) described["error"] = ErrorJson(check.status);
    if (check.apple_error.has_value()) {
      described["apple_error"] = {
          {"code", check.apple_error->code},
          {"name", std::string(check.apple_error->name)},
          {"text", std::string(check.apple_error->text)}};
    }
    json.push_back(std::move(described));
  }
  return json;
}

nlohmann::json DescribeSlice(const SliceReport& slice) {
  nlohmann::json cdhashes = nlohmann::json::object();
  for (size_t i = 0; i < slice.cdhashes.size(); ++i) {
    cdhashes[std::string(DigestName(slice.digests[i]))] =
        HexEncode(slice.cdhashes[i]);
  }
  nlohmann::json authorities = nlohmann::json::array();
  for (const Certificate& certificate : slice.authorities) {
    authorities.push_back(certificate.CommonName());
  }
  nlohmann::json json = {{"architecture", slice.architecture},
                         {"identifier", slice.identifier},
                         {"team_identifier", slice.team_identifier},
                         {"ad_hoc", slice.ad_hoc},
                         {"trusted", slice.trusted},
                         {"cdhashes", std::move(cdhashes)},
                         {"authorities", std::move(authorities)},
                         {"checks", DescribeChecks(slice.checks)}};
  if (!slice.cdhashes.empty()) json["cdhash"] = HexEncode(slice.cdhash);
  if (slice.signing_time.has_value()) {
    json["signing_time"] = FormatUtc(*slice.signing_time);
  }
  if (slice.timestamp.has_value()) {
    json["timestamp"] = FormatUtc(*slice.timestamp);
  }
  return json;
}

nlohmann::json DescribeResources(const ResourceReport& resources) {
  nlohmann::json json = {{"version", resources.version},
                         {"rules", resources.rule_count},
                         {"files", resources.file_count},
                         {"added", nlohmann::json::array()},
                         {"modified", nlohmann::json::array()},
                         {"missing", nlohmann::json::array()}};
  for (const ResourceProblem& problem : resources.problems) {
    json[std::string(ChangeName(problem.change))].push_back(problem.path);
  }
  return json;
}

nlohmann::json DescribeReport(const VerificationReport& report) {
  nlohmann::json json = {{"path", report.path},
                         {"format", report.format},
                         {"valid", report.Validity().ok()},
                         {"slices", nlohmann::json::array()},
                         {"checks", DescribeChecks(report.checks)}};
  for (const SliceReport& slice : report.slices) {
    json["slices"].push_back(DescribeSlice(slice));
  }
  if (report.resources.has_value()) {
    json["resources"] = DescribeResources(*report.resources);
  }
  if (report.nested.empty()) return json;
  json["nested"] = nlohmann::json::array();
  for (const NestedReport& nested : report.nested) {
    nlohmann::json item = DescribeReport(nested.report);
    item["requirement"] = nested.requirement;
    item["satisfies_requirement"] =
        nested.status.ok() && nested.report.ExplicitRequirement().ok();
    item["is_other_version"] = nested.is_other_version;
    if (!nested.status.ok()) {
      item["valid"] = false;
      item["error"] = ErrorJson(nested.status);
    }
    json["nested"].push_back(std::move(item));
  }
  return json;
}

// The slice that the check belongs to; null for a check of the whole file.
const SliceReport* SliceOf(const VerificationReport& report,
                           const Check* check) {
  for (const SliceReport& slice : report.slices) {
    for (const Check& each : slice.checks) {
      if (&each == check) return &slice;
    }
  }
  for (const NestedReport& nested : report.nested) {
    if (check == nullptr || check->name != kCheckNestedCode) break;
    if (nested.report.path == check->subcomponent) {
      return SliceOf(nested.report, nested.report.FirstFailure());
    }
  }
  return nullptr;
}

// Apple's lines about single files.
void ListProblems(const VerificationReport& report, Reporter& reporter) {
  for (const NestedReport& nested : report.nested) {
    ListProblems(nested.report, reporter);
  }
  if (!report.resources.has_value()) return;
  for (const ResourceProblem& problem : report.resources->problems) {
    const ErrorDetail detail =
        GetErrorDetail(problem.status).value_or(ErrorDetail());
    const std::string line = "file " + std::string(ChangeName(problem.change)) +
                             ": " + detail.subject();
    if (!reporter.is_apple()) {
      reporter.Complain(line);
    } else if (reporter.options().verbosity >= 0) {
      reporter.Raw(Printable(line) + "\n");  // Apple's place for it
    }
  }
}

// The first check of that name that failed, in any slice.
const Check* FindFailure(const VerificationReport& report,
                         std::string_view name) {
  for (const SliceReport& slice : report.slices) {
    for (const Check& check : slice.checks) {
      if (check.name == name && check.outcome == CheckOutcome::kFailed) {
        return &check;
      }
    }
  }
  return nullptr;
}

// Apple's line, the architecture, then our reason and advice.
void Explain(const VerificationReport& report, const std::string& line,
             const absl::Status& status, const Check* check,
             Reporter& reporter) {
  reporter.Complain(line);
  if (check != nullptr && !check->subcomponent.empty()) {
    reporter.Complain("In subcomponent: " + check->subcomponent);
  }
  const SliceReport* slice = SliceOf(report, check);
  if (slice != nullptr && !slice->architecture.empty()) {
    reporter.Complain("In architecture: " + slice->architecture);
  }
  ListProblems(report, reporter);
  // The message may begin with the words that the first line has already.
  std::string why(Message(status));
  if (check != nullptr && check->apple_error.has_value() &&
      why.starts_with(check->apple_error->text)) {
    why.erase(0, check->apple_error->text.size());
    why.erase(0, std::min(why.find_first_not_of(": "), why.size()));
  }
  const ErrorDetail detail = GetErrorDetail(status).value_or(ErrorDetail());
  if (detail.has_byte_offset()) {
    absl::StrAppend(&why, why.empty() ? "" : " ", "(at byte ",
                    detail.byte_offset(), ")");
  }
  if (!why.empty()) reporter.Complain("  why    " + why);
  reporter.Complain("  fix    " + std::string(FixHint(detail.reason())));
}

std::string AppleText(const Check* check, const absl::Status& status) {
  if (check != nullptr && check->apple_error.has_value()) {
    return std::string(check->apple_error->text);
  }
  return std::string(Message(status));
}

// Says what holds and what does not; the worst of it.
absl::Status Pronounce(const std::string& path,
                       const VerificationReport& report, bool has_requirement,
                       Reporter& reporter) {
  if (const absl::Status status = report.Validity(); !status.ok()) {
    const Check* check = report.FirstFailure();
    Explain(report, path + ": " + AppleText(check, status), status, check,
            reporter);
    return status;
  }
  reporter.Say(0, path + ": valid on disk");
  // Apple's tool looks at it only when it has something to say.
  const absl::Status designated =
      reporter.is_apple() && reporter.options().verbosity < 0
          ? absl::OkStatus()
          : report.DesignatedRequirement();
  if (designated.ok()) {
    reporter.Say(0, path + ": satisfies its Designated Requirement");
  } else {
    Explain(report, path + ": does not satisfy its designated Requirement",
            designated, FindFailure(report, kCheckDesignatedRequirement),
            reporter);
  }
  if (!has_requirement) return designated;
  const absl::Status explicit_requirement = report.ExplicitRequirement();
  if (explicit_requirement.ok()) {
    reporter.Say(0, path + ": explicit requirement satisfied");
    return designated;
  }
  const Check* check = FindFailure(report, kCheckExplicitRequirement);
  Explain(report, "test-requirement: " + AppleText(check, explicit_requirement),
          explicit_requirement, check, reporter);
  return explicit_requirement;
}

// The progress of codesign -vv.
void TellNested(const VerificationReport& report, Reporter& reporter) {
  for (const NestedReport& nested : report.nested) {
    // Apple counts the v that asks for verification.
    const int from = reporter.is_apple() ? 1 : 2;
    if (reporter.options().verbosity < from) return;
    reporter.Complain("--prepared:" + nested.report.path);
    TellNested(nested.report, reporter);
    if (nested.status.ok() && nested.report.Validity().ok() &&
        nested.report.ExplicitRequirement().ok()) {
      reporter.Complain("--validated:" + nested.report.path);
    }
  }
}

// Every check by name, for those who ask; what nobody looked at, for everyone.
void ListChecks(const std::string& subject, const std::vector<Check>& checks,
                Reporter& reporter) {
  for (const Check& check : checks) {
    const bool is_missing = check.outcome == CheckOutcome::kNotChecked;
    const std::string line =
        absl::StrCat(std::string(OutcomeName(check.outcome)), " ", check.name,
                     check.note.empty() ? "" : ": ", check.note);
    reporter.Say(is_missing ? 1 : 2,
                 "  " + (subject.empty() ? "" : subject + ": ") + line);
  }
}

void ListChecks(const VerificationReport& report, Reporter& reporter) {
  std::string missing;
  const auto look = [&missing](const std::vector<Check>& checks) {
    for (const Check& check : checks) {
      if (check.outcome == CheckOutcome::kNotChecked &&
          (check.name == kCheckRevocation ||
           check.name == kCheckNotarization) &&
          missing.find(check.name) == std::string::npos) {
        absl::StrAppend(&missing, missing.empty() ? "" : ", ", check.name);
      }
    }
  };
  for (const SliceReport& slice : report.slices) look(slice.checks);
  look(report.checks);
  if (!missing.empty()) reporter.Say(0, "  not checked: " + missing);
  for (const SliceReport& slice : report.slices) {
    ListChecks(slice.architecture, slice.checks, reporter);
  }
  ListChecks("", report.checks, reporter);
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
    return VerifyPackageFile(path, PackageOptions(options), reporter);
  }
  reporter.Progress("verifying " + path);
  const absl::StatusOr<StoredCode> code =
      OpenStoredCode(path, command.bundle_version, command.detached_path);
  if (!code.ok()) return reporter.Fail("verify", path, code.status());
  const VerificationReport report = Verify(*code, options);

  TellNested(report, reporter);
  const absl::Status verdict =
      Pronounce(path, report, options.requirement.has_value(), reporter);
  if (!reporter.is_apple()) ListChecks(report, reporter);
  nlohmann::json result = DescribeReport(report);
  result["satisfies_designated_requirement"] =
      report.DesignatedRequirement().ok();
  if (options.requirement.has_value()) {
    result["satisfies_requirement"] = report.ExplicitRequirement().ok();
  }
  reporter.Judge(verdict, std::move(result));
}

}  // namespace

void RunVerify(const VerifyCommand& command, Reporter& reporter) {
  const absl::StatusOr<VerifyOptions> options = ReadOptions(command);
  if (!options.ok()) {
    reporter.FailAll("verify", command.paths, options.status());
    return;
  }
  for (const std::string& path : command.paths) {
    VerifyPath(path, command, *options, reporter);
  }
}

}  // namespace codeseal::client
