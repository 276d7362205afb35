#include "server/permit.h"

#include <algorithm>

#include "codesign/base/error.h"
#include "server/quota.h"
#include "server/release_window.h"

namespace codeseal {
namespace {

absl::Status CheckDigestOnly(const PermitInput& input) {
  const bool digests_alone = input.checked.code_directories.empty() &&
                             !input.checked.package.has_value();
  if (!digests_alone || input.identity.digest_only.empty() ||
      AnyRuleFits(input.identity.digest_only, input.peer)) {
    return absl::OkStatus();
  }
  return WithRule(MakeError(absl::StatusCode::kPermissionDenied,
                            v1::STAGE_POLICY, v1::REASON_POLICY_VIOLATION,
                            "this client may not have digests alone signed"),
                  input.identity.name + "/digest_only");
}

constexpr char kClaimToken[] =
    "INSERT INTO identity_tokens (issuer, token_id, client, expires_at) "
    "VALUES (?, ?, ?, ?) ON CONFLICT (issuer, token_id) DO NOTHING";
constexpr char kFindToken[] =
    "SELECT client FROM identity_tokens WHERE issuer = ? AND token_id = ?";

// A token is good for one client: one that was stolen opens nothing elsewhere.
absl::Status ClaimToken(Database& database, const WorkloadIdentity& workload,
                        const std::string& certificate) {
  ASSIGN_OR_RETURN(
      const DatabaseResult claimed,
      database.Run(kClaimToken,
                   {workload.issuer, workload.token_id, certificate,
                    absl::ToUnixSeconds(workload.expires_at) + 1}));
  if (claimed.changed_count != 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(
      const DatabaseResult found,
      database.Run(kFindToken, {workload.issuer, workload.token_id}));
  if (!found.rows.empty() && found.Text(0, 0) == certificate) {
    return absl::OkStatus();
  }
  return MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                   v1::REASON_BAD_IDENTITY_TOKEN,
                   "the identity token is refused: another client has used "
                   "it");
}

}  // namespace

bool Permit::counts() const {
  return quotas_ != QuotaConfig() || workload_ != nullptr || needs_grant_;
}

absl::Status Permit::Charge(Database& database) const {
  RETURN_IF_ERROR(window_);
  RETURN_IF_ERROR(ChargeQuotas(database, identity_, quotas_, client_, at_));
  if (workload_ != nullptr) {
    RETURN_IF_ERROR(ClaimToken(database, *workload_, certificate_));
  }
  return needs_grant_ ? UseGrant(database, grant_, at_) : absl::OkStatus();
}

absl::Status Permit::Refund(Database& database) const {
  RETURN_IF_ERROR(RefundQuotas(database, identity_, quotas_, client_, at_));
  return needs_grant_ ? ReturnGrant(database, grant_) : absl::OkStatus();
}

absl::StatusOr<Permit> CheckPermit(const PermitInput& input) {
  RETURN_IF_ERROR(CheckDigestOnly(input));
  Permit permit;
  permit.window_ =
      CheckReleaseWindow(input.identity.release_windows, input.now);
  permit.identity_ = input.identity.name;
  permit.quotas_ = input.identity.limits;
  permit.client_ = input.peer.Name();
  permit.at_ = input.now;
  const auto& allow = input.identity.allow;
  if (std::any_of(allow.begin(), allow.end(), [](const PeerRule& rule) {
        return !rule.provider.empty();
      })) {
    permit.workload_ = input.peer.workload;
    permit.certificate_ = input.peer.fingerprint;
  }
  // A dry run without a grant asks for everything else: it tells the cdhashes
  // that a grant is requested for.
  permit.needs_grant_ =
      input.identity.approvals.quorum != 0 &&
      !(input.request.validate_only() && input.request.grant().empty());
  permit.grant_.id = input.request.grant();
  permit.grant_.identity = input.identity.name;
  for (const CdHash& each : input.checked.cdhashes) {
    permit.grant_.cdhashes.push_back(ToBytes(each));
  }
  if (input.checked.package.has_value()) {
    permit.grant_.identifiers = input.checked.package->identifiers;
  } else if (!input.checked.code_directories.empty()) {
    permit.grant_.identifiers = {
        std::string(input.checked.code_directories.front().identifier())};
  }
  return permit;
}

}  // namespace codeseal
