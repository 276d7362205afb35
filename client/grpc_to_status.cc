#include "client/grpc_to_status.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "codesign/base/error.h"

namespace codeseal::client {
namespace {

// gRPC and absl number the codes alike (google.rpc.Code); anything else is a
// broken peer.
absl::StatusCode ToCode(int code) {
  if (code <= 0 ||
      code > static_cast<int>(absl::StatusCode::kUnauthenticated)) {
    return absl::StatusCode::kInternal;
  }
  return static_cast<absl::StatusCode>(code);
}

std::optional<ErrorDetail> FindDetail(const v1::Status& status) {
  for (const google::protobuf::Any& any : status.details()) {
    ErrorDetail detail;
    if (any.Is<ErrorDetail>() && any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

// The faults of connecting for which gRPC 1.51 has no useful words.
std::string ExplainConnecting(const std::string& message) {
  const auto says = [&](std::string_view part) {
    return message.find(part) != std::string::npos;
  };
  if (message.starts_with("empty address list")) {
    return "no TLS handshake was possible: does the key belong to the client "
           "certificate?";
  }
  if (says("failed to connect") &&
      (says("Socket closed") || says("Connection reset"))) {
    return message +
           ": the server hung up, as it does when it does not accept the "
           "client certificate or has too many connections";
  }
  return message;
}

// gRPC reports a failed handshake as UNAVAILABLE like a refused connection;
// only the text tells them apart.
bool SpeaksOfTls(std::string_view message) {
  constexpr std::array<std::string_view, 4> kMarks = {
      "handshake", "SSL", "certificate verify", "eer name"};
  return std::any_of(kMarks.begin(), kMarks.end(), [&](std::string_view mark) {
    return message.find(mark) != std::string_view::npos;
  });
}

Reason GuessReason(int code, std::string_view message) {
  switch (code) {
    case grpc::StatusCode::UNAVAILABLE:
      return SpeaksOfTls(message) ? v1::REASON_TLS_FAILED
                                  : v1::REASON_SERVER_UNREACHABLE;
    case grpc::StatusCode::UNAUTHENTICATED:
      return v1::REASON_TLS_FAILED;
    case grpc::StatusCode::PERMISSION_DENIED:
      return v1::REASON_NOT_AUTHORISED;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return v1::REASON_DEADLINE_EXCEEDED;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return message.find("larger than max") != std::string_view::npos
                 ? v1::REASON_MESSAGE_TOO_LARGE
                 : v1::REASON_OVERLOADED;
    case grpc::StatusCode::UNIMPLEMENTED:
    case grpc::StatusCode::INVALID_ARGUMENT:
      return v1::REASON_BAD_REQUEST;
    case grpc::StatusCode::NOT_FOUND:
      return v1::REASON_IDENTITY_NOT_FOUND;
    default:
      return v1::REASON_INTERNAL;
  }
}

}  // namespace

absl::Status WireToStatus(const v1::Status& status) {
  const absl::StatusCode code = ToCode(status.code());
  std::optional<ErrorDetail> detail = FindDetail(status);
  if (!detail.has_value()) {
    detail.emplace();
    detail->set_stage(v1::STAGE_TRANSPORT);
    detail->set_reason(GuessReason(status.code(), status.message()));
  }
  return WithErrorDetail(absl::Status(code, status.message()), *detail);
}

absl::Status GrpcToStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  v1::Status wire;
  if (!wire.ParseFromString(status.error_details())) wire.Clear();
  // The trailer's own copy of code and text is what gRPC acted on.
  wire.set_code(status.error_code());
  wire.set_message(status.error_message());
  if (wire.details().empty()) {
    wire.set_message(ExplainConnecting(status.error_message()));
  }
  return WireToStatus(wire);
}

}  // namespace codeseal::client
