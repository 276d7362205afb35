// gMock matchers for absl::Status and absl::StatusOr.

#ifndef CODESEAL_TESTS_SUPPORT_STATUS_MATCHERS_H_
#define CODESEAL_TESTS_SUPPORT_STATUS_MATCHERS_H_

#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/error.h"
#include "gmock/gmock.h"

namespace codeseal::testing {

inline const absl::Status& GetStatus(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& GetStatus(const absl::StatusOr<T>& result) {
  return result.status();
}

inline std::string Describe(const absl::Status& status) {
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  return status.ToString() +
         (detail.has_value() ? " {" + detail->ShortDebugString() + "}" : "");
}

MATCHER(IsOk, negation ? "is an error" : "is OK") {
  *result_listener << Describe(GetStatus(arg));
  return GetStatus(arg).ok();
}

MATCHER_P(HasReason, reason,
          std::string(negation ? "has not reason " : "has reason ") +
              v1::Reason_Name(reason)) {
  *result_listener << Describe(GetStatus(arg));
  return !GetStatus(arg).ok() && GetReason(GetStatus(arg)) == reason;
}

MATCHER_P(HasCode, code,
          std::string(negation ? "has not code " : "has code ") +
              absl::StatusCodeToString(code)) {
  *result_listener << Describe(GetStatus(arg));
  return GetStatus(arg).code() == code;
}

// The message contains `text`.
MATCHER_P(HasMessage, text, "") {
  *result_listener << Describe(GetStatus(arg));
  return std::string(Message(GetStatus(arg))).find(text) != std::string::npos;
}

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_STATUS_MATCHERS_H_
