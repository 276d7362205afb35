// The client's side of the protocol, against a scripted server in this process.

#include "client/remote_signer.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <future>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "codeseal/v1/identity.grpc.pb.h"
#include "codeseal/v1/signing.grpc.pb.h"
#include "codesign/base/error.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace codeseal::client {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

using ServerStream =
    grpc::ServerReaderWriter<v1::SignStreamResponse, v1::SignStreamRequest>;

v1::Status ItemError(int code, Reason reason) {
  ErrorDetail detail;
  detail.set_reason(reason);
  v1::Status status;
  status.set_code(code);
  status.set_message("scripted");
  status.add_details()->PackFrom(detail);
  return status;
}

// Signs by echoing the first CodeDirectory, so that a test sees which answer
// belongs to which slice.
class ScriptedServer : public v1::SigningService::Service,
                       public v1::IdentityService::Service {
 public:
  ScriptedServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(static_cast<v1::SigningService::Service*>(this));
    builder.RegisterService(static_cast<v1::IdentityService::Service*>(this));
    server_ = builder.BuildAndStart();
  }

  std::shared_ptr<grpc::Channel> Channel() const {
    return grpc::CreateChannel("127.0.0.1:" + std::to_string(port_),
                               grpc::InsecureChannelCredentials());
  }

  // The script.
  uint32_t window = 4;    // items unanswered at most
  int break_streams = 0;  // end that many streams after one answer
  std::map<std::string, std::vector<v1::Status>> item_errors;  // by path
  bool answer = true;
  std::chrono::milliseconds patience{0};  // before a full window is answered
  bool stranger = false;  // answer for a request that nobody made

  // What was seen.
  std::vector<v1::SignRequest> requests;
  std::vector<std::string> identities;
  size_t chunk_count = 0;
  size_t most_unanswered = 0;
  bool window_was_passed = false;
  int stream_count = 0;

 private:
  grpc::Status SignStream(grpc::ServerContext*, ServerStream* stream) override {
    ++stream_count;
    v1::SignStreamRequest message;
    if (!stream->Read(&message) || !message.has_open()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "no open"};
    }
    identities.push_back(message.open().identity() + "/" +
                         message.open().identity_version());
    v1::SignStreamResponse credit;
    credit.mutable_credit()->set_items(window);
    stream->Write(credit);

    std::vector<v1::SignRequest> held;
    std::string chunks;
    bool closed = false;
    const auto read = [&] { return stream->Read(&message); };
    std::future<bool> next = std::async(std::launch::async, read);
    while (!closed && next.get()) {
      if (message.has_item()) {
        held.push_back(message.item());
      } else if (message.has_chunk()) {
        ++chunk_count;
        chunks += message.chunk().data();
        if (chunks.size() < message.chunk().total_size()) {
          next = std::async(std::launch::async, read);
          continue;
        }
        held.emplace_back();
        if (!held.back().ParseFromString(chunks) ||
            held.back().request_id() != message.chunk().request_id()) {
          return {grpc::StatusCode::INVALID_ARGUMENT, "bad chunks"};
        }
        chunks.clear();
      } else {
        closed = message.has_close();
      }
      if (!closed) next = std::async(std::launch::async, read);
      most_unanswered = std::max(most_unanswered, held.size());
      // Answers come late and backwards: when the window is full, at the end.
      if (held.size() < window && !closed) continue;
      // A client that ignores the window has time to show it.
      if (patience > std::chrono::milliseconds(0) && !closed &&
          next.wait_for(patience) == std::future_status::ready &&
          message.has_item()) {
        window_was_passed = true;
      }
      while (!held.empty()) {
        Answer(held.back(), stream);
        held.pop_back();
        if (break_streams > 0) {
          --break_streams;
          return {grpc::StatusCode::UNAVAILABLE, "connection lost"};
        }
      }
    }
    return grpc::Status::OK;
  }

  void Answer(const v1::SignRequest& request, ServerStream* stream) {
    requests.push_back(request);
    if (!answer) return;
    v1::SignStreamResponse message;
    v1::SignStreamResponse::Result* result = message.mutable_result();
    result->set_request_id(stranger ? "nobody's" : request.request_id());
    auto& errors = item_errors[request.artifact().path()];
    if (!errors.empty()) {
      *result->mutable_error() = errors.front();
      errors.erase(errors.begin());
    } else {
      result->mutable_response()->set_cms(
          request.code_directory_set().code_directories(0));
    }
    stream->Write(message);
  }

  grpc::Status GetIdentity(grpc::ServerContext*,
                           const v1::GetIdentityRequest* request,
                           v1::Identity* response) override {
    if (request->name() == "empty") return grpc::Status::OK;
    response->add_certificate_chain("not a certificate");
    return grpc::Status::OK;
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

class RemoteSignerTest : public ::testing::Test {
 protected:
  void AddSlice(const std::string& path, Bytes code_directory) {
    SlicePlan& plan = plans_[path];
    plan.architecture = "arm64";
    plan.code_directories = {std::move(code_directory)};
    plan.digests = {DigestKind::kSha256};
    slices_.push_back({path, &plan});
  }

  std::vector<absl::StatusOr<SliceSignature>> Sign() {
    RemoteSignerOptions options;
    options.limits = limits_;
    const std::unique_ptr<Signer> signer =
        MakeRemoteSigner({server_.Channel()}, options);
    SigningIdentity identity;
    identity.name = "release";
    identity.version = "2026a";
    return signer->Sign(identity, slices_, [this](size_t done, size_t total) {
      progress_.emplace_back(done, total);
    });
  }

  CallLimits limits_ = {.timeout = absl::Seconds(20),
                        .attempt_count = 3,
                        .first_delay = absl::Milliseconds(1)};
  ScriptedServer server_;
  std::map<std::string, SlicePlan> plans_;
  std::vector<SliceToSign> slices_;
  std::vector<std::pair<size_t, size_t>> progress_;
};

TEST_F(RemoteSignerTest, ManySlicesGoInOneStreamWithinTheServersWindow) {
  for (uint8_t i = 0; i < 50; ++i) {
    AddSlice("f" + std::to_string(i), {i, 1, 2});
  }
  const auto results = Sign();
  ASSERT_EQ(results.size(), 50u);
  for (uint8_t i = 0; i < 50; ++i) {
    ASSERT_THAT(results[i], IsOk());
    EXPECT_EQ(results[i]->cms, (Bytes{i, 1, 2}));
    EXPECT_EQ(results[i]->request_id.size(), 36u);
  }
  EXPECT_EQ(server_.stream_count, 1);
  EXPECT_EQ(server_.identities, std::vector<std::string>{"release/2026a"});
  EXPECT_EQ(server_.most_unanswered, 4u);
  EXPECT_EQ(progress_.back(), (std::pair<size_t, size_t>{50, 50}));
}

TEST_F(RemoteSignerTest, NothingIsSentBeyondTheWindow) {
  for (uint8_t i = 0; i < 8; ++i) AddSlice("f" + std::to_string(i), {i});
  server_.window = 2;
  server_.patience = std::chrono::milliseconds(30);
  for (const auto& result : Sign()) EXPECT_THAT(result, IsOk());
  EXPECT_FALSE(server_.window_was_passed);
}

TEST_F(RemoteSignerTest, EveryBoundBlobTravelsInItsField) {
  AddSlice("tool", {1});
  SlicePlan& plan = plans_["tool"];
  plan.code_directories.push_back({2});
  for (const uint8_t slot : Bytes{2, 5, 7, 8, 9, 10, 11}) {
    plan.blobs[slot] = {slot};
  }
  EXPECT_THAT(Sign()[0], IsOk());
  ASSERT_EQ(server_.requests.size(), 1u);
  const v1::SignRequest& request = server_.requests[0];
  EXPECT_EQ(request.artifact().path(), "tool");
  EXPECT_EQ(request.artifact().architecture(), "arm64");
  const v1::CodeDirectorySet& set = request.code_directory_set();
  EXPECT_EQ(set.code_directories_size(), 2);
  EXPECT_EQ(set.requirements(), "\x02");
  EXPECT_EQ(set.entitlements(), "\x05");
  EXPECT_EQ(set.entitlements_der(), "\x07");
  EXPECT_EQ(set.launch_constraint_self(), "\x08");
  EXPECT_EQ(set.launch_constraint_parent(), "\x09");
  EXPECT_EQ(set.launch_constraint_responsible(), "\x0a");
  EXPECT_EQ(set.library_constraint(), "\x0b");
}

TEST_F(RemoteSignerTest, LargeCodeDirectoryTravelsInChunks) {
  Bytes large(5 << 20);
  for (size_t i = 0; i < large.size(); ++i) {
    large[i] = static_cast<uint8_t>(i * 31 >> 8);
  }
  AddSlice("small", {1});
  AddSlice("large", large);
  AddSlice("small too", {2});
  // A server answers large things with small ones; only the request is large.
  server_.item_errors["large"] = {ItemError(7, v1::REASON_POLICY_VIOLATION)};
  const auto results = Sign();
  EXPECT_THAT(results[0], IsOk());
  EXPECT_THAT(results[1], HasReason(v1::REASON_POLICY_VIOLATION));
  EXPECT_THAT(results[2], IsOk());
  EXPECT_GE(server_.chunk_count, 6u);
  const std::string& received =
      server_.requests[1].code_directory_set().code_directories(0);
  EXPECT_TRUE(Equal(AsBytes(received), large));
}

TEST_F(RemoteSignerTest, FailedItemLeavesTheOthersAlone) {
  AddSlice("good", {1});
  AddSlice("bad", {2});
  server_.item_errors["bad"] = {ItemError(7, v1::REASON_POLICY_VIOLATION)};
  const auto results = Sign();
  EXPECT_THAT(results[0], IsOk());
  EXPECT_THAT(results[1], HasCode(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(results[1], HasReason(v1::REASON_POLICY_VIOLATION));
  // People quote the id when they ask why.
  EXPECT_EQ(GetErrorDetail(results[1].status())->request_id(),
            server_.requests[0].artifact().path() == "bad"
                ? server_.requests[0].request_id()
                : server_.requests[1].request_id());
  EXPECT_EQ(server_.stream_count, 1) << "a refusal was tried again";
}

TEST_F(RemoteSignerTest, BrokenStreamIsResumedUnderTheSameRequestIds) {
  for (uint8_t i = 0; i < 6; ++i) AddSlice("f" + std::to_string(i), {i});
  server_.break_streams = 1;
  const auto results = Sign();
  for (uint8_t i = 0; i < 6; ++i) {
    ASSERT_THAT(results[i], IsOk());
    EXPECT_EQ(results[i]->cms, Bytes{i});
  }
  EXPECT_EQ(server_.stream_count, 2);
  // What was answered is not asked again, and every slice kept its one id.
  std::set<std::string> ids;
  for (const auto& request : server_.requests) ids.insert(request.request_id());
  EXPECT_EQ(ids.size(), 6u);
  EXPECT_EQ(server_.requests.size(), 6u);
  EXPECT_EQ(progress_.back(), (std::pair<size_t, size_t>{6, 6}));
}

TEST_F(RemoteSignerTest, TokenThatComesBackIsAskedAgain) {
  AddSlice("tool", {1});
  server_.item_errors["tool"] = {ItemError(14, v1::REASON_TOKEN_DOWN)};
  EXPECT_THAT(Sign()[0], IsOk());
  ASSERT_EQ(server_.requests.size(), 2u);
  EXPECT_EQ(server_.requests[0].request_id(), server_.requests[1].request_id());
}

TEST_F(RemoteSignerTest, AttemptsAreBounded) {
  AddSlice("tool", {1});
  server_.item_errors["tool"] =
      std::vector<v1::Status>(9, ItemError(14, v1::REASON_TOKEN_DOWN));
  EXPECT_THAT(Sign()[0], HasReason(v1::REASON_TOKEN_DOWN));
  EXPECT_EQ(server_.requests.size(), 3u);
}

TEST_F(RemoteSignerTest, SilentServerMeetsTheDeadline) {
  AddSlice("tool", {1});
  server_.window = 0;  // never takes an item, never ends the stream
  limits_.timeout = absl::Milliseconds(200);
  EXPECT_THAT(Sign()[0], HasReason(v1::REASON_DEADLINE_EXCEEDED));
}

TEST_F(RemoteSignerTest, UnansweredSliceIsNoSuccess) {
  AddSlice("tool", {1});
  server_.answer = false;
  EXPECT_THAT(Sign()[0], HasCode(absl::StatusCode::kInternal));
}

TEST_F(RemoteSignerTest, AnswerThatNobodyAskedForIsAFault) {
  AddSlice("tool", {1});
  server_.stranger = true;
  EXPECT_THAT(Sign()[0], HasCode(absl::StatusCode::kInternal));
}

TEST_F(RemoteSignerTest, IdentityWithoutUsableCertificatesIsRefused) {
  const std::unique_ptr<Signer> signer =
      MakeRemoteSigner({server_.Channel()}, {.limits = limits_});
  EXPECT_THAT(signer->GetIdentity("release"),
              HasReason(v1::REASON_BAD_CERTIFICATE));
  EXPECT_THAT(signer->GetIdentity("empty"),
              HasCode(absl::StatusCode::kInternal));
}

TEST(RemoteSignerUnreachableTest, FailsFastAndSaysSo) {
  // Port 1 of the loopback interface: nobody listens there.
  const std::unique_ptr<Signer> signer = MakeRemoteSigner(
      {grpc::CreateChannel("127.0.0.1:1", grpc::InsecureChannelCredentials())},
      {.limits = {.timeout = absl::Seconds(20),
                  .attempt_count = 2,
                  .first_delay = absl::Milliseconds(1)}});
  EXPECT_THAT(signer->GetIdentity("release"),
              HasReason(v1::REASON_SERVER_UNREACHABLE));
  SlicePlan plan;
  plan.code_directories = {{1}};
  plan.digests = {DigestKind::kSha256};
  const SliceToSign slice{"tool", &plan};
  EXPECT_THAT(signer->Sign({}, {&slice, 1}, nullptr)[0],
              HasReason(v1::REASON_SERVER_UNREACHABLE));
}

TEST(NewRequestIdTest, IsARandomUuid) {
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) {
    const std::string id = NewRequestId();
    ASSERT_EQ(id.size(), 36u);
    EXPECT_EQ(id[8], '-');
    EXPECT_EQ(id[14], '4');
    EXPECT_NE(std::string("89ab").find(id[19]), std::string::npos);
    ids.insert(id);
  }
  EXPECT_EQ(ids.size(), 1000u);
}

TEST_F(RemoteSignerTest, AnotherReplicaAnswersForOneThatIsGone) {
  // Wherever it begins, both are asked.
  for (int i = 0; i < 8; ++i) {
    const std::unique_ptr<Signer> signer = MakeRemoteSigner(
        {grpc::CreateChannel("127.0.0.1:1", grpc::InsecureChannelCredentials()),
         server_.Channel()},
        {.limits = limits_});
    // Its answer, not that nobody is there.
    EXPECT_THAT(signer->GetIdentity("release"),
                HasReason(v1::REASON_BAD_CERTIFICATE));
  }
}

}  // namespace
}  // namespace codeseal::client
