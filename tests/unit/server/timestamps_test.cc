#include "server/timestamps.h"

#include <future>

#include "absl/time/clock.h"
#include "codesign/cms/apple_cms.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/request_check.h"
#include "server/request_handler.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/timestamp_server.h"
#include "tests/unit/server/server_fixture.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildSignRequest;
using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::HttpFault;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::TimestampAuthority;
using ::codeseal::testing::TimestampServer;

std::string RuleOf(const absl::Status& status) {
  const std::optional<ErrorDetail> detail = GetErrorDetail(status);
  return detail.has_value() ? detail->rule() : "";
}

// --- Which authority, if any ------------------------------------------------

class TimestampPlanTest : public ::testing::Test {
 protected:
  TimestampPlanTest() {
    TsaConfig apple;
    apple.name = "apple";
    apple.urls = {"http://a.example/1", "http://a.example/2"};
    apple.profile = TimestampProfile::kApple;
    TsaConfig other = apple;
    other.name = "other";
    other.urls = {"http://b.example/"};
    authorities_ = TimestampAuthorities::Create({apple, other}, clock_).value();
  }

  absl::StatusOr<TimestampPlan> Plan(TimestampPolicy mode,
                                     v1::TimestampMode wish,
                                     const std::string& url = "") const {
    v1::SignRequest request;
    request.set_timestamp(wish);
    request.set_timestamp_url(url);
    return authorities_->Plan(request, {"apple", mode, also_});
  }
  static std::string NameOf(const absl::StatusOr<TimestampPlan>& plan) {
    if (!plan.ok()) return "error";
    return plan->tsa == nullptr ? "none" : plan->tsa->options().name;
  }

  SystemClock clock_;
  std::vector<std::string> also_;
  std::unique_ptr<TimestampAuthorities> authorities_;
};

constexpr v1::TimestampMode kAny = v1::TIMESTAMP_MODE_UNSPECIFIED;
constexpr v1::TimestampMode kNone = v1::TIMESTAMP_MODE_NONE;
constexpr v1::TimestampMode kWanted = v1::TIMESTAMP_MODE_REQUIRED;

TEST_F(TimestampPlanTest, TheIdentityDecidesWhenTheCallerDoesNot) {
  const auto required = Plan(TimestampPolicy::kRequired, kAny);
  EXPECT_EQ(NameOf(required), "apple");
  EXPECT_TRUE(required->required);
  const auto preferred = Plan(TimestampPolicy::kPreferred, kAny);
  EXPECT_EQ(NameOf(preferred), "apple");
  EXPECT_FALSE(preferred->required);
  EXPECT_EQ(NameOf(Plan(TimestampPolicy::kNone, kAny)), "none");
}

TEST_F(TimestampPlanTest, WhoAsksForOneGetsOneOrAnError) {
  for (const TimestampPolicy mode :
       {TimestampPolicy::kRequired, TimestampPolicy::kPreferred,
        TimestampPolicy::kNone}) {
    const auto plan = Plan(mode, kWanted);
    EXPECT_EQ(NameOf(plan), "apple");
    EXPECT_TRUE(plan->required);
  }
}

TEST_F(TimestampPlanTest, NoneIsForIdentitiesThatDoNotRequireOne) {
  EXPECT_EQ(NameOf(Plan(TimestampPolicy::kPreferred, kNone)), "none");
  EXPECT_EQ(NameOf(Plan(TimestampPolicy::kNone, kNone)), "none");
  const auto refused = Plan(TimestampPolicy::kRequired, kNone);
  EXPECT_THAT(refused, HasReason(v1::REASON_POLICY_VIOLATION));
  EXPECT_EQ(RuleOf(refused.status()), "timestamp-required");
}

TEST_F(TimestampPlanTest, AnAddressOnlyChoosesAmongTheIdentitysOwn) {
  constexpr TimestampPolicy kMode = TimestampPolicy::kPreferred;
  EXPECT_EQ(NameOf(Plan(kMode, kWanted, "http://a.example/2")), "apple");
  EXPECT_TRUE(Plan(kMode, kAny, "http://a.example/2")->required);
  for (const char* url : {"http://b.example/", "http://169.254.169.254/",
                          "http://a.example/1?x"}) {
    const auto refused = Plan(kMode, kWanted, url);
    EXPECT_THAT(refused, HasReason(v1::REASON_POLICY_VIOLATION)) << url;
    EXPECT_EQ(RuleOf(refused.status()), "timestamp-url") << url;
  }
  also_ = {"other"};
  EXPECT_EQ(NameOf(Plan(kMode, kWanted, "http://b.example/")), "other");
  EXPECT_EQ(NameOf(Plan(kMode, kWanted)), "apple");
}

TEST_F(TimestampPlanTest, WithoutAnAuthorityOnlyWishesFail) {
  v1::SignRequest request;
  EXPECT_EQ(NameOf(authorities_->Plan(request, {})), "none");
  request.set_timestamp(kNone);
  EXPECT_EQ(NameOf(authorities_->Plan(request, {})), "none");
  request.set_timestamp(kWanted);
  EXPECT_THAT(authorities_->Plan(request, {}),
              HasReason(v1::REASON_NO_TIMESTAMP_AUTHORITY));
}

TEST_F(TimestampPlanTest, FilesAndPoliciesMustBeRight) {
  testing::TempFolder folder;
  TsaConfig tsa;
  tsa.name = "own";
  tsa.urls = {"http://a.example/"};
  tsa.roots = folder.Write("roots.pem", "no certificate");
  auto made = TimestampAuthorities::Create({tsa}, clock_);
  EXPECT_THAT(made, HasReason(v1::REASON_BAD_CONFIG));
  EXPECT_THAT(made.status(), HasMessage("tsa.own.roots"));
  tsa.roots.clear();
  tsa.policy = "none";
  made = TimestampAuthorities::Create({tsa}, clock_);
  EXPECT_THAT(made, HasReason(v1::REASON_BAD_CONFIG));
  EXPECT_THAT(made.status(), HasMessage("tsa.own.policy"));
}

// --- On the way of a request ------------------------------------------------

class TimestampedRequestTest : public testing::ServerFixture {
 protected:
  TimestampedRequestTest() : server_(authority()) {
    TsaConfig tsa;
    tsa.name = "test";
    tsa.urls = {server_.url()};
    tsa.roots = folder_.Write("tsa.pem", authority().root().Pem());
    tsa.attempts = 1;
    config_.authorities = {tsa};
    config_.identities[0].timestamp = {"test", TimestampPolicy::kRequired, {}};
  }
  ~TimestampedRequestTest() override { store_.reset(); }

  static TimestampAuthority& authority() {
    static auto* const authority = new TimestampAuthority;
    return *authority;
  }

  void Start() {
    store_ = MakeStore().value();
    store_->LoadKeys(absl::Seconds(30));
    gate_ = PeerGate::Create(TlsConfig(), clock_).value();
    timestamps_ =
        TimestampAuthorities::Create(config_.authorities, clock_).value();
    handler_ =
        std::make_unique<RequestHandler>(*store_, *gate_, *timestamps_, nullptr,
                                         nullptr, config_.limits, clock_);
  }

  using Result = absl::StatusOr<v1::SignResponse>;
  std::future<Result> Begin(const v1::SignRequest& request) {
    const auto promise = std::make_shared<std::promise<Result>>();
    RequestHandler::Call call;
    call.request = std::make_shared<v1::SignRequest>(request);
    call.peer = std::make_shared<Peer>(peer_);
    call.done = [promise](Result result) {
      promise->set_value(std::move(result));
    };
    handler_->Sign(std::move(call));
    return promise->get_future();
  }

  TimestampServer server_;
  SystemClock clock_;
  std::unique_ptr<PeerGate> gate_;
  std::unique_ptr<TimestampAuthorities> timestamps_;
  std::unique_ptr<RequestHandler> handler_;
  std::unique_ptr<IdentityStore> store_;
};

TEST_F(TimestampedRequestTest, TheReplyCarriesAToken) {
  Start();
  const v1::SignRequest request = BuildSignRequest({});
  const Result result = Begin(request).get();
  ASSERT_THAT(result, IsOk());
  const auto signature = VerifyAppleCms(
      AsBytes(result->cms()), CheckSignRequest(request).value().content);
  ASSERT_THAT(signature, IsOk());
  ASSERT_TRUE(signature->timestamp_token.has_value());
  const auto timestamp = VerifyTimestampToken(*signature->timestamp_token,
                                              signature->signature_value, {});
  ASSERT_THAT(timestamp, IsOk());
  EXPECT_EQ(result->timestamp().tsa(), "test");
  EXPECT_EQ(result->timestamp().time().seconds(),
            absl::ToUnixSeconds(timestamp->time));
}

TEST_F(TimestampedRequestTest, WithoutATokenThereIsNoReply) {
  server_.SetFault(HttpFault::kStatus500);
  Start();
  const Result result = Begin(BuildSignRequest({})).get();
  EXPECT_THAT(result, HasReason(v1::REASON_TSA_DOWN));
  EXPECT_THAT(result, HasCode(absl::StatusCode::kUnavailable));
}

TEST_F(TimestampedRequestTest, WhereItIsPreferredTheReplyComesWithoutOne) {
  server_.SetFault(HttpFault::kStatus500);
  config_.identities[0].timestamp.mode = TimestampPolicy::kPreferred;
  Start();
  const Result result = Begin(BuildSignRequest({})).get();
  ASSERT_THAT(result, IsOk());
  EXPECT_FALSE(result->has_timestamp());
  EXPECT_FALSE(
      ParseAppleCms(AsBytes(result->cms()))->timestamp_token.has_value());
}

TEST_F(TimestampedRequestTest, ADryRunAsksNobodyAndIsStillJudged) {
  Start();
  v1::SignRequest request = BuildSignRequest({});
  request.set_validate_only(true);
  EXPECT_THAT(Begin(request).get(), IsOk());
  EXPECT_EQ(server_.query_count(), 0);
  request.set_timestamp(v1::TIMESTAMP_MODE_NONE);
  EXPECT_THAT(Begin(request).get(), HasReason(v1::REASON_POLICY_VIOLATION));
}

// The token has one thread here: it must not be the one that waits.
TEST_F(TimestampedRequestTest, TheTokensThreadsDoNotWait) {
  server_.SetFault(HttpFault::kStall);
  config_.tokens[0].session_count = 1;
  Start();
  const int before = token_->key().sign_count();
  const int count = 8;
  std::vector<std::future<Result>> results;
  for (int i = 0; i < count; ++i) {
    results.push_back(Begin(BuildSignRequest({})));
  }
  // All of them were signed and are being stamped at the same time.
  EXPECT_TRUE(server_.WaitForQueries(count));
  EXPECT_EQ(token_->key().sign_count(), before + count);
  store_.reset();
  timestamps_.reset();  // ends what is open
  for (auto& result : results) {
    EXPECT_THAT(result.get(), HasReason(v1::REASON_DRAINING));
  }
}

}  // namespace
}  // namespace codeseal
