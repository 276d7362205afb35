#include "hsm/worker_message.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using Result = FrameReader::Result;

class FrameTest : public ::testing::Test {
 protected:
  FrameTest() { socketpair(AF_UNIX, SOCK_STREAM, 0, fds_.data()); }
  ~FrameTest() override {
    for (const int fd : fds_) close(fd);
  }
  void Write(ByteView bytes) {
    ASSERT_EQ(send(fds_[0], bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
  }

  std::array<int, 2> fds_{};
};

TEST_F(FrameTest, MessageComesWholeHoweverItIsCut) {
  hsm::Request request;
  request.set_number(7);
  request.set_timeout_us(5);
  request.mutable_sign()->set_digest(std::string(6000, 'd'));
  const Bytes frame = EncodeFrame(request);
  FrameReader reader(fds_[1], kMaxRequestSize);
  EXPECT_EQ(reader.Read(MSG_DONTWAIT), Result::kPartial);
  for (const size_t step : {size_t{1}, size_t{3}, size_t{1000}, frame.size()}) {
    ByteView rest = frame;
    Result result = Result::kPartial;
    while (!rest.empty()) {
      EXPECT_EQ(result, Result::kPartial);
      const size_t size = std::min(step, rest.size());
      Write(rest.first(size));
      rest = rest.subspan(size);
      result = reader.Read(MSG_DONTWAIT);
      // A large frame needs more than one read.
      while (rest.empty() && result == Result::kPartial) {
        result = reader.Read(MSG_DONTWAIT);
      }
    }
    ASSERT_EQ(result, Result::kFrame);
    EXPECT_TRUE(Equal(reader.frame(), ByteView(frame).subspan(4)));
  }
}

TEST_F(FrameTest, FrameAboveTheLimitIsNonsense) {
  Write(Bytes{0, 1, 0, 1});
  FrameReader reader(fds_[1], 0x10000);
  EXPECT_EQ(reader.Read(MSG_DONTWAIT), Result::kClosed);
}

TEST_F(FrameTest, SecondFrameBeforeTheAnswerIsNonsense) {
  Write(Bytes{0, 0, 0, 1, 9, 0});
  FrameReader reader(fds_[1], 100);
  EXPECT_EQ(reader.Read(MSG_DONTWAIT), Result::kClosed);
}

TEST_F(FrameTest, EndOfThePeerIsSeen) {
  Write(Bytes{0, 0});
  shutdown(fds_[0], SHUT_WR);
  FrameReader reader(fds_[1], 100);
  EXPECT_EQ(reader.Read(MSG_DONTWAIT), Result::kPartial);
  EXPECT_EQ(reader.Read(MSG_DONTWAIT), Result::kClosed);
}

TEST_F(FrameTest, SendFailsWhenThePeerIsGoneOrDoesNotRead) {
  const Bytes large(size_t{8} << 20);
  EXPECT_FALSE(SendFrame(fds_[0], large, MSG_DONTWAIT));
  close(fds_[1]);
  fds_[1] = -1;
  EXPECT_FALSE(SendFrame(fds_[0], Bytes{1}, 0));
}

hsm::Request SignRequest() {
  hsm::Request request;
  request.set_timeout_us(1);
  hsm::SignCall& call = *request.mutable_sign();
  call.mutable_key()->set_id("id");
  call.set_mechanism(1);
  call.set_digest_kind(2);
  call.set_digest(std::string(32, 'd'));
  return request;
}

absl::Status Parse(const hsm::Request& request) {
  return ParseRequest(AsBytes(request.SerializeAsString())).status();
}

TEST(WorkerMessageTest, RequestIsChecked) {
  EXPECT_THAT(Parse(SignRequest()), IsOk());
  const auto spoiled = [](auto spoil) {
    hsm::Request request = SignRequest();
    spoil(request);
    return Parse(request);
  };
  EXPECT_THAT(spoiled([](auto& r) { r.set_timeout_us(0); }),
              HasReason(v1::REASON_BAD_REQUEST));
  EXPECT_THAT(spoiled([](auto& r) { r.clear_call(); }),
              HasReason(v1::REASON_BAD_REQUEST));
  EXPECT_THAT(spoiled([](auto& r) { r.mutable_sign()->clear_key(); }),
              HasReason(v1::REASON_BAD_REQUEST));
  EXPECT_THAT(spoiled([](auto& r) { r.mutable_sign()->set_mechanism(0); }),
              HasReason(v1::REASON_BAD_REQUEST));
  EXPECT_THAT(spoiled([](auto& r) { r.mutable_sign()->set_mechanism(4); }),
              HasReason(v1::REASON_BAD_REQUEST));
  EXPECT_THAT(spoiled([](auto& r) { r.mutable_sign()->set_digest_kind(3); }),
              HasReason(v1::REASON_BAD_REQUEST));
  EXPECT_THAT(spoiled([](auto& r) { r.mutable_sign()->set_digest_kind(258); }),
              HasReason(v1::REASON_BAD_REQUEST));
  EXPECT_THAT(spoiled([](auto& r) {
                r.mutable_sign()->mutable_key()->set_id(std::string(300, 'x'));
              }),
              HasReason(v1::REASON_BAD_REQUEST));
  EXPECT_THAT(spoiled([](auto& r) {
                r.mutable_generate_key()->mutable_key()->set_label("l");
                r.mutable_generate_key()->set_algorithm(5);
              }),
              HasReason(v1::REASON_BAD_REQUEST));
  EXPECT_THAT(ParseRequest(Bytes{0xff, 0xff}),
              HasReason(v1::REASON_BAD_REQUEST));
}

TEST(WorkerMessageTest, ConfigIsChecked) {
  hsm::WorkerConfig config;
  config.set_module("/m.so");
  config.set_session_count(1);
  config.set_channel_count(1);
  const auto parse = [&] {
    return ParseWorkerConfig(AsBytes(config.SerializeAsString())).status();
  };
  EXPECT_THAT(parse(), IsOk());
  config.set_channel_count(kMaxSessionCount + 1);
  EXPECT_THAT(parse(), HasReason(v1::REASON_BAD_REQUEST));
  config.set_channel_count(1);
  config.set_session_count(0);
  EXPECT_THAT(parse(), HasReason(v1::REASON_BAD_REQUEST));
}

TEST(WorkerMessageTest, StatusCrossesWithItsDetail) {
  ErrorDetail detail;
  detail.set_stage(v1::STAGE_TOKEN);
  detail.set_reason(v1::REASON_TOKEN_DOWN);
  detail.set_ck_rv(0x30);
  detail.set_subject("token t");
  const absl::Status status = WithErrorDetail(
      absl::Status(absl::StatusCode::kUnavailable, "gone"), detail);
  hsm::Reply reply;
  SetStatus(reply, status);
  const auto parsed = ParseReply(AsBytes(reply.SerializeAsString()));
  ASSERT_THAT(parsed, IsOk());
  const absl::Status back = GetStatus(*parsed);
  EXPECT_EQ(back, status);
  EXPECT_EQ(GetErrorDetail(back)->ck_rv(), 0x30u);
  EXPECT_THAT(GetStatus(hsm::Reply()), IsOk());
}

TEST(WorkerMessageTest, CodeThatDoesNotExistIsUnknown) {
  for (const int32_t code : {-1, 17, 1 << 30}) {
    hsm::Reply reply;
    reply.set_code(code);
    EXPECT_EQ(GetStatus(reply).code(), absl::StatusCode::kUnknown) << code;
  }
}

TEST(WorkerMessageTest, EmptySignatureIsNoSuccess) {
  hsm::Reply reply;
  reply.set_signature("");
  EXPECT_THAT(ParseReply(AsBytes(reply.SerializeAsString())),
              HasReason(v1::REASON_BAD_REQUEST));
}

TEST(WorkerMessageTest, AttributesKeepTheirPlaces) {
  const KeyAttributes attributes = {.sensitive = true,
                                    .always_sensitive = false,
                                    .extractable = true,
                                    .never_extractable = false,
                                    .local = true,
                                    .sign = false,
                                    .decrypt = true,
                                    .unwrap = false,
                                    .always_authenticate = true};
  const KeyAttributes back = FromWire(ToWire(attributes));
  EXPECT_TRUE(back.sensitive);
  EXPECT_FALSE(back.always_sensitive);
  EXPECT_TRUE(back.extractable);
  EXPECT_FALSE(back.never_extractable);
  EXPECT_TRUE(back.local);
  EXPECT_FALSE(back.sign);
  EXPECT_TRUE(back.decrypt);
  EXPECT_FALSE(back.unwrap);
  EXPECT_TRUE(back.always_authenticate);
}

}  // namespace
}  // namespace codeseal
