#include "server/request_handler.h"

#include <future>
#include <memory>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "codesign/cms/apple_cms.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/request_check.h"
#include "tests/support/fake_clock.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/server/server_fixture.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildSignRequest;
using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::testing::SizeIs;

constexpr absl::Duration kLong = absl::Seconds(30);
using Result = absl::StatusOr<v1::SignResponse>;

class RequestHandlerTest : public testing::ServerFixture {
 protected:
  explicit RequestHandlerTest(testing::CertificateSpec leaf = {})
      : ServerFixture("p256", std::move(leaf)) {}

  void Start() {
    auto store = MakeStore();
    ASSERT_THAT(store, IsOk());
    store_ = *std::move(store);
    store_->LoadKeys(kLong);
    auto gate = PeerGate::Create(TlsConfig(), clock_);
    ASSERT_THAT(gate, IsOk());
    gate_ = *std::move(gate);
    auto timestamps = TimestampAuthorities::Create(config_.authorities, clock_);
    ASSERT_THAT(timestamps, IsOk());
    timestamps_ = *std::move(timestamps);
    handler_ = std::make_unique<RequestHandler>(*store_, *gate_, *timestamps_,
                                                ledger_.get(), nullptr,
                                                config_.limits, clock_);
  }
  void StartWithLedger() {
    auto rows = OpenSqliteLedgerStore(folder_.Path("ledger.db"));
    ASSERT_THAT(rows, IsOk());
    ledger_ =
        std::make_unique<Ledger>(*std::move(rows), absl::Hours(24), clock_);
    Start();
  }
  // The threads that hand work to others end before those.
  ~RequestHandlerTest() override {
    if (store_ != nullptr) store_->Stop();
    if (ledger_ != nullptr) ledger_->Stop();
    store_.reset();
  }

  std::future<Result> Begin(const v1::SignRequest& request,
                            absl::Time deadline = absl::InfiniteFuture()) {
    const auto promise = std::make_shared<std::promise<Result>>();
    RequestHandler::Call call;
    call.request = std::make_shared<v1::SignRequest>(request);
    call.peer = std::make_shared<Peer>(peer_);
    call.deadline = deadline;
    call.done = [promise](Result result) {
      promise->set_value(std::move(result));
    };
    handler_->Sign(std::move(call));
    return promise->get_future();
  }
  Result Sign(const v1::SignRequest& request) { return Begin(request).get(); }
  absl::Status Fault() {
    return store_->FindForDisplay("dev", peer_).value()->fault();
  }

  testing::FakeClock clock_{
      absl::FromUnixSeconds(absl::ToUnixSeconds(absl::Now()) + 60)};
  std::unique_ptr<PeerGate> gate_;
  std::unique_ptr<TimestampAuthorities> timestamps_;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<RequestHandler> handler_;
  std::unique_ptr<IdentityStore> store_;
};

TEST_F(RequestHandlerTest, SignsWhatItRead) {
  Start();
  const v1::SignRequest request = BuildSignRequest({});
  const Result result = Sign(request);
  ASSERT_THAT(result, IsOk());
  const absl::StatusOr<CheckedRequest> checked = CheckSignRequest(request);
  ASSERT_THAT(checked, IsOk());
  const absl::StatusOr<CmsSignature> signature =
      VerifyAppleCms(AsBytes(result->cms()), checked->content);
  ASSERT_THAT(signature, IsOk());
  EXPECT_EQ(signature->signing_time, clock_.Now());
  EXPECT_EQ(signature->signer.CommonName(), "signer");
  EXPECT_EQ(result->signing_time().seconds(),
            absl::ToUnixSeconds(clock_.Now()));
  EXPECT_EQ(token_->key().sign_count(), 1);
}

TEST_F(RequestHandlerTest, TheCallersSigningTimeIsSigned) {
  Start();
  v1::SignRequest request = BuildSignRequest({});
  const absl::Time at = clock_.Now() - absl::Minutes(2);
  request.mutable_signing_time()->set_seconds(absl::ToUnixSeconds(at));
  const Result result = Sign(request);
  ASSERT_THAT(result, IsOk());
  EXPECT_EQ(result->signing_time().seconds(), absl::ToUnixSeconds(at));
  const auto signature = VerifyAppleCms(
      AsBytes(result->cms()), CheckSignRequest(request).value().content);
  ASSERT_THAT(signature, IsOk());
  EXPECT_EQ(signature->signing_time, at);
}

// A caller that tries again late has a signing time that is refused by now.
TEST_F(RequestHandlerTest, WhatWasSignedIsReplayedThoughItWouldBeRefusedNow) {
  StartWithLedger();
  v1::SignRequest request = BuildSignRequest({});
  request.mutable_signing_time()->set_seconds(
      absl::ToUnixSeconds(clock_.Now()));
  const Result first = Sign(request);
  ASSERT_THAT(first, IsOk());
  clock_.Advance(absl::Minutes(30));
  const Result again = Sign(request);
  ASSERT_THAT(again, IsOk());
  EXPECT_TRUE(again->replayed());
  EXPECT_EQ(again->cms(), first->cms());
  EXPECT_EQ(token_->key().sign_count(), 1);

  request.set_request_id(testing::RandomUuid());
  EXPECT_THAT(Sign(request), HasReason(v1::REASON_POLICY_VIOLATION));
  EXPECT_THAT(Sign(request), HasReason(v1::REASON_POLICY_VIOLATION));
  EXPECT_EQ(token_->key().sign_count(), 1);
}

TEST_F(RequestHandlerTest, ValidateOnlyLeavesTheKeyAlone) {
  Start();
  v1::SignRequest request = BuildSignRequest({});
  request.set_validate_only(true);
  const int before = token_->key().sign_count();
  const Result result = Sign(request);
  ASSERT_THAT(result, IsOk());
  EXPECT_EQ(token_->key().sign_count(), before);
  EXPECT_THAT(result->cdhashes(), SizeIs(1));
  request.mutable_code_directory_set()->clear_requirements();
  EXPECT_THAT(Sign(request), HasReason(v1::REASON_BAD_CODE_DIRECTORY));
}

TEST_F(RequestHandlerTest, AWrongSignatureNeverLeaves) {
  Start();
  token_->SetSignHook([](const auto& sign) {
    absl::StatusOr<Bytes> signature = sign();
    signature->back() ^= 1;
    return signature;
  });
  const Result result = Sign(BuildSignRequest({}));
  EXPECT_THAT(result, HasReason(v1::REASON_SELF_VERIFY_FAILED));
  EXPECT_THAT(result, HasCode(absl::StatusCode::kDataLoss));
}

TEST_F(RequestHandlerTest, ASignatureOfSomethingElseNeverLeaves) {
  Start();
  // What the token signed last, again.
  Bytes last;
  token_->SetSignHook([&last](const auto& sign) {
    absl::StatusOr<Bytes> signature = sign();
    if (last.empty()) last = *signature;
    return absl::StatusOr<Bytes>(last);
  });
  EXPECT_THAT(Sign(BuildSignRequest({})), IsOk());
  testing::SignRequestSpec other;
  other.identifier = "com.example.other";
  const Result result = Sign(BuildSignRequest(other));
  EXPECT_THAT(result, HasReason(v1::REASON_SELF_VERIFY_FAILED));
  EXPECT_THAT(result, HasCode(absl::StatusCode::kDataLoss));
}

class WebServersHandlerTest : public RequestHandlerTest {
 protected:
  WebServersHandlerTest() : RequestHandlerTest(WebServer()) {}
  static testing::CertificateSpec WebServer() {
    testing::CertificateSpec spec;
    spec.extended_key_usage = {testing::kServerAuth};
    return spec;
  }
};

// The verifier would refuse all that it signs: its key is not even used.
TEST_F(WebServersHandlerTest, WhatTheVerifierWouldRefuseIsNotSigned) {
  Start();
  for (int i = 0; i < 2; ++i) {
    const Result result = Sign(BuildSignRequest({}));
    EXPECT_THAT(result, HasReason(v1::REASON_CHAIN_NOT_TRUSTED));
    EXPECT_THAT(result, HasCode(absl::StatusCode::kFailedPrecondition));
  }
  EXPECT_EQ(token_->key().sign_count(), 0);
}

TEST_F(RequestHandlerTest, TheTokensOwnWordsArriveAndAreRemembered) {
  Start();
  token_->SetSignHook([](const auto&) -> absl::StatusOr<Bytes> {
    return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TOKEN,
                     v1::REASON_TOKEN_DOWN, "unplugged");
  });
  const Result result = Sign(BuildSignRequest({}));
  EXPECT_THAT(result, HasReason(v1::REASON_TOKEN_DOWN));
  EXPECT_THAT(result, HasCode(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Fault(), HasMessage("unplugged"));
  token_->SetSignHook(nullptr);
  EXPECT_THAT(Sign(BuildSignRequest({})), IsOk());
  EXPECT_THAT(Fault(), IsOk());
}

TEST_F(RequestHandlerTest, TheDeadlineReachesTheToken) {
  config_.limits.deadline = absl::Seconds(7);
  Start();
  const absl::Time before = absl::Now();
  ASSERT_THAT(Sign(BuildSignRequest({})), IsOk());
  EXPECT_GE(token_->key().last_deadline(), before + absl::Seconds(7));
  EXPECT_LE(token_->key().last_deadline(), absl::Now() + absl::Seconds(7));
  const absl::Time sooner = absl::Now() + absl::Seconds(5);
  ASSERT_THAT(Begin(BuildSignRequest({}), sooner).get(), IsOk());
  EXPECT_EQ(token_->key().last_deadline(), sooner);
}

TEST_F(RequestHandlerTest, AnExpiredCertificateSignsNothing) {
  Start();
  clock_.Advance(absl::Hours(48));
  const Result result = Sign(BuildSignRequest({}));
  EXPECT_THAT(result, HasReason(v1::REASON_CERTIFICATE_EXPIRED));
  EXPECT_THAT(result, HasCode(absl::StatusCode::kFailedPrecondition));
}

TEST_F(RequestHandlerTest, PeersAreJudgedBeforeTheirRequestIsRead) {
  Start();
  peer_.dns_names = {"stranger"};
  EXPECT_THAT(Sign(v1::SignRequest()),
              HasReason(v1::REASON_IDENTITY_NOT_FOUND));
  peer_.not_after = clock_.Now();
  EXPECT_THAT(Sign(v1::SignRequest()), HasReason(v1::REASON_NOT_AUTHORISED));
}

TEST_F(RequestHandlerTest, DrainRefusesAndWaits) {
  Start();
  absl::Notification begun;
  absl::Notification go_on;
  token_->SetSignHook([&](const auto& sign) {
    begun.Notify();
    go_on.WaitForNotificationWithTimeout(kLong);
    return sign();
  });
  std::future<Result> taken = Begin(BuildSignRequest({}));
  ASSERT_TRUE(begun.WaitForNotificationWithTimeout(kLong));
  handler_->Drain();
  const Result refused = Sign(BuildSignRequest({}));
  EXPECT_THAT(refused, HasReason(v1::REASON_DRAINING));
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kUnavailable));
  EXPECT_FALSE(handler_->WaitUntilIdle(absl::Now() + absl::Milliseconds(20)));
  go_on.Notify();
  EXPECT_THAT(taken.get(), IsOk());
  EXPECT_TRUE(handler_->WaitUntilIdle(absl::Now() + kLong));
}

TEST_F(RequestHandlerTest, HoldsABoundedNumberOfBytes) {
  const v1::SignRequest request = BuildSignRequest({});
  config_.limits.item = request.ByteSizeLong();
  config_.limits.buffered = 2 * request.ByteSizeLong();
  Start();
  EXPECT_THAT(handler_->Reserve(config_.limits.item + 1),
              HasReason(v1::REASON_MESSAGE_TOO_LARGE));
  EXPECT_THAT(handler_->Reserve(config_.limits.item), IsOk());
  EXPECT_THAT(Sign(request), IsOk());
  EXPECT_TRUE(handler_->WaitUntilIdle(absl::Now() + kLong));
  EXPECT_THAT(handler_->Reserve(config_.limits.item), IsOk());
  const Result refused = Sign(request);
  EXPECT_THAT(refused, HasReason(v1::REASON_OVERLOADED));
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kResourceExhausted));
  handler_->Release(config_.limits.item);
  EXPECT_THAT(Sign(request), IsOk());
}

}  // namespace
}  // namespace codeseal
