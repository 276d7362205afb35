#include "server/identity_wire.h"

#include "codesign/base/error.h"
#include "server/status_to_grpc.h"

namespace codeseal {
namespace {

void SetTime(absl::Time time, google::protobuf::Timestamp& wire) {
  wire.set_seconds(absl::ToUnixSeconds(time));
}

}  // namespace

v1::Identity DescribeVersion(const IdentityVersion& version, absl::Time now) {
  const Certificate& leaf = version.chain().front();
  const IdentityLifecycle lifecycle = version.lifecycle();
  v1::Identity identity;
  identity.set_name(version.name());
  identity.set_version(version.id());
  identity.set_state(lifecycle.state);
  for (const Certificate& each : version.chain()) {
    identity.add_certificate_chain(ToString(each.der()));
  }
  identity.set_common_name(leaf.CommonName());
  identity.set_team_identifier(version.team());
  identity.set_leaf_sha1(ToString(version.leaf_sha1()));
  SetTime(leaf.not_before(), *identity.mutable_not_before());
  SetTime(leaf.not_after(), *identity.mutable_not_after());
  identity.set_key_algorithm(leaf.KeyAlgorithm());
  if (const absl::Status fault = version.fault(); !fault.ok()) {
    identity.set_unavailable_because(TextForCaller(Message(fault)));
  }
  if (lifecycle.activate_at != absl::InfiniteFuture()) {
    SetTime(lifecycle.activate_at, *identity.mutable_activate_at());
  }
  if (lifecycle.since != absl::InfinitePast()) {
    SetTime(lifecycle.since, *identity.mutable_since());
  }
  for (std::string& each : WarningsAbout(version, now)) {
    identity.add_warnings(std::move(each));
  }
  return identity;
}

std::vector<std::string> WarningsAbout(const IdentityVersion& version,
                                       absl::Time now) {
  const v1::IdentityState state = version.state();
  if (state != v1::IDENTITY_STATE_ACTIVE &&
      state != v1::IDENTITY_STATE_STAGED) {
    return {};
  }
  const absl::Time end = version.chain().front().not_after();
  const std::string date =
      absl::FormatTime("%Y-%m-%d", end, absl::UTCTimeZone());
  if (now >= end) return {"the certificate expired on " + date};
  if (end - now > version.identity().expiry_warning) return {};
  const int64_t days = (end - now) / absl::Hours(24);
  return {"the certificate expires in " + std::to_string(days) +
          (days == 1 ? " day, on " : " days, on ") + date};
}

}  // namespace codeseal
