// One SigningService.SignStream call: items in, results out as they come.
//
//   Open, Item | Chunks..., Close -> [SigningStream] -> Credit, Result...,
//   Summary
//
// An item counts as unanswered from its first byte until its result is
// written. At most LimitsConfig::stream_window items are unanswered: then
// nothing more is read, and HTTP/2's flow control holds the caller back. So a
// caller that sends fast or reads slowly costs a bounded amount of memory.

#ifndef CODESEAL_SERVER_SIGNING_STREAM_H_
#define CODESEAL_SERVER_SIGNING_STREAM_H_

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codeseal/v1/signing.grpc.pb.h"
#include "server/config.h"
#include "server/peer.h"
#include "server/request_handler.h"

namespace codeseal {

// Keeps itself alive from Start() until gRPC is done with it. gRPC calls On*()
// on its threads, results come on others; all of them end in Advance(), which
// alone starts operations.
class SigningStream : public grpc::ServerBidiReactor<v1::SignStreamRequest,
                                                     v1::SignStreamResponse>,
                      public std::enable_shared_from_this<SigningStream> {
 public:
  SigningStream(RequestHandler& handler, const LimitsConfig& limits,
                absl::StatusOr<std::shared_ptr<const Peer>> peer,
                absl::Time deadline);

  // `on_done` is called once, when the stream is over.
  void Start(std::function<void(SigningStream*)> on_done);

  // Answers what was read, then ends with UNAVAILABLE REASON_DRAINING.
  void EndSoon();

 private:
  // An item that arrives in pieces. No other item can come before its end.
  struct Assembly {
    std::string request_id;
    uint64_t total_size = 0;     // bytes; 0: nothing is being assembled
    uint64_t received_size = 0;  // bytes
    bool refused = false;        // the pieces are counted, not kept
    std::string bytes;
  };

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  // Errors end the stream.
  absl::Status TakeMessage(v1::SignStreamRequest& message);
  absl::Status TakeChunk(v1::SignStreamRequest::Chunk& chunk);
  void TakeItem(std::shared_ptr<v1::SignRequest> item);
  void TakeResult(const std::string& request_id,
                  absl::StatusOr<v1::SignResponse> result);
  void EndReading(const absl::Status& status);
  void Advance();

  RequestHandler& handler_;
  const LimitsConfig limits_;
  const absl::StatusOr<std::shared_ptr<const Peer>> peer_;
  const absl::Time deadline_;
  std::function<void(SigningStream*)> on_done_;
  std::shared_ptr<SigningStream> self_;
  std::atomic<bool> cancelled_ = false;

  // Of the reading side: one read at a time, so no lock.
  v1::SignStreamRequest incoming_;
  bool opened_ = false;
  v1::SignStreamRequest::Open open_;
  Assembly assembly_;

  std::mutex mutex_;
  bool reading_ = false;      // an operation is in flight
  bool reads_ended_ = false;  // no further one will be started
  bool assembling_ = false;   // of assembly_, for Advance()
  bool writing_ = false;      // an operation is in flight
  bool finished_ = false;     // Finish() was called
  bool summary_queued_ = false;
  absl::Status end_status_;  // of the call
  uint32_t unanswered_count_ = 0;
  uint32_t signed_count_ = 0;
  uint32_t failed_count_ = 0;
  // The front is in flight while writing_. unique_ptr: gRPC keeps a pointer.
  std::deque<std::unique_ptr<v1::SignStreamResponse>> outgoing_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_SIGNING_STREAM_H_
