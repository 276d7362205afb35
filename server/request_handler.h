// The way of one signing request, whatever service brought it. Knows nothing
// of gRPC.
//
//   SignRequest + Peer -> may you? -> token's line -> what is it? -> policy
//     -> token signs -> verified -> SignResponse

#ifndef CODESEAL_SERVER_REQUEST_HANDLER_H_
#define CODESEAL_SERVER_REQUEST_HANDLER_H_

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codeseal/v1/signing.pb.h"
#include "codesign/base/clock.h"
#include "server/config.h"
#include "server/identity_store.h"
#include "server/own_signature.h"
#include "server/peer.h"

namespace codeseal {

// Thread-safe. Borrows everything; outlives what it was given to handle.
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
                 const LimitsConfig& limits, const Clock& clock)
      : identities_(identities), gate_(gate), limits_(limits), clock_(clock) {}

  // Returns at once; the work is done on the threads of the identity's token.
  void Sign(Call call);

  // The version that signs for the identity now: a stream names it for all of
  // its items, so that an app is signed by one. Empty when there is none.
  std::string CurrentVersion(const std::string& identity,
                             const Peer& peer) const;

  // Counts `size` bytes that a caller still sends towards what the server holds
  // at once, until Release().
  // Errors: RESOURCE_EXHAUSTED REASON_OVERLOADED; INVALID_ARGUMENT
  // REASON_MESSAGE_TOO_LARGE for more than one request may have.
  absl::Status Reserve(size_t size);
  void Release(size_t size);

  // From now on new requests are refused with UNAVAILABLE REASON_DRAINING.
  void Drain();
  // Whether every request that was taken is answered by `deadline`.
  bool WaitUntilIdle(absl::Time deadline);

 private:
  absl::StatusOr<IdentityVersion*> Admit(const Call& call, size_t size);
  absl::Status ReserveLocked(size_t size);
  absl::StatusOr<v1::SignResponse> Handle(const Call& call,
                                          IdentityVersion& version) const;
  void Finish(size_t size);

  const IdentityStore& identities_;
  PeerGate& gate_;
  const LimitsConfig limits_;
  const Clock& clock_;
  mutable OwnSignatureCheck own_signature_;
  std::mutex mutex_;
  std::condition_variable idle_;
  size_t in_flight_count_ = 0;
  size_t buffered_size_ = 0;  // bytes of all requests, whole and in parts
  bool draining_ = false;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_REQUEST_HANDLER_H_
