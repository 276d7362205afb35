// The gRPC service that shows the audit log. It reads files, so the work is
// done on threads of its own and not on gRPC's.
//
//   gRPC call -> [audit_service] -> AuditTrail's log -> reply

#ifndef CODESEAL_SERVER_AUDIT_SERVICE_H_
#define CODESEAL_SERVER_AUDIT_SERVICE_H_

#include <functional>
#include <memory>
#include <vector>

#include "codeseal/v1/audit.grpc.pb.h"
#include "server/audit_log.h"
#include "server/config.h"
#include "server/peer.h"
#include "server/services.h"
#include "server/signing_pool.h"

namespace codeseal {

// Borrows its parts; `trail` may be nullptr: the server keeps no log.
// Thread-safe.
class AuditServiceImpl : public v1::AuditService::CallbackService {
 public:
  AuditServiceImpl(const AuditTrail* trail, std::vector<PeerRule> readers,
                   PeerGate& gate, PeerReader& peers);

  grpc::ServerUnaryReactor* GetCheckpoint(
      grpc::CallbackServerContext* context,
      const v1::GetCheckpointRequest* request,
      v1::GetCheckpointResponse* response) override;
  grpc::ServerUnaryReactor* GetInclusionProof(
      grpc::CallbackServerContext* context,
      const v1::GetInclusionProofRequest* request,
      v1::AuditProof* response) override;
  grpc::ServerUnaryReactor* GetConsistencyProof(
      grpc::CallbackServerContext* context,
      const v1::GetConsistencyProofRequest* request,
      v1::AuditProof* response) override;
  grpc::ServerUnaryReactor* ReadEntries(
      grpc::CallbackServerContext* context,
      const v1::ReadEntriesRequest* request,
      v1::ReadEntriesResponse* response) override;

 private:
  enum class Access : uint8_t { kHashes, kEntries };
  // Checks the caller, then does the work on the pool.
  grpc::ServerUnaryReactor* Serve(
      grpc::CallbackServerContext& context, Access access,
      std::function<absl::Status(const audit::Log&)> work);

  const AuditTrail* const trail_;
  const std::vector<PeerRule> readers_;
  PeerGate& gate_;
  PeerReader& peers_;
  SigningPool pool_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_AUDIT_SERVICE_H_
