// ApprovalService: who may ask, who may agree, and whether an approval is
// signed by the approver's own key.
//
//   gRPC call -> [ApprovalServiceImpl] -> grants.h, in a transaction -> reply

#ifndef CODESEAL_SERVER_APPROVAL_SERVICE_H_
#define CODESEAL_SERVER_APPROVAL_SERVICE_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codeseal/v1/approval.grpc.pb.h"
#include "codesign/base/clock.h"
#include "server/audit_log.h"
#include "server/config.h"
#include "server/identity_store.h"
#include "server/ledger.h"
#include "server/peer.h"
#include "server/services.h"
#include "server/signing_pool.h"

namespace codeseal {

// An approver with the key of the file that the configuration names.
struct Approver {
  ApproverConfig config;
  Bytes public_key;  // SubjectPublicKeyInfo
};

// The rules, without gRPC; what is decided is in the audit log, if there is
// one, with the approver's signature. Borrows its parts. Thread-safe. Blocks
// until the database has answered.
class Approvals {
 public:
  // Reads the approvers' keys.
  // Errors: INVALID_ARGUMENT REASON_BAD_CONFIG, also when two approvers of one
  // identity have the same key.
  static absl::StatusOr<std::unique_ptr<Approvals>> Create(
      const ServerConfig& config, const IdentityStore& identities,
      Ledger& ledger, AuditLog* audit, const Clock& clock);

  absl::StatusOr<v1::Grant> Request(const v1::RequestGrantRequest& request,
                                    const Peer& peer);
  absl::StatusOr<v1::Grant> Decide(const v1::DecideGrantRequest& request,
                                   bool approves, const Peer& peer);
  absl::StatusOr<v1::Grant> Revoke(const std::string& id, const Peer& peer);
  absl::StatusOr<v1::Grant> Get(const std::string& id, const Peer& peer);
  absl::StatusOr<v1::ListGrantsResponse> List(
      const v1::ListGrantsRequest& request, const Peer& peer);

 private:
  Approvals(const ServerConfig& config, const IdentityStore& identities,
            Ledger& ledger, AuditLog* audit, const Clock& clock);

  using Change = std::function<absl::Status(Database&)>;
  absl::Status Run(const Change& change);
  // Run() with an event in the audit log, which comes first.
  absl::Status Record(const char* event, const v1::Grant& grant,
                      const Peer& peer, const std::string& detail,
                      const Change& change);
  // Whether the peer may know of the identity's grants.
  bool MaySee(const v1::Grant& grant, const Peer& peer) const;
  const Approver* FindApprover(const std::string& identity,
                               const Peer& peer) const;

  const AdminConfig admin_;
  std::map<std::string, ApprovalConfig> configs_;  // by identity
  std::map<std::string, std::vector<Approver>> approvers_;
  const IdentityStore& identities_;
  Ledger& ledger_;
  AuditLog* const audit_;
  const Clock& clock_;
};

// Borrows its parts. Thread-safe. Ends after the gRPC server.
class ApprovalServiceImpl : public v1::ApprovalService::CallbackService {
 public:
  ApprovalServiceImpl(Approvals& approvals, PeerGate& gate, PeerReader& peers);

  grpc::ServerUnaryReactor* RequestGrant(grpc::CallbackServerContext* context,
                                         const v1::RequestGrantRequest* request,
                                         v1::Grant* response) override;
  grpc::ServerUnaryReactor* Approve(grpc::CallbackServerContext* context,
                                    const v1::DecideGrantRequest* request,
                                    v1::Grant* response) override;
  grpc::ServerUnaryReactor* Reject(grpc::CallbackServerContext* context,
                                   const v1::DecideGrantRequest* request,
                                   v1::Grant* response) override;
  grpc::ServerUnaryReactor* Revoke(grpc::CallbackServerContext* context,
                                   const v1::GetGrantRequest* request,
                                   v1::Grant* response) override;
  grpc::ServerUnaryReactor* Get(grpc::CallbackServerContext* context,
                                const v1::GetGrantRequest* request,
                                v1::Grant* response) override;
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const v1::ListGrantsRequest* request,
                                 v1::ListGrantsResponse* response) override;

 private:
  template <typename Response>
  grpc::ServerUnaryReactor* Run(
      grpc::CallbackServerContext* context, Response* response,
      std::function<absl::StatusOr<Response>(const Peer& peer)> work);

  Approvals& approvals_;
  PeerGate& gate_;
  PeerReader& peers_;
  // The database is slow and gRPC's threads must not wait.
  SigningPool pool_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_APPROVAL_SERVICE_H_
