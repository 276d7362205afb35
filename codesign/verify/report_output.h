// What a VerificationReport says: lines for people, JSON for programs. One
// place for both, so that whoever has verified says the same of the same code.
//
//   Verify -> VerificationReport -> [TellReport, ReportJson] -> terminal, file
//
// Spec: the words and the order of codesign --verify; our reason and advice
//       come below them.

#ifndef CODESEAL_CODESIGN_VERIFY_REPORT_OUTPUT_H_
#define CODESEAL_CODESIGN_VERIFY_REPORT_OUTPUT_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "codesign/base/error.h"
#include "codesign/verify/verifier.h"

namespace codeseal {

// Advice for a reason. Null where nobody is there to follow it.
using HintSource = std::string_view (*)(Reason reason);

// "REASON_NOT_SIGNED" -> "NOT_SIGNED"; a number that this build does not know
// stays a number.
std::string ReasonName(Reason reason);

// {code, reason, stage, message, fix, subject, rule, byte_offset, request_id};
// absent fields are left out.
nlohmann::json ErrorJson(const absl::Status& status, HintSource hint);

enum class ReportStyle {
  kCodeseal,
  kCodesign,  // no line but Apple's, and ours below a fault
};

struct ReportTextOptions {
  ReportStyle style = ReportStyle::kCodeseal;
  int verbosity = 0;             // number of -v minus number of -q
  bool has_requirement = false;  // VerifyOptions had one
  HintSource hint = nullptr;
};

struct ReportLine {
  enum class Kind {
    kAnswer,    // what holds, and what was looked at
    kProgress,  // of nested code
    kFault,     // what does not hold, where, why, and what to do
    kFile,      // "file added: PATH"; codesign has it on standard output
  };
  Kind kind = Kind::kAnswer;
  std::string text;  // not made safe for a terminal
};

struct ToldReport {
  // OK; what Validity() says; or the requirement that is not met.
  absl::Status verdict;
  std::vector<ReportLine> lines;
};

ToldReport TellReport(const VerificationReport& report,
                      const ReportTextOptions& options);

// Everything that is in the report.
nlohmann::json ReportJson(const VerificationReport& report,
                          bool has_requirement, HintSource hint);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_VERIFY_REPORT_OUTPUT_H_
