// Frames and messages between a process and its token worker. Both ends check
// what they read: the worker shares its memory with a vendor's module.
//
//   Token -- Request --> worker -- Reply --> Token
//
// Layout: a frame is a big-endian 32-bit size and that many bytes of a message
// of hsm/worker.proto.

#ifndef CODESEAL_HSM_WORKER_MESSAGE_H_
#define CODESEAL_HSM_WORKER_MESSAGE_H_

#include <cstddef>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "hsm/token.h"
#include "hsm/worker.pb.h"

namespace codeseal {

// Requests stay below what a socket takes without a reader (64 KiB); replies
// hold every certificate of a token.
inline constexpr size_t kMaxRequestSize = size_t{64} << 10;
inline constexpr size_t kMaxReplySize = size_t{16} << 20;

// Sessions, and so channels, of one worker.
inline constexpr uint32_t kMaxSessionCount = 1024;

// What the worker writes on the control socket around C_Login, one byte each.
enum class LoginEvent : uint8_t {
  kStarted = 'L',
  kAccepted = 'A',
  kRejected = 'R',  // the token refused the PIN
  kFailed = 'F',    // something else failed; the PIN was not judged
};

// One frame with a message in it.
Bytes EncodeFrame(const google::protobuf::MessageLite& message);

// Collects one frame at a time from a stream socket. Thread-compatible.
class FrameReader {
 public:
  enum class Result {
    kFrame,    // frame() holds a message
    kPartial,  // more to come
    kClosed    // the peer is gone, or sends nonsense
  };

  // Does not own `fd`. Frames above `max_size` bytes count as nonsense.
  FrameReader(int fd, size_t max_size) : fd_(fd), max_size_(max_size) {}

  // One recv(), with `flags` (MSG_DONTWAIT). After kFrame, a call starts with
  // the next frame.
  Result Read(int flags);
  // Valid until the next Read().
  ByteView frame() const;

 private:
  int fd_;
  size_t max_size_;
  Bytes buffer_;
  size_t filled_size_ = 0;
  bool complete_ = false;
};

// Writes all of `frame`. False when the peer is gone or, with MSG_DONTWAIT in
// `flags`, does not read.
bool SendFrame(int fd, ByteView frame, int flags);

// Parse and check what a peer sent.
// Errors: INVALID_ARGUMENT STAGE_TOKEN REASON_BAD_REQUEST.
absl::StatusOr<hsm::WorkerConfig> ParseWorkerConfig(ByteView message);
absl::StatusOr<hsm::Request> ParseRequest(ByteView message);
absl::StatusOr<hsm::Reply> ParseReply(ByteView message);

// A Status inside a Reply. Unknown codes come back as UNKNOWN.
void SetStatus(hsm::Reply& reply, const absl::Status& status);
absl::Status GetStatus(const hsm::Reply& reply);

// Values between the wire and hsm/token.h.
hsm::KeyReference ToWire(const KeyReference& key, ByteView public_key);
KeyReference FromWire(const hsm::KeyReference& key);
hsm::KeyAttributes ToWire(const KeyAttributes& attributes);
KeyAttributes FromWire(const hsm::KeyAttributes& attributes);

}  // namespace codeseal

#endif  // CODESEAL_HSM_WORKER_MESSAGE_H_
