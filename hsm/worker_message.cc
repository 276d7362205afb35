#include "hsm/worker_message.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "hsm/public_key.h"

namespace codeseal {
namespace {

constexpr size_t kFrameHeaderSize = 4;
constexpr size_t kFirstBufferSize = 2048;  // more than a signature's frames
constexpr size_t kMaxIdSize = 256;
constexpr size_t kMaxLabelSize = 256;
constexpr size_t kMaxPublicKeySize = 4096;

absl::Status BadMessage(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_TOKEN,
                   v1::REASON_BAD_REQUEST, message);
}

template <typename Message>
absl::StatusOr<Message> ParseMessage(ByteView bytes) {
  Message message;
  if (bytes.size() > kMaxReplySize ||
      !message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return BadMessage("a worker message does not parse");
  }
  return message;
}

absl::Status CheckKey(const hsm::KeyReference& key) {
  if (key.id().empty() && key.label().empty()) {
    return BadMessage("a key reference needs an id or a label");
  }
  if (key.id().size() > kMaxIdSize || key.label().size() > kMaxLabelSize ||
      key.public_key().size() > kMaxPublicKeySize) {
    return BadMessage("a key reference is too long");
  }
  return absl::OkStatus();
}

absl::Status CheckSign(const hsm::SignCall& call) {
  RETURN_IF_ERROR(CheckKey(call.key()));
  if (call.mechanism() < uint32_t{1} || call.mechanism() > uint32_t{3}) {
    return BadMessage(absl::StrCat("mechanism ", call.mechanism()));
  }
  if (call.digest_kind() < uint32_t{1} || call.digest_kind() > uint32_t{4} ||
      call.digest().size() !=
          DigestSize(static_cast<SignDigest>(call.digest_kind()))) {
    return BadMessage(absl::StrCat("digest ", call.digest_kind(), " of ",
                                   call.digest().size(), " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

Bytes EncodeFrame(const google::protobuf::MessageLite& message) {
  const size_t size = message.ByteSizeLong();
  Bytes frame(kFrameHeaderSize + size);
  StoreU32(frame, 0, static_cast<uint32_t>(size), ByteOrder::kBig);
  message.SerializeWithCachedSizesToArray(frame.data() + kFrameHeaderSize);
  return frame;
}

FrameReader::Result FrameReader::Read(int flags) {
  if (complete_) {
    filled_size_ = 0;
    complete_ = false;
  }
  if (buffer_.size() < kFirstBufferSize) buffer_.resize(kFirstBufferSize);
  ssize_t received = 0;
  do {
    received = recv(fd_, buffer_.data() + filled_size_,
                    buffer_.size() - filled_size_, flags);
  } while (received < 0 && errno == EINTR);
  if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    return Result::kPartial;
  }
  if (received <= 0) return Result::kClosed;
  filled_size_ += static_cast<size_t>(received);
  if (filled_size_ < kFrameHeaderSize) return Result::kPartial;

  const size_t size = BigEndianReader(buffer_).U32();
  if (size > max_size_ || filled_size_ - kFrameHeaderSize > size) {
    return Result::kClosed;  // a channel never holds two frames
  }
  if (filled_size_ - kFrameHeaderSize == size) {
    complete_ = true;
    return Result::kFrame;
  }
  if (buffer_.size() - kFrameHeaderSize < size) {
    buffer_.resize(kFrameHeaderSize + size);
  }
  return Result::kPartial;
}

ByteView FrameReader::frame() const {
  return ByteView(buffer_).subspan(kFrameHeaderSize,
                                   filled_size_ - kFrameHeaderSize);
}

bool SendFrame(int fd, ByteView frame, int flags) {
  while (!frame.empty()) {
    const ssize_t sent =
        send(fd, frame.data(), frame.size(), flags | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    frame = frame.subspan(static_cast<size_t>(sent));
  }
  return true;
}

absl::StatusOr<hsm::WorkerConfig> ParseWorkerConfig(ByteView message) {
  ASSIGN_OR_RETURN(hsm::WorkerConfig config,
                   ParseMessage<hsm::WorkerConfig>(message));
  if (config.module().empty() || config.session_count() == 0 ||
      config.session_count() > kMaxSessionCount ||
      config.channel_count() == 0 ||
      config.channel_count() > kMaxSessionCount) {
    return BadMessage("a worker configuration is out of range");
  }
  return config;
}

absl::StatusOr<hsm::Request> ParseRequest(ByteView message) {
  ASSIGN_OR_RETURN(hsm::Request request, ParseMessage<hsm::Request>(message));
  if (request.timeout_us() <= 0) return BadMessage("a request has no time");
  switch (request.call_case()) {
    case hsm::Request::kSign:
      RETURN_IF_ERROR(CheckSign(request.sign()));
      return request;
    case hsm::Request::kFindKey:
      RETURN_IF_ERROR(CheckKey(request.find_key().key()));
      return request;
    case hsm::Request::kGenerateKey:
      RETURN_IF_ERROR(CheckKey(request.generate_key().key()));
      if (request.generate_key().algorithm() >
          static_cast<uint32_t>(KeyAlgorithm::kP384)) {
        return BadMessage("unknown key algorithm");
      }
      return request;
    case hsm::Request::kImportCertificate:
      RETURN_IF_ERROR(CheckKey(request.import_certificate().key()));
      return request;
    case hsm::Request::kList:
    case hsm::Request::kClearPinHold:
      return request;
    case hsm::Request::CALL_NOT_SET:
      break;
  }
  return BadMessage("a request without a call");
}

absl::StatusOr<hsm::Reply> ParseReply(ByteView message) {
  ASSIGN_OR_RETURN(hsm::Reply reply, ParseMessage<hsm::Reply>(message));
  if (reply.code() == 0 && reply.result_case() == hsm::Reply::kSignature &&
      reply.signature().empty()) {
    return BadMessage("an empty signature");
  }
  return reply;
}

void SetStatus(hsm::Reply& reply, const absl::Status& status) {
  reply.set_code(static_cast<int32_t>(status.code()));
  reply.set_message(std::string(Message(status)));
  if (const std::optional<ErrorDetail> detail = GetErrorDetail(status)) {
    *reply.mutable_detail() = *detail;
  }
}

absl::Status GetStatus(const hsm::Reply& reply) {
  if (reply.code() == 0) return absl::OkStatus();
  const bool known =
      reply.code() > 0 &&
      reply.code() <= static_cast<int32_t>(absl::StatusCode::kUnauthenticated);
  return WithErrorDetail(
      absl::Status(known ? static_cast<absl::StatusCode>(reply.code())
                         : absl::StatusCode::kUnknown,
                   reply.message()),
      reply.detail());
}

hsm::KeyReference ToWire(const KeyReference& key, ByteView public_key) {
  hsm::KeyReference wire;
  wire.set_id(ToString(key.id));
  wire.set_label(key.label);
  wire.set_public_key(ToString(public_key));
  return wire;
}

KeyReference FromWire(const hsm::KeyReference& key) {
  return {.id = ToBytes(key.id()), .label = key.label()};
}

hsm::KeyAttributes ToWire(const KeyAttributes& attributes) {
  hsm::KeyAttributes wire;
  wire.set_sensitive(attributes.sensitive);
  wire.set_always_sensitive(attributes.always_sensitive);
  wire.set_extractable(attributes.extractable);
  wire.set_never_extractable(attributes.never_extractable);
  wire.set_local(attributes.local);
  wire.set_sign(attributes.sign);
  wire.set_decrypt(attributes.decrypt);
  wire.set_unwrap(attributes.unwrap);
  wire.set_always_authenticate(attributes.always_authenticate);
  return wire;
}

KeyAttributes FromWire(const hsm::KeyAttributes& attributes) {
  return {.sensitive = attributes.sensitive(),
          .always_sensitive = attributes.always_sensitive(),
          .extractable = attributes.extractable(),
          .never_extractable = attributes.never_extractable(),
          .local = attributes.local(),
          .sign = attributes.sign(),
          .decrypt = attributes.decrypt(),
          .unwrap = attributes.unwrap(),
          .always_authenticate = attributes.always_authenticate()};
}

}  // namespace codeseal
