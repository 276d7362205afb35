#include "server/identity_store.h"

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/server/server_fixture.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

constexpr absl::Duration kLong = absl::Seconds(30);

class IdentityStoreTest : public testing::ServerFixture {
 protected:
  static absl::Status TokenFault(absl::StatusCode code, Reason reason) {
    return MakeError(code, v1::STAGE_TOKEN, reason, "the token said no");
  }
  // Whether the key is there within half a minute.
  static bool Appears(const IdentityVersion& version) {
    const absl::Time give_up = absl::Now() + kLong;
    while (!version.key().ok()) {
      if (absl::Now() > give_up) return false;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return true;
  }
};

TEST_F(IdentityStoreTest, LoadsKeysBeforeAnybodyAsks) {
  const auto store = MakeStore();
  ASSERT_THAT(store, IsOk());
  const auto version = (*store)->FindForSigning("dev", "", peer_);
  ASSERT_THAT(version, IsOk());
  EXPECT_THAT((*version)->key(), HasReason(v1::REASON_TOKEN_DOWN));
  (*store)->LoadKeys(kLong);
  EXPECT_THAT((*version)->key(), IsOk());
  EXPECT_THAT((*version)->fault(), IsOk());
}

TEST_F(IdentityStoreTest, ATokenThatIsDownIsTriedUntilItAnswers) {
  token_->SetLoadFault(
      TokenFault(absl::StatusCode::kUnavailable, v1::REASON_TOKEN_DOWN));
  const auto store = MakeStore();
  ASSERT_THAT(store, IsOk());
  (*store)->LoadKeys(kLong);  // Comes back although there is no key.
  const auto version = (*store)->FindForSigning("dev", "", peer_);
  ASSERT_THAT(version, IsOk());
  EXPECT_THAT((*version)->key(), HasReason(v1::REASON_TOKEN_DOWN));
  token_->SetLoadFault(absl::OkStatus());
  EXPECT_TRUE(Appears(**version));
}

TEST_F(IdentityStoreTest, WhatANewConfigurationMustMendIsNotTriedAgain) {
  token_->SetLoadFault(
      TokenFault(absl::StatusCode::kFailedPrecondition, v1::REASON_KEY_POLICY));
  const auto store = MakeStore();
  ASSERT_THAT(store, IsOk());
  (*store)->LoadKeys(kLong);
  absl::SleepFor(absl::Milliseconds(400));  // several times the first delay
  EXPECT_EQ(token_->load_count(), 1);
  EXPECT_THAT((*store)->FindForSigning("dev", "", peer_).value()->key(),
              HasReason(v1::REASON_KEY_POLICY));
}

// The token does not send the PIN again by itself, so asking it is safe.
TEST_F(IdentityStoreTest, AKeyBehindAPinHoldAppearsWhenTheHoldIsCleared) {
  token_->SetLoadFault(
      TokenFault(absl::StatusCode::kFailedPrecondition, v1::REASON_PIN_HOLD));
  const auto store = MakeStore();
  ASSERT_THAT(store, IsOk());
  (*store)->LoadKeys(kLong);
  const auto version = (*store)->FindForSigning("dev", "", peer_);
  ASSERT_THAT(version, IsOk());
  EXPECT_THAT((*version)->key(), HasReason(v1::REASON_PIN_HOLD));
  token_->SetLoadFault(absl::OkStatus());
  EXPECT_TRUE(Appears(**version));
}

TEST_F(IdentityStoreTest, EveryReasonOfARefusedKeyHasAHint) {
  for (const Reason reason :
       {v1::REASON_KEY_POLICY, v1::REASON_KEY_MISMATCH,
        v1::REASON_KEY_NOT_FOUND, v1::REASON_KEY_UNSUPPORTED,
        v1::REASON_TOKEN_NOT_FOUND, v1::REASON_PIN_REJECTED,
        v1::REASON_PIN_HOLD, v1::REASON_PIN_SOURCE, v1::REASON_MODULE_LOAD}) {
    EXPECT_NE(KeyHint(reason), "") << v1::Reason_Name(reason);
  }
  EXPECT_EQ(KeyHint(v1::REASON_TOKEN_DOWN), "");
}

TEST_F(IdentityStoreTest, TheActiveVersionSigns) {
  auto& versions = config_.identities[0].versions;
  versions[0].state = v1::IDENTITY_STATE_RETIRED;
  versions.push_back(versions[0]);
  versions[1].id = "v2";
  versions[1].state = v1::IDENTITY_STATE_ACTIVE;
  const auto store = MakeStore();
  ASSERT_THAT(store, IsOk());
  EXPECT_EQ((*store)->FindForSigning("dev", "", peer_).value()->id(), "v2");
  EXPECT_EQ((*store)->FindForSigning("dev", "v2", peer_).value()->id(), "v2");
  const auto retired = (*store)->FindForSigning("dev", "v1", peer_);
  EXPECT_THAT(retired, HasReason(v1::REASON_IDENTITY_DISABLED));
  EXPECT_THAT(retired, HasMessage("version v1 is retired"));
  EXPECT_THAT((*store)->FindForSigning("dev", "v3", peer_),
              HasReason(v1::REASON_IDENTITY_NOT_FOUND));
  EXPECT_EQ((*store)->FindForDisplay("dev", peer_).value()->id(), "v2");
}

TEST_F(IdentityStoreTest, WithoutAnActiveVersionNobodySigns) {
  config_.identities[0].versions[0].state = v1::IDENTITY_STATE_STAGED;
  const auto store = MakeStore();
  ASSERT_THAT(store, IsOk());
  EXPECT_THAT((*store)->FindForSigning("dev", "", peer_),
              HasReason(v1::REASON_IDENTITY_NOT_FOUND));
  EXPECT_THAT((*store)->FindForDisplay("dev", peer_), IsOk());
  (*store)->LoadKeys(kLong);
  EXPECT_EQ(token_->load_count(), 1);  // a staged key is tried in advance
}

TEST_F(IdentityStoreTest, DisabledKeysAreLeftAlone) {
  config_.identities[0].versions[0].state = v1::IDENTITY_STATE_DISABLED;
  const auto store = MakeStore();
  ASSERT_THAT(store, IsOk());
  (*store)->LoadKeys(kLong);
  EXPECT_EQ(token_->load_count(), 0);
}

TEST_F(IdentityStoreTest, IdentitiesHaveTwoNames) {
  const auto store = MakeStore();
  ASSERT_THAT(store, IsOk());
  const auto version = (*store)->FindForDisplay("dev", peer_);
  ASSERT_THAT(version, IsOk());
  const std::string sha1 = HexEncode((*version)->leaf_sha1());
  EXPECT_EQ(*version, (*store)->FindForSigning(sha1, "", peer_).value());
}

TEST_F(IdentityStoreTest, ForWhoMayNotThereIsNothing) {
  const auto store = MakeStore();
  ASSERT_THAT(store, IsOk());
  Peer stranger = peer_;
  stranger.dns_names = {"stranger"};
  EXPECT_THAT((*store)->FindForSigning("dev", "", stranger),
              HasCode(absl::StatusCode::kNotFound));
  EXPECT_THAT((*store)->FindForDisplay("dev", stranger),
              HasCode(absl::StatusCode::kNotFound));
  EXPECT_TRUE((*store)->ListForDisplay(stranger).empty());
  EXPECT_EQ((*store)->ListForDisplay(peer_).size(), 1u);
}

TEST_F(IdentityStoreTest, SaysEverythingThatIsWrongWithTheFiles) {
  auto& versions = config_.identities[0].versions;
  versions.push_back(versions[0]);
  versions[0].chain = folder_.Write("garbage.pem", "no certificate");
  const std::string whole = folder_.Read("chain.pem");
  const size_t second = whole.find("-----BEGIN", 1);
  versions[1].id = "v2";
  versions[1].chain = folder_.Write("leaf.pem", whole.substr(0, second));
  const auto store = MakeStore();
  EXPECT_THAT(store, HasReason(v1::REASON_BAD_CONFIG));
  EXPECT_THAT(store, HasMessage("garbage.pem"));
  EXPECT_THAT(store, HasMessage("leaf.pem"));
}

}  // namespace
}  // namespace codeseal
