#include "server/services.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/cms/certificate.h"
#include "grpc/grpc_security_constants.h"
#include "grpcpp/security/auth_context.h"
#include "server/status_to_grpc.h"
#include "server/transcript.h"

namespace codeseal {
namespace {

// Certificates that are remembered; a hostile client authority can't fill the
// memory.
constexpr size_t kMaxRememberedPeers = 4096;
// Of the transcript of a ceremony.
constexpr size_t kMaxTranscriptLines = 1000;
constexpr size_t kMaxTranscriptLine = 8000;

std::vector<std::string> Values(const grpc::AuthContext& context,
                                const char* property) {
  std::vector<std::string> values;
  for (const grpc::string_ref& value : context.FindPropertyValues(property)) {
    values.emplace_back(value.data(), value.size());
  }
  return values;
}

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  return absl::FromChrono(context.deadline());
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Peer>> PeerReader::Read(
    const grpc::AuthContext& context) {
  const std::vector<std::string> pem =
      Values(context, GRPC_X509_PEM_CERT_PROPERTY_NAME);
  if (!context.IsPeerAuthenticated() || pem.size() != 1) {
    return MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_TRANSPORT,
                     v1::REASON_NOT_AUTHORISED,
                     "the call came without a client certificate");
  }
  // What the peer sent above it.
  std::string all = pem[0];
  for (const std::string& more :
       Values(context, GRPC_X509_PEM_CERT_CHAIN_PROPERTY_NAME)) {
    all += more;
  }
  {
    const std::lock_guard lock(mutex_);
    const auto known = by_pem_.find(all);
    if (known != by_pem_.end()) return known->second;
  }
  ASSIGN_OR_RETURN(std::vector<Certificate> certificates,
                   Certificate::ParsePem(all));
  auto peer = std::make_shared<Peer>();
  peer->uris = Values(context, GRPC_PEER_URI_PROPERTY_NAME);
  peer->dns_names = Values(context, GRPC_PEER_DNS_PROPERTY_NAME);
  peer->fingerprint = HexEncode(certificates.front().Sha256());
  peer->key_fingerprint = HexEncode(ComputeDigest(
      DigestKind::kSha256, certificates.front().SubjectPublicKeyInfo()));
  peer->not_after = certificates.front().not_after();
  peer->chain = std::move(certificates);
  const std::lock_guard lock(mutex_);
  if (by_pem_.size() >= kMaxRememberedPeers) by_pem_.clear();
  by_pem_[all] = peer;
  return peer;
}

absl::StatusOr<std::shared_ptr<const Peer>> PeerReader::Read(
    const grpc::CallbackServerContext& context) {
  ASSIGN_OR_RETURN(std::shared_ptr<const Peer> peer,
                   Read(*context.auth_context()));
  if (workloads_ == nullptr) return peer;
  const auto [first, last] =
      context.client_metadata().equal_range("authorization");
  if (first == last) return peer;
  constexpr std::string_view kBearer = "Bearer ";
  std::string_view token(first->second.data(), first->second.size());
  if (std::next(first) != last || !token.starts_with(kBearer)) {
    return MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                     v1::REASON_BAD_IDENTITY_TOKEN,
                     "want one header \"authorization: Bearer TOKEN\"");
  }
  token.remove_prefix(kBearer.size());
  auto with_token = std::make_shared<Peer>(*peer);
  ASSIGN_OR_RETURN(with_token->workload, workloads_->Verify(token));
  return std::shared_ptr<const Peer>(std::move(with_token));
}

// One Sign() call; deletes itself when gRPC has sent the answer.
class SigningServiceImpl::SignCall : public grpc::ServerUnaryReactor {
 public:
  explicit SignCall(SigningServiceImpl& service) : service_(service) {
    service_.CallOpened();
  }

  // gRPC owns all three until Finish().
  void Start(grpc::CallbackServerContext* context,
             const v1::SignRequest* request, v1::SignResponse* response) {
    absl::StatusOr<std::shared_ptr<const Peer>> peer =
        service_.peers_.Read(*context);
    if (!peer.ok()) {
      Finish(StatusToGrpc(peer.status(), request->request_id()));
      return;
    }
    RequestHandler::Call call;
    call.request = {std::shared_ptr<const v1::SignRequest>(), request};
    call.peer = *peer;
    call.deadline = DeadlineOf(*context);
    call.cancelled = [context] { return context->IsCancelled(); };
    call.done = [this, request, response,
                 peer = *peer](absl::StatusOr<v1::SignResponse> result) {
      if (result.ok()) response->Swap(&*result);
      Finish(
          StatusToGrpc(result.status(), request->request_id(), peer->Name()));
    };
    service_.handler_.Sign(std::move(call));
  }

 private:
  void OnDone() override {
    service_.CallDone();
    delete this;
  }

  SigningServiceImpl& service_;
};

grpc::ServerUnaryReactor* SigningServiceImpl::Sign(
    grpc::CallbackServerContext* context, const v1::SignRequest* request,
    v1::SignResponse* response) {
  auto* const call = new SignCall(*this);
  call->Start(context, request, response);
  return call;
}

// One GetSignature() call, likewise.
class SigningServiceImpl::FindCall : public grpc::ServerUnaryReactor {
 public:
  explicit FindCall(SigningServiceImpl& service) : service_(service) {
    service_.CallOpened();
  }

  void Start(grpc::CallbackServerContext* context,
             const v1::GetSignatureRequest* request,
             v1::SignResponse* response) {
    absl::StatusOr<std::shared_ptr<const Peer>> peer =
        service_.peers_.Read(*context);
    if (!peer.ok()) {
      Finish(StatusToGrpc(peer.status(), request->request_id()));
      return;
    }
    service_.handler_.Find(
        **peer, request->request_id(),
        [this, request, response,
         peer = *peer](absl::StatusOr<v1::SignResponse> found) {
          if (found.ok()) response->Swap(&*found);
          Finish(StatusToGrpc(found.status(), request->request_id(),
                              peer->Name()));
        });
  }

 private:
  void OnDone() override {
    service_.CallDone();
    delete this;
  }

  SigningServiceImpl& service_;
};

grpc::ServerUnaryReactor* SigningServiceImpl::GetSignature(
    grpc::CallbackServerContext* context,
    const v1::GetSignatureRequest* request, v1::SignResponse* response) {
  auto* const call = new FindCall(*this);
  call->Start(context, request, response);
  return call;
}

grpc::ServerBidiReactor<v1::SignStreamRequest, v1::SignStreamResponse>*
SigningServiceImpl::SignStream(grpc::CallbackServerContext* context) {
  const auto stream = std::make_shared<SigningStream>(
      handler_, limits_, peers_.Read(*context), DeadlineOf(*context));
  CallOpened();
  bool ending = false;
  {
    const std::lock_guard lock(mutex_);
    streams_[stream.get()] = stream;
    ending = ending_;
  }
  stream->Start([this](SigningStream* done) {
    {
      const std::lock_guard lock(mutex_);
      streams_.erase(done);
    }
    CallDone();
  });
  if (ending) stream->EndSoon();
  return stream.get();
}

bool SigningServiceImpl::EndCalls(absl::Time deadline) {
  std::vector<std::shared_ptr<SigningStream>> streams;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    for (const auto& each : streams_) streams.push_back(each.second);
  }
  for (const auto& each : streams) each->EndSoon();
  streams.clear();
  std::unique_lock lock(mutex_);
  return all_done_.wait_until(lock, absl::ToChronoTime(deadline),
                              [this] { return open_call_count_ == 0; });
}

void SigningServiceImpl::CallOpened() {
  const std::lock_guard lock(mutex_);
  ++open_call_count_;
}

void SigningServiceImpl::CallDone() {
  const std::lock_guard lock(mutex_);
  if (--open_call_count_ == 0) all_done_.notify_all();
}

absl::Status CheckAdmin(const AdminConfig& admin, const Peer& peer) {
  if (AnyRuleFits(admin.allow, peer)) return absl::OkStatus();
  return MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                   v1::REASON_NOT_AUTHORISED,
                   "this is for administrators (admin.allow)");
}

OpsServiceImpl::OpsServiceImpl(IdentityStore& identities, PeerGate& gate,
                               PeerReader& peers, AdminConfig admin,
                               AuditLog* audit)
    : identities_(identities),
      gate_(gate),
      peers_(peers),
      admin_(std::move(admin)),
      audit_(audit),
      pool_(SigningPool::Options{}) {}

// The log's own key may be on this token: it need not be open for this, and
// learns of it as soon as it is.
absl::Status OpsServiceImpl::Clear(const std::string& token,
                                   const std::string& admin,
                                   absl::Time deadline) const {
  const absl::Status status = identities_.ClearPinHold(token, deadline);
  if (audit_ != nullptr) {
    audit::Entry event;
    event.event = "pin_hold_cleared";
    event.client = admin;
    event.subject = token;
    if (!status.ok()) event.reason = v1::Reason_Name(GetReason(status));
    audit_->NoteEvent(std::move(event));
  }
  return status;
}

absl::Status OpsServiceImpl::Record(
    const v1::RecordCeremonyRequest& request, const std::string& admin,
    absl::Time deadline, v1::RecordCeremonyResponse& response) const {
  if (audit_ == nullptr) {
    return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_AUDIT,
                     v1::REASON_STATE_STORE,
                     "the server's configuration has no audit log");
  }
  const std::vector<std::string> lines(request.lines().begin(),
                                       request.lines().end());
  const bool too_long = std::any_of(
      lines.begin(), lines.end(),
      [](const std::string& line) { return line.size() > kMaxTranscriptLine; });
  if (lines.empty() || lines.size() > kMaxTranscriptLines || too_long) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_AUDIT,
                     v1::REASON_CEREMONY,
                     "a transcript has 1 to 1000 lines of at most 8000 bytes");
  }
  RETURN_IF_ERROR(CheckTranscript(lines, "transcript"));
  for (size_t i = 0; i < lines.size(); ++i) {
    audit::Entry entry;
    entry.kind = audit::EntryKind::kEvent;
    entry.event = "ceremony_recorded";
    entry.client = admin;
    entry.subject = std::to_string(i + 1) + "/" + std::to_string(lines.size());
    entry.detail = lines[i];
    ASSIGN_OR_RETURN(const uint64_t index,
                     audit_->AppendAndWait(std::move(entry), deadline));
    if (i == 0) response.set_first_index(index);
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* OpsServiceImpl::ClearPinHold(
    grpc::CallbackServerContext* context,
    const v1::ClearPinHoldRequest* request,
    v1::ClearPinHoldResponse* /*response*/) {
  return Run(*context, [this, token = request->token()](
                           const std::string& admin, absl::Time deadline) {
    return Clear(token, admin, deadline);
  });
}

grpc::ServerUnaryReactor* OpsServiceImpl::RecordCeremony(
    grpc::CallbackServerContext* context,
    const v1::RecordCeremonyRequest* request,
    v1::RecordCeremonyResponse* response) {
  // Both live until the reactor finishes.
  return Run(*context, [this, request, response](const std::string& admin,
                                                 absl::Time deadline) {
    return Record(*request, admin, deadline, *response);
  });
}

grpc::ServerUnaryReactor* OpsServiceImpl::Run(
    grpc::CallbackServerContext& context, Work work) {
  grpc::ServerUnaryReactor* const reactor = context.DefaultReactor();
  const absl::StatusOr<std::shared_ptr<const Peer>> peer = peers_.Read(context);
  absl::Status status = peer.status();
  if (status.ok()) status = gate_.Check(**peer);
  if (status.ok()) status = CheckAdmin(admin_, **peer);
  if (!status.ok()) {
    reactor->Finish(StatusToGrpc(status, "", peer.ok() ? (*peer)->Name() : ""));
    return reactor;
  }
  SigningPool::Task task;
  task.deadline = std::min(DeadlineOf(context), absl::Now() + kAdminTime);
  task.run = [reactor, work = std::move(work), name = (*peer)->Name(),
              deadline = task.deadline](const absl::Status& admitted) {
    reactor->Finish(StatusToGrpc(
        admitted.ok() ? work(name, deadline) : admitted, "", name));
  };
  status = pool_.Submit(std::move(task));
  if (!status.ok()) reactor->Finish(StatusToGrpc(status, "", (*peer)->Name()));
  return reactor;
}

}  // namespace codeseal
