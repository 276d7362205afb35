#include "codesign/base/error.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/cord.h"
#include "codesign/base/utf8.h"

namespace codeseal {
namespace {

constexpr char kTypeUrl[] = "type.googleapis.com/codeseal.v1.ErrorDetail";

absl::string_view ToAbsl(std::string_view text) {
  return {text.data(), text.size()};
}

}  // namespace

absl::Status MakeError(absl::StatusCode code, Stage stage, Reason reason,
                       std::string_view message) {
  ErrorDetail detail;
  detail.set_stage(stage);
  detail.set_reason(reason);
  return WithErrorDetail(absl::Status(code, EscapeInvalidUtf8(message)),
                         detail);
}

absl::Status ParseError(Reason reason, uint64_t byte_offset,
                        std::string_view message) {
  ErrorDetail detail;
  detail.set_stage(v1::STAGE_PARSE);
  detail.set_reason(reason);
  detail.set_byte_offset(byte_offset);
  return WithErrorDetail(absl::InvalidArgumentError(EscapeInvalidUtf8(message)),
                         detail);
}

absl::Status BrokenRule(std::string_view rule, Reason reason,
                        uint64_t byte_offset, std::string_view message) {
  return WithRule(ParseError(reason, byte_offset, message), rule);
}

std::optional<ErrorDetail> GetErrorDetail(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kTypeUrl);
  ErrorDetail detail;
  if (!payload.has_value() ||
      !detail.ParseFromString(std::string(payload.value()))) {
    return std::nullopt;
  }
  return detail;
}

Reason GetReason(const absl::Status& status) {
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  return detail.has_value() ? detail->reason() : v1::REASON_UNSPECIFIED;
}

absl::Status WithErrorDetail(absl::Status status, const ErrorDetail& detail) {
  if (!status.ok()) {
    const std::string serialized = detail.SerializeAsString();
    status.SetPayload(kTypeUrl, absl::Cord(ToAbsl(serialized)));
  }
  return status;
}

absl::Status WithSubject(absl::Status status, std::string_view subject) {
  std::optional<ErrorDetail> detail = GetErrorDetail(status);
  if (!detail.has_value() || !detail->subject().empty()) return status;
  detail->set_subject(EscapeInvalidUtf8(subject));
  return WithErrorDetail(std::move(status), *detail);
}

absl::Status WithRule(absl::Status status, std::string_view rule) {
  std::optional<ErrorDetail> detail = GetErrorDetail(status);
  if (!detail.has_value() || !detail->rule().empty()) return status;
  detail->set_rule(EscapeInvalidUtf8(rule));
  return WithErrorDetail(std::move(status), *detail);
}

absl::Status WithOffsetBase(absl::Status status, uint64_t base) {
  std::optional<ErrorDetail> detail = GetErrorDetail(status);
  if (!detail.has_value() || !detail->has_byte_offset()) return status;
  detail->set_byte_offset(detail->byte_offset() + base);
  return WithErrorDetail(std::move(status), *detail);
}

std::string_view Message(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

absl::Status FileError(int error_number, Stage stage, std::string_view action,
                       std::string_view path) {
  Reason reason = stage == v1::STAGE_WRITE ? v1::REASON_FILE_NOT_WRITABLE
                                           : v1::REASON_FILE_NOT_READABLE;
  absl::StatusCode code = absl::StatusCode::kFailedPrecondition;
  if (error_number == ENOENT || error_number == ENOTDIR) {
    reason = v1::REASON_FILE_NOT_FOUND;
    code = absl::StatusCode::kNotFound;
  } else if (error_number == ENOSPC || error_number == EDQUOT) {
    reason = v1::REASON_DISK_FULL;
    code = absl::StatusCode::kResourceExhausted;
  }
  std::string message = "cannot ";
  message.append(action).append(" ").append(path).append(": ");
  message.append(std::strerror(error_number));
  return WithSubject(MakeError(code, stage, reason, message), path);
}

absl::Status WriteError(int error_number, std::string_view action,
                        std::string_view path) {
  return FileError(error_number, v1::STAGE_WRITE, action, path);
}

}  // namespace codeseal
