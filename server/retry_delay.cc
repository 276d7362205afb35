#include "server/retry_delay.h"

#include <algorithm>
#include <string>

#include "absl/strings/cord.h"
#include "codeseal/v1/status.pb.h"

namespace codeseal {
namespace {

constexpr char kPayload[] = "type.googleapis.com/google.rpc.RetryInfo";

}  // namespace

absl::Status WithRetryDelay(absl::Status status, absl::Duration delay) {
  if (status.ok()) return status;
  v1::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(std::max<int64_t>(
      1, absl::ToInt64Seconds(absl::Ceil(delay, absl::Seconds(1)))));
  status.SetPayload(kPayload, absl::Cord(retry.SerializeAsString()));
  return status;
}

std::optional<absl::Duration> GetRetryDelay(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayload);
  v1::RetryInfo retry;
  if (!payload.has_value() || !retry.ParseFromString(std::string(*payload))) {
    return std::nullopt;
  }
  return absl::Seconds(retry.retry_delay().seconds());
}

}  // namespace codeseal
