// The gRPC services, on the callback API: gRPC's threads only read messages and
// hand them on.
//
//   gRPC call -> [services] -> RequestHandler, IdentityStore -> reply

#ifndef CODESEAL_SERVER_SERVICES_H_
#define CODESEAL_SERVER_SERVICES_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "absl/time/time.h"
#include "codeseal/v1/ops.grpc.pb.h"
#include "codeseal/v1/signing.grpc.pb.h"
#include "server/audit_log.h"
#include "server/config.h"
#include "server/identity_store.h"
#include "server/peer.h"
#include "server/request_handler.h"
#include "server/signing_pool.h"
#include "server/signing_stream.h"
#include "server/workload_identity.h"

namespace codeseal {

// The longest that an administrator's call waits, for its turn or a token.
inline constexpr absl::Duration kAdminTime = absl::Seconds(60);

// The peer of a call, from its TLS certificate. A connection makes many calls,
// so certificates are parsed once. Thread-safe.
class PeerReader {
 public:
  // Errors: PERMISSION_DENIED REASON_NOT_AUTHORISED without a certificate.
  absl::StatusOr<std::shared_ptr<const Peer>> Read(
      const grpc::AuthContext& context);
  // The same with the identity token that came with the call, if any.
  // Errors: WorkloadVerifier::Verify()'s, too.
  absl::StatusOr<std::shared_ptr<const Peer>> Read(
      const grpc::CallbackServerContext& context);

  // Before the first call; borrowed.
  void VerifyTokensWith(WorkloadVerifier& workloads) {
    workloads_ = &workloads;
  }

 private:
  WorkloadVerifier* workloads_ = nullptr;
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<const Peer>> by_pem_;
};

// Borrows its parts. Thread-safe.
class SigningServiceImpl : public v1::SigningService::CallbackService {
 public:
  SigningServiceImpl(RequestHandler& handler, PeerReader& peers,
                     const LimitsConfig& limits)
      : handler_(handler), peers_(peers), limits_(limits) {}

  grpc::ServerUnaryReactor* Sign(grpc::CallbackServerContext* context,
                                 const v1::SignRequest* request,
                                 v1::SignResponse* response) override;
  grpc::ServerBidiReactor<v1::SignStreamRequest, v1::SignStreamResponse>*
  SignStream(grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* GetSignature(grpc::CallbackServerContext* context,
                                         const v1::GetSignatureRequest* request,
                                         v1::SignResponse* response) override;

  // Ends every stream as soon as what it read is answered, with UNAVAILABLE
  // REASON_DRAINING, and waits until no call is open: every answer is on its
  // way. False when `deadline` came first.
  bool EndCalls(absl::Time deadline);

 private:
  class SignCall;
  class FindCall;

  void CallOpened();
  void CallDone();

  RequestHandler& handler_;
  PeerReader& peers_;
  const LimitsConfig limits_;
  std::mutex mutex_;
  std::unordered_map<SigningStream*, std::shared_ptr<SigningStream>> streams_;
  size_t open_call_count_ = 0;  // streams and others
  bool ending_ = false;
  std::condition_variable all_done_;
};

// Borrows its parts. Thread-safe.
class OpsServiceImpl : public v1::OpsService::CallbackService {
 public:
  // The log may be null.
  OpsServiceImpl(IdentityStore& identities, PeerGate& gate, PeerReader& peers,
                 AdminConfig admin, AuditLog* audit);

  grpc::ServerUnaryReactor* ClearPinHold(
      grpc::CallbackServerContext* context,
      const v1::ClearPinHoldRequest* request,
      v1::ClearPinHoldResponse* response) override;
  grpc::ServerUnaryReactor* RecordCeremony(
      grpc::CallbackServerContext* context,
      const v1::RecordCeremonyRequest* request,
      v1::RecordCeremonyResponse* response) override;

 private:
  // Runs `work` with the administrator's name, off gRPC's threads.
  using Work = std::function<absl::Status(const std::string& admin,
                                          absl::Time deadline)>;
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext& context,
                                Work work);
  absl::Status Clear(const std::string& token, const std::string& admin,
                     absl::Time deadline) const;
  absl::Status Record(const v1::RecordCeremonyRequest& request,
                      const std::string& admin, absl::Time deadline,
                      v1::RecordCeremonyResponse& response) const;

  IdentityStore& identities_;
  PeerGate& gate_;
  PeerReader& peers_;
  const AdminConfig admin_;
  AuditLog* const audit_;
  // Tokens are slow and gRPC's threads must not wait: one call at a time here.
  SigningPool pool_;
};

// Whether the peer may do what only administrators may.
// Errors: PERMISSION_DENIED REASON_NOT_AUTHORISED.
absl::Status CheckAdmin(const AdminConfig& admin, const Peer& peer);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_SERVICES_H_
