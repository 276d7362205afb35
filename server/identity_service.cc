#include "server/identity_service.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "server/identity_wire.h"
#include "server/status_to_grpc.h"

namespace codeseal {
IdentityServiceImpl::IdentityServiceImpl(const IdentityStore& identities,
                                         IdentityAdmin& admin, PeerGate& gate,
                                         PeerReader& peers, AdminConfig config,
                                         const Clock& clock)
    : identities_(identities),
      admin_(admin),
      gate_(gate),
      peers_(peers),
      config_(std::move(config)),
      clock_(clock),
      pool_({.max_wait = kAdminTime}) {}

absl::StatusOr<std::shared_ptr<const Peer>> IdentityServiceImpl::CheckedPeer(
    grpc::CallbackServerContext& context) {
  ASSIGN_OR_RETURN(std::shared_ptr<const Peer> peer, peers_.Read(context));
  RETURN_IF_ERROR(gate_.Check(*peer));
  return peer;
}

grpc::ServerUnaryReactor* IdentityServiceImpl::ListIdentities(
    grpc::CallbackServerContext* context,
    const v1::ListIdentitiesRequest* /*request*/,
    v1::ListIdentitiesResponse* response) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const absl::StatusOr<std::shared_ptr<const Peer>> peer =
      CheckedPeer(*context);
  if (peer.ok()) {
    for (const IdentityVersion* each : identities_.ListForDisplay(**peer)) {
      *response->add_identities() = DescribeVersion(*each, clock_.Now());
    }
  }
  reactor->Finish(StatusToGrpc(peer.status(), ""));
  return reactor;
}

grpc::ServerUnaryReactor* IdentityServiceImpl::GetIdentity(
    grpc::CallbackServerContext* context, const v1::GetIdentityRequest* request,
    v1::Identity* response) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const absl::StatusOr<std::shared_ptr<const Peer>> peer =
      CheckedPeer(*context);
  absl::Status status = peer.status();
  if (peer.ok()) {
    const absl::StatusOr<IdentityVersion*> version =
        identities_.FindForDisplay(request->name(), **peer);
    if (version.ok()) *response = DescribeVersion(**version, clock_.Now());
    status = version.status();
  }
  reactor->Finish(StatusToGrpc(status, "", peer.ok() ? (*peer)->Name() : ""));
  return reactor;
}

template <typename Response>
grpc::ServerUnaryReactor* IdentityServiceImpl::RunAsAdmin(
    grpc::CallbackServerContext* context, Response* response,
    std::function<absl::StatusOr<Response>(const std::string& admin)> work) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const absl::StatusOr<std::shared_ptr<const Peer>> peer =
      CheckedPeer(*context);
  const std::string name = peer.ok() ? (*peer)->Name() : "";
  absl::Status status = peer.status();
  if (status.ok()) status = CheckAdmin(config_, **peer);
  if (status.ok()) {
    SigningPool::Task task;
    task.deadline = std::min(absl::FromChrono(context->deadline()),
                             absl::Now() + kAdminTime);
    task.run = [reactor, response, name,
                work = std::move(work)](const absl::Status& admitted) {
      absl::StatusOr<Response> result =
          admitted.ok() ? work(name) : absl::StatusOr<Response>(admitted);
      if (result.ok()) *response = *std::move(result);
      reactor->Finish(StatusToGrpc(result.status(), "", name));
    };
    status = pool_.Submit(std::move(task));
  }
  if (!status.ok()) reactor->Finish(StatusToGrpc(status, "", name));
  return reactor;
}

grpc::ServerUnaryReactor* IdentityServiceImpl::ListVersions(
    grpc::CallbackServerContext* context,
    const v1::ListVersionsRequest* request,
    v1::ListIdentitiesResponse* response) {
  return RunAsAdmin<v1::ListIdentitiesResponse>(
      context, response,
      [this, request](const std::string&) { return admin_.List(*request); });
}

grpc::ServerUnaryReactor* IdentityServiceImpl::Stage(
    grpc::CallbackServerContext* context,
    const v1::StageVersionRequest* request, v1::Identity* response) {
  return RunAsAdmin<v1::Identity>(context, response,
                                  [this, request](const std::string& admin) {
                                    return admin_.Stage(*request, admin);
                                  });
}

grpc::ServerUnaryReactor* IdentityServiceImpl::Probe(
    grpc::CallbackServerContext* context,
    const v1::ProbeVersionRequest* request, v1::Identity* response) {
  return RunAsAdmin<v1::Identity>(context, response,
                                  [this, request](const std::string& admin) {
                                    return admin_.Probe(*request, admin);
                                  });
}

grpc::ServerUnaryReactor* IdentityServiceImpl::Activate(
    grpc::CallbackServerContext* context,
    const v1::ActivateVersionRequest* request, v1::Identity* response) {
  return RunAsAdmin<v1::Identity>(context, response,
                                  [this, request](const std::string& admin) {
                                    return admin_.Activate(*request, admin);
                                  });
}

grpc::ServerUnaryReactor* IdentityServiceImpl::Retire(
    grpc::CallbackServerContext* context,
    const v1::RetireVersionRequest* request, v1::Identity* response) {
  return RunAsAdmin<v1::Identity>(context, response,
                                  [this, request](const std::string& admin) {
                                    return admin_.Retire(*request, admin);
                                  });
}

grpc::ServerUnaryReactor* IdentityServiceImpl::Disable(
    grpc::CallbackServerContext* context,
    const v1::DisableVersionRequest* request, v1::Identity* response) {
  return RunAsAdmin<v1::Identity>(context, response,
                                  [this, request](const std::string& admin) {
                                    return admin_.Disable(*request, admin);
                                  });
}

}  // namespace codeseal
