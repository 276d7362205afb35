#include "server/health.h"

#include "codesign/base/error.h"
#include "nlohmann/json.hpp"

namespace codeseal {
namespace {

std::string StateWordOf(const absl::Status& status) {
  return status.ok() ? "ok" : v1::Reason_Name(GetReason(status));
}

}  // namespace

absl::Status Health::IdentityStatus(const std::string& identity) const {
  for (IdentityVersion* const each : identities_.Versions(identity)) {
    if (each->state() != v1::IDENTITY_STATE_ACTIVE) continue;
    const absl::Status key = each->key().status();
    return key.ok() ? each->fault() : key;
  }
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_POLICY,
                   v1::REASON_IDENTITY_DISABLED, "no version is active");
}

HealthReport Health::Ask() const {
  HealthReport report;
  bool can_sign = false;
  for (const std::string& name : identities_.Names()) {
    const absl::Status status = IdentityStatus(name);
    can_sign |= status.ok();
    report.checks.emplace_back("identity " + name, StateWordOf(status));
  }
  bool can_log = true;
  if (audit_ != nullptr) {
    const absl::Status status = audit_->fault();
    can_log = status.ok();
    report.checks.emplace_back("audit log", StateWordOf(status));
  }
  if (is_draining_) report.checks.emplace_back("server", "REASON_DRAINING");
  report.is_ready = can_sign && can_log && !is_draining_;
  return report;
}

std::string FormatHealth(const HealthReport& report) {
  nlohmann::ordered_json json = {{"ready", report.is_ready}};
  for (const auto& [name, word] : report.checks) json["checks"][name] = word;
  return json.dump(2) + "\n";
}

}  // namespace codeseal
