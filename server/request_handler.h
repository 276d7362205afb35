// The way of one signing request, whatever service brought it. Knows nothing
// of gRPC.
//
//   SignRequest + Peer -> may you? -> token's line -> what is it? -> policy
//     -> intent kept and logged -> token signs -> verified -> signature kept
//     -> timestamp -> outcome logged -> reply kept -> SignResponse
//
// The token's threads judge and sign. While something is made durable, stamped
// or logged they do so for others. A log that fails after the signature never
// signs twice: the same request later gets what was kept.

#ifndef CODESEAL_SERVER_REQUEST_HANDLER_H_
#define CODESEAL_SERVER_REQUEST_HANDLER_H_

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codeseal/v1/signing.pb.h"
#include "codesign/base/clock.h"
#include "server/audit_log.h"
#include "server/config.h"
#include "server/identity_store.h"
#include "server/ledger.h"
#include "server/metrics.h"
#include "server/own_signature.h"
#include "server/peer.h"
#include "server/permit.h"
#include "server/request_check.h"
#include "server/timestamps.h"

namespace codeseal {

// Thread-safe. Borrows everything, the ledger and the log may be null; outlives
// what it was given to handle.
class RequestHandler {
 public:
  struct Call {
    std::shared_ptr<const v1::SignRequest> request;
    std::shared_ptr<const Peer> peer;
    absl::Time deadline = absl::InfiniteFuture();
    std::function<bool()> cancelled;  // may be empty
    // Called exactly once, perhaps before Sign() returns.
    std::function<void(absl::StatusOr<v1::SignResponse>)> done;
  };

  RequestHandler(const IdentityStore& identities, PeerGate& gate,
                 const TimestampAuthorities& timestamps, Ledger* ledger,
                 AuditLog* audit, const LimitsConfig& limits,
                 const Clock& clock)
      : identities_(identities),
        gate_(gate),
        timestamps_(timestamps),
        ledger_(ledger),
        audit_(audit),
        limits_(limits),
        clock_(clock) {}

  // Counts every request from now on. Before the first; borrows it.
  void CountIn(Metrics& metrics) { metrics_ = &metrics; }

  // Returns at once; the work is done on the threads of the identity's token.
  void Sign(Call call);

  // The version that signs for the identity now: a stream names it for all of
  // its items, so that an app is signed by one. Empty when there is none.
  std::string CurrentVersion(const std::string& identity,
                             const Peer& peer) const;

  // What became of an earlier request of the peer.
  // Errors: Ledger::Find()'s.
  void Find(const Peer& peer, const std::string& request_id,
            std::function<void(absl::StatusOr<v1::SignResponse>)> done);

  // Counts `size` bytes that a caller still sends towards what the server holds
  // at once, until Release().
  // Errors: RESOURCE_EXHAUSTED REASON_OVERLOADED; INVALID_ARGUMENT
  // REASON_MESSAGE_TOO_LARGE for more than one request may have.
  absl::Status Reserve(size_t size);
  void Release(size_t size);

  size_t in_flight_count() const;
  size_t buffered_size() const;

  // From now on new requests are refused with UNAVAILABLE REASON_DRAINING.
  void Drain();
  // Whether every request that was taken is answered by `deadline`.
  bool WaitUntilIdle(absl::Time deadline);

 private:
  absl::StatusOr<IdentityVersion*> Admit(const Call& call, size_t size);
  absl::Status ReserveLocked(size_t size);
  // A request on its way.
  struct Job {
    Call call;
    size_t size = 0;  // of the request, bytes
    IdentityVersion* version = nullptr;
    std::optional<CheckedRequest> checked;
    v1::SignResponse response;
    TimestampPlan timestamp;
    LedgerKey key;
    Bytes payload_digest;
    Permit permit;
    absl::Status refusal;  // policy's, of what was not signed before
    audit::Entry facts;    // what the log says of it
    bool begun = false;    // with the ledger
    bool kept = false;     // the ledger has the signature
  };
  // Puts a step into the line of the token; errors as SigningPool::Submit().
  absl::Status Queue(const std::shared_ptr<Job>& job,
                     void (RequestHandler::*step)(const std::shared_ptr<Job>&));
  absl::Status Check(Job& job) const;
  absl::Status Sign(Job& job) const;
  // The steps; each takes the job to its end. Judge() and MakeSignature() run
  // on the token's threads.
  void Judge(const std::shared_ptr<Job>& job);
  void TryPermit(const std::shared_ptr<Job>& job);
  void KeepIntent(const std::shared_ptr<Job>& job);
  void Continue(const std::shared_ptr<Job>& job,
                absl::StatusOr<std::optional<LedgerEntry>> entry);
  void LogIntent(const std::shared_ptr<Job>& job);
  void MakeSignature(const std::shared_ptr<Job>& job);
  void KeepSignature(const std::shared_ptr<Job>& job);
  void GoOn(const std::shared_ptr<Job>& job);
  void LogOutcome(const std::shared_ptr<Job>& job);
  void KeepReply(const std::shared_ptr<Job>& job);
  void Fail(const std::shared_ptr<Job>& job, const absl::Status& status);
  void GetTimestamp(const std::shared_ptr<Job>& job);
  void NoteFailure(const Job& job, const absl::Status& status);
  void Finish(Job& job, const absl::Status& status);

  const IdentityStore& identities_;
  PeerGate& gate_;
  const TimestampAuthorities& timestamps_;
  Ledger* const ledger_;
  AuditLog* const audit_;
  const LimitsConfig limits_;
  const Clock& clock_;
  mutable OwnSignatureCheck own_signature_;
  Metrics* metrics_ = nullptr;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  size_t in_flight_count_ = 0;
  size_t buffered_size_ = 0;  // bytes of all requests, whole and in parts
  bool draining_ = false;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_REQUEST_HANDLER_H_
