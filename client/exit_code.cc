#include "client/exit_code.h"

#include <algorithm>
#include <array>
#include <optional>

#include "codesign/base/error.h"

namespace codeseal::client {

ExitCode ExitCodeFor(const absl::Status& status) {
  if (status.ok()) return ExitCode::kDone;
  if (const std::optional<ErrorDetail> detail = GetErrorDetail(status)) {
    if (detail->stage() == v1::STAGE_USAGE) return ExitCode::kUsage;
    switch (static_cast<int>(detail->reason())) {  // int: a choice of some
      case v1::REASON_USAGE:
      case v1::REASON_BAD_OPTION:
      case v1::REASON_REQUIREMENT_SYNTAX:
      case v1::REASON_BAD_TOKEN_URI:
        return ExitCode::kUsage;
      case v1::REASON_REQUIREMENT_NOT_SATISFIED:
      case v1::REASON_ASSESSMENT_REJECTED:  // 3, as spctl has it
        return ExitCode::kRequirementFailed;
      // Trying again does not help, whatever code they travel with.
      case v1::REASON_TLS_FAILED:
      case v1::REASON_DISK_FULL:
      case v1::REASON_MESSAGE_TOO_LARGE:
      case v1::REASON_FILE_CHANGED:
        return ExitCode::kNo;
      default:
        break;  // The Status's code decides.
    }
  }
  if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
      absl::IsResourceExhausted(status) || absl::IsAborted(status)) {
    return ExitCode::kTryAgain;
  }
  if (absl::IsInternal(status) || absl::IsUnknown(status) ||
      absl::IsDataLoss(status) || absl::IsUnimplemented(status)) {
    return ExitCode::kInternal;
  }
  return ExitCode::kNo;
}

ExitCode Worse(ExitCode a, ExitCode b) {
  constexpr std::array kMildestFirst = {
      ExitCode::kDone, ExitCode::kTryAgain, ExitCode::kRequirementFailed,
      ExitCode::kNo,   ExitCode::kUsage,    ExitCode::kInternal};
  return *std::max(std::find(kMildestFirst.begin(), kMildestFirst.end(), a),
                   std::find(kMildestFirst.begin(), kMildestFirst.end(), b));
}

ExitCode AppleExitCode(ExitCode code) {
  return code == ExitCode::kDone || code == ExitCode::kRequirementFailed
             ? code
             : ExitCode::kNo;
}

}  // namespace codeseal::client
