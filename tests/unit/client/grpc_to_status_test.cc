#include "client/grpc_to_status.h"

#include <ostream>
#include <string>

#include "codesign/base/error.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace codeseal::client {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

// As the wire has it, put together here so that the server's own encoder is
// not the oracle.
std::string Trailer(const ErrorDetail& detail) {
  v1::Status status;
  status.set_code(1);  // not looked at: gRPC's own code counts
  google::protobuf::Any* any = status.add_details();
  any->set_type_url("type.googleapis.com/codeseal.v1.ErrorDetail");
  any->set_value(detail.SerializeAsString());
  return status.SerializeAsString();
}

TEST(GrpcToStatusTest, RestoresEveryFieldOfTheDetail) {
  ErrorDetail detail;
  detail.set_stage(v1::STAGE_POLICY);
  detail.set_reason(v1::REASON_POLICY_VIOLATION);
  detail.set_subject("tool (arm64)");
  detail.set_byte_offset(7);
  detail.set_rule("release/no-debug");
  detail.set_ck_rv(5);
  detail.set_request_id("7f3a91");
  const absl::Status status = GrpcToStatus(
      grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "no", Trailer(detail)));
  EXPECT_THAT(status, HasCode(absl::StatusCode::kPermissionDenied));
  EXPECT_EQ(Message(status), "no");
  ASSERT_TRUE(GetErrorDetail(status).has_value());
  EXPECT_EQ(GetErrorDetail(status)->SerializeAsString(),
            detail.SerializeAsString());
}

TEST(GrpcToStatusTest, RoundTripsEveryReason) {
  const auto* reasons = v1::Reason_descriptor();
  for (int i = 0; i < reasons->value_count(); ++i) {
    ErrorDetail detail;
    detail.set_reason(static_cast<Reason>(reasons->value(i)->number()));
    EXPECT_EQ(GetReason(GrpcToStatus(grpc::Status(grpc::StatusCode::INTERNAL,
                                                  "x", Trailer(detail)))),
              detail.reason())
        << reasons->value(i)->name();
  }
}

struct GuessCase {
  const char* name;
  grpc::StatusCode code;
  const char* message;
  Reason reason;
};

void PrintTo(const GuessCase& each, std::ostream* out) { *out << each.name; }

class GuessTest : public ::testing::TestWithParam<GuessCase> {};

TEST_P(GuessTest, StatusWithoutDetailGetsASensibleReason) {
  EXPECT_THAT(GrpcToStatus(grpc::Status(GetParam().code, GetParam().message)),
              HasReason(GetParam().reason));
}

INSTANTIATE_TEST_SUITE_P(
    Codes, GuessTest,
    ::testing::Values(
        GuessCase{"Refused", grpc::StatusCode::UNAVAILABLE,
                  "failed to connect to all addresses; last error: UNKNOWN: "
                  "ipv4:127.0.0.1:1: Failed to connect to remote host: "
                  "Connection refused",
                  v1::REASON_SERVER_UNREACHABLE},
        GuessCase{"Handshake", grpc::StatusCode::UNAVAILABLE,
                  "failed to connect to all addresses; last error: UNKNOWN: "
                  "Ssl handshake failed: SSL_ERROR_SSL: error:0A000086:SSL "
                  "routines::certificate verify failed",
                  v1::REASON_TLS_FAILED},
        GuessCase{"Unauthenticated", grpc::StatusCode::UNAUTHENTICATED, "",
                  v1::REASON_TLS_FAILED},
        GuessCase{"Denied", grpc::StatusCode::PERMISSION_DENIED, "",
                  v1::REASON_NOT_AUTHORISED},
        GuessCase{"Deadline", grpc::StatusCode::DEADLINE_EXCEEDED, "",
                  v1::REASON_DEADLINE_EXCEEDED},
        GuessCase{"TooLarge", grpc::StatusCode::RESOURCE_EXHAUSTED,
                  "Received message larger than max (5 vs. 4)",
                  v1::REASON_MESSAGE_TOO_LARGE},
        GuessCase{"Overloaded", grpc::StatusCode::RESOURCE_EXHAUSTED, "",
                  v1::REASON_OVERLOADED},
        GuessCase{"OldServer", grpc::StatusCode::UNIMPLEMENTED, "",
                  v1::REASON_BAD_REQUEST},
        GuessCase{"Unknown", grpc::StatusCode::UNKNOWN, "",
                  v1::REASON_INTERNAL}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(GrpcToStatusTest, OkStaysOk) {
  EXPECT_THAT(GrpcToStatus(grpc::Status::OK), IsOk());
}

TEST(GrpcToStatusTest, GarbageInTheTrailerIsNoDetail) {
  EXPECT_THAT(GrpcToStatus(grpc::Status(grpc::StatusCode::UNAVAILABLE, "down",
                                        "\xff\xff\xff garbage")),
              HasReason(v1::REASON_SERVER_UNREACHABLE));
}

TEST(WireToStatusTest, AnErrorOfCodeOkIsStillAnError) {
  v1::Status wire;
  wire.set_message("all is well");
  EXPECT_THAT(WireToStatus(wire), HasCode(absl::StatusCode::kInternal));
  wire.set_code(4711);
  EXPECT_THAT(WireToStatus(wire), HasCode(absl::StatusCode::kInternal));
  EXPECT_THAT(WireToStatus(wire), HasMessage("all is well"));
}

}  // namespace
}  // namespace codeseal::client
