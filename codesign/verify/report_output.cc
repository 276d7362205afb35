#include "codesign/verify/report_output.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace codeseal {
namespace {

using Kind = ReportLine::Kind;

std::string FormatUtc(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
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

std::string StageName(Stage stage) {
  const std::string& name = v1::Stage_Name(stage);
  if (name.empty()) return std::to_string(static_cast<int>(stage));
  return name.substr(sizeof "STAGE_" - 1);
}

ErrorDetail DetailOf(const absl::Status& status) {
  return GetErrorDetail(status).value_or(ErrorDetail());
}

// --- JSON -------------------------------------------------------------------

nlohmann::json ChecksJson(const std::vector<Check>& checks, HintSource hint) {
  nlohmann::json json = nlohmann::json::array();
  for (const Check& check : checks) {
    nlohmann::json described = {
        {"name", check.name},
        {"outcome", std::string(OutcomeName(check.outcome))}};
    if (!check.note.empty()) described["note"] = check.note;
    if (!check.status.ok()) described["error"] = ErrorJson(check.status, hint);
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

nlohmann::json SliceJson(const SliceReport& slice, HintSource hint) {
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
                         {"checks", ChecksJson(slice.checks, hint)}};
  if (!slice.cdhashes.empty()) json["cdhash"] = HexEncode(slice.cdhash);
  if (slice.signing_time.has_value()) {
    json["signing_time"] = FormatUtc(*slice.signing_time);
  }
  if (slice.timestamp.has_value()) {
    json["timestamp"] = FormatUtc(*slice.timestamp);
  }
  return json;
}

nlohmann::json ResourcesJson(const ResourceReport& resources) {
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

nlohmann::json CodeJson(const VerificationReport& report, HintSource hint) {
  nlohmann::json json = {{"path", report.path},
                         {"format", report.format},
                         {"valid", report.Validity().ok()},
                         {"slices", nlohmann::json::array()},
                         {"checks", ChecksJson(report.checks, hint)}};
  for (const SliceReport& slice : report.slices) {
    json["slices"].push_back(SliceJson(slice, hint));
  }
  if (report.resources.has_value()) {
    json["resources"] = ResourcesJson(*report.resources);
  }
  if (report.nested.empty()) return json;
  json["nested"] = nlohmann::json::array();
  for (const NestedReport& nested : report.nested) {
    nlohmann::json item = CodeJson(nested.report, hint);
    item["requirement"] = nested.requirement;
    item["satisfies_requirement"] =
        nested.status.ok() && nested.report.ExplicitRequirement().ok();
    item["is_other_version"] = nested.is_other_version;
    if (!nested.status.ok()) {
      item["valid"] = false;
      item["error"] = ErrorJson(nested.status, hint);
    }
    json["nested"].push_back(std::move(item));
  }
  return json;
}

// --- Text -------------------------------------------------------------------

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

std::string AppleText(const Check* check, const absl::Status& status) {
  if (check != nullptr && check->apple_error.has_value()) {
    return std::string(check->apple_error->text);
  }
  return std::string(Message(status));
}

class Teller {
 public:
  explicit Teller(const ReportTextOptions& options) : options_(options) {}

  ToldReport Tell(const VerificationReport& report) && {
    TellNested(report);
    told_.verdict = Pronounce(report);
    if (!is_codesign()) ListChecks(report);
    return std::move(told_);
  }

 private:
  bool is_codesign() const { return options_.style == ReportStyle::kCodesign; }

  void Add(Kind kind, std::string text) {
    told_.lines.push_back({kind, std::move(text)});
  }
  // From that many -v on.
  void Answer(int verbosity, std::string text) {
    if (options_.verbosity >= verbosity) Add(Kind::kAnswer, std::move(text));
  }

  void TellNested(const VerificationReport& report);
  absl::Status Pronounce(const VerificationReport& report);
  void Explain(const VerificationReport& report, const std::string& line,
               const absl::Status& status, const Check* check);
  void ListProblems(const VerificationReport& report);
  void ListChecks(const VerificationReport& report);
  void ListChecks(const std::string& subject, const std::vector<Check>& checks);

  const ReportTextOptions& options_;
  ToldReport told_;
};

// The progress of codesign -vv, which counts the v that asks for verification.
void Teller::TellNested(const VerificationReport& report) {
  if (options_.verbosity < (is_codesign() ? 1 : 2)) return;
  for (const NestedReport& nested : report.nested) {
    Add(Kind::kProgress, "--prepared:" + nested.report.path);
    TellNested(nested.report);
    if (nested.status.ok() && nested.report.Validity().ok() &&
        nested.report.ExplicitRequirement().ok()) {
      Add(Kind::kProgress, "--validated:" + nested.report.path);
    }
  }
}

// Says what holds and what does not; the worst of it.
absl::Status Teller::Pronounce(const VerificationReport& report) {
  const std::string& path = report.path;
  if (const absl::Status status = report.Validity(); !status.ok()) {
    const Check* check = report.FirstFailure();
    Explain(report, path + ": " + AppleText(check, status), status, check);
    return status;
  }
  Answer(0, path + ": valid on disk");
  // Apple's tool looks at it only when it has something to say.
  const absl::Status designated = is_codesign() && options_.verbosity < 0
                                      ? absl::OkStatus()
                                      : report.DesignatedRequirement();
  if (designated.ok()) {
    Answer(0, path + ": satisfies its Designated Requirement");
  } else {
    Explain(report, path + ": does not satisfy its designated Requirement",
            designated, FindFailure(report, kCheckDesignatedRequirement));
  }
  if (!options_.has_requirement) return designated;
  absl::Status explicit_requirement = report.ExplicitRequirement();
  if (explicit_requirement.ok()) {
    Answer(0, path + ": explicit requirement satisfied");
    return designated;
  }
  const Check* check = FindFailure(report, kCheckExplicitRequirement);
  Explain(report, "test-requirement: " + AppleText(check, explicit_requirement),
          explicit_requirement, check);
  return explicit_requirement;
}

// Apple's line, the place, the files, then our reason and advice.
void Teller::Explain(const VerificationReport& report, const std::string& line,
                     const absl::Status& status, const Check* check) {
  Add(Kind::kFault, line);
  if (check != nullptr && !check->subcomponent.empty()) {
    Add(Kind::kFault, "In subcomponent: " + check->subcomponent);
  }
  const SliceReport* slice = SliceOf(report, check);
  if (slice != nullptr && !slice->architecture.empty()) {
    Add(Kind::kFault, "In architecture: " + slice->architecture);
  }
  ListProblems(report);
  // The message may begin with the words that the first line has already.
  std::string why(Message(status));
  if (check != nullptr && check->apple_error.has_value() &&
      why.starts_with(check->apple_error->text)) {
    why.erase(0, check->apple_error->text.size());
    why.erase(0, std::min(why.find_first_not_of(": "), why.size()));
  }
  const ErrorDetail detail = DetailOf(status);
  if (detail.has_byte_offset()) {
    absl::StrAppend(&why, why.empty() ? "" : " ", "(at byte ",
                    detail.byte_offset(), ")");
  }
  if (!why.empty()) Add(Kind::kFault, "  why    " + why);
  if (options_.hint != nullptr) {
    Add(Kind::kFault,
        "  fix    " + std::string(options_.hint(detail.reason())));
  }
}

void Teller::ListProblems(const VerificationReport& report) {
  for (const NestedReport& nested : report.nested) ListProblems(nested.report);
  if (!report.resources.has_value()) return;
  if (is_codesign() && options_.verbosity < 0) return;
  for (const ResourceProblem& problem : report.resources->problems) {
    Add(Kind::kFile, "file " + std::string(ChangeName(problem.change)) + ": " +
                         DetailOf(problem.status).subject());
  }
}

// Every check by name, for those who ask. For everyone, what nobody looked at,
// where it could have changed the answer: of code that is good so far, and that
// a certificate signed.
void Teller::ListChecks(const VerificationReport& report) {
  const bool has_signer = std::any_of(
      report.slices.begin(), report.slices.end(),
      [](const SliceReport& each) { return !each.authorities.empty(); });
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
  if (has_signer && report.Validity().ok()) {
    for (const SliceReport& slice : report.slices) look(slice.checks);
    look(report.checks);
  }
  if (!missing.empty()) Answer(0, "  not checked: " + missing);
  for (const SliceReport& slice : report.slices) {
    ListChecks(slice.architecture, slice.checks);
  }
  ListChecks("", report.checks);
}

void Teller::ListChecks(const std::string& subject,
                        const std::vector<Check>& checks) {
  for (const Check& check : checks) {
    const bool is_missing = check.outcome == CheckOutcome::kNotChecked;
    Answer(
        is_missing ? 1 : 2,
        absl::StrCat("  ", subject, subject.empty() ? "" : ": ",
                     std::string(OutcomeName(check.outcome)), " ", check.name,
                     check.note.empty() ? "" : ": ", check.note));
  }
}

}  // namespace

std::string ReasonName(Reason reason) {
  const std::string& name = v1::Reason_Name(reason);
  if (name.empty()) return std::to_string(static_cast<int>(reason));
  return name.substr(sizeof "REASON_" - 1);
}

nlohmann::json ErrorJson(const absl::Status& status, HintSource hint) {
  const ErrorDetail detail = DetailOf(status);
  nlohmann::json json = {{"code", absl::StatusCodeToString(status.code())},
                         {"reason", ReasonName(detail.reason())},
                         {"stage", StageName(detail.stage())},
                         {"message", std::string(Message(status))}};
  if (hint != nullptr) json["fix"] = std::string(hint(detail.reason()));
  if (!detail.subject().empty()) json["subject"] = detail.subject();
  if (!detail.rule().empty()) json["rule"] = detail.rule();
  if (detail.has_byte_offset()) json["byte_offset"] = detail.byte_offset();
  if (!detail.request_id().empty()) json["request_id"] = detail.request_id();
  return json;
}

ToldReport TellReport(const VerificationReport& report,
                      const ReportTextOptions& options) {
  return Teller(options).Tell(report);
}

nlohmann::json ReportJson(const VerificationReport& report,
                          bool has_requirement, HintSource hint) {
  nlohmann::json json = CodeJson(report, hint);
  json["satisfies_designated_requirement"] =
      report.DesignatedRequirement().ok();
  if (has_requirement) {
    json["satisfies_requirement"] = report.ExplicitRequirement().ok();
  }
  return json;
}

}  // namespace codeseal
