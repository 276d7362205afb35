#include "hsm/failover_key.h"

#include <memory>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "hsm/public_key.h"
#include "tests/support/software_key.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::SoftwareKey;

absl::Status Fault(absl::StatusCode code, Reason reason) {
  return MakeError(code, v1::STAGE_TOKEN, reason, "the token said no");
}
absl::Status Down() {
  return Fault(absl::StatusCode::kUnavailable, v1::REASON_TOKEN_DOWN);
}

class FailoverKeyTest : public ::testing::Test {
 protected:
  FailoverKeyTest() {
    EXPECT_THAT(key_.SetKey(0, first_), IsOk());
    EXPECT_THAT(key_.SetKey(1, second_), IsOk());
  }
  absl::Status Sign(absl::Time deadline = absl::InfiniteFuture()) {
    return key_
        .Sign(SignMechanism::kEcdsa, SignDigest::kSha256, Bytes(32, 1),
              deadline)
        .status();
  }

  // Two backends over one key.
  const std::shared_ptr<SoftwareKey> first_ = SoftwareKey::Cached("p256");
  const std::shared_ptr<SoftwareKey> second_ = SoftwareKey::Cached("p256");
  FailoverKey key_{ToBytes(first_->public_key()), 2};
};

TEST_F(FailoverKeyTest, FirstSignsWhileItCan) {
  for (int i = 0; i < 3; ++i) EXPECT_THAT(Sign(), IsOk());
  EXPECT_EQ(first_->sign_count(), 3);
  EXPECT_EQ(second_->sign_count(), 0);
  EXPECT_EQ(ToBytes(key_.public_key()), ToBytes(first_->public_key()));
}

TEST_F(FailoverKeyTest, SecondTakesOverForEveryTroubleOfAToken) {
  for (const absl::Status& fault :
       {Down(),
        Fault(absl::StatusCode::kDeadlineExceeded, v1::REASON_TOKEN_TIMEOUT),
        Fault(absl::StatusCode::kResourceExhausted, v1::REASON_TOKEN_BUSY),
        Fault(absl::StatusCode::kFailedPrecondition, v1::REASON_PIN_HOLD),
        Fault(absl::StatusCode::kNotFound, v1::REASON_KEY_NOT_FOUND),
        Fault(absl::StatusCode::kDataLoss, v1::REASON_SELF_VERIFY_FAILED)}) {
    first_->Fail(fault);
    EXPECT_THAT(Sign(), IsOk()) << fault;
  }
}

TEST_F(FailoverKeyTest, WhoSignedLastIsAskedFirst) {
  first_->Fail(Down());
  for (int i = 0; i < 5; ++i) EXPECT_THAT(Sign(), IsOk());
  EXPECT_EQ(first_->sign_count(), 1) << "asked once, then left alone";
  EXPECT_EQ(second_->sign_count(), 5);
  // The other way round there is no waiting.
  first_->Fail(absl::OkStatus());
  second_->Fail(Down());
  EXPECT_THAT(Sign(), IsOk());
  EXPECT_EQ(first_->sign_count(), 2);
}

TEST_F(FailoverKeyTest, TheTimeIsShared) {
  first_->Fail(Down());
  const absl::Time begin = absl::Now();
  const absl::Time deadline = begin + absl::Seconds(10);
  EXPECT_THAT(Sign(deadline), IsOk());
  EXPECT_GE(first_->last_deadline(), begin + absl::Seconds(5));
  EXPECT_LT(first_->last_deadline(), begin + absl::Seconds(6));
  // The last one has all that is left.
  EXPECT_LT(absl::AbsDuration(second_->last_deadline() - deadline),
            absl::Milliseconds(1));
}

TEST_F(FailoverKeyTest, AllDownIsTheLastOnesWord) {
  first_->Fail(Down());
  second_->Fail(
      Fault(absl::StatusCode::kFailedPrecondition, v1::REASON_PIN_HOLD));
  EXPECT_THAT(Sign(), HasReason(v1::REASON_PIN_HOLD));
}

TEST_F(FailoverKeyTest, WhatNoTokenCanDoIsAskedOnce) {
  first_->Fail(
      Fault(absl::StatusCode::kInvalidArgument, v1::REASON_BAD_REQUEST));
  EXPECT_THAT(Sign(), HasReason(v1::REASON_BAD_REQUEST));
  EXPECT_EQ(second_->sign_count(), 0);
}

TEST_F(FailoverKeyTest, AnotherKeyIsNotTaken) {
  EXPECT_THAT(key_.SetKey(1, SoftwareKey::Generate("p256")),
              HasReason(v1::REASON_KEY_MISMATCH));
  first_->Fail(Down());
  EXPECT_THAT(Sign(), IsOk());
  EXPECT_EQ(second_->sign_count(), 1) << "the place kept its key";
}

TEST_F(FailoverKeyTest, EmptyPlacesAreSkipped) {
  FailoverKey key(ToBytes(first_->public_key()), 2);
  EXPECT_THAT(key.Sign(SignMechanism::kEcdsa, SignDigest::kSha256, Bytes(32, 1),
                       absl::InfiniteFuture()),
              HasMessage("no token that holds the key has answered yet"));
  ASSERT_THAT(key.SetKey(1, second_), IsOk());
  EXPECT_THAT(key.Sign(SignMechanism::kEcdsa, SignDigest::kSha256, Bytes(32, 1),
                       absl::InfiniteFuture()),
              IsOk());
}

}  // namespace
}  // namespace codeseal
