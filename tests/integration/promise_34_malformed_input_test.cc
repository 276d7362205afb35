// Promise 34: malformed HTTP/2, gRPC and protobuf crash nothing and sign
// nothing. The parsers behind them have fuzz targets (tests/fuzz).

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/integration/raw_connection.h"
#include "tests/integration/test_client.h"
#include "tests/support/fault_shim.h"
#include "tests/support/server_process.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {
namespace {

// Types of frames. Spec: RFC 9113, section 6.
enum : uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kResetStream = 3,
  kSettings = 4,
  kPushPromise = 5,
  kPing = 6,
  kGoAway = 7,
  kWindowUpdate = 8,
  kContinuation = 9,
};
constexpr uint8_t kAck = 1;
constexpr uint8_t kEndStream = 1;
constexpr uint8_t kEndHeaders = 4;
constexpr uint8_t kPadded = 8;

std::string Whole(uint8_t type, uint8_t flags, uint32_t stream,
                  const std::string& payload) {
  return Frame(static_cast<uint32_t>(payload.size()), type, flags, stream,
               payload);
}

// A field that enters no table. Spec: RFC 7541, section 6.2.2.
std::string Field(const std::string& name, const std::string& value) {
  return std::string(1, '\0') + static_cast<char>(name.size()) + name +
         static_cast<char>(value.size()) + value;
}

std::string CallHeaders(const std::string& extra = "") {
  return Field(":method", "POST") + Field(":scheme", "https") +
         Field(":path", "/codeseal.v1.SigningService/Sign") +
         Field(":authority", "localhost") +
         Field("content-type", "application/grpc") + Field("te", "trailers") +
         extra;
}

std::string Call(uint32_t stream, const std::string& message) {
  return Whole(kHeaders, kEndHeaders, stream, CallHeaders()) +
         Whole(kData, kEndStream, stream, message);
}

std::string Repeat(const std::string& text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

// What follows the preface; by name.
std::vector<std::pair<std::string, std::string>> Corpus() {
  const std::string zeros(4, '\0');
  const std::string most("\x7f\xff\xff\xff", 4);
  std::vector<std::pair<std::string, std::string>> corpus = {
      {"SETTINGS of 5 bytes", Whole(kSettings, 0, 0, std::string(5, '\0'))},
      {"SETTINGS on a stream", Whole(kSettings, 0, 1, "")},
      {"SETTINGS ack with content",
       Whole(kSettings, kAck, 0, std::string(6, '\0'))},
      {"a window of 2^32 - 1",
       Whole(kSettings, 0, 0, std::string("\0\x04\xff\xff\xff\xff", 6))},
      {"frames of at most 1 byte",
       Whole(kSettings, 0, 0, std::string("\0\x05\0\0\0\x01", 6))},
      {"10,000 SETTINGS", Repeat(Whole(kSettings, 0, 0, ""), 10'000)},
      {"PING of 7 bytes", Whole(kPing, 0, 0, "1234567")},
      {"PING on a stream", Whole(kPing, 0, 3, "12345678")},
      {"10,000 PING", Repeat(Whole(kPing, 0, 0, "12345678"), 10'000)},
      {"RST_STREAM of what is idle", Whole(kResetStream, 0, 5, zeros)},
      {"RST_STREAM of 3 bytes", Whole(kResetStream, 0, 1, "abc")},
      {"RST_STREAM on 0", Whole(kResetStream, 0, 0, zeros)},
      {"WINDOW_UPDATE by 0", Whole(kWindowUpdate, 0, 0, zeros)},
      {"WINDOW_UPDATE too far", Repeat(Whole(kWindowUpdate, 0, 0, most), 3)},
      {"WINDOW_UPDATE of 3 bytes", Whole(kWindowUpdate, 0, 0, "abc")},
      {"PRIORITY that depends on itself",
       Whole(kPriority, 0, 1, std::string("\0\0\0\x01\x10", 5))},
      {"PUSH_PROMISE from a client",
       Whole(kPushPromise, kEndHeaders, 1, zeros + CallHeaders())},
      {"GOAWAY of 4 bytes", Whole(kGoAway, 0, 0, zeros)},
      {"GOAWAY, then a call", Whole(kGoAway, 0, 0, zeros + zeros) + Call(1, "")},
      {"HEADERS on 0", Whole(kHeaders, kEndHeaders, 0, CallHeaders())},
      {"HEADERS on an even stream",
       Whole(kHeaders, kEndHeaders, 2, CallHeaders())},
      {"HEADERS that go backwards", Call(5, "") + Call(3, "")},
      {"HEADERS twice", Call(1, "") + Call(1, "")},
      {"more padding than frame",
       Whole(kHeaders, kEndHeaders | kPadded, 1, "\xff" + CallHeaders())},
      {"DATA padding of more than the frame",
       Whole(kHeaders, kEndHeaders, 1, CallHeaders()) +
           Whole(kData, kPadded, 1, "\xff")},
      {"DATA of what is idle", Whole(kData, 0, 7, "data")},
      {"DATA on 0", Whole(kData, 0, 0, "data")},
      {"DATA after the end", Call(1, "") + Whole(kData, 0, 1, "more")},
      {"a CONTINUATION without end",
       Whole(kHeaders, 0, 1, CallHeaders()) +
           Repeat(Whole(kContinuation, 0, 1, Field("x-more", "and more")),
                  5'000)},
      {"a CONTINUATION of another stream",
       Whole(kHeaders, 0, 1, CallHeaders()) + Whole(kContinuation, 0, 3, "")},
      {"a table index of 0", Whole(kHeaders, kEndHeaders, 1, "\x80")},
      {"a number without end",
       Whole(kHeaders, kEndHeaders, 1, "\xff" + std::string(64, '\xff'))},
      {"a text of 2^31 bytes",
       Whole(kHeaders, kEndHeaders, 1,
             std::string("\0\x7f\x81\xff\xff\xff\x07", 7))},
      {"a table of 2^31 bytes",
       Whole(kHeaders, kEndHeaders, 1, "\x3f\xe1\xff\xff\xff\x07")},
      {"a Huffman text of ones",
       Whole(kHeaders, kEndHeaders, 1,
             std::string("\0\x84", 2) + std::string(4, '\xff'))},
      {"a header of 32 KiB",
       Whole(kHeaders, kEndHeaders, 1,
             CallHeaders(Repeat(Field("x-much", std::string(120, 'x')), 250)))},
      {"no path", Whole(kHeaders, kEndHeaders | kEndStream, 1,
                        Field(":method", "POST") + Field(":scheme", "https"))},
      {"capitals in a name", Whole(kHeaders, kEndHeaders | kEndStream, 1,
                                   CallHeaders(Field("X-Name", "x")))},
      {"a line break in a value",
       Whole(kHeaders, kEndHeaders | kEndStream, 1,
             CallHeaders(Field("x-name", "a\r\nb: c")))},
      {"a deadline that is none",
       Whole(kHeaders, kEndHeaders, 1,
             CallHeaders(Field("grpc-timeout", "99999999999H"))) +
           Whole(kData, kEndStream, 1, std::string(5, '\0'))},
      {"5,000 calls that are taken back",
       [] {
         std::string all;
         for (uint32_t i = 0; i < 5'000; ++i) {
           all += Whole(kHeaders, kEndHeaders, 1 + 2 * i, CallHeaders()) +
                  Whole(kResetStream, 0, 1 + 2 * i, "\0\0\0\x08");
         }
         return all;
       }()},
      // gRPC's own frames inside of DATA.
      {"a message of 2^32 - 1 bytes",
       Call(1, std::string("\0\xff\xff\xff\xff", 5) + "x")},
      {"a message that ends early",
       Call(1, std::string("\0\0\0\0\x40", 5) + "x")},
      {"compressed with nothing",
       Call(1, std::string("\x01\0\0\0\x01", 5) + "x")},
      {"a flag that is none", Call(1, std::string("\x7f\0\0\0\x01", 5) + "x")},
      {"two messages", Call(1, std::string(10, '\0'))},
  };
  std::mt19937 random(34);
  for (int i = 0; i < 40; ++i) {
    std::string bytes = Call(1, std::string("\0\0\0\0\x10", 5) +
                                    std::string(16, static_cast<char>(i)));
    for (int change = 0; change < 3; ++change) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    corpus.emplace_back("a call with changed bytes " + std::to_string(i),
                        bytes);
  }
  return corpus;
}

class Promise34Test : public ::testing::Test {
 protected:
  Promise34Test() {
    server_ = std::make_unique<ServerProcess>(world_.WriteConfig(
        world_.Config(world_.TokensSection(FaultShim::Module()),
                      world_.IdentitiesSection())));
    client_ = std::make_unique<TestClient>(server_->address(), world_.tls_ca(),
                                           world_.client());
  }
  absl::Status Sign() const {
    SignRequestSpec spec;
    spec.request_id = RandomUuid();
    spec.identity = "ec";
    return client_->Sign(BuildSignRequest(spec)).status();
  }

  FaultShim shim_;
  ServerWorld world_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<TestClient> client_;
};

TEST_F(Promise34Test, promise_34_broken_frames_crash_nothing) {
  ASSERT_THAT(Sign(), IsOk());
  const size_t signature_count = shim_.Signatures().size();
  for (const auto& [name, bytes] : Corpus()) {
    SCOPED_TRACE(name);
    {
      RawConnection connection(server_->address(), world_.client());
      connection.Send(Preface() + bytes);
      connection.Drain(absl::Milliseconds(20));
    }
    ASSERT_EQ(client_->Health("codeseal.v1.SigningService"), "SERVING");
  }
  EXPECT_EQ(shim_.Signatures().size(), signature_count);
  EXPECT_THAT(Sign(), IsOk());
  client_.reset();
  EXPECT_EQ(server_->Stop(), 0);
}

TEST_F(Promise34Test, promise_34_broken_requests_crash_nothing) {
  ASSERT_THAT(Sign(), IsOk());
  SignRequestSpec spec;
  spec.identity = "ec";
  std::mt19937 random(34);
  int refused_count = 0;
  for (int i = 0; i < 400; ++i) {
    spec.request_id = RandomUuid();
    std::string bytes = BuildSignRequest(spec).SerializeAsString();
    switch (i % 4) {
      case 0:
        bytes.resize(random() % bytes.size());
        break;
      case 1:
        bytes.insert(random() % bytes.size(), 1, static_cast<char>(random()));
        break;
      default:
        for (int change = 0; change <= i % 3; ++change) {
          bytes[random() % bytes.size()] = static_cast<char>(random());
        }
    }
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer message(&slice, 1);
    grpc::GenericStub stub(client_->channel());
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    grpc::CompletionQueue queue;
    const auto call = stub.PrepareUnaryCall(
        &context, "/codeseal.v1.SigningService/Sign", message, &queue);
    call->StartCall();
    grpc::ByteBuffer reply;
    grpc::Status status;
    call->Finish(&reply, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    EXPECT_NE(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_NE(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    refused_count += status.ok() ? 0 : 1;
  }
  // A byte of a name that nobody checks may change; most are not such.
  EXPECT_GT(refused_count, 300);
  EXPECT_THAT(Sign(), IsOk());
  client_.reset();
  EXPECT_EQ(server_->Stop(), 0);
}

}  // namespace
}  // namespace codeseal::testing
