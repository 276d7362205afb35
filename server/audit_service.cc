#include "server/audit_service.h"

#include <algorithm>
#include <utility>

#include "audit/checkpoint.h"
#include "audit/tile.h"
#include "codesign/base/error.h"
#include "server/status_to_grpc.h"

namespace codeseal {
namespace {

// gRPC's limit for a message is 4 MiB on the other side, too.
constexpr size_t kMaxEntriesSize = size_t{3} << 20;

absl::StatusOr<uint64_t> SizeOf(const audit::Log& log, uint64_t wanted) {
  if (wanted != 0) return wanted;
  const std::string note = log.checkpoint();
  if (note.empty()) return 0;
  ASSIGN_OR_RETURN(const audit::Checkpoint checkpoint,
                   audit::OpenCheckpoint(note, log.key()));
  return checkpoint.head.size;
}

void Fill(uint64_t size, const audit::Proof& proof, v1::AuditProof& response) {
  response.set_size(size);
  for (const audit::TreeHash& each : proof) {
    response.add_hashes(each.data(), each.size());
  }
}

}  // namespace

AuditServiceImpl::AuditServiceImpl(const AuditTrail* trail,
                                   std::vector<PeerRule> readers,
                                   PeerGate& gate, PeerReader& peers)
    : trail_(trail),
      readers_(std::move(readers)),
      gate_(gate),
      peers_(peers),
      pool_({.thread_count = 2, .max_waiting = 256}) {}

grpc::ServerUnaryReactor* AuditServiceImpl::Serve(
    grpc::CallbackServerContext& context, Access access,
    std::function<absl::Status(const audit::Log&)> work) {
  grpc::ServerUnaryReactor* const reactor = context.DefaultReactor();
  const auto admit =
      [&]() -> absl::StatusOr<std::shared_ptr<const audit::Log>> {
    ASSIGN_OR_RETURN(const std::shared_ptr<const Peer> peer,
                     peers_.Read(*context.auth_context()));
    RETURN_IF_ERROR(gate_.Check(*peer));
    if (access == Access::kEntries && !AnyRuleFits(readers_, *peer)) {
      return MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                       v1::REASON_NOT_AUTHORISED,
                       "you may not read the entries of the audit log");
    }
    if (trail_ == nullptr) {
      return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_AUDIT,
                       v1::REASON_AUDIT_UNAVAILABLE,
                       "this server keeps no audit log");
    }
    return trail_->log();
  };
  const auto log = admit();
  if (!log.ok()) {
    reactor->Finish(StatusToGrpc(log.status(), ""));
    return reactor;
  }
  SigningPool::Task task;
  task.deadline = absl::FromChrono(context.deadline());
  task.run = [reactor, log = *log,
              work = std::move(work)](absl::Status status) {
    if (status.ok()) status = work(*log);
    reactor->Finish(StatusToGrpc(status, ""));
  };
  const absl::Status queued = pool_.Submit(std::move(task));
  if (!queued.ok()) reactor->Finish(StatusToGrpc(queued, ""));
  return reactor;
}

grpc::ServerUnaryReactor* AuditServiceImpl::GetCheckpoint(
    grpc::CallbackServerContext* context,
    const v1::GetCheckpointRequest* /*request*/,
    v1::GetCheckpointResponse* response) {
  return Serve(*context, Access::kHashes, [response](const audit::Log& log) {
    response->set_checkpoint(log.checkpoint());
    response->set_key(log.key().Format());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AuditServiceImpl::GetInclusionProof(
    grpc::CallbackServerContext* context,
    const v1::GetInclusionProofRequest* request, v1::AuditProof* response) {
  return Serve(*context, Access::kHashes,
               [request, response](const audit::Log& log) -> absl::Status {
                 ASSIGN_OR_RETURN(const uint64_t size,
                                  SizeOf(log, request->size()));
                 ASSIGN_OR_RETURN(const audit::Proof proof,
                                  log.ProveInclusion(request->index(), size));
                 Fill(size, proof, *response);
                 return absl::OkStatus();
               });
}

grpc::ServerUnaryReactor* AuditServiceImpl::GetConsistencyProof(
    grpc::CallbackServerContext* context,
    const v1::GetConsistencyProofRequest* request, v1::AuditProof* response) {
  return Serve(
      *context, Access::kHashes,
      [request, response](const audit::Log& log) -> absl::Status {
        ASSIGN_OR_RETURN(const uint64_t size, SizeOf(log, request->size()));
        ASSIGN_OR_RETURN(const audit::Proof proof,
                         log.ProveConsistency(request->old_size(), size));
        Fill(size, proof, *response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* AuditServiceImpl::ReadEntries(
    grpc::CallbackServerContext* context, const v1::ReadEntriesRequest* request,
    v1::ReadEntriesResponse* response) {
  return Serve(*context, Access::kEntries,
               [request, response](const audit::Log& log) -> absl::Status {
                 const size_t max_count =
                     request->max_count() == 0
                         ? audit::kTileWidth
                         : std::min<size_t>(request->max_count(),
                                            audit::kTileWidth);
                 ASSIGN_OR_RETURN(const std::vector<Bytes> entries,
                                  log.ReadEntries(request->begin(), max_count));
                 size_t size = 0;
                 for (const Bytes& each : entries) {
                   size += each.size();
                   if (size > kMaxEntriesSize) break;
                   response->add_entries(each.data(), each.size());
                 }
                 return absl::OkStatus();
               });
}

}  // namespace codeseal
