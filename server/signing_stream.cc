#include "server/signing_stream.h"

#include <utility>

#include "codesign/base/error.h"
#include "server/request_check.h"
#include "server/status_to_grpc.h"

namespace codeseal {
namespace {

absl::Status BadMessage(const char* message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_TRANSPORT,
                   v1::REASON_BAD_REQUEST, message);
}

}  // namespace

SigningStream::SigningStream(RequestHandler& handler,
                             const LimitsConfig& limits,
                             absl::StatusOr<std::shared_ptr<const Peer>> peer,
                             absl::Time deadline)
    : handler_(handler),
      limits_(limits),
      peer_(std::move(peer)),
      deadline_(deadline) {}

void SigningStream::Start(std::function<void(SigningStream*)> on_done) {
  on_done_ = std::move(on_done);
  self_ = shared_from_this();
  if (peer_.ok()) {
    auto credit = std::make_unique<v1::SignStreamResponse>();
    credit->mutable_credit()->set_items(limits_.stream_window);
    const std::lock_guard lock(mutex_);
    outgoing_.push_back(std::move(credit));
  } else {
    EndReading(peer_.status());
  }
  Advance();
}

void SigningStream::EndSoon() {
  EndReading(Stopping());
  Advance();
}

void SigningStream::EndReading(const absl::Status& status) {
  const std::lock_guard lock(mutex_);
  if (!reads_ended_) end_status_ = status;
  reads_ended_ = true;
}

void SigningStream::OnReadDone(bool ok) {
  const std::shared_ptr<SigningStream> keep = shared_from_this();
  bool ended = false;
  {
    const std::lock_guard lock(mutex_);
    ended = reads_ended_;  // EndSoon() came first: the caller tries again
  }
  if (!ok || ended) {
    // The caller half-closed, with or without Close, or has gone.
    EndReading(absl::OkStatus());
  } else if (const absl::Status taken = TakeMessage(incoming_); !taken.ok()) {
    EndReading(taken);
  }
  {
    const std::lock_guard lock(mutex_);
    reading_ = false;
    if (reads_ended_ && assembling_) {
      // An item of which only a part came: nobody waits for it.
      assembling_ = false;
      --unanswered_count_;
      if (!assembly_.refused) handler_.Release(assembly_.total_size);
      assembly_ = {};
    }
  }
  Advance();
}

absl::Status SigningStream::TakeMessage(v1::SignStreamRequest& message) {
  using Message = v1::SignStreamRequest;
  if (opened_ == (message.message_case() == Message::kOpen)) {
    return BadMessage("a stream begins with one Open");
  }
  if (assembly_.total_size != 0 && message.message_case() != Message::kChunk) {
    return BadMessage("the pieces of an item must not be mixed with others");
  }
  switch (message.message_case()) {
    case Message::kOpen:
      open_ = std::move(*message.mutable_open());
      if (!open_.identity().empty() && open_.identity_version().empty()) {
        open_.set_identity_version(
            handler_.CurrentVersion(open_.identity(), **peer_));
      }
      opened_ = true;
      return absl::OkStatus();
    case Message::kItem: {
      auto item =
          std::make_shared<v1::SignRequest>(std::move(*message.mutable_item()));
      {
        const std::lock_guard lock(mutex_);
        ++unanswered_count_;
      }
      TakeItem(std::move(item));
      return absl::OkStatus();
    }
    case Message::kChunk:
      return TakeChunk(*message.mutable_chunk());
    case Message::kClose:
      EndReading(absl::OkStatus());
      return absl::OkStatus();
    case Message::MESSAGE_NOT_SET:
      break;
  }
  return BadMessage("the message has no content that this server knows");
}

absl::Status SigningStream::TakeChunk(v1::SignStreamRequest::Chunk& chunk) {
  Assembly& item = assembly_;
  if (item.total_size == 0) {
    if (chunk.total_size() == 0 || !IsUuid(chunk.request_id())) {
      return BadMessage("a piece needs request_id and total_size");
    }
    item.request_id = chunk.request_id();
    item.total_size = chunk.total_size();
    {
      const std::lock_guard lock(mutex_);
      ++unanswered_count_;
      assembling_ = true;
    }
    const absl::Status reserved = handler_.Reserve(item.total_size);
    item.refused = !reserved.ok();
    if (item.refused) {
      // Answered now; counted as unanswered once more until its last piece.
      {
        const std::lock_guard lock(mutex_);
        ++unanswered_count_;
      }
      TakeResult(item.request_id, reserved);
    }
  }
  const uint64_t size = chunk.data().size();
  if (chunk.request_id() != item.request_id ||
      chunk.total_size() != item.total_size || size == 0 ||
      size > item.total_size - item.received_size) {
    return BadMessage("the pieces of an item do not fit together");
  }
  item.received_size += size;
  if (!item.refused) item.bytes += chunk.data();
  if (item.received_size < item.total_size) return absl::OkStatus();

  const Assembly whole = std::move(item);
  item = {};
  {
    const std::lock_guard lock(mutex_);
    assembling_ = false;
    if (whole.refused) --unanswered_count_;
  }
  if (whole.refused) return absl::OkStatus();
  auto request = std::make_shared<v1::SignRequest>();
  const bool parsed = request->ParseFromString(whole.bytes);
  handler_.Release(whole.total_size);
  if (!parsed || request->request_id() != whole.request_id) {
    TakeResult(whole.request_id,
               BadMessage("the pieces do not make a SignRequest of this id"));
  } else {
    TakeItem(std::move(request));
  }
  return absl::OkStatus();
}

void SigningStream::TakeItem(std::shared_ptr<v1::SignRequest> item) {
  if (item->identity().empty()) {
    item->set_identity(open_.identity());
    if (item->identity_version().empty()) {
      item->set_identity_version(open_.identity_version());
    }
  }
  RequestHandler::Call call;
  call.peer = *peer_;
  call.deadline = deadline_;
  const std::shared_ptr<SigningStream> self = shared_from_this();
  call.cancelled = [self] { return self->cancelled_.load(); };
  call.done = [self, request_id = item->request_id()](
                  absl::StatusOr<v1::SignResponse> result) {
    self->TakeResult(request_id, std::move(result));
    self->Advance();
  };
  call.request = std::move(item);
  handler_.Sign(std::move(call));
}

void SigningStream::TakeResult(const std::string& request_id,
                               absl::StatusOr<v1::SignResponse> result) {
  auto message = std::make_unique<v1::SignStreamResponse>();
  message->mutable_result()->set_request_id(request_id);
  if (result.ok()) {
    *message->mutable_result()->mutable_response() = *std::move(result);
  } else {
    *message->mutable_result()->mutable_error() = StatusToWire(
        result.status(), request_id, peer_.ok() ? (*peer_)->Name() : "");
  }
  const std::lock_guard lock(mutex_);
  ++(result.ok() ? signed_count_ : failed_count_);
  outgoing_.push_back(std::move(message));
}

void SigningStream::OnWriteDone(bool ok) {
  const std::shared_ptr<SigningStream> keep = shared_from_this();
  {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (outgoing_.front()->has_result()) --unanswered_count_;
    outgoing_.pop_front();
    // The caller has gone: nothing more can be read, later writes fail alike.
    if (!ok) reads_ended_ = true;
  }
  Advance();
}

void SigningStream::OnCancel() { cancelled_ = true; }

void SigningStream::OnDone() {
  const std::shared_ptr<SigningStream> keep = std::move(self_);
  on_done_(this);
}

void SigningStream::Advance() {
  // An operation may end on another thread, and with it the stream, before
  // the function that started it returns.
  const std::shared_ptr<SigningStream> keep = shared_from_this();
  std::unique_lock lock(mutex_);
  if (reads_ended_ && !assembling_ && unanswered_count_ == 0 && !finished_ &&
      !summary_queued_ && end_status_.ok()) {
    auto message = std::make_unique<v1::SignStreamResponse>();
    message->mutable_summary()->set_signed_count(signed_count_);
    message->mutable_summary()->set_failed_count(failed_count_);
    outgoing_.push_back(std::move(message));
    summary_queued_ = true;
  }
  const bool write = !writing_ && !outgoing_.empty() && !finished_;
  const bool read = !reading_ && !reads_ended_ &&
                    (assembling_ || unanswered_count_ < limits_.stream_window);
  const bool finish = reads_ended_ && !assembling_ && unanswered_count_ == 0 &&
                      !writing_ && outgoing_.empty() && !finished_;
  writing_ |= write;
  reading_ |= read;
  finished_ |= finish;
  const v1::SignStreamResponse* const next =
      write ? outgoing_.front().get() : nullptr;
  const absl::Status end_status = end_status_;
  lock.unlock();
  if (write) StartWrite(next);
  if (read) StartRead(&incoming_);
  if (finish) Finish(StatusToGrpc(end_status, ""));
}

}  // namespace codeseal
