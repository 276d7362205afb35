#include "codesign/verify/check_list.h"

#include "codesign/bundle/bundle_error.h"

namespace codeseal {
namespace {

// Faults of codesign/bundle begin with Apple's words already.
std::string WithAppleText(std::string_view apple_text,
                          std::string_view detail) {
  if (detail.starts_with(apple_text)) return std::string(detail);
  std::string message(apple_text);
  if (!detail.empty()) message.append(": ").append(detail);
  return message;
}

}  // namespace

void CheckList::Pass(std::string_view name, std::string note) {
  Add(name, CheckOutcome::kPassed, std::move(note));
}

void CheckList::Skip(std::string_view name, std::string note) {
  Add(name, CheckOutcome::kNotChecked, std::move(note));
}

void CheckList::Fail(std::string_view name, const AppleError& apple_error,
                     Reason reason, std::string_view detail,
                     std::optional<uint64_t> file_offset) {
  ErrorDetail error_detail;
  error_detail.set_reason(reason);
  error_detail.set_subject(subject_);
  if (file_offset.has_value()) error_detail.set_byte_offset(*file_offset);
  AddFailure(name, apple_error, detail, error_detail);
}

void CheckList::Fail(std::string_view name, const AppleError& apple_error,
                     const absl::Status& cause, std::optional<uint64_t> base) {
  ErrorDetail error_detail =
      GetErrorDetail(WithOffsetBase(cause, base.value_or(0)))
          .value_or(ErrorDetail());
  if (!base.has_value()) error_detail.clear_byte_offset();
  error_detail.set_subject(subject_);
  AddFailure(name, apple_error, Message(cause), error_detail);
}

void CheckList::FailBundle(std::string_view name, const absl::Status& cause) {
  ErrorDetail error_detail = GetErrorDetail(cause).value_or(ErrorDetail());
  if (error_detail.subject().empty()) error_detail.set_subject(subject_);
  AddFailure(name, AppleErrorOf(error_detail.reason()), Message(cause),
             error_detail);
}

void CheckList::Add(std::string_view name, CheckOutcome outcome,
                    std::string note) {
  Check check;
  check.name = std::string(name);
  check.outcome = outcome;
  check.note = std::move(note);
  checks_.push_back(std::move(check));
}

void CheckList::AddFailure(std::string_view name, const AppleError& apple_error,
                           std::string_view detail,
                           const ErrorDetail& error_detail) {
  Add(name, CheckOutcome::kFailed, std::string(detail));
  ErrorDetail verdict = error_detail;
  verdict.set_stage(v1::STAGE_VERIFY);
  checks_.back().status = WithErrorDetail(
      absl::FailedPreconditionError(WithAppleText(apple_error.text, detail)),
      verdict);
  checks_.back().apple_error = apple_error;
}

}  // namespace codeseal
