// IdentityService: what callers may sign with, and rotation for administrators.
//
//   gRPC call -> [IdentityServiceImpl] -> IdentityStore, IdentityAdmin -> reply

#ifndef CODESEAL_SERVER_IDENTITY_SERVICE_H_
#define CODESEAL_SERVER_IDENTITY_SERVICE_H_

#include <functional>
#include <memory>
#include <string>

#include "codeseal/v1/identity.grpc.pb.h"
#include "codesign/base/clock.h"
#include "server/config.h"
#include "server/identity_admin.h"
#include "server/identity_store.h"
#include "server/peer.h"
#include "server/services.h"
#include "server/signing_pool.h"

namespace codeseal {

// Borrows its parts. Thread-safe. Ends after the gRPC server.
class IdentityServiceImpl : public v1::IdentityService::CallbackService {
 public:
  IdentityServiceImpl(const IdentityStore& identities, IdentityAdmin& admin,
                      PeerGate& gate, PeerReader& peers, AdminConfig config,
                      const Clock& clock);

  grpc::ServerUnaryReactor* ListIdentities(
      grpc::CallbackServerContext* context,
      const v1::ListIdentitiesRequest* request,
      v1::ListIdentitiesResponse* response) override;
  grpc::ServerUnaryReactor* GetIdentity(grpc::CallbackServerContext* context,
                                        const v1::GetIdentityRequest* request,
                                        v1::Identity* response) override;

  grpc::ServerUnaryReactor* ListVersions(
      grpc::CallbackServerContext* context,
      const v1::ListVersionsRequest* request,
      v1::ListIdentitiesResponse* response) override;
  grpc::ServerUnaryReactor* Stage(grpc::CallbackServerContext* context,
                                  const v1::StageVersionRequest* request,
                                  v1::Identity* response) override;
  grpc::ServerUnaryReactor* Probe(grpc::CallbackServerContext* context,
                                  const v1::ProbeVersionRequest* request,
                                  v1::Identity* response) override;
  grpc::ServerUnaryReactor* Activate(grpc::CallbackServerContext* context,
                                     const v1::ActivateVersionRequest* request,
                                     v1::Identity* response) override;
  grpc::ServerUnaryReactor* Retire(grpc::CallbackServerContext* context,
                                   const v1::RetireVersionRequest* request,
                                   v1::Identity* response) override;
  grpc::ServerUnaryReactor* Disable(grpc::CallbackServerContext* context,
                                    const v1::DisableVersionRequest* request,
                                    v1::Identity* response) override;

 private:
  absl::StatusOr<std::shared_ptr<const Peer>> CheckedPeer(
      grpc::CallbackServerContext& context);
  // Runs `work` with the administrator's name on the thread for it, and answers
  // with what it returns.
  template <typename Response>
  grpc::ServerUnaryReactor* RunAsAdmin(
      grpc::CallbackServerContext* context, Response* response,
      std::function<absl::StatusOr<Response>(const std::string& admin)> work);

  const IdentityStore& identities_;
  IdentityAdmin& admin_;
  PeerGate& gate_;
  PeerReader& peers_;
  const AdminConfig config_;
  const Clock& clock_;
  // Changes wait for tokens and disks, which gRPC's threads must not.
  SigningPool pool_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_IDENTITY_SERVICE_H_
