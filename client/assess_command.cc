#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/commands.h"
#include "client/findings.h"
#include "client/small_file.h"
#include "codesign/assess/assessment.h"
#include "codesign/base/error.h"

namespace codeseal::client {
namespace {

absl::StatusOr<AssessOptions> ReadAssessOptions(const AssessCommand& command) {
  AssessOptions options;
  if (command.type == "open") {
    options.type = AssessmentType::kOpen;
  } else if (command.type == "install") {
    options.type = AssessmentType::kInstall;
  }
  options.has_context = !command.needs_context;
  if (!command.anchors_path.empty()) {
    ASSIGN_OR_RETURN(options.anchors, ReadCertificates(command.anchors_path));
  }
  return options;
}

// What a program learns by the exit code.
absl::Status AssessmentStatus(const Assessment& assessment) {
  if (!assessment.broken.ok()) return assessment.broken;
  if (assessment.accepted) return absl::OkStatus();
  const std::string_view source = AssessmentSourceName(assessment.source);
  const absl::Status rejected =
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                v1::REASON_ASSESSMENT_REJECTED,
                source.empty() ? "no rule of Gatekeeper accepts it"
                               : "rejected: " + std::string(source));
  return WithSubject(rejected, assessment.path);
}

void SayAssessment(const Assessment& assessment, Reporter& reporter) {
  // Apple prints the source from one v on, the signer from two.
  const bool is_apple = reporter.is_apple();
  const std::string& path = assessment.path;
  if (!assessment.broken.ok()) {
    reporter.Complain(path + ": " + assessment.broken_words);
    if (!assessment.broken_subcomponent.empty()) {
      reporter.Complain("In subcomponent: " + assessment.broken_subcomponent);
    }
  } else if (assessment.accepted) {
    reporter.Say(is_apple ? 1 : 0, path + ": accepted");
  } else {
    reporter.Say(
        0,
        path + ": rejected" +
            (assessment.remark.empty() ? "" : " (" + assessment.remark + ")"));
  }
  const std::string source(AssessmentSourceName(assessment.source));
  if (!source.empty()) reporter.Say(is_apple ? 1 : 0, "source=" + source);
  if (!assessment.origin.empty()) {
    reporter.Say(is_apple ? 2 : 0, "origin=" + assessment.origin);
  }
  SayFindings(assessment.findings, reporter);
  for (const std::string& each : assessment.undecided) {
    reporter.SayMore(0, "not decided here: " + each);
  }
}

nlohmann::json DescribeAssessment(const Assessment& assessment) {
  nlohmann::json json = {
      {"path", assessment.path},
      {"accepted", assessment.accepted},
      {"source", std::string(AssessmentSourceName(assessment.source))},
      {"origin", assessment.origin},
      {"signer_kind", std::string(SignerKindName(assessment.signer))},
      {"issues", FindingsJson(assessment.findings)},
      {"undecided", assessment.undecided}};
  if (!assessment.remark.empty()) json["remark"] = assessment.remark;
  return json;
}

}  // namespace

void RunAssess(const AssessCommand& command, Reporter& reporter) {
  const absl::StatusOr<AssessOptions> options = ReadAssessOptions(command);
  if (!options.ok()) {
    reporter.FailAll("assess", command.paths, options.status());
    return;
  }
  for (const std::string& path : command.paths) {
    reporter.Progress("assessing " + path);
    const absl::StatusOr<Assessment> assessment = Assess(path, *options);
    if (!assessment.ok()) {
      reporter.Fail("assess", path, assessment.status());
    } else {
      SayAssessment(*assessment, reporter);
      reporter.Judge(AssessmentStatus(*assessment),
                     DescribeAssessment(*assessment));
    }
    const bool is_yes = assessment.ok() && assessment->accepted;
    if (!is_yes && command.stops_at_first_no) return;
  }
}

}  // namespace codeseal::client
