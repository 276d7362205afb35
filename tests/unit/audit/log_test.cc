#include "audit/log.h"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#include "audit/log_folder.h"
#include "gtest/gtest.h"
#include "tests/unit/audit/log_fixture.h"

namespace codeseal::audit {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
namespace fs = std::filesystem;

class LogTest : public LogFixture {
 protected:
  std::vector<Bytes> ReadAll(const Log& log) {
    std::vector<Bytes> all;
    for (;;) {
      const auto some = log.ReadEntries(all.size(), 1000);
      EXPECT_THAT(some, IsOk());
      if (!some.ok() || some->empty()) return all;
      all.insert(all.end(), some->begin(), some->end());
    }
  }

  // Waits until fault() is or is not OK: the log looks once a second.
  static absl::Status AwaitFault(const Log& log, bool is_wanted) {
    const absl::Time limit = absl::Now() + absl::Seconds(20);
    while (log.fault().ok() == is_wanted && absl::Now() < limit) {
      absl::SleepFor(absl::Milliseconds(5));
    }
    return log.fault();
  }

  void Truncate(const std::string& name, uint64_t less) const {
    fs::resize_file(Path(name), fs::file_size(Path(name)) - less);
  }
};

TEST_F(LogTest, GivesReceiptsThatVerify) {
  const auto log = Open();
  for (uint64_t i = 0; i < 5; ++i) {
    const auto receipt = AppendOutcome(*log, i);
    ASSERT_THAT(receipt, IsOk());
    EXPECT_EQ(receipt->index, i);
    EXPECT_EQ(receipt->entry, TestEntry(i));
    const auto checkpoint = CheckReceipt(*receipt, KeyOf(*key_));
    ASSERT_THAT(checkpoint, IsOk());
    EXPECT_EQ(checkpoint->head.size, i + 1);
    EXPECT_EQ(log->checkpoint(), receipt->checkpoint);
    EXPECT_EQ(folder_.Read("log/checkpoint"), receipt->checkpoint);
  }
  EXPECT_EQ(folder_.Read("log/key"), KeyOf(*key_).Format() + "\n");
}

TEST_F(LogTest, IntentsNeedNoTokenAndAreCoveredLater) {
  const auto log = Open();
  const auto intent = AppendIntent(*log, 0);
  ASSERT_THAT(intent, IsOk());
  EXPECT_EQ(intent->index, 0u);
  EXPECT_EQ(log->size(), 1u);
  const auto outcome = AppendOutcome(*log, 1);
  ASSERT_THAT(outcome, IsOk());
  EXPECT_EQ(CheckReceipt(*outcome, KeyOf(*key_))->head.size, 2u);
}

TEST_F(LogTest, EntriesWithoutReceiptAreCoveredWithinSeconds) {
  const auto log = Open();
  ASSERT_THAT(AppendIntent(*log, 0), IsOk());
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (log->checkpoint().empty() && absl::Now() < limit) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_EQ(OpenCheckpoint(log->checkpoint(), KeyOf(*key_))->head.size, 1u);
}

TEST_F(LogTest, ManyAtOnceShareCheckpointsAndKeepTheirPlaces) {
  const auto log = Open();
  const std::vector<Receipt> receipts = AppendMany(*log, 0, 700);
  std::set<uint64_t> indexes;
  for (const Receipt& each : receipts) {
    ASSERT_THAT(CheckReceipt(each, KeyOf(*key_)), IsOk());
    indexes.insert(each.index);
  }
  EXPECT_EQ(indexes.size(), 700u);
  EXPECT_LT(key_->sign_count(), 700);
  const std::vector<Bytes> entries = ReadAll(*log);
  ASSERT_EQ(entries.size(), 700u);
  for (const Receipt& each : receipts) {
    EXPECT_EQ(entries[each.index], each.entry);
  }
  const auto head = OpenCheckpoint(log->checkpoint(), KeyOf(*key_))->head;
  EXPECT_EQ(head.size, 700u);
  EXPECT_EQ(head.root, NaiveRoot(entries, 0, 700));
  EXPECT_TRUE(fs::exists(Path("tile/entries/001")));
  EXPECT_TRUE(fs::exists(Path("tile/0/001")));
  EXPECT_FALSE(fs::exists(Path("tile/0/002")));
  EXPECT_EQ(*log->ProveInclusion(3, 700)->begin(), HashLeaf(entries[2]));
  EXPECT_THAT(CheckConsistency({300, NaiveRoot(entries, 0, 300)}, head,
                               *log->ProveConsistency(300, 700)),
              IsOk());
  EXPECT_THAT(log->ProveInclusion(700, 701),
              HasReason(v1::REASON_AUDIT_NOT_FOUND));
}

TEST_F(LogTest, GoesOnAfterARestart) {
  std::vector<Bytes> entries;
  for (const uint64_t count : {1u, 254u, 1u, 1u, 300u, 0u, 211u}) {
    const auto log = Open();
    EXPECT_EQ(ReadAll(*log), entries);
    if (count == 0) continue;
    for (const Receipt& each : AppendMany(*log, entries.size(), count)) {
      ASSERT_THAT(CheckReceipt(each, KeyOf(*key_)), IsOk());
    }
    entries = ReadAll(*log);
    EXPECT_EQ(OpenCheckpoint(log->checkpoint(), KeyOf(*key_))->head.root,
              NaiveRoot(entries, 0, entries.size()));
  }
  EXPECT_EQ(entries.size(), 768u);
}

TEST_F(LogTest, OneProcessWritesALog) {
  const auto log = Open();
  EXPECT_THAT(TryOpen(), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
}

TEST_F(LogTest, RefusesEntriesOfNoSizeAndTooLarge) {
  const auto log = Open();
  for (const size_t size : {size_t{0}, size_t{65536}}) {
    EXPECT_THAT(log->Append(Bytes(size), AppendOptions()),
                HasReason(v1::REASON_BAD_AUDIT_LOG));
  }
}

// ----------------------------------------------------- what a crash may leave

TEST_F(LogTest, CutsATornEntryOff) {
  {
    AppendMany(*Open(), 0, 3);
  }
  const std::string whole = folder_.Read("log/growing");
  for (const std::string& torn :
       {std::string("\x01"), std::string("\x01\x00", 2),
        std::string("\x00\x10{\"v\":1", 8), std::string(4096, '\0'),
        std::string("\x00\x04", 2) + std::string(4, '\0')}) {
    folder_.Write("log/growing", whole + torn);
    const auto log = Open();
    EXPECT_EQ(log->size(), 3u);
    EXPECT_EQ(folder_.Read("log/growing"), whole);
  }
  const auto log = Open();
  EXPECT_EQ(AppendOutcome(*log, 3)->index, 3u);
}

TEST_F(LogTest, KeepsDurableEntriesThatNoCheckpointCovers) {
  {
    AppendMany(*Open(), 0, 3);
  }
  Bytes bytes = ToBytes(folder_.Read("log/growing"));
  AppendToBundle(bytes, TestEntry(3));
  folder_.Write("log/growing", AsText(bytes));
  const auto log = Open();
  EXPECT_EQ(log->size(), 4u);
  EXPECT_EQ(AppendOutcome(*log, 4)->index, 4u);
}

TEST_F(LogTest, FinishesABundleThatIsFull) {
  {
    AppendMany(*Open(), 0, 255);
  }
  Bytes bytes = ToBytes(folder_.Read("log/growing"));
  AppendToBundle(bytes, TestEntry(255));
  folder_.Write("log/growing", AsText(bytes));
  const auto log = Open();
  EXPECT_EQ(log->size(), 256u);
  EXPECT_TRUE(fs::exists(Path("tile/entries/000")));
  EXPECT_TRUE(fs::exists(Path("tile/0/000")));
  EXPECT_EQ(AppendOutcome(*log, 256)->index, 256u);
}

TEST_F(LogTest, MakesTheTilesOfABundleThatWasRenamed) {
  {
    AppendMany(*Open(), 0, 600);
  }
  const std::string tile = folder_.Read("log/tile/0/001");
  fs::remove(Path("tile/0/001"));
  const auto log = Open();
  EXPECT_EQ(folder_.Read("log/tile/0/001"), tile);
}

TEST_F(LogTest, ReplacesATornCheckpointFile) {
  {
    AppendMany(*Open(), 0, 3);
  }
  const std::string note = folder_.Read("log/checkpoint");
  for (const std::string& left : {std::string(), note.substr(0, 40)}) {
    folder_.Write("log/checkpoint", left);
    Open();
    EXPECT_EQ(folder_.Read("log/checkpoint"), note);
  }
  fs::remove(Path("checkpoint"));
  Open();
  EXPECT_EQ(folder_.Read("log/checkpoint"), note);
}

// ------------------------------------------------ what nobody honest leaves

TEST_F(LogTest, AnOldSnapshotIsRefused) {
  {
    AppendMany(*Open(), 0, 5);
  }
  CopyLog("old");
  {
    AppendMany(*Open(), 5, 3);
  }
  ReplaceLog("old");
  EXPECT_THAT(TryOpen(), HasReason(v1::REASON_AUDIT_INCONSISTENT));
  EXPECT_THAT(TryOpen(), HasMessage("old snapshot"));
}

TEST_F(LogTest, AForkIsRefused) {
  {
    AppendMany(*Open(), 0, 5);
  }
  CopyLog("old");
  const std::string old_record = folder_.Read("log.signed");
  {
    AppendMany(*Open(), 5, 3);
  }
  const std::string record = folder_.Read("log.signed");
  // Another history of the same length.
  ReplaceLog("old");
  folder_.Write("log.signed", old_record);
  {
    AppendMany(*Open(), 100, 4);
  }
  folder_.Write("log.signed", record);
  EXPECT_THAT(TryOpen(), HasReason(v1::REASON_AUDIT_INCONSISTENT));
}

TEST_F(LogTest, AnOldRecordIsRefused) {
  {
    AppendMany(*Open(), 0, 5);
  }
  const std::string old_record = folder_.Read("log.signed");
  {
    AppendMany(*Open(), 5, 3);
  }
  folder_.Write("log.signed", old_record);
  EXPECT_THAT(TryOpen(), HasReason(v1::REASON_AUDIT_INCONSISTENT));
  EXPECT_THAT(TryOpen(), HasMessage("the record is an old one"));
}

TEST_F(LogTest, AMissingRecordIsRefused) {
  {
    AppendMany(*Open(), 0, 5);
  }
  fs::remove(RecordPath());
  EXPECT_THAT(TryOpen(), HasReason(v1::REASON_AUDIT_INCONSISTENT));
  fs::remove(Path("checkpoint"));
  EXPECT_THAT(TryOpen(), HasReason(v1::REASON_AUDIT_INCONSISTENT));
}

TEST_F(LogTest, AMissingFolderIsRefused) {
  {
    AppendMany(*Open(), 0, 5);
  }
  fs::remove_all(options_.path);
  EXPECT_THAT(TryOpen(), HasReason(v1::REASON_AUDIT_INCONSISTENT));
}

TEST_F(LogTest, EditedEntriesAreRefused) {
  {
    AppendMany(*Open(), 0, 5);
  }
  std::string bytes = folder_.Read("log/growing");
  bytes[bytes.find("intent")] = 'I';
  folder_.Write("log/growing", bytes);
  EXPECT_THAT(TryOpen(), HasReason(v1::REASON_AUDIT_INCONSISTENT));
}

TEST_F(LogTest, AnotherKeyIsRefused) {
  {
    AppendMany(*Open(), 0, 5);
  }
  const auto other = testing::SoftwareKey::Generate("p256");
  EXPECT_THAT(Log::Open(options_, KeyOf(*other), SignerOf(other)),
              HasReason(v1::REASON_AUDIT_INCONSISTENT));
}

// --------------------------------------------------- faults while it is open

TEST_F(LogTest, RemovalOfTheGrowingBundleIsNoticed) {
  const auto log = Open();
  AppendMany(*log, 0, 5);
  fs::rename(Path("growing"), folder_.Path("aside"));
  EXPECT_THAT(AwaitFault(*log, true), HasReason(v1::REASON_AUDIT_INCONSISTENT));
  EXPECT_THAT(AppendIntent(*log, 5), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
  EXPECT_THAT(AppendIntent(*log, 5), HasCode(absl::StatusCode::kUnavailable));
  // Whoever puts it back mends it.
  fs::rename(folder_.Path("aside"), Path("growing"));
  EXPECT_THAT(AwaitFault(*log, false), IsOk());
  EXPECT_EQ(AppendOutcome(*log, 5)->index, 5u);
}

TEST_F(LogTest, RemovalIsNoticedByTheNextAppendToo) {
  const auto log = Open();
  AppendMany(*log, 0, 5);
  fs::remove(Path("growing"));
  EXPECT_THAT(AppendIntent(*log, 5), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
}

TEST_F(LogTest, TruncationAndEditsAreNoticed) {
  const auto log = Open();
  AppendMany(*log, 0, 5);
  const std::string whole = folder_.Read("log/growing");
  Truncate("growing", 1);
  EXPECT_THAT(AppendIntent(*log, 5), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
  folder_.Write("log/growing", "x" + whole);
  absl::SleepFor(absl::Seconds(1));  // it tries again, and must not believe it
  EXPECT_THAT(log->fault(), HasReason(v1::REASON_AUDIT_INCONSISTENT));
}

TEST_F(LogTest, RemovalOfEachOtherFileIsNoticed) {
  const auto log = Open();
  AppendMany(*log, 0, 300);
  for (const std::string& path :
       {options_.path, RecordPath(), Path("tile/entries/000"),
        Path("tile/0/000")}) {
    fs::rename(path, folder_.Path("aside"));
    EXPECT_THAT(AppendIntent(*log, 0), HasReason(v1::REASON_AUDIT_UNAVAILABLE))
        << path;
    fs::rename(folder_.Path("aside"), path);
    EXPECT_THAT(AwaitFault(*log, false), IsOk()) << path;
  }
}

TEST_F(LogTest, ARemovedCheckpointIsNoticedAndWrittenAgain) {
  absl::Status seen;
  std::mutex mutex;
  options_.on_change = [&](const absl::Status& status) {
    const std::lock_guard lock(mutex);
    if (!status.ok()) seen = status;
  };
  auto log = Open();
  AppendMany(*log, 0, 5);
  const std::string note = folder_.Read("log/checkpoint");
  fs::remove(Path("checkpoint"));
  EXPECT_THAT(AppendIntent(*log, 5), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
  EXPECT_THAT(AwaitFault(*log, false), IsOk());
  EXPECT_EQ(folder_.Read("log/checkpoint"), note);
  log.reset();
  EXPECT_THAT(seen, HasMessage("checkpoint was removed"));
}

TEST_F(LogTest, AnotherFolderInItsPlaceIsNotWrittenTo) {
  const auto log = Open();
  AppendMany(*log, 0, 5);
  fs::rename(options_.path, folder_.Path("aside"));
  ReplaceLog("aside");
  EXPECT_THAT(AppendIntent(*log, 5), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
}

TEST_F(LogTest, TheReserveIsForWhatConcludes) {
  options_.reserve_size = uint64_t{1} << 60;
  const auto log = Open();
  EXPECT_THAT(AppendIntent(*log, 0), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
  EXPECT_THAT(AppendIntent(*log, 0), HasMessage("reserve"));
  EXPECT_THAT(AppendOutcome(*log, 0), IsOk());
}

// A token that hangs until it is told to go on.
class Gate {
 public:
  void Wait() {
    std::unique_lock lock(mutex_);
    ++waiting_count_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return is_open_; });
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    is_open_ = true;
    changed_.notify_all();
  }
  void AwaitWaiter() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return waiting_count_ > 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_count_ = 0;
  bool is_open_ = false;
};

TEST_F(LogTest, ATokenThatHangsHoldsNobodyUpBeyondTheTimeout) {
  options_.timeout = absl::Milliseconds(200);
  const auto gate = std::make_shared<Gate>();
  auto opened = Log::Open(
      options_, KeyOf(*key_),
      [gate, sign = SignerOf(key_)](ByteView digest, absl::Time deadline) {
        gate->Wait();
        return sign(digest, deadline);
      });
  ASSERT_THAT(opened, IsOk());
  const absl::Time begun = absl::Now();
  EXPECT_THAT(AppendOutcome(**opened, 0),
              HasReason(v1::REASON_AUDIT_UNAVAILABLE));
  EXPECT_LT(absl::Now() - begun, absl::Seconds(5));
  gate->AwaitWaiter();
  gate->Open();
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  absl::Status last;
  do {  // the machine may be slower than the timeout
    last = AppendOutcome(**opened, 1).status();
  } while (!last.ok() && absl::Now() < limit);
  EXPECT_THAT(last, IsOk());
}

TEST_F(LogTest, ClosesThoughItsTokenHangs) {
  options_.timeout = absl::Milliseconds(100);
  const auto gate = std::make_shared<Gate>();
  auto opened =
      Log::Open(options_, KeyOf(*key_),
                [gate](ByteView, absl::Time) -> absl::StatusOr<Bytes> {
                  gate->Wait();
                  return absl::InternalError("too late");
                });
  ASSERT_THAT(opened, IsOk());
  EXPECT_THAT(AppendOutcome(**opened, 0),
              HasReason(v1::REASON_AUDIT_UNAVAILABLE));
  gate->AwaitWaiter();
  const absl::Time begun = absl::Now();
  opened->reset();
  EXPECT_LT(absl::Now() - begun, absl::Seconds(10));
  gate->Open();
}

TEST_F(LogTest, WithoutItsTokenNothingIsBegun) {
  options_.timeout = absl::Milliseconds(300);
  const auto log = Open();
  key_->Fail(absl::UnavailableError("the token is away"));
  EXPECT_THAT(AppendOutcome(*log, 0), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
  EXPECT_THAT(AwaitFault(*log, true), HasMessage("the token is away"));
  EXPECT_THAT(AppendIntent(*log, 1), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
  key_->Fail(absl::OkStatus());
  EXPECT_THAT(AwaitFault(*log, false), IsOk());
  EXPECT_THAT(AppendIntent(*log, 1), IsOk());
}

TEST_F(LogTest, ASignatureOfAnotherKeyIsNotPublished) {
  options_.timeout = absl::Milliseconds(300);
  const auto other = testing::SoftwareKey::Generate("p256");
  const auto log = Log::Open(options_, KeyOf(*key_), SignerOf(other));
  ASSERT_THAT(log, IsOk());
  EXPECT_THAT(AppendOutcome(**log, 0), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
  EXPECT_EQ((*log)->checkpoint(), "");
  EXPECT_FALSE(fs::exists(Path("checkpoint")));
}

TEST_F(LogTest, EveryAppendIsAnsweredWhenItCloses) {
  std::atomic<int> answered = 0;
  {
    const auto log = Open();
    for (uint64_t i = 0; i < 100; ++i) {
      AppendOptions options;
      options.wants_receipt = true;
      log->Append(TestEntry(i), options,
                  [&](const absl::StatusOr<Receipt>&) { ++answered; });
    }
  }
  EXPECT_EQ(answered, 100);
}

}  // namespace
}  // namespace codeseal::audit
