// Promise 39: a clock that jumps makes the server refuse; no signature is
// dated wrongly.

#include <cstdlib>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "gmock/gmock.h"
#include "tests/integration/stamp_fixture.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;

class Promise39Test : public StampTest {
 protected:
  // Starts the server with another time of day.
  void StartAt(const char* offset, const std::string& config) {
    setenv("LD_PRELOAD", CODESEAL_FAKETIME, 1);
    setenv("FAKETIME", offset, 1);
    setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1", 1);
    Start(config);
    unsetenv("LD_PRELOAD");
    unsetenv("FAKETIME");
    unsetenv("FAKETIME_DONT_FAKE_MONOTONIC");
  }
};

TEST_F(Promise39Test, promise_39_a_server_an_hour_off_refuses) {
  TimestampServer tsa(authority_);
  // Certificates of this world are an hour old.
  for (const char* offset : {"+1h", "-55m"}) {
    StartAt(offset, StampConfig({tsa.url()}, "required"));
    const auto result = client_->Sign(NewRequest());
    EXPECT_THAT(result, HasReason(v1::REASON_CLOCK)) << offset;
    EXPECT_THAT(result, HasCode(absl::StatusCode::kFailedPrecondition))
        << offset;
    server_->Stop();
  }
}

TEST_F(Promise39Test, promise_39_some_seconds_off_is_an_alarm) {
  TimestampServer tsa(authority_);
  StartAt("+20s", StampConfig({tsa.url()}, "required"));
  const auto result = client_->Sign(NewRequest());
  ASSERT_THAT(result, IsOk());
  const std::optional<Timestamp> timestamp = TimestampIn(result->cms());
  ASSERT_TRUE(timestamp.has_value());
  // The authority's time, not the server's.
  EXPECT_LT(absl::AbsDuration(timestamp->time - absl::Now()),
            absl::Seconds(10));
  EXPECT_THAT(server_->log(), HasSubstr("tsa_clock_apart"));
}

TEST_F(Promise39Test, promise_39_an_authority_an_hour_off_is_not_believed) {
  TimestampServer wrong(authority_);
  wrong.SetLie(TsaLie::kWrongTime);
  TimestampServer right(authority_);
  Start(StampConfig({wrong.url()}, "required"));
  EXPECT_THAT(client_->Sign(NewRequest()), HasReason(v1::REASON_CLOCK));
  server_->Stop();
  Start(StampConfig({wrong.url(), right.url()}, "required"));
  const auto result = client_->Sign(NewRequest());
  ASSERT_THAT(result, IsOk());
  EXPECT_LT(absl::AbsDuration(TimestampIn(result->cms())->time - absl::Now()),
            absl::Seconds(60));
}

}  // namespace
}  // namespace codeseal::testing
