#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/findings.h"
#include "client/small_file.h"
#include "codesign/assess/preflight.h"
#include "codesign/base/error.h"

namespace codeseal::client {
namespace {

PreflightPurpose PurposeOf(const std::string& name) {
  if (name == "developer-id") return PreflightPurpose::kDeveloperId;
  if (name == "app-store") return PreflightPurpose::kAppStore;
  if (name == "ad-hoc") return PreflightPurpose::kAdHoc;
  return PreflightPurpose::kNotarization;
}

absl::StatusOr<PreflightOptions> ReadPreflightOptions(
    const PreflightCommand& command) {
  PreflightOptions options;
  options.purpose = PurposeOf(command.purpose);
  if (!command.profile_path.empty()) {
    ASSIGN_OR_RETURN(options.profile, ReadSmallFile(command.profile_path));
    options.profile_path = command.profile_path;
  }
  if (!command.anchors_path.empty()) {
    ASSIGN_OR_RETURN(options.anchors, ReadCertificates(command.anchors_path));
  }
  return options;
}

// The notary's log, as far as it speaks of what is in the upload.
nlohmann::json DescribePreflight(const PreflightReport& report) {
  nlohmann::json ticket = nlohmann::json::array();
  for (const TicketContent& each : report.ticket) {
    ticket.push_back(
        {{"path", each.path},
         {"digestAlgorithm",
          each.digest_kind == DigestKind::kSha1 ? "SHA-1" : "SHA-256"},
         {"cdhash", HexEncode(each.cdhash)},
         {"arch", each.architecture}});
  }
  const bool is_accepted = report.accepted();
  return {{"path", report.path},
          {"logFormatVersion", 1},
          {"status", is_accepted ? "Accepted" : "Invalid"},
          {"statusSummary",
           is_accepted ? "Ready for distribution"
                       : "Archive contains critical validation errors"},
          {"statusCode", is_accepted ? 0 : 4000},
          {"archiveFilename",
           std::filesystem::path(report.path).filename().string()},
          {"ticketContents", std::move(ticket)},
          {"issues", FindingsJson(report.findings)},
          {"notChecked", report.not_checked}};
}

absl::Status PreflightStatus(const PreflightReport& report) {
  if (report.accepted()) return absl::OkStatus();
  const auto errors = std::count_if(
      report.findings.begin(), report.findings.end(),
      [](const Finding& each) { return each.severity == Severity::kError; });
  return WithSubject(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                v1::REASON_PROBLEMS_FOUND,
                absl::StrCat(errors, errors == 1 ? " error" : " errors")),
      report.path);
}

}  // namespace

void RunPreflight(const PreflightCommand& command, Reporter& reporter) {
  const absl::StatusOr<PreflightOptions> options =
      ReadPreflightOptions(command);
  if (!options.ok()) {
    reporter.FailAll("look at", command.paths, options.status());
    return;
  }
  for (const std::string& path : command.paths) {
    reporter.Progress("looking at " + path);
    const absl::StatusOr<PreflightReport> report = Preflight(path, *options);
    if (!report.ok()) {
      reporter.Fail("look at", path, report.status());
      continue;
    }
    SayFindings(report->findings, reporter);
    const absl::Status status = PreflightStatus(*report);
    reporter.Say(0, path + ": " +
                        (status.ok() ? "ready for " + command.purpose
                                     : std::string(Message(status))));
    for (const std::string& each : report->not_checked) {
      reporter.Say(1, "not checked: " + each);
    }
    reporter.Judge(status, DescribePreflight(*report));
  }
}

}  // namespace codeseal::client
