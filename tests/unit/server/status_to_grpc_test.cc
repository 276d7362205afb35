#include "server/status_to_grpc.h"

#include <string>

#include "codesign/base/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kRequestId[] = "00000000-0000-4000-8000-000000000001";

// The client's side in a few lines, so that our own client is not the oracle.
absl::Status Decode(const grpc::Status& status) {
  v1::Status wire;
  ErrorDetail detail;
  EXPECT_TRUE(wire.ParseFromString(status.error_details()));
  EXPECT_EQ(wire.code(), static_cast<int>(status.error_code()));
  EXPECT_EQ(wire.message(), status.error_message());
  EXPECT_GE(wire.details_size(), 1);
  EXPECT_TRUE(wire.details_size() >= 1 && wire.details(0).UnpackTo(&detail));
  return WithErrorDetail(
      absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                   status.error_message()),
      detail);
}

TEST(StatusToGrpcTest, OkStaysOk) {
  EXPECT_TRUE(StatusToGrpc(absl::OkStatus(), kRequestId).ok());
}

TEST(StatusToGrpcTest, EveryReasonArrives) {
  const auto& reasons = *v1::Reason_descriptor();
  for (int i = 0; i < reasons.value_count(); ++i) {
    const auto reason = static_cast<Reason>(reasons.value(i)->number());
    ErrorDetail sent;
    sent.set_stage(v1::STAGE_POLICY);
    sent.set_reason(reason);
    sent.set_subject("Demo.app/Contents/MacOS/Demo (arm64)");
    sent.set_byte_offset(uint64_t{1} << 40);
    sent.set_rule("release/no-debug");
    const absl::Status status = Decode(StatusToGrpc(
        WithErrorDetail(absl::PermissionDeniedError("said no"), sent),
        kRequestId));
    EXPECT_THAT(status, testing::HasCode(absl::StatusCode::kPermissionDenied));
    EXPECT_THAT(status, testing::HasReason(reason));
    EXPECT_EQ(Message(status), "said no");
    const ErrorDetail detail = *GetErrorDetail(status);
    EXPECT_EQ(detail.stage(), sent.stage());
    EXPECT_EQ(detail.subject(), sent.subject());
    EXPECT_EQ(detail.byte_offset(), sent.byte_offset());
    EXPECT_EQ(detail.rule(), sent.rule());
    EXPECT_EQ(detail.request_id(), kRequestId);
  }
}

TEST(StatusToGrpcTest, EveryCodeArrives) {
  for (int code = 1; code <= 16; ++code) {
    const auto sent = static_cast<absl::StatusCode>(code);
    const absl::Status status = Decode(StatusToGrpc(
        MakeError(sent, v1::STAGE_TOKEN, v1::REASON_TOKEN_DOWN, "down"),
        kRequestId));
    EXPECT_THAT(status, testing::HasCode(sent));
  }
}

TEST(StatusToGrpcTest, KeepsTokenCodesAndLocalPathsHere) {
  ErrorDetail sent;
  sent.set_reason(v1::REASON_MODULE_LOAD);
  sent.set_subject("/usr/lib/softhsm/libsofthsm2.so");
  sent.set_ck_rv(0x30);
  const absl::Status status = Decode(StatusToGrpc(
      WithErrorDetail(
          absl::UnavailableError("cannot open /usr/lib/x.so: no such file; PIN "
                                 "from file:/run/pin, of CI/build (arm64/x)"),
          sent),
      kRequestId));
  EXPECT_EQ(Message(status),
            "cannot open <path>: no such file; PIN from file:<path>, of "
            "CI/build (arm64/x)");
  const ErrorDetail detail = *GetErrorDetail(status);
  EXPECT_EQ(detail.subject(), "<path>");
  EXPECT_FALSE(detail.has_ck_rv());
}

TEST(StatusToGrpcTest, ForeignStatusBecomesInternalWithoutItsMessage) {
  const absl::Status status = Decode(
      StatusToGrpc(absl::NotFoundError("secret of a library"), kRequestId));
  EXPECT_THAT(status, testing::HasCode(absl::StatusCode::kInternal));
  EXPECT_THAT(status, testing::HasReason(v1::REASON_INTERNAL));
  EXPECT_THAT(std::string(Message(status)), Not(HasSubstr("secret")));
}

TEST(StatusToGrpcTest, LongMessagesAreCutBetweenCharacters) {
  std::string message = "x";
  while (message.size() < 5000) message += "\u00e4";
  const grpc::Status status =
      StatusToGrpc(MakeError(absl::StatusCode::kInvalidArgument,
                             v1::STAGE_PARSE, v1::REASON_BAD_REQUEST, message),
                   kRequestId);
  EXPECT_LT(status.error_message().size(), 1100u);
  EXPECT_LT(status.error_details().size(), 2200u);
  EXPECT_THAT(status.error_message(), HasSubstr("\u00e4..."));
  EXPECT_THAT(Decode(status), testing::HasReason(v1::REASON_BAD_REQUEST));
}

TEST(StatusToGrpcTest, BytesThatAreNotUtf8DoNotSpoilTheMessage) {
  ErrorDetail detail;
  detail.set_reason(v1::REASON_BAD_IDENTIFIER);
  const absl::Status status = Decode(StatusToGrpc(
      WithErrorDetail(absl::InvalidArgumentError("a\xff\xc3\xa4\xe2\x82"),
                      detail),
      kRequestId));
  EXPECT_EQ(Message(status), "a\\xff\xc3\xa4\\xe2\\x82");
}

TEST(StatusToWireTest, SaysTheSameAsTheTrailers) {
  const absl::Status status =
      WithRule(MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                         v1::REASON_POLICY_VIOLATION, "no"),
               "dev/flags");
  EXPECT_EQ(StatusToWire(status, kRequestId).SerializeAsString(),
            StatusToGrpc(status, kRequestId).error_details());
}

}  // namespace
}  // namespace codeseal
