#include "client/remote_signer.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/audit_receipt.h"
#include "client/grpc_to_status.h"
#include "codeseal/v1/identity.grpc.pb.h"
#include "codeseal/v1/signing.grpc.pb.h"
#include "codesign/base/error.h"
#include "codesign/super_blob.h"

namespace codeseal::client {
namespace {

using SliceResult = absl::StatusOr<SliceSignature>;
using Stream =
    grpc::ClientReaderWriter<v1::SignStreamRequest, v1::SignStreamResponse>;

// Larger requests are cut into pieces of this many bytes.
constexpr size_t kChunkSize = 1 << 20;

// Which field of the request carries which slot's blob.
struct BlobField {
  uint32_t slot;
  std::string* (v1::CodeDirectorySet::*field)();
};
constexpr std::array kBlobFields = {
    BlobField{kRequirementsSlot, &v1::CodeDirectorySet::mutable_requirements},
    BlobField{kEntitlementsSlot, &v1::CodeDirectorySet::mutable_entitlements},
    BlobField{kEntitlementsDerSlot,
              &v1::CodeDirectorySet::mutable_entitlements_der},
    BlobField{kLaunchConstraintSelfSlot,
              &v1::CodeDirectorySet::mutable_launch_constraint_self},
    BlobField{kLaunchConstraintParentSlot,
              &v1::CodeDirectorySet::mutable_launch_constraint_parent},
    BlobField{kLaunchConstraintResponsibleSlot,
              &v1::CodeDirectorySet::mutable_launch_constraint_responsible},
    BlobField{kLibraryConstraintSlot,
              &v1::CodeDirectorySet::mutable_library_constraint},
};

absl::Status Misbehaved(const std::string& message) {
  return MakeError(absl::StatusCode::kInternal, v1::STAGE_TRANSPORT,
                   v1::REASON_INTERNAL, "the server's answer: " + message);
}

std::string StateName(v1::IdentityState state) {
  std::string name = v1::IdentityState_Name(state);
  constexpr std::string_view kPrefix = "IDENTITY_STATE_";
  if (name.starts_with(kPrefix)) name.erase(0, kPrefix.size());
  std::transform(name.begin(), name.end(), name.begin(), [](char c) {
    return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return name;
}

absl::StatusOr<SigningIdentity> FromWire(const v1::Identity& wire) {
  SigningIdentity identity;
  identity.name = wire.name();
  identity.version = wire.version();
  identity.state = StateName(wire.state());
  identity.unavailable_because = wire.unavailable_because();
  for (const std::string& der : wire.certificate_chain()) {
    ASSIGN_OR_RETURN(Certificate certificate, Certificate::Parse(AsBytes(der)));
    identity.chain.push_back(std::move(certificate));
  }
  return identity;
}

std::optional<absl::Time> SigningTime(const v1::SignResponse& response) {
  if (!response.has_signing_time()) return std::nullopt;
  return absl::FromUnixSeconds(response.signing_time().seconds()) +
         absl::Nanoseconds(response.signing_time().nanos());
}

std::optional<absl::Time> TimestampOf(const v1::SignResponse& response) {
  if (!response.has_timestamp()) return std::nullopt;
  return absl::FromUnixSeconds(response.timestamp().time().seconds());
}

// The stream's half that reads runs on a thread of its own: answers come while
// later slices are still being sent.
class SigningStream {
 public:
  SigningStream(Stream& stream, std::map<std::string, SliceResult*> waiting,
                std::function<void()> on_answer)
      : stream_(stream),
        waiting_(std::move(waiting)),
        on_answer_(std::move(on_answer)),
        reader_([this] { ReadAll(); }) {}
  ~SigningStream() { Join(); }

  // Waits until the server takes another item; false when the stream ended.
  bool AwaitCredit() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ended_ || unanswered_ < window_; });
    if (ended_) return false;
    ++unanswered_;
    return true;
  }

  void Join() {
    if (reader_.joinable()) reader_.join();
  }

  // Joins, and gives every slice without an answer the stream's fault.
  void End(const absl::Status& status) {
    Join();
    const absl::Status& fault = fault_.ok() ? status : fault_;
    for (const auto& [request_id, result] : waiting_) *result = fault;
  }

 private:
  void ReadAll() {
    v1::SignStreamResponse response;
    while (stream_.Read(&response)) {
      if (response.has_credit()) {
        const std::lock_guard lock(mutex_);
        window_ += response.credit().items();
        changed_.notify_one();
      } else if (response.has_result()) {
        TakeResult(response.result());
      }
      // A summary says nothing that we did not count.
    }
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_one();
  }

  void TakeResult(const v1::SignStreamResponse::Result& result) {
    const auto found = waiting_.find(result.request_id());
    if (found == waiting_.end()) {
      fault_ = Misbehaved("a result for a request that was not made");
      return;
    }
    *found->second = ReadOutcome(result);
    waiting_.erase(found);
    on_answer_();
    const std::lock_guard lock(mutex_);
    if (unanswered_ > 0) --unanswered_;
    changed_.notify_one();
  }

  static SliceResult ReadOutcome(const v1::SignStreamResponse::Result& result) {
    if (result.has_error()) return WireToStatus(result.error());
    if (!result.has_response()) return Misbehaved("neither result nor error");
    const v1::SignResponse& response = result.response();
    SliceSignature signature;
    signature.cms = ToBytes(response.cms());
    signature.request_id = result.request_id();
    signature.replayed = response.replayed();
    signature.signing_time = SigningTime(response);
    signature.timestamp = TimestampOf(response);
    ASSIGN_OR_RETURN(signature.receipt, TakeReceipt(response));
    return signature;
  }

  Stream& stream_;
  std::map<std::string, SliceResult*> waiting_;  // the reader's
  std::function<void()> on_answer_;              // called on the reader
  absl::Status fault_;                           // the reader's
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t window_ = 0;      // items the server takes without an answer
  uint64_t unanswered_ = 0;  // items sent and not answered
  bool ended_ = false;
  std::thread reader_;
};

class RemoteSigner : public Signer {
 public:
  RemoteSigner(const std::vector<std::shared_ptr<grpc::Channel>>& channels,
               const RemoteSignerOptions& options)
      : options_(options), current_(std::random_device()() % channels.size()) {
    for (const std::shared_ptr<grpc::Channel>& each : channels) {
      replicas_.push_back({v1::SigningService::NewStub(each),
                           v1::IdentityService::NewStub(each)});
    }
  }

  absl::StatusOr<SigningIdentity> GetIdentity(
      const std::string& name) override {
    v1::GetIdentityRequest request;
    request.set_name(name);
    v1::Identity response;
    const absl::Status status = Call([&](grpc::ClientContext& context) {
      return replica().identities->GetIdentity(&context, request, &response);
    });
    if (GetReason(status) == v1::REASON_IDENTITY_NOT_FOUND) {
      return WithSubject(status, "identity " + name);
    }
    RETURN_IF_ERROR(status);
    ASSIGN_OR_RETURN(SigningIdentity identity, FromWire(response));
    if (identity.chain.empty()) {
      return Misbehaved("identity " + name + " has no certificate");
    }
    return identity;
  }

  absl::StatusOr<std::vector<SigningIdentity>> ListIdentities() override {
    v1::ListIdentitiesResponse response;
    RETURN_IF_ERROR(Call([&](grpc::ClientContext& context) {
      return replica().identities->ListIdentities(
          &context, v1::ListIdentitiesRequest(), &response);
    }));
    std::vector<SigningIdentity> identities;
    for (const v1::Identity& wire : response.identities()) {
      ASSIGN_OR_RETURN(SigningIdentity identity, FromWire(wire));
      identities.push_back(std::move(identity));
    }
    return identities;
  }

  std::vector<SliceResult> Sign(const SigningIdentity& identity,
                                std::span<const SliceToSign> slices,
                                const SignProgress& progress) override {
    std::vector<SliceResult> results(slices.size());
    std::vector<std::string> request_ids(slices.size());
    std::vector<size_t> pending(slices.size());
    for (size_t i = 0; i < slices.size(); ++i) {
      request_ids[i] = NewRequestId();
      pending[i] = i;
    }
    size_t done_count = 0;
    const auto attempt = [&] {
      std::map<std::string, SliceResult*> waiting;
      for (const size_t i : pending) waiting[request_ids[i]] = &results[i];
      RunStream(
          identity, pending, std::move(waiting),
          [&] {
            if (progress) progress(++done_count, slices.size());
          },
          [&](size_t i) { return BuildRequest(slices[i], request_ids[i]); });
      absl::Status status;
      std::vector<size_t> again;
      for (const size_t i : pending) {
        const absl::Status failed = AfterFailure(results[i].status());
        if (!MayTryAgain(failed)) continue;
        results[i] = failed;
        RenewIfIndeterminate(failed, request_ids[i]);
        status = failed;
        again.push_back(i);
      }
      if (absl::IsUnavailable(status)) UseNextReplica();
      pending = std::move(again);
      done_count = slices.size() - pending.size();
      return status;
    };
    if (!slices.empty()) CallWithRetry(options_.limits, attempt).IgnoreError();
    for (size_t i = 0; i < slices.size(); ++i) {
      if (results[i].ok()) {
        const absl::Status stamped = CheckStamped(results[i]->timestamp);
        if (stamped.ok()) continue;
        results[i] = stamped;
      }
      results[i] = WithRequestId(results[i].status(), request_ids[i]);
    }
    return results;
  }

  absl::StatusOr<PackageSignatures> SignPackage(
      const SigningIdentity& identity, const PackagePlan& plan) override {
    v1::SignRequest request;
    request.set_request_id(NewRequestId());
    request.set_identity(identity.name);
    request.set_identity_version(identity.version);
    v1::Package* const package = request.mutable_package();
    package->set_table_of_contents(ToString(plan.stored_table()));
    package->set_table_of_contents_size(plan.table_size());
    for (const PackageMember& each : plan.members()) {
      v1::Package::Member* const member = package->add_members();
      member->set_path(each.path);
      member->set_stored(ToString(each.stored));
    }
    request.mutable_artifact()->set_path(plan.path());
    request.set_timestamp(options_.timestamp.mode);
    request.set_timestamp_url(options_.timestamp.url);
    request.set_grant(options_.grant);
    request.set_validate_only(options_.validate_only);

    v1::SignResponse response;
    absl::Status status;
    std::string request_id = request.request_id();
    status = Call([&](grpc::ClientContext& context) {
      RenewIfIndeterminate(status, request_id);
      request.set_request_id(request_id);
      const grpc::Status answer =
          replica().signing->Sign(&context, request, &response);
      status = GrpcToStatus(answer);
      return answer;
    });
    if (!status.ok()) return WithRequestId(status, request.request_id());
    PackageSignatures signatures;
    signatures.rsa = ToBytes(response.package_signature());
    signatures.cms = ToBytes(response.cms());
    signatures.request_id = request.request_id();
    signatures.signing_time = SigningTime(response);
    signatures.timestamp = TimestampOf(response);
    RETURN_IF_ERROR(CheckStamped(signatures.timestamp));
    signatures.replayed = response.replayed();
    return signatures;
  }

 private:
  absl::Status Call(
      const std::function<grpc::Status(grpc::ClientContext&)>& call) {
    return CallWithRetry(options_.limits, [&] {
      grpc::ClientContext context;
      SetDeadline(context);
      absl::Status status = AfterFailure(GrpcToStatus(call(context)));
      if (absl::IsUnavailable(status)) UseNextReplica();
      return status;
    });
  }

  struct Replica {
    std::unique_ptr<v1::SigningService::Stub> signing;
    std::unique_ptr<v1::IdentityService::Stub> identities;
  };
  const Replica& replica() const { return replicas_[current_]; }
  void UseNextReplica() { current_ = (current_ + 1) % replicas_.size(); }

  // A server that dies in a handshake looks like one that we cannot trust; with
  // several there is another one to ask.
  absl::Status AfterFailure(absl::Status status) const {
    std::optional<ErrorDetail> detail = GetErrorDetail(status);
    if (replicas_.size() == 1 || !detail.has_value() ||
        detail->reason() != v1::REASON_TLS_FAILED) {
      return status;
    }
    detail->set_reason(v1::REASON_SERVER_UNREACHABLE);
    return WithErrorDetail(std::move(status), *detail);
  }

  // Nobody knows whether the key was used for that id, so it is never used
  // again; nobody has a signature of it either.
  static void RenewIfIndeterminate(const absl::Status& status,
                                   std::string& request_id) {
    if (GetReason(status) == v1::REASON_INDETERMINATE) {
      request_id = NewRequestId();
    }
  }

  void SetDeadline(grpc::ClientContext& context) const {
    context.set_deadline(
        absl::ToChronoTime(absl::Now() + options_.limits.timeout));
  }

  v1::SignRequest BuildRequest(const SliceToSign& slice,
                               const std::string& request_id) const {
    v1::SignRequest request;
    request.set_request_id(request_id);
    v1::CodeDirectorySet* set = request.mutable_code_directory_set();
    for (const Bytes& directory : slice.plan->code_directories) {
      set->add_code_directories(directory.data(), directory.size());
    }
    for (const BlobField& each : kBlobFields) {
      const auto blob = slice.plan->blobs.find(each.slot);
      if (blob == slice.plan->blobs.end()) continue;
      *(set->*each.field)() = ToString(blob->second);
    }
    request.mutable_artifact()->set_path(slice.path);
    request.mutable_artifact()->set_architecture(slice.plan->architecture);
    request.set_timestamp(options_.timestamp.mode);
    request.set_timestamp_url(options_.timestamp.url);
    request.set_grant(options_.grant);
    request.set_validate_only(options_.validate_only);
    return request;
  }

  // Sends the pending slices and reads until the server ends the stream. Each
  // slice has its own outcome then; one without an answer has the stream's.
  void RunStream(const SigningIdentity& identity,
                 std::span<const size_t> pending,
                 std::map<std::string, SliceResult*> waiting,
                 const std::function<void()>& on_answer,
                 const std::function<v1::SignRequest(size_t)>& build_request) {
    grpc::ClientContext context;
    SetDeadline(context);
    const std::unique_ptr<Stream> stream =
        replica().signing->SignStream(&context);
    SigningStream reader(*stream, std::move(waiting), on_answer);

    v1::SignStreamRequest message;
    message.mutable_open()->set_identity(identity.name);
    message.mutable_open()->set_identity_version(identity.version);
    bool writable = stream->Write(message);
    for (const size_t i : pending) {
      if (!writable || !reader.AwaitCredit()) break;
      writable = SendItem(*stream, build_request(i));
    }
    message.mutable_close();
    if (writable) stream->Write(message);
    stream->WritesDone();
    reader.Join();  // Finish() must not overtake the last Read()
    const grpc::Status status = stream->Finish();
    reader.End(status.ok() ? Misbehaved("the stream ended without a result")
                           : GrpcToStatus(status));
  }

  static bool SendItem(Stream& stream, v1::SignRequest request) {
    v1::SignStreamRequest message;
    const size_t size = request.ByteSizeLong();
    if (size <= kChunkSize) {
      *message.mutable_item() = std::move(request);
      return stream.Write(message);
    }
    const std::string request_id = request.request_id();
    std::string bytes = request.SerializeAsString();
    request.Clear();  // one copy of a large CodeDirectory is enough
    v1::SignStreamRequest::Chunk* chunk = message.mutable_chunk();
    chunk->set_request_id(request_id);
    chunk->set_total_size(size);
    for (size_t offset = 0; offset < size; offset += kChunkSize) {
      chunk->set_data(bytes.data() + offset,
                      std::min(kChunkSize, size - offset));
      if (!stream.Write(message)) return false;
    }
    return true;
  }

  // What was asked for is there: the token itself is checked before it is
  // embedded.
  absl::Status CheckStamped(const std::optional<absl::Time>& timestamp) const {
    if (options_.timestamp.mode != v1::TIMESTAMP_MODE_REQUIRED ||
        options_.validate_only || timestamp.has_value()) {
      return absl::OkStatus();
    }
    return Misbehaved("a signature without the timestamp that was asked for");
  }

  static absl::Status WithRequestId(absl::Status status,
                                    const std::string& request_id) {
    ErrorDetail detail = GetErrorDetail(status).value_or(ErrorDetail());
    if (detail.request_id().empty()) detail.set_request_id(request_id);
    return WithErrorDetail(std::move(status), detail);
  }

  const RemoteSignerOptions options_;
  std::vector<Replica> replicas_;
  size_t current_;  // of replicas_
};

}  // namespace

std::unique_ptr<Signer> MakeRemoteSigner(
    std::vector<std::shared_ptr<grpc::Channel>> channels,
    const RemoteSignerOptions& options) {
  return std::make_unique<RemoteSigner>(channels, options);
}

}  // namespace codeseal::client
