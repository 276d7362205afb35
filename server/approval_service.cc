#include "server/approval_service.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <future>
#include <string_view>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "audit/approval/statement.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/cms/certificate.h"
#include "hsm/public_key.h"
#include "nlohmann/json.hpp"
#include "server/grants.h"
#include "server/log.h"
#include "server/policy.h"
#include "server/request_check.h"
#include "server/status_to_grpc.h"

namespace codeseal {
namespace {

// The longest that a call waits for its turn.
constexpr absl::Duration kLongestTurn = absl::Seconds(30);
constexpr int kMaxListed = 200;
constexpr size_t kMaxText = 1024;             // bytes of what people write
constexpr size_t kMaxLoggedStatement = 3000;  // bytes

absl::Status BadGrant(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_POLICY,
                   v1::REASON_BAD_REQUEST, message);
}

absl::Status GrantNotFound(const std::string& id) {
  return WithSubject(
      MakeError(absl::StatusCode::kNotFound, v1::STAGE_POLICY,
                v1::REASON_GRANT_NOT_FOUND, "there is no such grant"),
      "grant " + id);
}

absl::Status NotAllowed(const char* message) {
  return MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                   v1::REASON_NOT_AUTHORISED, message);
}

absl::Status BadApproval(const std::string& message) {
  return MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                   v1::REASON_BAD_APPROVAL, message);
}

// Random UUID, version 4.
std::string NewGrantId() {
  std::array<uint8_t, 16> id{};
  // Up to 256 bytes come at once or not at all.
  while (getrandom(id.data(), id.size(), 0) !=
         static_cast<ssize_t>(id.size())) {
    if (errno != EINTR) std::abort();
  }
  id[6] = static_cast<uint8_t>((id[6] & 0x0f) | 0x40);
  id[8] = static_cast<uint8_t>((id[8] & 0x3f) | 0x80);
  std::string text = HexEncode(id);
  for (const size_t place : {8u, 13u, 18u, 23u}) text.insert(place, 1, '-');
  return text;
}

// A public key or a certificate, PEM; its SubjectPublicKeyInfo.
absl::StatusOr<Bytes> ReadPublicKey(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  const std::string_view text = AsText(file.bytes());
  constexpr std::string_view kBegin = "-----BEGIN PUBLIC KEY-----";
  constexpr std::string_view kEnd = "-----END PUBLIC KEY-----";
  const size_t begin = text.find(kBegin);
  Bytes key;
  if (begin == std::string_view::npos) {
    ASSIGN_OR_RETURN(const std::vector<Certificate> certificates,
                     Certificate::ParsePem(text));
    key = certificates.front().SubjectPublicKeyInfo();
  } else {
    const size_t start = begin + kBegin.size();
    const size_t end = text.find(kEnd, start);
    std::string der;
    if (end == std::string_view::npos ||
        !absl::Base64Unescape(
            absl::string_view(text.data() + start, end - start), &der)) {
      return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                       v1::REASON_KEY_UNSUPPORTED, "this is no public key");
    }
    key = ToBytes(AsBytes(der));
  }
  RETURN_IF_ERROR(ParsePublicKey(key).status());
  return key;
}

absl::Status CheckSignature(ByteView public_key, const std::string& text,
                            ByteView signature) {
  ASSIGN_OR_RETURN(const UniqueEvpPkey key, ParsePublicKey(public_key));
  const bool is_rsa = PublicKeyAlgorithm(public_key).starts_with("rsa");
  const absl::Status checked = VerifyDigest(
      key.get(), is_rsa ? SignMechanism::kRsaPkcs1 : SignMechanism::kEcdsa,
      SignDigest::kSha256, ComputeDigest(DigestKind::kSha256, AsBytes(text)),
      signature);
  if (checked.ok()) return checked;
  return BadApproval(
      "the approval is not signed with the approver's key, or says something "
      "else");
}

// What proves the approval without this server: JSON with base64 in it. A
// statement that is too long for a log entry is there as its digest.
std::string EvidenceOf(const v1::Approval& approval) {
  nlohmann::ordered_json json = {
      {"approver", approval.approver()},
      {"signature", absl::Base64Escape(approval.signature())},
      {"public_key", absl::Base64Escape(approval.public_key())},
      {"statement_sha256",
       HexEncode(
           ComputeDigest(DigestKind::kSha256, AsBytes(approval.statement())))}};
  if (approval.statement().size() <= kMaxLoggedStatement) {
    json["statement"] = absl::Base64Escape(approval.statement());
  }
  return json.dump();
}

absl::Status CheckWanted(const v1::RequestGrantRequest& request,
                         const ApprovalConfig& config) {
  const bool by_release = !request.release().empty();
  if (by_release == !request.cdhashes().empty()) {
    return BadGrant("a grant is for cdhashes, or for a release");
  }
  if (by_release && request.identifiers().empty()) {
    return BadGrant("a grant for a release names the identifiers");
  }
  if (!by_release && !request.identifiers().empty()) {
    return BadGrant("a grant for cdhashes names no identifiers");
  }
  if (request.cdhashes_size() > 10'000 || request.identifiers_size() > 1000 ||
      request.reason().size() > kMaxText ||
      request.release().size() > kMaxText) {
    return BadGrant("the request for a grant is too large");
  }
  for (const std::string& each : request.cdhashes()) {
    if (each.size() != kCdHashSize) {
      return BadGrant("a cdhash has 20 bytes");
    }
  }
  for (const std::string& each : request.identifiers()) {
    if (each.empty() || each.size() > kMaxText) {
      return BadGrant("an identifier is empty or too long");
    }
  }
  if (request.max_uses() > config.max_uses) {
    return BadGrant("a grant of this identity has at most " +
                    std::to_string(config.max_uses) + " uses");
  }
  return absl::OkStatus();
}

}  // namespace

Approvals::Approvals(const ServerConfig& config,
                     const IdentityStore& identities, Ledger& ledger,
                     AuditLog* audit, const Clock& clock)
    : admin_(config.admin),
      identities_(identities),
      ledger_(ledger),
      audit_(audit),
      clock_(clock) {}

absl::StatusOr<std::unique_ptr<Approvals>> Approvals::Create(
    const ServerConfig& config, const IdentityStore& identities, Ledger& ledger,
    AuditLog* audit, const Clock& clock) {
  std::unique_ptr<Approvals> approvals(
      new Approvals(config, identities, ledger, audit, clock));
  std::vector<ConfigProblem> problems;
  for (const IdentityConfig& identity : config.identities) {
    if (identity.approvals.quorum == 0) continue;
    approvals->configs_[identity.name] = identity.approvals;
    std::vector<Approver>& approvers = approvals->approvers_[identity.name];
    for (const ApproverConfig& each : identity.approvals.approvers) {
      const absl::StatusOr<Bytes> key = ReadPublicKey(each.key);
      if (!key.ok()) {
        problems.push_back(
            {0, "identities." + identity.name + ".approvals",
             each.key + ": " + std::string(Message(key.status()))});
        continue;
      }
      // One person is not two.
      for (const Approver& other : approvers) {
        if (other.public_key == *key) {
          problems.push_back(
              {0, "identities." + identity.name + ".approvals",
               each.name + " has the key of " + other.config.name});
        }
      }
      approvers.push_back({each, *key});
    }
  }
  if (!problems.empty()) return ConfigError("configuration", problems);
  return approvals;
}

absl::Status Approvals::Run(const Change& change) {
  std::promise<absl::Status> promise;
  ledger_.Change(change, [&promise](const absl::Status& status) {
    promise.set_value(status);
  });
  return promise.get_future().get();
}

absl::Status Approvals::Record(const char* event, const v1::Grant& grant,
                               const Peer& peer, const std::string& detail,
                               const Change& change) {
  audit::Entry entry;
  entry.event = event;
  entry.client = peer.Name();
  entry.client_certificate = peer.fingerprint;
  entry.identity = grant.identity();
  entry.subject = grant.id();
  entry.detail = detail;
  if (audit_ != nullptr) {
    RETURN_IF_ERROR(audit_->AppendEvent(entry, absl::Now() + kLongestTurn));
  }
  const absl::Status status = Run(change);
  if (status.ok()) {
    Log(LogLevel::kInfo, event,
        {{"grant", grant.id()},
         {"identity", grant.identity()},
         {"peer", peer.Name()},
         {"detail", detail}});
  } else if (audit_ != nullptr) {
    entry.reason = v1::Reason_Name(GetReason(status));
    audit_->NoteEvent(std::move(entry));
  }
  return status;
}

const Approver* Approvals::FindApprover(const std::string& identity,
                                        const Peer& peer) const {
  const auto approvers = approvers_.find(identity);
  if (approvers == approvers_.end()) return nullptr;
  for (const Approver& each : approvers->second) {
    if (AnyRuleFits({&each.config.peer, 1}, peer)) return &each;
  }
  return nullptr;
}

bool Approvals::MaySee(const v1::Grant& grant, const Peer& peer) const {
  return FindApprover(grant.identity(), peer) != nullptr ||
         AnyRuleFits(admin_.allow, peer) ||
         identities_.FindForDisplay(grant.identity(), peer).ok();
}

absl::StatusOr<v1::Grant> Approvals::Request(
    const v1::RequestGrantRequest& request, const Peer& peer) {
  ASSIGN_OR_RETURN(const IdentityVersion* const version,
                   identities_.FindForDisplay(request.identity(), peer));
  const auto config = configs_.find(version->name());
  if (config == configs_.end()) {
    return BadGrant("the identity signs without approvals");
  }
  RETURN_IF_ERROR(CheckWanted(request, config->second));
  const absl::Time now = clock_.Now();
  const absl::Time latest = now + config->second.window;
  const absl::Time expires_at =
      request.has_expires_at()
          ? absl::FromUnixSeconds(request.expires_at().seconds())
          : latest;
  if (expires_at <= now || expires_at > latest) {
    return BadGrant("a grant of this identity expires within " +
                    absl::FormatDuration(config->second.window));
  }
  v1::Grant grant;
  grant.set_id(NewGrantId());
  grant.set_identity(version->name());
  *grant.mutable_cdhashes() = request.cdhashes();
  grant.set_release(request.release());
  *grant.mutable_identifiers() = request.identifiers();
  grant.set_max_uses(request.max_uses());
  if (grant.max_uses() == 0) {
    grant.set_max_uses(std::min(
        config->second.max_uses,
        std::max<uint32_t>(1, static_cast<uint32_t>(grant.cdhashes_size()))));
  }
  grant.mutable_expires_at()->set_seconds(absl::ToUnixSeconds(expires_at));
  grant.mutable_created_at()->set_seconds(absl::ToUnixSeconds(now));
  grant.set_reason(request.reason());
  grant.set_requester(peer.Name());
  if (const Approver* const self = FindApprover(version->name(), peer)) {
    grant.set_requester_as_approver(self->config.name);
  }
  grant.set_quorum(config->second.quorum);
  RETURN_IF_ERROR(
      Record("grant_requested", grant, peer, grant.reason(),
             [&](Database& database) { return CreateGrant(database, grant); }));
  grant.set_state(v1::GRANT_STATE_PENDING);
  return grant;
}

absl::StatusOr<v1::Grant> Approvals::Get(const std::string& id,
                                         const Peer& peer) {
  if (!IsUuid(id)) return GrantNotFound("");
  v1::Grant grant;
  RETURN_IF_ERROR(Run([&](Database& database) -> absl::Status {
    ASSIGN_OR_RETURN(grant, FindGrant(database, id));
    return absl::OkStatus();
  }));
  if (!MaySee(grant, peer)) return GrantNotFound(id);
  return grant;
}

absl::StatusOr<v1::Grant> Approvals::Decide(
    const v1::DecideGrantRequest& request, bool approves, const Peer& peer) {
  ASSIGN_OR_RETURN(const v1::Grant grant, Get(request.id(), peer));
  const Approver* const approver = FindApprover(grant.identity(), peer);
  if (approver == nullptr) {
    return NotAllowed("this is for the identity's approvers");
  }
  if (grant.requester() == peer.Name() ||
      grant.requester_as_approver() == approver->config.name) {
    return NotAllowed("nobody decides about what they asked for themselves");
  }
  const absl::Time now = clock_.Now();
  const absl::Time at = absl::FromUnixSeconds(request.at().seconds());
  if (absl::AbsDuration(at - now) > kMaxClockDifference) {
    return BadApproval("the approval's time is not about now");
  }
  v1::Approval approval;
  approval.set_approver(approver->config.name);
  approval.set_approves(approves);
  approval.mutable_at()->set_seconds(request.at().seconds());
  // Never the caller's text: what is signed must be what the grant says.
  approval.set_statement(
      audit::FormatApproval(grant, approves, approver->public_key, at));
  approval.set_signature(request.signature());
  approval.set_public_key(ToString(approver->public_key));
  RETURN_IF_ERROR(CheckSignature(approver->public_key, approval.statement(),
                                 AsBytes(approval.signature())));
  RETURN_IF_ERROR(Record(approves ? "grant_approved" : "grant_rejected", grant,
                         peer, EvidenceOf(approval), [&](Database& database) {
                           return DecideGrant(database, request.id(), approval,
                                              now);
                         }));
  return Get(request.id(), peer);
}

absl::StatusOr<v1::Grant> Approvals::Revoke(const std::string& id,
                                            const Peer& peer) {
  ASSIGN_OR_RETURN(const v1::Grant grant, Get(id, peer));
  if (grant.requester() != peer.Name() && !AnyRuleFits(admin_.allow, peer) &&
      FindApprover(grant.identity(), peer) == nullptr) {
    return NotAllowed(
        "a grant is revoked by who asked for it, an approver or an "
        "administrator");
  }
  RETURN_IF_ERROR(
      Record("grant_revoked", grant, peer, "",
             [&](Database& database) { return RevokeGrant(database, id); }));
  return Get(id, peer);
}

absl::StatusOr<v1::ListGrantsResponse> Approvals::List(
    const v1::ListGrantsRequest& request, const Peer& peer) {
  std::vector<v1::Grant> grants;
  RETURN_IF_ERROR(Run([&](Database& database) -> absl::Status {
    ASSIGN_OR_RETURN(grants, ListGrants(database, request.identity(),
                                        request.all(), clock_.Now()));
    return absl::OkStatus();
  }));
  v1::ListGrantsResponse response;
  for (v1::Grant& each : grants) {
    if (response.grants_size() == kMaxListed) break;
    if (MaySee(each, peer)) *response.add_grants() = std::move(each);
  }
  return response;
}

ApprovalServiceImpl::ApprovalServiceImpl(Approvals& approvals, PeerGate& gate,
                                         PeerReader& peers)
    : approvals_(approvals),
      gate_(gate),
      peers_(peers),
      pool_({.max_wait = kLongestTurn}) {}

template <typename Response>
grpc::ServerUnaryReactor* ApprovalServiceImpl::Run(
    grpc::CallbackServerContext* context, Response* response,
    std::function<absl::StatusOr<Response>(const Peer& peer)> work) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const absl::StatusOr<std::shared_ptr<const Peer>> peer =
      peers_.Read(*context);
  const std::string name = peer.ok() ? (*peer)->Name() : "";
  absl::Status status = peer.status();
  if (status.ok()) status = gate_.Check(**peer);
  if (status.ok()) {
    SigningPool::Task task;
    task.deadline = std::min(absl::FromChrono(context->deadline()),
                             absl::Now() + kLongestTurn);
    task.run = [reactor, response, peer = *peer,
                work = std::move(work)](const absl::Status& admitted) {
      absl::StatusOr<Response> result =
          admitted.ok() ? work(*peer) : absl::StatusOr<Response>(admitted);
      if (result.ok()) *response = *std::move(result);
      reactor->Finish(StatusToGrpc(result.status(), "", peer->Name()));
    };
    status = pool_.Submit(std::move(task));
  }
  if (!status.ok()) reactor->Finish(StatusToGrpc(status, "", name));
  return reactor;
}

grpc::ServerUnaryReactor* ApprovalServiceImpl::RequestGrant(
    grpc::CallbackServerContext* context,
    const v1::RequestGrantRequest* request, v1::Grant* response) {
  return Run<v1::Grant>(context, response, [this, request](const Peer& peer) {
    return approvals_.Request(*request, peer);
  });
}

grpc::ServerUnaryReactor* ApprovalServiceImpl::Approve(
    grpc::CallbackServerContext* context, const v1::DecideGrantRequest* request,
    v1::Grant* response) {
  return Run<v1::Grant>(context, response, [this, request](const Peer& peer) {
    return approvals_.Decide(*request, /*approves=*/true, peer);
  });
}

grpc::ServerUnaryReactor* ApprovalServiceImpl::Reject(
    grpc::CallbackServerContext* context, const v1::DecideGrantRequest* request,
    v1::Grant* response) {
  return Run<v1::Grant>(context, response, [this, request](const Peer& peer) {
    return approvals_.Decide(*request, /*approves=*/false, peer);
  });
}

grpc::ServerUnaryReactor* ApprovalServiceImpl::Revoke(
    grpc::CallbackServerContext* context, const v1::GetGrantRequest* request,
    v1::Grant* response) {
  return Run<v1::Grant>(context, response, [this, request](const Peer& peer) {
    return approvals_.Revoke(request->id(), peer);
  });
}

grpc::ServerUnaryReactor* ApprovalServiceImpl::Get(
    grpc::CallbackServerContext* context, const v1::GetGrantRequest* request,
    v1::Grant* response) {
  return Run<v1::Grant>(context, response, [this, request](const Peer& peer) {
    return approvals_.Get(request->id(), peer);
  });
}

grpc::ServerUnaryReactor* ApprovalServiceImpl::List(
    grpc::CallbackServerContext* context, const v1::ListGrantsRequest* request,
    v1::ListGrantsResponse* response) {
  return Run<v1::ListGrantsResponse>(context, response,
                                     [this, request](const Peer& peer) {
                                       return approvals_.List(*request, peer);
                                     });
}

}  // namespace codeseal
