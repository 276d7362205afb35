#include "tsa/timestamper.h"

#include <atomic>
#include <future>
#include <mutex>
#include <set>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/timestamp_server.h"

namespace codeseal {
namespace {

using ::codeseal::testing::FakeClock;
using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::HttpFault;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::TimestampAuthority;
using ::codeseal::testing::TimestampServer;
using ::codeseal::testing::TsaLie;
using Kind = TimestamperEvent::Kind;

class TimestamperTest : public ::testing::Test {
 protected:
  static TimestampAuthority& authority() {
    static auto* const authority = new TimestampAuthority;
    return *authority;
  }

  TimestamperOptions Options(const std::vector<std::string>& urls) {
    TimestamperOptions options;
    options.name = "test";
    options.urls = urls;
    options.rules.roots = {authority().root()};
    options.attempts = 2;
    options.timeout = absl::Seconds(10);
    return options;
  }

  std::unique_ptr<Timestamper> Make(TimestamperOptions options) {
    return std::make_unique<Timestamper>(std::move(options), clock_,
                                         [this](const TimestamperEvent& event) {
                                           const std::lock_guard lock(mutex_);
                                           events_.insert(event.kind);
                                         });
  }

  static absl::StatusOr<Stamp> Get(Timestamper& timestamper,
                                   const char* stamped,
                                   absl::Duration within = absl::Seconds(30)) {
    return timestamper.GetAndWait(ToBytes(stamped), absl::Now() + within);
  }

  bool Saw(Kind kind) {
    const std::lock_guard lock(mutex_);
    return events_.contains(kind);
  }

  SystemClock clock_;
  std::mutex mutex_;
  std::set<Kind> events_;
};

TEST_F(TimestamperTest, GivesAVerifiedToken) {
  TimestampServer server(authority());
  const auto timestamper = Make(Options({server.url()}));
  const absl::StatusOr<Stamp> stamp = Get(*timestamper, "a");
  ASSERT_THAT(stamp, IsOk());
  EXPECT_EQ(stamp->url, server.url());
  EXPECT_FALSE(stamp->cached);
  const auto verified = VerifyTimestampToken(stamp->token, AsBytes("a"), {});
  ASSERT_THAT(verified, IsOk());
  EXPECT_EQ(verified->time, stamp->time);
  EXPECT_FALSE(Saw(Kind::kClockApart));
}

TEST_F(TimestamperTest, TheSameSignatureIsNotStampedTwice) {
  TimestampServer server(authority());
  const auto timestamper = Make(Options({server.url()}));
  const absl::StatusOr<Stamp> first = Get(*timestamper, "a");
  const absl::StatusOr<Stamp> second = Get(*timestamper, "a");
  ASSERT_THAT(first, IsOk());
  ASSERT_THAT(second, IsOk());
  EXPECT_TRUE(second->cached);
  EXPECT_EQ(second->token, first->token);
  EXPECT_EQ(server.query_count(), 1);
  ASSERT_THAT(Get(*timestamper, "b"), IsOk());
  EXPECT_EQ(server.query_count(), 2);
}

TEST_F(TimestamperTest, CacheIsBounded) {
  TimestampServer server(authority());
  TimestamperOptions options = Options({server.url()});
  options.cache_size = 1;
  const auto timestamper = Make(options);
  for (const char* stamped : {"a", "b", "a"}) {
    ASSERT_THAT(Get(*timestamper, stamped), IsOk());
  }
  EXPECT_EQ(server.query_count(), 3);
}

TEST_F(TimestamperTest, ManyWaitSideBySide) {
  constexpr int kCount = 40;
  TimestampServer server(authority());
  server.SetDelay(absl::Milliseconds(500));
  const auto timestamper = Make(Options({server.url()}));
  std::vector<std::future<absl::Status>> stamps;
  const absl::Time begun_at = absl::Now();
  for (int i = 0; i < kCount; ++i) {
    auto promise = std::make_shared<std::promise<absl::Status>>();
    stamps.push_back(promise->get_future());
    timestamper->Get(ToBytes(std::to_string(i)), absl::Now() + absl::Minutes(1),
                     [promise](const absl::StatusOr<Stamp>& stamp) {
                       promise->set_value(stamp.status());
                     });
  }
  for (auto& stamp : stamps) EXPECT_THAT(stamp.get(), IsOk());
  // One after the other they take 20 s.
  EXPECT_LT(absl::Now() - begun_at, absl::Seconds(10));
  EXPECT_GT(server.most_at_once(), kCount / 2);
}

TEST_F(TimestamperTest, ConcurrencyIsLimited) {
  TimestampServer server(authority());
  server.SetDelay(absl::Milliseconds(20));
  TimestamperOptions options = Options({server.url()});
  options.concurrency = 3;
  const auto timestamper = Make(options);
  std::vector<std::future<absl::Status>> stamps;
  for (int i = 0; i < 12; ++i) {
    auto promise = std::make_shared<std::promise<absl::Status>>();
    stamps.push_back(promise->get_future());
    timestamper->Get(ToBytes(std::to_string(i)), absl::Now() + absl::Minutes(1),
                     [promise](const absl::StatusOr<Stamp>& stamp) {
                       promise->set_value(stamp.status());
                     });
  }
  for (auto& stamp : stamps) EXPECT_THAT(stamp.get(), IsOk());
  EXPECT_LE(server.most_at_once(), 3);
}

struct FaultCase {
  const char* name;
  TsaLie lie;
  HttpFault fault;
  const char* message;
};

class TimestamperFaultTest : public TimestamperTest,
                             public ::testing::WithParamInterface<FaultCase> {};

TEST_P(TimestamperFaultTest, TheNextServerIsAskedAtOnce) {
  TimestampServer bad(authority());
  bad.SetLie(GetParam().lie);
  bad.SetFault(GetParam().fault);
  TimestampServer good(authority());
  TimestamperOptions options = Options({bad.url(), good.url()});
  options.timeout = absl::Milliseconds(500);
  const auto timestamper = Make(options);
  const absl::StatusOr<Stamp> stamp = Get(*timestamper, "a");
  ASSERT_THAT(stamp, IsOk());
  EXPECT_EQ(stamp->url, good.url());
  EXPECT_EQ(bad.query_count(), 1);
  EXPECT_TRUE(Saw(Kind::kQueryFailed));
}

TEST_P(TimestamperFaultTest, WithoutAnotherServerThereIsNoToken) {
  TimestampServer bad(authority());
  bad.SetLie(GetParam().lie);
  bad.SetFault(GetParam().fault);
  TimestamperOptions options = Options({bad.url()});
  options.timeout = absl::Milliseconds(300);
  const auto timestamper = Make(options);
  const absl::StatusOr<Stamp> stamp = Get(*timestamper, "a");
  const bool clock = GetParam().lie == TsaLie::kWrongTime;
  EXPECT_THAT(stamp, HasReason(clock ? v1::REASON_CLOCK : v1::REASON_TSA_DOWN));
  EXPECT_THAT(stamp, HasCode(clock ? absl::StatusCode::kFailedPrecondition
                                   : absl::StatusCode::kUnavailable));
  EXPECT_THAT(stamp.status(), HasMessage(GetParam().message));
  // Asked again, but for a clock, which does not mend in a second.
  EXPECT_EQ(bad.query_count(), clock ? 1 : 2);
}

INSTANTIATE_TEST_SUITE_P(
    Faults, TimestamperFaultTest,
    ::testing::Values(
        FaultCase{"Status500", TsaLie::kNone, HttpFault::kStatus500,
                  "HTTP status 500"},
        FaultCase{"Stall", TsaLie::kNone, HttpFault::kStall, "Timeout"},
        FaultCase{"HangUp", TsaLie::kNone, HttpFault::kHangUp, "test gave no"},
        FaultCase{"Redirect", TsaLie::kNone, HttpFault::kRedirect,
                  "HTTP status 302"},
        FaultCase{"Endless", TsaLie::kNone, HttpFault::kEndless, "too large"},
        FaultCase{"EndlessHeaders", TsaLie::kNone, HttpFault::kEndlessHeaders,
                  "receiving data"},
        FaultCase{"Garbage", TsaLie::kGarbage, HttpFault::kNone,
                  "no timestamp response"},
        FaultCase{"WrongNonce", TsaLie::kWrongNonce, HttpFault::kNone, "nonce"},
        FaultCase{"NoNonce", TsaLie::kNoNonce, HttpFault::kNone, "nonce"},
        FaultCase{"WrongImprint", TsaLie::kWrongImprint, HttpFault::kNone,
                  "does not verify"},
        FaultCase{"Sha1", TsaLie::kSha1Signature, HttpFault::kNone, "SHA-1"},
        FaultCase{"BadPurpose", TsaLie::kCodeSigningPurpose, HttpFault::kNone,
                  "purpose"},
        FaultCase{"Expired", TsaLie::kExpiredCertificate, HttpFault::kNone,
                  "is valid from"},
        FaultCase{"ForeignRoot", TsaLie::kForeignRoot, HttpFault::kNone,
                  "not among"},
        FaultCase{"HourOff", TsaLie::kWrongTime, HttpFault::kNone,
                  "behind ours"}),
    [](const auto& each) { return std::string(each.param.name); });

TEST_F(TimestamperTest, AServerThatAlwaysFailsIsLeftAlone) {
  TimestampServer bad(authority());
  bad.SetFault(HttpFault::kStatus500);
  TimestampServer good(authority());
  const auto timestamper = Make(Options({bad.url(), good.url()}));
  for (int i = 0; i < 20; ++i) {
    ASSERT_THAT(Get(*timestamper, std::to_string(i).c_str()), IsOk());
  }
  EXPECT_EQ(bad.query_count(), 6);
  EXPECT_EQ(good.query_count(), 20);
  EXPECT_TRUE(Saw(Kind::kBreakerOpened));
}

TEST_F(TimestamperTest, WhenAllAreLeftAloneTheAnswerIsImmediate) {
  TimestampServer bad(authority());
  bad.SetFault(HttpFault::kStatus500);
  TimestamperOptions options = Options({bad.url()});
  options.attempts = 1;
  const auto timestamper = Make(options);
  for (int i = 0; i < 6; ++i) {
    EXPECT_THAT(Get(*timestamper, "a"), HasReason(v1::REASON_TSA_DOWN));
  }
  const absl::StatusOr<Stamp> stamp = Get(*timestamper, "a");
  EXPECT_THAT(stamp, HasReason(v1::REASON_TSA_DOWN));
  EXPECT_THAT(stamp.status(), HasMessage("left alone"));
  EXPECT_EQ(bad.query_count(), 6);
}

TEST_F(TimestamperTest, AnotherTryHelpsAfterAPause) {
  TimestampServer server(authority());
  server.SetFault(HttpFault::kHangUp);
  TimestamperOptions options = Options({server.url()});
  options.attempts = 5;
  const auto timestamper = Make(options);
  std::promise<absl::StatusOr<Stamp>> promise;
  timestamper->Get(ToBytes("a"), absl::Now() + absl::Seconds(30),
                   [&promise](absl::StatusOr<Stamp> stamp) {
                     promise.set_value(std::move(stamp));
                   });
  ASSERT_TRUE(server.WaitForQueries(1));
  server.SetFault(HttpFault::kNone);
  EXPECT_THAT(promise.get_future().get(), IsOk());
}

TEST_F(TimestamperTest, DeadlineHoldsWhileAServerStalls) {
  TimestampServer server(authority());
  server.SetFault(HttpFault::kStall);
  const auto timestamper = Make(Options({server.url()}));
  const absl::Time begun_at = absl::Now();
  EXPECT_THAT(Get(*timestamper, "a", absl::Milliseconds(300)),
              HasReason(v1::REASON_TSA_DOWN));
  EXPECT_LT(absl::Now() - begun_at, absl::Seconds(5));
  EXPECT_THAT(Get(*timestamper, "b", absl::ZeroDuration()),
              HasReason(v1::REASON_DEADLINE_EXCEEDED));
}

TEST_F(TimestamperTest, EndsWhatIsOpen) {
  TimestampServer server(authority());
  server.SetFault(HttpFault::kStall);
  auto timestamper = Make(Options({server.url()}));
  std::promise<absl::StatusOr<Stamp>> promise;
  timestamper->Get(ToBytes("a"), absl::InfiniteFuture(),
                   [&promise](absl::StatusOr<Stamp> stamp) {
                     promise.set_value(std::move(stamp));
                   });
  ASSERT_TRUE(server.WaitForQueries(1));
  timestamper.reset();
  EXPECT_THAT(promise.get_future().get(), HasReason(v1::REASON_DRAINING));
}

// Our clock is wrong, and the authority's is right.
class TimestamperClockTest : public TimestamperTest {
 protected:
  absl::StatusOr<Stamp> GetWithClock(absl::Duration off) {
    FakeClock clock(absl::Now() + off);
    TimestampServer server(authority());
    Timestamper timestamper(Options({server.url()}), clock,
                            [this](const TimestamperEvent& event) {
                              const std::lock_guard lock(mutex_);
                              events_.insert(event.kind);
                            });
    return Get(timestamper, "a");
  }
};

TEST_F(TimestamperClockTest, ASecondIsNothing) {
  EXPECT_THAT(GetWithClock(absl::Seconds(2)), IsOk());
  EXPECT_FALSE(Saw(Kind::kClockApart));
}

TEST_F(TimestamperClockTest, AboveFiveSecondsThereIsAnAlarm) {
  EXPECT_THAT(GetWithClock(absl::Seconds(20)), IsOk());
  EXPECT_TRUE(Saw(Kind::kClockApart));
}

TEST_F(TimestamperClockTest, AboveAMinuteTheTokenIsRefused) {
  for (const absl::Duration off : {absl::Minutes(2), -absl::Minutes(2)}) {
    EXPECT_THAT(GetWithClock(off), HasReason(v1::REASON_CLOCK)) << off;
  }
}

TEST(TimestampUrlTest, MustBeWebAddresses) {
  for (const char* url : {"http://timestamp.apple.com/ts01",
                          "https://[::1]:8080/x?y=z", "http://host"}) {
    EXPECT_TRUE(IsTimestampUrl(url)) << url;
  }
  for (const char* url :
       {"", "timestamp.apple.com", "file:///etc/passwd", "gopher://x/",
        "http://", "http://user@host/", "http://a b/", "http://host/#x"}) {
    EXPECT_FALSE(IsTimestampUrl(url)) << url;
  }
}

}  // namespace
}  // namespace codeseal
