#include "tsa/breaker.h"

#include "gtest/gtest.h"

namespace codeseal {
namespace {

using Change = Breaker::Change;

const absl::Time kStart = absl::FromUnixSeconds(1'800'000'000);

void Fail(Breaker& breaker, int count) {
  for (int i = 0; i < count; ++i) {
    ASSERT_TRUE(breaker.MayAsk(kStart)) << i;
    breaker.Asked();
    breaker.Answered(false, kStart);
  }
}

TEST(BreakerTest, OpensWhenNearlyAllFails) {
  Breaker breaker;
  Fail(breaker, 5);
  EXPECT_TRUE(breaker.MayAsk(kStart));
  EXPECT_EQ(breaker.Answered(false, kStart), Change::kOpened);
  EXPECT_FALSE(breaker.MayAsk(kStart));
}

TEST(BreakerTest, StaysClosedForAServerThatFailsOften) {
  Breaker breaker;
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(breaker.MayAsk(kStart)) << i;
    breaker.Asked();
    EXPECT_EQ(breaker.Answered(i % 5 > 1, kStart), Change::kNone) << i;
  }
}

TEST(BreakerTest, AsksOnceAfterThePauseAndClosesOnSuccess) {
  Breaker breaker;
  Fail(breaker, 6);
  const absl::Time later = kStart + breaker.pause();
  EXPECT_FALSE(breaker.MayAsk(later - absl::Milliseconds(1)));
  ASSERT_TRUE(breaker.MayAsk(later));
  breaker.Asked();
  EXPECT_FALSE(breaker.MayAsk(later)) << "one probe at a time";
  EXPECT_EQ(breaker.Answered(true, later), Change::kClosed);
  EXPECT_TRUE(breaker.MayAsk(later));
  // Its bad days are forgotten.
  EXPECT_EQ(breaker.Answered(false, later), Change::kNone);
}

TEST(BreakerTest, PauseDoublesUpToAMinute) {
  Breaker breaker;
  Fail(breaker, 6);
  absl::Time now = kStart;
  absl::Duration longest = absl::ZeroDuration();
  for (int i = 0; i < 10; ++i) {
    const absl::Duration before = breaker.pause();
    now += before;
    breaker.Asked();
    EXPECT_EQ(breaker.Answered(false, now), Change::kOpened);
    EXPECT_EQ(breaker.pause(), std::min(before * 2, absl::Seconds(60)));
    longest = std::max(longest, breaker.pause());
  }
  EXPECT_EQ(longest, absl::Seconds(60));
}

// Queries that were on their way when it opened say nothing new.
TEST(BreakerTest, LateFailuresDoNotProlongThePause) {
  Breaker breaker;
  Fail(breaker, 6);
  const absl::Duration pause = breaker.pause();
  EXPECT_EQ(breaker.Answered(false, kStart + absl::Seconds(1)), Change::kNone);
  EXPECT_EQ(breaker.pause(), pause);
  EXPECT_TRUE(breaker.MayAsk(kStart + pause));
}

}  // namespace
}  // namespace codeseal
