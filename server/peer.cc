#include "server/peer.h"

#include <algorithm>
#include <utility>

#include "codesign/base/error.h"
#include "server/log.h"
#include "server/pattern.h"

namespace codeseal {
namespace {

bool AnyMatches(const std::string& pattern,
                const std::vector<std::string>& names, char separator) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return MatchesPattern(pattern, name, separator);
  });
}

bool WorkloadFits(const PeerRule& rule, const WorkloadIdentity* workload) {
  if (rule.provider.empty()) return true;
  return workload != nullptr && workload->provider == rule.provider &&
         std::all_of(rule.claims.begin(), rule.claims.end(),
                     [&](const auto& claim) {
                       const auto said = workload->claims.find(claim.first);
                       return said != workload->claims.end() &&
                              said->second == claim.second;
                     });
}

bool RuleFits(const PeerRule& rule, const Peer& peer) {
  if (rule.spiffe.empty() && rule.dns.empty() && rule.fingerprint.empty() &&
      rule.key_fingerprint.empty() && rule.provider.empty()) {
    return false;
  }
  return WorkloadFits(rule, peer.workload.get()) &&
         (rule.spiffe.empty() || AnyMatches(rule.spiffe, peer.uris, '/')) &&
         (rule.dns.empty() || AnyMatches(rule.dns, peer.dns_names, '.')) &&
         (rule.fingerprint.empty() || rule.fingerprint == peer.fingerprint) &&
         (rule.key_fingerprint.empty() ||
          rule.key_fingerprint == peer.key_fingerprint);
}

absl::Status NotAuthorised(const char* message) {
  return MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                   v1::REASON_NOT_AUTHORISED, message);
}

}  // namespace

std::string Peer::Name() const {
  if (!uris.empty()) return uris.front();
  if (!dns_names.empty()) return dns_names.front();
  return "sha256:" + fingerprint;
}

bool AnyRuleFits(std::span<const PeerRule> rules, const Peer& peer) {
  return std::any_of(rules.begin(), rules.end(), [&](const PeerRule& rule) {
    return RuleFits(rule, peer);
  });
}

absl::StatusOr<std::unique_ptr<PeerGate>> PeerGate::Create(const TlsConfig& tls,
                                                           const Clock& clock) {
  std::unique_ptr<PeerGate> gate(new PeerGate(tls.deny_list, clock));
  if (!tls.deny_list.empty()) {
    ASSIGN_OR_RETURN(gate->denied_, LoadDenyList(tls.deny_list));
  }
  if (!tls.client_crl.empty()) {
    ASSIGN_OR_RETURN(gate->revocation_, ClientRevocation::Create(tls));
  }
  return gate;
}

absl::Status PeerGate::Check(const Peer& peer) {
  const absl::Time now = clock_.Now();
  if (now >= peer.not_after) {
    return NotAuthorised("the client certificate has expired");
  }
  if (peer.workload != nullptr && now >= peer.workload->expires_at) {
    return MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                     v1::REASON_BAD_IDENTITY_TOKEN,
                     "the identity token has expired");
  }
  if (!deny_list_.empty()) RETURN_IF_ERROR(CheckDenyList(peer, now));
  if (revocation_ == nullptr) return absl::OkStatus();
  return revocation_->Check(peer, now);
}

absl::Status PeerGate::CheckDenyList(const Peer& peer, absl::Time now) {
  const std::lock_guard lock(mutex_);
  if (deny_list_file_.IsTimeToLook(now) && deny_list_file_.HaveChanged()) {
    absl::StatusOr<std::vector<PeerRule>> denied = LoadDenyList(deny_list_);
    if (denied.ok()) {
      denied_ = *std::move(denied);
      Log(LogLevel::kInfo, "deny_list_loaded",
          {{"entries", std::to_string(denied_.size())}});
    } else {
      LogStatus(LogLevel::kError, "deny_list_unreadable", denied.status());
    }
  }
  if (AnyRuleFits(denied_, peer)) {
    return NotAuthorised("the client certificate is on the deny list");
  }
  return absl::OkStatus();
}

}  // namespace codeseal
