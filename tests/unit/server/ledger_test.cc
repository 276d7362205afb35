#include "server/ledger.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include <atomic>
#include <future>
#include <thread>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "gmock/gmock.h"
#include "server/ledger_store.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::TempFolder;

const LedgerKey kKey = {"spiffe://test/a", "id-1"};
const Bytes kPayload = ToBytes("a digest");

class LedgerTest : public ::testing::Test {
 protected:
  LedgerTest() : chain_(testing::MakeCodeSigningChain()) {}

  void Open() {
    auto store = OpenSqliteLedgerStore(path());
    ASSERT_THAT(store, IsOk());
    ledger_ =
        std::make_unique<Ledger>(*std::move(store), absl::Hours(24), clock_);
  }
  void Reopen() {
    ledger_.reset();
    Open();
  }
  std::string path() const { return folder_.Path("ledger.db"); }

  // What a handler would keep.
  v1::SignResponse MakeResponse(const std::string& id = kKey.request_id) {
    const Bytes directory = ToBytes("a CodeDirectory");
    const CodeDirectoryBlob blob = {DigestKind::kSha256, directory};
    const std::vector<Certificate> certificates = chain_.certificates();
    const Bytes cms = *BuildAppleCms({chain_.leaf.key(), nullptr, certificates},
                                     DescribeContent({&blob, 1}), absl::Now());
    v1::SignResponse response;
    response.set_request_id(id);
    response.set_cms(ToString(cms));
    for (const Certificate& each : certificates) {
      response.add_certificate_chain(ToString(each.der()));
    }
    return response;
  }

  absl::StatusOr<std::optional<LedgerEntry>> Begin(const LedgerKey& key,
                                                   ByteView payload) {
    std::promise<absl::StatusOr<std::optional<LedgerEntry>>> promise;
    ledger_->Begin(key, payload,
                   [&](absl::StatusOr<std::optional<LedgerEntry>> entry) {
                     promise.set_value(std::move(entry));
                   });
    return promise.get_future().get();
  }
  absl::Status Keep(LedgerState state, const v1::SignResponse& response,
                    const LedgerKey& key = kKey) {
    std::promise<absl::Status> promise;
    ledger_->Keep(key, state, response, [&](const absl::Status& status) {
      promise.set_value(status);
    });
    return promise.get_future().get();
  }
  absl::Status Release(bool forget) {
    std::promise<absl::Status> promise;
    ledger_->Release(kKey, forget, nullptr, [&](const absl::Status& status) {
      promise.set_value(status);
    });
    return promise.get_future().get();
  }
  absl::StatusOr<LedgerEntry> Find(const LedgerKey& key = kKey) {
    std::promise<absl::StatusOr<LedgerEntry>> promise;
    ledger_->Find(key, [&](absl::StatusOr<LedgerEntry> entry) {
      promise.set_value(std::move(entry));
    });
    return promise.get_future().get();
  }
  // Whether the caller may use the key.
  bool IsNew(const absl::StatusOr<std::optional<LedgerEntry>>& begun) {
    EXPECT_THAT(begun, IsOk());
    return begun.ok() && !begun->has_value();
  }

  TempFolder folder_;
  testing::FakeClock clock_{absl::FromUnixSeconds(1'800'000'000)};
  testing::TestChain chain_;
  std::unique_ptr<Ledger> ledger_;
};

TEST_F(LedgerTest, ReplaysWhatWasKept) {
  Open();
  ASSERT_TRUE(IsNew(Begin(kKey, kPayload)));
  const v1::SignResponse response = MakeResponse();
  ASSERT_THAT(Keep(LedgerState::kDone, response), IsOk());
  for (int i = 0; i < 2; ++i) {
    const auto again = Begin(kKey, kPayload);
    ASSERT_THAT(again, IsOk());
    ASSERT_TRUE(again->has_value());
    EXPECT_EQ((*again)->state, LedgerState::kDone);
    v1::SignResponse want = response;
    want.set_replayed(true);
    EXPECT_EQ((*again)->response.SerializeAsString(), want.SerializeAsString());
    Reopen();
  }
  EXPECT_EQ(Find()->response.cms(), response.cms());
}

TEST_F(LedgerTest, AnotherPayloadIsRefused) {
  Open();
  ASSERT_TRUE(IsNew(Begin(kKey, kPayload)));
  const Bytes other = ToBytes("another digest");
  EXPECT_THAT(Begin(kKey, other), HasReason(v1::REASON_REQUEST_ID_REUSED));
  ASSERT_THAT(Keep(LedgerState::kDone, MakeResponse()), IsOk());
  const auto reused = Begin(kKey, other);
  EXPECT_THAT(reused, HasReason(v1::REASON_REQUEST_ID_REUSED));
  EXPECT_THAT(reused, HasCode(absl::StatusCode::kAlreadyExists));
  // Another client's ids are its own.
  EXPECT_TRUE(IsNew(Begin({"spiffe://test/b", "id-1"}, other)));
}

TEST_F(LedgerTest, OneAtATime) {
  Open();
  ASSERT_TRUE(IsNew(Begin(kKey, kPayload)));
  const auto second = Begin(kKey, kPayload);
  EXPECT_THAT(second, HasReason(v1::REASON_IN_PROGRESS));
  EXPECT_THAT(second, HasCode(absl::StatusCode::kAborted));
  EXPECT_THAT(Find(), HasReason(v1::REASON_IN_PROGRESS));
}

TEST_F(LedgerTest, NothingIsKeptAfterTheStop) {
  Open();
  ASSERT_TRUE(IsNew(Begin(kKey, kPayload)));
  ledger_->Stop();
  EXPECT_THAT(Keep(LedgerState::kDone, MakeResponse()),
              HasReason(v1::REASON_DRAINING));
  EXPECT_THAT(Begin(kKey, kPayload), HasReason(v1::REASON_DRAINING));
}

TEST_F(LedgerTest, AnIntentThatOutlivesTheServerIsNeverSigned) {
  Open();
  ASSERT_TRUE(IsNew(Begin(kKey, kPayload)));
  Reopen();
  for (int i = 0; i < 2; ++i) {
    const auto begun = Begin(kKey, kPayload);
    EXPECT_THAT(begun, HasReason(v1::REASON_INDETERMINATE));
    EXPECT_THAT(begun, HasCode(absl::StatusCode::kUnknown));
    EXPECT_THAT(Find(), HasReason(v1::REASON_INDETERMINATE));
  }
}

TEST_F(LedgerTest, ASignatureWithoutItsTimestampIsNotMadeAgain) {
  Open();
  ASSERT_TRUE(IsNew(Begin(kKey, kPayload)));
  const v1::SignResponse response = MakeResponse();
  ASSERT_THAT(Keep(LedgerState::kSigned, response), IsOk());
  EXPECT_THAT(Begin(kKey, kPayload), HasReason(v1::REASON_IN_PROGRESS));
  ASSERT_THAT(Release(/*forget=*/false), IsOk());
  Reopen();
  const auto again = Begin(kKey, kPayload);
  ASSERT_THAT(again, IsOk());
  ASSERT_TRUE(again->has_value());
  EXPECT_EQ((*again)->state, LedgerState::kSigned);
  EXPECT_EQ((*again)->response.cms(), response.cms());
  // It is begun: nobody else stamps it at the same time.
  EXPECT_THAT(Begin(kKey, kPayload), HasReason(v1::REASON_IN_PROGRESS));
}

TEST_F(LedgerTest, WhatMadeNoSignatureMayBeTriedAgain) {
  Open();
  ASSERT_TRUE(IsNew(Begin(kKey, kPayload)));
  ASSERT_THAT(Release(/*forget=*/true), IsOk());
  EXPECT_THAT(Find(), HasReason(v1::REASON_REQUEST_NOT_FOUND));
  EXPECT_TRUE(IsNew(Begin(kKey, kPayload)));
}

TEST_F(LedgerTest, OldRowsAreForgotten) {
  Open();
  ASSERT_TRUE(IsNew(Begin(kKey, kPayload)));
  ASSERT_THAT(Keep(LedgerState::kDone, MakeResponse()), IsOk());
  clock_.Advance(absl::Hours(23));
  EXPECT_THAT(Find(), IsOk());
  clock_.Advance(absl::Hours(2));
  Find().IgnoreError();  // the batch that cleans up
  EXPECT_THAT(Find(), HasReason(v1::REASON_REQUEST_NOT_FOUND));
}

TEST_F(LedgerTest, ManyAtOnceAreEachBegunOnce) {
  Open();
  std::atomic<int> new_count = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        const LedgerKey key = {"client", std::to_string(i)};
        const auto begun = Begin(key, kPayload);
        if (begun.ok() && !begun->has_value()) ++new_count;
      }
    });
  }
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(new_count, 50);
}

// --- The file ---------------------------------------------------------------

TEST_F(LedgerTest, TheFileIsForOneProcessAndItsUserAlone) {
  Open();
  EXPECT_THAT(OpenSqliteLedgerStore(path()), HasReason(v1::REASON_STATE_STORE));
  struct stat status = {};
  ASSERT_EQ(stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, mode_t{0600});
}

TEST_F(LedgerTest, ANewerFileIsLeftAlone) {
  Open();
  ledger_.reset();
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path().c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database, "PRAGMA user_version = 99", nullptr, nullptr,
                         nullptr),
            SQLITE_OK);
  sqlite3_close(database);
  const auto opened = OpenSqliteLedgerStore(path());
  EXPECT_THAT(opened, HasReason(v1::REASON_STATE_STORE));
  EXPECT_THAT(opened.status(), HasMessage("newer codeseald"));
}

TEST_F(LedgerTest, WhatIsNoDatabaseIsNotTouched) {
  folder_.Write("ledger.db", std::string(4096, 'x'));
  EXPECT_THAT(OpenSqliteLedgerStore(path()), HasReason(v1::REASON_STATE_STORE));
  EXPECT_EQ(folder_.Read("ledger.db"), std::string(4096, 'x'));
  EXPECT_THAT(OpenSqliteLedgerStore(folder_.Path("missing/ledger.db")),
              HasReason(v1::REASON_STATE_STORE));
}

// --- A store that fails -----------------------------------------------------

class FailingStore : public LedgerStore {
 public:
  absl::Status Begin() override { return absl::OkStatus(); }
  absl::Status Commit() override {
    return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TRANSPORT,
                     v1::REASON_STATE_STORE, "the disk is full");
  }
  void Rollback() override {}
  absl::StatusOr<std::optional<LedgerRow>> Find(const LedgerKey&) override {
    return std::optional<LedgerRow>();
  }
  absl::StatusOr<bool> Insert(const LedgerKey&, ByteView, absl::Time) override {
    return true;
  }
  absl::StatusOr<bool> Adopt(const LedgerKey&) override { return true; }
  absl::Status Release(const LedgerKey&) override { return absl::OkStatus(); }
  absl::Status Update(const LedgerKey&, LedgerState, const std::string&,
                      absl::Time) override {
    return absl::OkStatus();
  }
  absl::Status Remove(const LedgerKey&) override { return absl::OkStatus(); }
  absl::Status RemoveOld(absl::Time, absl::Time) override {
    return absl::OkStatus();
  }
  Database& database() override { std::abort(); }
  bool is_shared() const override { return false; }
};

TEST_F(LedgerTest, NothingIsBegunThatIsNotDurable) {
  ledger_ = std::make_unique<Ledger>(std::make_unique<FailingStore>(),
                                     absl::Hours(1), clock_);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(Begin(kKey, kPayload), HasReason(v1::REASON_STATE_STORE));
  }
}

}  // namespace
}  // namespace codeseal
