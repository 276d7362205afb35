#include "server/status_to_grpc.h"

#include <algorithm>
#include <string>

#include "absl/time/time.h"
#include "codesign/base/error.h"
#include "codesign/base/utf8.h"
#include "server/log.h"
#include "server/retry_delay.h"

namespace codeseal {
namespace {

// gRPC carries the message twice, percent-encoded and inside the details, in
// trailers that many clients bound at 8 KiB. Bytes when percent-encoded.
constexpr size_t kMaxMessageSize = 2048;
constexpr size_t kMaxSubjectSize = 512;

bool EndsPath(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '"' || c == '\'' ||
         c == ',' || c == ';' || c == ')';
}

// Replaces each word that is an absolute path, after "file:" too. Relative
// paths are the caller's own words.
std::string WithoutLocalPaths(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const bool starts_word = at == 0 || EndsPath(text[at - 1]) ||
                             text[at - 1] == '(' || text[at - 1] == '=' ||
                             text[at - 1] == ':';
    if (text[at] == '/' && starts_word && at + 1 < text.size() &&
        text[at + 1] != '/' && !EndsPath(text[at + 1])) {
      size_t end = at;
      while (end < text.size() && !EndsPath(text[end])) ++end;
      const bool colon = text[end - 1] == ':';  // "cannot open /x/y: why"
      out.append("<path>").append(colon ? ":" : "");
      at = end;
    } else {
      out.push_back(text[at++]);
    }
  }
  return out;
}

// Of a byte in gRPC's messages.
size_t EncodedSize(char c) { return c < ' ' || c > '~' || c == '%' ? 3 : 1; }

// Cuts at a character boundary of UTF-8, which protobuf strings must hold.
std::string Bounded(std::string text, size_t max_encoded_size) {
  size_t encoded_size = 0;
  size_t end = 0;
  for (; end < text.size(); ++end) {
    encoded_size += EncodedSize(text[end]);
    if (encoded_size > max_encoded_size) break;
  }
  if (end == text.size()) return text;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

// How long a caller should wait before it sends the same request again; zero
// when that is no use.
absl::Duration RetryDelay(absl::StatusCode code, Reason reason) {
  if (reason == v1::REASON_TSA_DOWN) return absl::Seconds(5);
  if (code == absl::StatusCode::kUnavailable ||
      code == absl::StatusCode::kResourceExhausted ||
      code == absl::StatusCode::kAborted) {
    return absl::Seconds(1);
  }
  return absl::ZeroDuration();
}

// Faults that somebody must look at: ours, and a token that lies.
LogLevel LevelOf(absl::StatusCode code) {
  const bool is_grave = code == absl::StatusCode::kInternal ||
                        code == absl::StatusCode::kDataLoss;
  return is_grave ? LogLevel::kError : LogLevel::kWarning;
}

}  // namespace

std::string TextForCaller(std::string_view text) {
  return EscapeInvalidUtf8(WithoutLocalPaths(text));
}

v1::Status StatusToWire(const absl::Status& status, std::string_view request_id,
                        std::string_view peer) {
  v1::Status wire;
  if (status.ok()) return wire;
  LogStatus(
      LevelOf(status.code()), "request_failed", status,
      {{"request_id", std::string(request_id)}, {"peer", std::string(peer)}});
  std::optional<ErrorDetail> detail = GetErrorDetail(status);
  if (detail.has_value()) {
    wire.set_code(static_cast<int>(status.code()));
    wire.set_message(Bounded(TextForCaller(Message(status)), kMaxMessageSize));
    detail->clear_ck_rv();
    detail->set_subject(
        Bounded(TextForCaller(detail->subject()), kMaxSubjectSize));
  } else {
    wire.set_code(static_cast<int>(absl::StatusCode::kInternal));
    wire.set_message("internal fault");
    detail.emplace();
    detail->set_reason(v1::REASON_INTERNAL);
  }
  detail->set_request_id(std::string(request_id));
  wire.add_details()->PackFrom(*detail);
  const absl::Duration delay = GetRetryDelay(status).value_or(
      RetryDelay(static_cast<absl::StatusCode>(wire.code()), detail->reason()));
  if (delay > absl::ZeroDuration()) {
    v1::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(absl::ToInt64Seconds(delay));
    google::protobuf::Any& packed = *wire.add_details();
    packed.set_type_url("type.googleapis.com/google.rpc.RetryInfo");
    packed.set_value(retry.SerializeAsString());
  }
  return wire;
}

grpc::Status StatusToGrpc(const absl::Status& status,
                          std::string_view request_id, std::string_view peer) {
  if (status.ok()) return grpc::Status::OK;
  const v1::Status wire = StatusToWire(status, request_id, peer);
  return {static_cast<grpc::StatusCode>(wire.code()), wire.message(),
          wire.SerializeAsString()};
}

}  // namespace codeseal
