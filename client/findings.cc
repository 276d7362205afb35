#include "client/findings.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace codeseal::client {
namespace {

nlohmann::json OrNull(const std::string& text) {
  return text.empty() ? nlohmann::json(nullptr) : nlohmann::json(text);
}

}  // namespace

nlohmann::json FindingJson(const Finding& finding) {
  nlohmann::json json = {
      {"severity", std::string(SeverityName(finding.severity))},
      {"code", nullptr},
      {"path", finding.path},
      {"message", finding.message},
      {"docUrl", OrNull(finding.doc_url)},
      {"architecture", OrNull(finding.architecture)},
      {"rule", finding.rule},
      {"fix", finding.fix}};
  if (!finding.detail.empty()) json["detail"] = finding.detail;
  if (finding.byte_offset.has_value()) {
    json["byte_offset"] = *finding.byte_offset;
  }
  return json;
}

nlohmann::json FindingsJson(std::span<const Finding> findings) {
  nlohmann::json json = nlohmann::json::array();
  for (const Finding& finding : findings) json.push_back(FindingJson(finding));
  return json;
}

void SayFindings(std::span<const Finding> findings, Reporter& reporter) {
  for (const Finding& finding : findings) {
    const int from =
        reporter.is_apple() || finding.severity == Severity::kNote ? 1 : 0;
    std::string line = absl::StrCat(std::string(SeverityName(finding.severity)),
                                    ": ", finding.path);
    if (!finding.architecture.empty()) {
      absl::StrAppend(&line, " (", finding.architecture, ")");
    }
    absl::StrAppend(&line, ": ", finding.message, " [", finding.rule, "]");
    reporter.Say(from, line);
    if (!finding.detail.empty()) {
      std::string why = finding.detail;
      if (finding.byte_offset.has_value()) {
        absl::StrAppend(&why, " (at byte ", *finding.byte_offset, ")");
      }
      reporter.Say(from, "  why    " + why);
    }
    reporter.Say(from, "  fix    " + finding.fix);
  }
}

}  // namespace codeseal::client
