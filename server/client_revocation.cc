#include "server/client_revocation.h"

#include <algorithm>
#include <span>
#include <utility>

#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "server/log.h"
#include "server/peer.h"

namespace codeseal {
namespace {

// A verdict may be this old: a list ends while nobody writes a new one.
constexpr absl::Duration kVerdictAge = absl::Seconds(10);
// Certificates that are remembered; a hostile authority can't fill the memory.
constexpr size_t kMaxJudged = 4096;

// The certificates of `among` that signed the certificate.
std::vector<const Certificate*> IssuersOf(const Certificate& certificate,
                                          std::span<const Certificate> among) {
  std::vector<const Certificate*> issuers;
  for (const Certificate& each : among) {
    if (!(each == certificate) && certificate.IsIssuedBy(each)) {
      issuers.push_back(&each);
    }
  }
  return issuers;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ClientRevocation>> ClientRevocation::Create(
    const TlsConfig& tls) {
  std::unique_ptr<ClientRevocation> revocation(new ClientRevocation(tls));
  ASSIGN_OR_RETURN(revocation->lists_, revocation->Read());
  return revocation;
}

absl::StatusOr<std::unique_ptr<ClientRevocation::Lists>>
ClientRevocation::Read() const {
  auto lists = std::make_unique<Lists>();
  ASSIGN_OR_RETURN(const MappedFile pem, MappedFile::Open(tls_.client_ca));
  absl::StatusOr<std::vector<Certificate>> authorities =
      Certificate::ParsePem(AsText(pem.bytes()));
  if (!authorities.ok()) {
    return WithSubject(authorities.status(), tls_.client_ca);
  }
  lists->authorities = *std::move(authorities);
  ASSIGN_OR_RETURN(const MappedFile crl, MappedFile::Open(tls_.client_crl));
  const absl::Status read = lists->checker.AddLists(crl.bytes());
  if (!read.ok()) return WithSubject(read, tls_.client_crl);
  return lists;
}

void ClientRevocation::ReloadIfChanged(absl::Time now) {
  if (!files_.IsTimeToLook(now) || !files_.HaveChanged()) return;
  absl::StatusOr<std::unique_ptr<Lists>> lists = Read();
  if (!lists.ok()) {
    LogStatus(LogLevel::kError, "client_crl_unreadable", lists.status());
    return;
  }
  lists_ = *std::move(lists);
  judged_.clear();
  Log(LogLevel::kInfo, "client_crl_loaded", {{"file", tls_.client_crl}});
}

absl::Status ClientRevocation::Check(const Peer& peer, absl::Time now) {
  const std::lock_guard lock(mutex_);
  ReloadIfChanged(now);
  // Neither too old nor, after the clock was set back, from the future.
  const auto known = judged_.find(peer.fingerprint);
  if (known != judged_.end() && now < known->second.until &&
      now + kVerdictAge >= known->second.until) {
    return known->second.status;
  }
  if (judged_.size() >= kMaxJudged) judged_.clear();
  const absl::Status status = Judge(peer, now);
  judged_[peer.fingerprint] = {status, now + kVerdictAge};
  return status;
}

absl::Status ClientRevocation::Judge(const Peer& peer, absl::Time now) const {
  std::vector<Certificate> known = lists_->authorities;
  known.insert(known.end(), peer.chain.begin(), peer.chain.end());
  for (const Certificate& certificate : peer.chain) {
    for (const Certificate* const issuer : IssuersOf(certificate, known)) {
      const RevocationAnswer answer = lists_->checker.Check(
          certificate, *issuer, now, {}, /*may_fetch=*/false);
      if (answer.state == RevocationState::kRevoked ||
          answer.state == RevocationState::kUnknown) {
        return MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                         v1::REASON_NOT_AUTHORISED,
                         (answer.state == RevocationState::kRevoked
                              ? "the client certificate is revoked: "
                              : "nobody knows whether the client certificate "
                                "is revoked: ") +
                             answer.text);
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace codeseal
