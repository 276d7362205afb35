#include "tests/integration/test_client.h"

#include <condition_variable>
#include <fstream>
#include <iterator>
#include <mutex>
#include <thread>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "grpcpp/generic/generic_stub.h"

namespace codeseal::testing {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void SetDeadline(grpc::ClientContext& context, absl::Duration timeout) {
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
}

}  // namespace

absl::Status Decode(const v1::Status& status) {
  const absl::Status plain(static_cast<absl::StatusCode>(status.code()),
                           status.message());
  ErrorDetail detail;
  if (status.details_size() < 1 || !status.details(0).UnpackTo(&detail)) {
    return plain;
  }
  return WithErrorDetail(plain, detail);
}

absl::Status Decode(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  v1::Status wire;
  if (wire.ParseFromString(status.error_details()) && wire.code() != 0) {
    return Decode(wire);
  }
  return {static_cast<absl::StatusCode>(status.error_code()),
          status.error_message()};
}

TestClient::TestClient(const std::string& address, const std::string& ca,
                       const ClientFiles& files) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ReadFile(ca);
  options.pem_cert_chain = ReadFile(files.certificate);
  options.pem_private_key = ReadFile(files.key);
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride("localhost");
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // Who does not read takes HTTP/2's 64 KiB, not ever more.
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
  channel_ = grpc::CreateCustomChannel(address, grpc::SslCredentials(options),
                                       arguments);
  signing_ = v1::SigningService::NewStub(channel_);
  identities_ = v1::IdentityService::NewStub(channel_);
  ops_ = v1::OpsService::NewStub(channel_);
}

TestClient::Result TestClient::Sign(const v1::SignRequest& request,
                                    absl::Duration timeout) {
  grpc::ClientContext context;
  SetDeadline(context, timeout);
  v1::SignResponse response;
  const absl::Status status =
      Decode(signing_->Sign(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::SignResponse> TestClient::GetSignature(
    const std::string& request_id) {
  grpc::ClientContext context;
  SetDeadline(context, absl::Seconds(20));
  v1::GetSignatureRequest request;
  request.set_request_id(request_id);
  v1::SignResponse response;
  const absl::Status status =
      Decode(signing_->GetSignature(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::Identity> TestClient::GetIdentity(const std::string& name) {
  grpc::ClientContext context;
  SetDeadline(context, absl::Seconds(20));
  v1::GetIdentityRequest request;
  request.set_name(name);
  v1::Identity identity;
  const absl::Status status =
      Decode(identities_->GetIdentity(&context, request, &identity));
  if (!status.ok()) return status;
  return identity;
}

absl::StatusOr<std::vector<v1::Identity>> TestClient::ListIdentities() {
  grpc::ClientContext context;
  SetDeadline(context, absl::Seconds(20));
  v1::ListIdentitiesResponse response;
  const absl::Status status =
      Decode(identities_->ListIdentities(&context, {}, &response));
  if (!status.ok()) return status;
  return std::vector<v1::Identity>(response.identities().begin(),
                                   response.identities().end());
}

absl::Status TestClient::ClearPinHold(const std::string& token) {
  grpc::ClientContext context;
  SetDeadline(context, absl::Seconds(20));
  v1::ClearPinHoldRequest request;
  request.set_token(token);
  v1::ClearPinHoldResponse response;
  return Decode(ops_->ClearPinHold(&context, request, &response));
}

std::string TestClient::Health(const std::string& service) {
  // HealthCheckRequest {string service = 1}, HealthCheckResponse {Status status
  // = 1}: too small to need their proto, which is not packaged.
  grpc::Slice message(std::string{'\x0a', static_cast<char>(service.size())} +
                      service);
  grpc::ByteBuffer request(&message, 1);
  grpc::ByteBuffer response;
  grpc::ClientContext context;
  SetDeadline(context, absl::Seconds(20));
  grpc::GenericStub stub(channel_);
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareUnaryCall(
      &context, "/grpc.health.v1.Health/Check", request, &queue);
  grpc::Status status;
  call->StartCall();
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) return status.error_message();
  grpc::Slice reply;
  response.DumpToSingleSlice(&reply);
  const std::string bytes(reinterpret_cast<const char*>(reply.begin()),
                          reply.size());
  return bytes == "\x08\x01" ? "SERVING" : "NOT_SERVING";
}

std::map<std::string, TestClient::Result> TestClient::SignAll(
    const std::vector<v1::SignRequest>& requests, const std::string& identity,
    absl::Status* end, size_t chunk_size) {
  grpc::ClientContext context;
  SetDeadline(context, absl::Seconds(60));
  const std::unique_ptr<Stream> stream = signing_->SignStream(&context);
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t window = 0;
  uint64_t unanswered = 0;
  bool over = false;
  std::map<std::string, Result> results;
  std::thread reader([&] {
    v1::SignStreamResponse message;
    while (stream->Read(&message)) {
      const std::lock_guard lock(mutex);
      if (message.has_credit()) window += message.credit().items();
      if (message.has_result()) {
        --unanswered;
        const auto& result = message.result();
        results.emplace(result.request_id(),
                        result.has_error() ? Result(Decode(result.error()))
                                           : Result(result.response()));
      }
      changed.notify_all();
    }
    const std::lock_guard lock(mutex);
    over = true;
    changed.notify_all();
  });

  v1::SignStreamRequest open;
  open.mutable_open()->set_identity(identity);
  stream->Write(open);
  for (const v1::SignRequest& request : requests) {
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return over || unanswered < window; });
      if (over) break;
      ++unanswered;
    }
    const std::string bytes = request.SerializeAsString();
    if (bytes.size() <= chunk_size) {
      v1::SignStreamRequest item;
      *item.mutable_item() = request;
      stream->Write(item);
      continue;
    }
    for (size_t at = 0; at < bytes.size(); at += chunk_size) {
      v1::SignStreamRequest piece;
      piece.mutable_chunk()->set_request_id(request.request_id());
      piece.mutable_chunk()->set_total_size(bytes.size());
      piece.mutable_chunk()->set_data(bytes.substr(at, chunk_size));
      stream->Write(piece);
    }
  }
  v1::SignStreamRequest close;
  close.mutable_close();
  stream->Write(close);
  stream->WritesDone();
  reader.join();
  const absl::Status status = Decode(stream->Finish());
  if (end != nullptr) *end = status;
  return results;
}

}  // namespace codeseal::testing
