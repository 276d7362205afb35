#include "server/release_window.h"

#include <vector>

#include "codesign/base/error.h"
#include "gtest/gtest.h"
#include "server/retry_delay.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

absl::TimeZone Berlin() {
  absl::TimeZone zone;
  EXPECT_TRUE(absl::LoadTimeZone("Europe/Berlin", &zone));
  return zone;
}

absl::Time At(const char* text) {
  absl::Time time;
  std::string error;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, text, &time, &error))
      << error;
  return time;
}

// Monday to Thursday, 09:00 to 17:00 in Berlin.
ReleaseWindow WorkingHours() {
  ReleaseWindow window;
  window.days = {true, true, true, true, false, false, false};
  window.from_minute = 9 * 60;
  window.to_minute = 17 * 60;
  window.zone = Berlin();
  return window;
}

TEST(ReleaseWindowTest, WithoutWindowsItIsAlwaysOpen) {
  EXPECT_THAT(CheckReleaseWindow({}, absl::Now()), IsOk());
}

TEST(ReleaseWindowTest, OpensAndClosesByTheClockOfItsZone) {
  const std::vector<ReleaseWindow> windows = {WorkingHours()};
  // Winter: UTC+1. The 5th of January 2026 is a Monday.
  EXPECT_THAT(CheckReleaseWindow(windows, At("2026-01-05T08:00:00Z")), IsOk());
  EXPECT_THAT(CheckReleaseWindow(windows, At("2026-01-05T15:59:59Z")), IsOk());
  // Summer: UTC+2.
  EXPECT_THAT(CheckReleaseWindow(windows, At("2026-07-06T07:00:00Z")), IsOk());
  for (const char* const closed :
       {"2026-01-05T07:59:59Z", "2026-01-05T16:00:00Z", "2026-07-06T15:00:00Z",
        "2026-07-06T06:59:59Z", "2026-01-09T10:00:00Z",
        "2026-01-10T10:00:00Z"}) {
    const absl::Status status = CheckReleaseWindow(windows, At(closed));
    EXPECT_THAT(status, HasReason(v1::REASON_OUTSIDE_RELEASE_WINDOW)) << closed;
    EXPECT_THAT(status, HasCode(absl::StatusCode::kFailedPrecondition));
  }
}

TEST(ReleaseWindowTest, SaysWhenTheNextOneOpens) {
  const std::vector<ReleaseWindow> windows = {WorkingHours()};
  // Thursday evening: closed until Monday.
  const absl::Status status =
      CheckReleaseWindow(windows, At("2026-01-08T17:00:00Z"));
  EXPECT_THAT(status, HasMessage("2026-01-12 08:00 UTC"));
  EXPECT_EQ(GetRetryDelay(status), absl::Hours(3 * 24 + 15));
}

TEST(ReleaseWindowTest, OneOverMidnightBelongsToTheDayOnWhichItOpens) {
  ReleaseWindow window;
  window.days[6] = true;  // Sunday
  window.from_minute = 22 * 60;
  window.to_minute = 2 * 60;
  window.zone = absl::UTCTimeZone();
  const std::vector<ReleaseWindow> windows = {window};
  EXPECT_THAT(CheckReleaseWindow(windows, At("2026-01-04T23:00:00Z")), IsOk());
  EXPECT_THAT(CheckReleaseWindow(windows, At("2026-01-05T01:59:00Z")), IsOk());
  EXPECT_THAT(CheckReleaseWindow(windows, At("2026-01-05T02:00:00Z")),
              HasReason(v1::REASON_OUTSIDE_RELEASE_WINDOW));
  EXPECT_THAT(CheckReleaseWindow(windows, At("2026-01-04T01:00:00Z")),
              HasReason(v1::REASON_OUTSIDE_RELEASE_WINDOW));
}

TEST(ReleaseWindowTest, ReadsTimesOfDay) {
  int minute = -1;
  EXPECT_TRUE(ParseTimeOfDay("09:30", minute));
  EXPECT_EQ(minute, 570);
  EXPECT_TRUE(ParseTimeOfDay("24:00", minute));
  EXPECT_EQ(minute, 1440);
  for (const char* const wrong :
       {"", "9:30", "24:01", "10:60", "ab:cd", "10-00", "10:000", "99:00"}) {
    EXPECT_FALSE(ParseTimeOfDay(wrong, minute)) << wrong;
  }
}

}  // namespace
}  // namespace codeseal
