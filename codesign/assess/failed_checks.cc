#include "codesign/assess/failed_checks.h"

#include <algorithm>
#include <string>
#include <utility>

#include "codesign/base/error.h"

namespace codeseal {
namespace {

// What to do about a fault, for the reasons that signed code can have.
std::string FixOf(Reason reason) {
  switch (static_cast<int>(reason)) {  // int: a choice of some
    case v1::REASON_NOT_SIGNED:
    case v1::REASON_UNSIGNED_NESTED_CODE:
      return "sign it, or its whole bundle with codeseal sign --deep";
    case v1::REASON_INCOMPLETE_CHAIN:
      return "add the missing intermediate certificate to the identity, then "
             "sign again";
    case v1::REASON_CERTIFICATE_EXPIRED:
      return "sign again with a certificate that is valid now, and with a "
             "timestamp";
    case v1::REASON_TEAM_IDENTIFIER_MISMATCH:
      return "sign every slice with the same identity";
    case v1::REASON_SEALED_RESOURCE_CHANGED:
      return "undo the change, or sign the bundle again: nothing may change "
             "after signing";
    case v1::REASON_UNSEALED_APP_ROOT:
      return "move it into Contents/Resources and sign again";
    case v1::REASON_WEAK_RESOURCE_RULES:
    case v1::REASON_WEAK_RESOURCE_ENVELOPE:
      return "sign again with codeseal, without rules of your own";
    case v1::REASON_INVALID_SYMLINK:
      return "let the link point to something inside the bundle, by a relative "
             "path, and sign again";
    case v1::REASON_RESOURCES_NOT_FOUND:
      return "sign the bundle, not only its executable";
    default:
      return "sign it again with codeseal sign -f";
  }
}

std::string ChangeWord(ResourceChange change) {
  switch (change) {
    case ResourceChange::kAdded:
      return "added after signing";
    case ResourceChange::kMissing:
      return "missing";
    case ResourceChange::kModified:
      return "modified after signing";
    case ResourceChange::kBadCode:
      return "not the code that the seal wants";
  }
  return "changed";
}

class Collector {
 public:
  Collector(std::string_view rule, std::string_view message)
      : rule_(rule), message_(message) {}

  void Add(const VerificationReport& report) {
    for (const SliceReport& slice : report.slices) {
      for (const Check& check : slice.checks) {
        AddCheck(report.path, slice.architecture, check);
      }
    }
    for (const Check& check : report.checks) {
      // Told below, one by one.
      const bool is_told =
          (check.name == kCheckResources && report.resources.has_value() &&
           !report.resources->problems.empty()) ||
          (check.name == kCheckNestedCode && check.subcomponent != "");
      if (!is_told) AddCheck(report.path, "", check);
    }
    if (report.resources.has_value()) {
      for (const ResourceProblem& problem : report.resources->problems) {
        const std::string subject =
            GetErrorDetail(problem.status).value_or(ErrorDetail()).subject();
        AddFinding(subject.empty() ? report.path : subject, "",
                   "a sealed resource is missing or invalid: " + problem.path +
                       " is " + ChangeWord(problem.change),
                   problem.status);
      }
    }
    for (const NestedReport& nested : report.nested) AddNested(nested);
  }

  std::vector<Finding> Take() && { return std::move(findings_); }

 private:
  void AddNested(const NestedReport& nested) {
    if (!nested.status.ok()) {
      AddFinding(nested.report.path, "", std::string(Message(nested.status)),
                 nested.status);
      return;
    }
    Add(nested.report);
    if (nested.is_other_version && nested.report.Validity().ok() &&
        !nested.report.ExplicitRequirement().ok()) {
      AddFinding(nested.report.path, "",
                 "this version of the framework does not meet the requirement "
                 "in the seal: " +
                     nested.requirement,
                 nested.report.ExplicitRequirement());
    }
  }

  void AddCheck(const std::string& path, const std::string& architecture,
                const Check& check) {
    if (check.outcome != CheckOutcome::kFailed ||
        check.name == kCheckExplicitRequirement ||
        check.name == kCheckDesignatedRequirement) {
      return;
    }
    AddFinding(path, architecture, std::string(Message(check.status)),
               check.status, check.name == kCheckSigned);
  }

  void AddFinding(const std::string& path, const std::string& architecture,
                  std::string detail, const absl::Status& status,
                  bool is_unsigned = false) {
    const ErrorDetail known = GetErrorDetail(status).value_or(ErrorDetail());
    Finding finding = {
        .rule = is_unsigned ? "signed" : rule_,
        .severity = Severity::kError,
        .path = path,
        .architecture = architecture,
        .message = is_unsigned ? "The binary is not signed." : message_,
        .detail = std::move(detail),
        .fix = FixOf(known.reason())};
    if (known.has_byte_offset()) finding.byte_offset = known.byte_offset();
    if (std::find(findings_.begin(), findings_.end(), finding) ==
        findings_.end()) {
      findings_.push_back(std::move(finding));
    }
  }

  const std::string rule_;
  const std::string message_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> FindingsOfReport(const VerificationReport& report,
                                      std::string_view rule,
                                      std::string_view message) {
  Collector collector(rule, message);
  collector.Add(report);
  return std::move(collector).Take();
}

}  // namespace codeseal
