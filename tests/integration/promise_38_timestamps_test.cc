// Promise 38: an authority that is down, slow or lying is dealt with, and what
// requires a timestamp never leaves without one.

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "gmock/gmock.h"
#include "tests/integration/stamp_fixture.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;

class Promise38Test : public StampTest {};

struct Failure {
  const char* name;
  HttpFault fault;
  TsaLie lie;
};
constexpr Failure kFailures[] = {
    {"status 500", HttpFault::kStatus500, TsaLie::kNone},
    {"stall", HttpFault::kStall, TsaLie::kNone},
    {"hang up", HttpFault::kHangUp, TsaLie::kNone},
    {"redirect", HttpFault::kRedirect, TsaLie::kNone},
    {"endless", HttpFault::kEndless, TsaLie::kNone},
    {"garbage", HttpFault::kNone, TsaLie::kGarbage},
    {"truncated", HttpFault::kNone, TsaLie::kTruncated},
    {"refusal", HttpFault::kNone, TsaLie::kRefusal},
    {"wrong nonce", HttpFault::kNone, TsaLie::kWrongNonce},
    {"no nonce", HttpFault::kNone, TsaLie::kNoNonce},
    {"wrong imprint", HttpFault::kNone, TsaLie::kWrongImprint},
    {"SHA-1 imprint", HttpFault::kNone, TsaLie::kSha1Imprint},
    {"SHA-1 signature", HttpFault::kNone, TsaLie::kSha1Signature},
    {"no purpose", HttpFault::kNone, TsaLie::kNoPurpose},
    {"another purpose", HttpFault::kNone, TsaLie::kCodeSigningPurpose},
    {"two purposes", HttpFault::kNone, TsaLie::kSecondPurpose},
    {"purpose not critical", HttpFault::kNone, TsaLie::kPurposeNotCritical},
    {"signer is a CA", HttpFault::kNone, TsaLie::kSignerIsAuthority},
    {"expired", HttpFault::kNone, TsaLie::kExpiredCertificate},
    {"foreign root", HttpFault::kNone, TsaLie::kForeignRoot},
};

TEST_F(Promise38Test, promise_38_nothing_leaves_without_the_timestamp) {
  TimestampServer tsa(authority_);
  Start(StampConfig({tsa.url()}, "required", ", timeout: 500ms, attempts: 1"));
  int failure_count = 0;
  for (const Failure& failure : kFailures) {
    // The server is left alone after six failures: a good answer in between
    // keeps it in use.
    if (failure_count++ % 4 == 3) {
      tsa.SetFault(HttpFault::kNone);
      tsa.SetLie(TsaLie::kNone);
      ASSERT_THAT(client_->Sign(NewRequest()), IsOk());
    }
    tsa.SetFault(failure.fault);
    tsa.SetLie(failure.lie);
    const int before = tsa.query_count();
    const auto result = client_->Sign(NewRequest());
    EXPECT_THAT(result, HasReason(v1::REASON_TSA_DOWN)) << failure.name;
    EXPECT_THAT(result, HasCode(absl::StatusCode::kUnavailable))
        << failure.name;
    EXPECT_GT(tsa.query_count(), before) << failure.name;
  }
  tsa.SetFault(HttpFault::kNone);
  tsa.SetLie(TsaLie::kNone);
  const auto result = client_->Sign(NewRequest());
  ASSERT_THAT(result, IsOk());
  EXPECT_TRUE(TimestampIn(result->cms()).has_value());
}

TEST_F(Promise38Test, promise_38_the_next_server_answers) {
  TimestampServer first(authority_);
  TimestampServer second(authority_);
  Start(StampConfig({first.url(), second.url()}, "required",
                    ", timeout: 500ms, attempts: 2"));
  for (const Failure& failure : kFailures) {
    first.SetFault(failure.fault);
    first.SetLie(failure.lie);
    const auto result = client_->Sign(NewRequest());
    ASSERT_THAT(result, IsOk()) << failure.name;
    const std::optional<Timestamp> timestamp = TimestampIn(result->cms());
    ASSERT_TRUE(timestamp.has_value()) << failure.name;
    EXPECT_EQ(timestamp->chain.back(), authority_.root()) << failure.name;
    EXPECT_LT(absl::AbsDuration(timestamp->time - absl::Now()),
              absl::Seconds(60));
  }
  // The first was left alone once it had failed often enough.
  EXPECT_LT(first.query_count(), static_cast<int>(std::size(kFailures)));
  EXPECT_THAT(server_->log(), HasSubstr("tsa_breaker_opened"));
}

TEST_F(Promise38Test, promise_38_a_slow_authority_holds_up_nobody_else) {
  TimestampServer tsa(authority_);
  tsa.SetFault(HttpFault::kStall);
  Start(StampConfig({tsa.url()}, "none", ", timeout: 10s, attempts: 1"));
  std::vector<v1::SignRequest> stalled;
  for (int i = 0; i < 20; ++i) {
    stalled.push_back(NewRequest());
    stalled.back().set_timestamp(v1::TIMESTAMP_MODE_REQUIRED);
  }
  std::thread waiting([&] {
    for (const auto& [id, result] : client_->SignAll(stalled, "ec")) {
      EXPECT_THAT(result, HasReason(v1::REASON_TSA_DOWN)) << id;
    }
  });
  ASSERT_TRUE(tsa.WaitForQueries(20));
  TestClient other(server_->address(), world_.tls_ca(), world_.client());
  const absl::Time begun_at = absl::Now();
  for (int i = 0; i < 10; ++i) {
    EXPECT_THAT(other.Sign(NewRequest()), IsOk());
  }
  EXPECT_LT(absl::Now() - begun_at, absl::Seconds(8));
  waiting.join();
}

TEST_F(Promise38Test, promise_38_what_prefers_a_timestamp_goes_without) {
  TimestampServer tsa(authority_);
  Start(StampConfig({tsa.url()}, "preferred", ", timeout: 1s, attempts: 1"));
  const auto stamped = client_->Sign(NewRequest());
  ASSERT_THAT(stamped, IsOk());
  EXPECT_TRUE(stamped->has_timestamp());
  tsa.SetFault(HttpFault::kStatus500);
  const auto bare = client_->Sign(NewRequest());
  ASSERT_THAT(bare, IsOk());
  EXPECT_FALSE(bare->has_timestamp());
  EXPECT_FALSE(TimestampIn(bare->cms()).has_value());
  EXPECT_THAT(server_->log(), HasSubstr("not_stamped"));
  // Who insists gets an error.
  v1::SignRequest request = NewRequest();
  request.set_timestamp(v1::TIMESTAMP_MODE_REQUIRED);
  EXPECT_THAT(client_->Sign(request), HasReason(v1::REASON_TSA_DOWN));
}

TEST_F(Promise38Test, promise_38_the_caller_learns_when_to_try_again) {
  TimestampServer tsa(authority_);
  tsa.SetFault(HttpFault::kStatus500);
  Start(StampConfig({tsa.url()}, "required", ", timeout: 1s, attempts: 1"));
  const std::vector<v1::SignRequest> requests = {NewRequest()};
  grpc::ClientContext context;
  const std::shared_ptr<TestClient::Stream> stream =
      client_->OpenStream(context);
  v1::SignStreamRequest message;
  message.mutable_open()->set_identity("ec");
  ASSERT_TRUE(stream->Write(message));
  *message.mutable_item() = requests.front();
  ASSERT_TRUE(stream->Write(message));
  stream->WritesDone();
  v1::SignStreamResponse response;
  bool found = false;
  while (stream->Read(&response)) {
    if (!response.has_result()) continue;
    ASSERT_TRUE(response.result().has_error());
    for (const auto& detail : response.result().error().details()) {
      v1::RetryInfo retry;
      if (detail.type_url() != "type.googleapis.com/google.rpc.RetryInfo") {
        continue;
      }
      ASSERT_TRUE(retry.ParseFromString(detail.value()));
      EXPECT_GT(retry.retry_delay().seconds(), 0);
      found = true;
    }
  }
  EXPECT_TRUE(found);
  stream->Finish();
}

}  // namespace
}  // namespace codeseal::testing
