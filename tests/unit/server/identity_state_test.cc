#include "server/identity_state.h"

#include <filesystem>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::TempFolder;

absl::Time At(const std::string& text) {
  absl::Time time;
  std::string error;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, text, &time, &error));
  return time;
}

IdentityRecord StagedRecord(const std::string& version) {
  IdentityRecord record;
  record.identity = "teams/ABCDE12345/app";
  record.version = version;
  record.lifecycle.state = v1::IDENTITY_STATE_STAGED;
  record.lifecycle.since = At("2026-11-22T04:05:06.789Z");
  record.lifecycle.activate_at = At("2026-12-01T00:00:00Z");
  record.lifecycle.requirement_change_allowed = true;
  record.keys = {{"luna-a", {{1, 0xff}, ""}}, {"luna-b", {{}, "release"}}};
  record.chain_pem = "-----BEGIN CERTIFICATE-----\n";
  return record;
}

class IdentityStateTest : public ::testing::Test {
 protected:
  std::unique_ptr<IdentityStateStore> Open(bool lock = true) const {
    auto opened = OpenIdentityState(folder_.Path("state"), lock);
    EXPECT_THAT(opened, IsOk());
    return *std::move(opened);
  }
  std::string path() const { return folder_.Path("state/identities.json"); }

  TempFolder folder_;
};

TEST_F(IdentityStateTest, EverythingComesBack) {
  IdentityRecord retired;
  retired.identity = "dev";
  retired.version = "v1";
  retired.lifecycle.state = v1::IDENTITY_STATE_RETIRED;
  retired.lifecycle.since = At("2026-01-02T03:04:05Z");
  retired.lifecycle.signs_until = At("2026-01-02T03:14:05Z");
  retired.configured = v1::IDENTITY_STATE_ACTIVE;
  {
    const auto store = Open();
    EXPECT_TRUE(store->Load()->empty());
    const IdentityRecord records[] = {StagedRecord("v1"), retired};
    ASSERT_THAT(store->Save(records), IsOk());
    const IdentityRecord other = StagedRecord("v2");
    ASSERT_THAT(store->Save({&other, 1}), IsOk());
  }
  const auto records = Open()->Load();
  ASSERT_THAT(records, IsOk());
  ASSERT_EQ(records->size(), 3u);
  const IdentityRecord& staged = records->front();
  EXPECT_EQ(staged.identity, "teams/ABCDE12345/app");
  EXPECT_EQ(staged.configured, v1::IDENTITY_STATE_UNSPECIFIED);
  EXPECT_EQ(staged.lifecycle.state, v1::IDENTITY_STATE_STAGED);
  EXPECT_EQ(staged.lifecycle.since, At("2026-11-22T04:05:06.789Z"));
  EXPECT_EQ(staged.lifecycle.activate_at, At("2026-12-01T00:00:00Z"));
  EXPECT_EQ(staged.lifecycle.signs_until, absl::InfinitePast());
  EXPECT_TRUE(staged.lifecycle.requirement_change_allowed);
  ASSERT_EQ(staged.keys.size(), 2u);
  EXPECT_EQ(staged.keys[0].token, "luna-a");
  EXPECT_EQ(staged.keys[0].key.id, (Bytes{1, 0xff}));
  EXPECT_EQ(staged.keys[1].key.label, "release");
  EXPECT_EQ(staged.chain_pem, "-----BEGIN CERTIFICATE-----\n");
  const IdentityRecord& second = (*records)[1];
  EXPECT_EQ(second.configured, v1::IDENTITY_STATE_ACTIVE);
  EXPECT_EQ(second.lifecycle.signs_until, At("2026-01-02T03:14:05Z"));
  EXPECT_EQ(second.lifecycle.activate_at, absl::InfiniteFuture());
  EXPECT_FALSE(second.lifecycle.requirement_change_allowed);
}

TEST_F(IdentityStateTest, ARecordReplacesTheOneOfItsVersion) {
  const auto store = Open();
  IdentityRecord record = StagedRecord("v1");
  ASSERT_THAT(store->Save({&record, 1}), IsOk());
  record.lifecycle.state = v1::IDENTITY_STATE_ACTIVE;
  ASSERT_THAT(store->Save({&record, 1}), IsOk());
  const auto records = store->Load();
  ASSERT_EQ(records->size(), 1u);
  EXPECT_EQ(records->front().lifecycle.state, v1::IDENTITY_STATE_ACTIVE);
}

// Else a version that somebody disabled would sign again.
TEST_F(IdentityStateTest, ADamagedFileIsNotTakenForAnEmptyOne) {
  {
    const auto store = Open();
    const IdentityRecord record = StagedRecord("v1");
    ASSERT_THAT(store->Save({&record, 1}), IsOk());
  }
  const std::string good = folder_.Read("state/identities.json");
  for (const std::string& text :
       {std::string(), good.substr(0, good.size() / 2),
        std::string("{\"format\": 2, \"versions\": []}"), std::string("[]")}) {
    folder_.Write("state/identities.json", text);
    const auto store = Open();
    EXPECT_THAT(store->Load(), HasReason(v1::REASON_STATE_STORE)) << text;
    const IdentityRecord record = StagedRecord("v2");
    EXPECT_THAT(store->Save({&record, 1}), HasReason(v1::REASON_STATE_STORE));
    EXPECT_EQ(folder_.Read("state/identities.json"), text);
  }
}

TEST_F(IdentityStateTest, OneServerAtATime) {
  const auto store = Open();
  const auto second = OpenIdentityState(folder_.Path("state"), true);
  EXPECT_THAT(second, HasReason(v1::REASON_STATE_STORE));
  EXPECT_THAT(second, HasMessage("another codeseald uses this state folder"));
  // check-config only reads, beside a server that runs.
  const auto reader = Open(/*lock=*/false);
  const IdentityRecord record = StagedRecord("v1");
  ASSERT_THAT(store->Save({&record, 1}), IsOk());
  EXPECT_EQ(reader->Load()->size(), 1u);
  EXPECT_THAT(reader->Save({&record, 1}), HasReason(v1::REASON_STATE_STORE));
}

TEST_F(IdentityStateTest, WhatCannotBeWrittenIsAnError) {
  const auto store = Open();
  std::filesystem::remove_all(folder_.Path("state"));
  const IdentityRecord record = StagedRecord("v1");
  EXPECT_FALSE(store->Save({&record, 1}).ok());
  EXPECT_TRUE(store->Load()->empty());
}

TEST_F(IdentityStateTest, OnlyTheServerMayReadIt) {
  const auto store = Open();
  const IdentityRecord record = StagedRecord("v1");
  ASSERT_THAT(store->Save({&record, 1}), IsOk());
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(path()).permissions(),
            perms::owner_read | perms::owner_write);
  EXPECT_EQ(std::filesystem::status(folder_.Path("state")).permissions(),
            perms::owner_all);
}

}  // namespace
}  // namespace codeseal
