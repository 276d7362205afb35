#include "hsm/failover_key.h"

#include <utility>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "hsm/key_policy.h"

namespace codeseal {
namespace {

// While another token signs, the first one is tried again this often: the call
// that tries it may have to wait.
constexpr absl::Duration kReturnInterval = absl::Seconds(5);

// Whether another token may do better. What is wrong with the request itself
// stays wrong.
bool MayDifferElsewhere(const absl::Status& status) {
  return status.code() != absl::StatusCode::kInvalidArgument &&
         GetReason(status) != v1::REASON_KEY_UNSUPPORTED;
}

}  // namespace

FailoverKey::FailoverKey(Bytes public_key, size_t place_count)
    : public_key_(std::move(public_key)), keys_(place_count) {}

absl::Status FailoverKey::SetKey(size_t place,
                                 std::shared_ptr<KeyBackend> key) {
  RETURN_IF_ERROR(CheckKeyMatch(key->public_key(), public_key_));
  const std::lock_guard<std::mutex> lock(mutex_);
  keys_.at(place) = std::move(key);
  return absl::OkStatus();
}

std::vector<FailoverKey::Place> FailoverKey::Order() {
  const std::lock_guard<std::mutex> lock(mutex_);
  size_t first = preferred_;
  const absl::Time now = absl::Now();
  if (first != 0 && now >= return_at_) {
    first = 0;
    return_at_ = now + kReturnInterval;  // one call tries, the others do not
  }
  std::vector<Place> order;
  const auto add = [&](size_t number) {
    if (keys_[number] != nullptr) order.push_back({number, keys_[number]});
  };
  add(first);
  for (size_t number = 0; number < keys_.size(); ++number) {
    if (number != first) add(number);
  }
  return order;
}

void FailoverKey::NoteSigned(size_t number) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (preferred_ == number) return;
  preferred_ = number;
  return_at_ = absl::Now() + kReturnInterval;
}

absl::StatusOr<Bytes> FailoverKey::Sign(SignMechanism mechanism,
                                        SignDigest digest_kind, ByteView digest,
                                        absl::Time deadline) {
  absl::Status fault = MakeError(
      absl::StatusCode::kUnavailable, v1::STAGE_TOKEN, v1::REASON_TOKEN_DOWN,
      "no token that holds the key has answered yet");
  const std::vector<Place> order = Order();
  for (size_t i = 0; i < order.size(); ++i) {
    const absl::Time now = absl::Now();
    const auto share = static_cast<double>(order.size() - i);
    absl::StatusOr<Bytes> signature = order[i].key->Sign(
        mechanism, digest_kind, digest, now + (deadline - now) / share);
    if (signature.ok()) {
      NoteSigned(order[i].number);
      return signature;
    }
    fault = std::move(signature).status();
    if (!MayDifferElsewhere(fault)) return fault;
  }
  return fault;
}

void FailoverKey::Distrust(const absl::Status& why) {
  std::vector<std::shared_ptr<KeyBackend>> keys;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    keys = keys_;
  }
  for (const std::shared_ptr<KeyBackend>& key : keys) {
    if (key != nullptr) key->Distrust(why);
  }
}

}  // namespace codeseal
