// A copy on another machine takes a log that grows, and nothing that
// contradicts what it has.

#include "audit/mirror.h"

#include <filesystem>

#include "absl/strings/str_format.h"
#include "audit/verify_log.h"
#include "gtest/gtest.h"
#include "tests/unit/audit/log_fixture.h"

namespace codeseal::audit {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

class LogMirrorTest : public LogFixture {
 protected:
  std::unique_ptr<LogMirror> OpenMirror() {
    auto mirror = LogMirror::Open(folder_.Path("copy"), KeyOf(*key_));
    EXPECT_THAT(mirror, IsOk());
    return mirror.ok() ? *std::move(mirror) : nullptr;
  }
  static void Grow(Log& log, uint64_t count, uint64_t first_number) {
    AppendMany(log, first_number, count);
  }
  static void Grow(Log& log, uint64_t count) { Grow(log, count, log.size()); }
  static LogMirror::EntryReader ReaderOf(const Log& log) {
    return [&log](uint64_t begin, size_t max_count) {
      return log.ReadEntries(begin, max_count);
    };
  }
  LogReport VerifyCopy() {
    const auto folder = LogFolder::Open(folder_.Path("copy"));
    EXPECT_THAT(folder, IsOk());
    const auto report = VerifyLog(**folder, KeyOf(*key_), {});
    EXPECT_THAT(report, IsOk());
    return *report;
  }
};

TEST_F(LogMirrorTest, GrowsWithTheLogThroughRestartsOfBoth) {
  uint64_t copied = 0;
  for (const uint64_t count : {1u, 254u, 1u, 1u, 300u, 0u, 700u}) {
    const auto log = Open();
    Grow(*log, count);
    const auto mirror = OpenMirror();
    ASSERT_NE(mirror, nullptr);
    EXPECT_EQ(mirror->size(), copied);
    const auto taken = mirror->Take(log->checkpoint(), ReaderOf(*log));
    ASSERT_THAT(taken, IsOk());
    copied += *taken;
    EXPECT_EQ(copied, log->size());
    EXPECT_EQ(mirror->size(), copied);
    const LogReport report = VerifyCopy();
    EXPECT_THAT(report.problems, IsEmpty()) << copied;
    EXPECT_EQ(report.size, copied);
    EXPECT_TRUE(fs::exists(
        folder_.Path(absl::StrFormat("copy/checkpoints/%020d", copied))));
  }
}

TEST_F(LogMirrorTest, RefusesALogThatWasRewritten) {
  std::string honest;
  {
    const auto log = Open();
    Grow(*log, 300);
    const auto mirror = OpenMirror();
    ASSERT_THAT(mirror->Take(log->checkpoint(), ReaderOf(*log)), IsOk());
    honest = log->checkpoint();
  }
  // Somebody with the key begins again, and forgets the record.
  fs::remove_all(options_.path);
  fs::remove(options_.path + ".signed");
  const auto log = Open();
  Grow(*log, 10);
  const auto mirror = OpenMirror();
  EXPECT_THAT(mirror->Take(log->checkpoint(), ReaderOf(*log)),
              HasReason(v1::REASON_AUDIT_INCONSISTENT));
  EXPECT_EQ(folder_.Read("copy/refused"), log->checkpoint());
  EXPECT_EQ(folder_.Read("copy/checkpoint"), honest);
  // As long as the old one, and longer: with other entries.
  for (const uint64_t count : {290u, 1u}) {
    Grow(*log, count, log->size() + 5);
    EXPECT_THAT(mirror->Take(log->checkpoint(), ReaderOf(*log)),
                HasReason(v1::REASON_AUDIT_INCONSISTENT));
  }
  EXPECT_EQ(mirror->size(), 300u);
  EXPECT_THAT(VerifyCopy().problems, IsEmpty());
}

TEST_F(LogMirrorTest, RefusesEntriesThatAreNotTheCheckpoints) {
  const auto log = Open();
  Grow(*log, 300);
  const auto mirror = OpenMirror();
  const auto changed =
      [&log](uint64_t begin,
             size_t max_count) -> absl::StatusOr<std::vector<Bytes>> {
    auto entries = log->ReadEntries(begin, max_count);
    if (entries.ok() && begin == 256) (*entries)[3] = TestEntry(9);
    return entries;
  };
  EXPECT_THAT(mirror->Take(log->checkpoint(), changed),
              HasReason(v1::REASON_AUDIT_INCONSISTENT));
  const auto none = [](uint64_t, size_t) -> absl::StatusOr<std::vector<Bytes>> {
    return std::vector<Bytes>();
  };
  EXPECT_THAT(mirror->Take(log->checkpoint(), none),
              HasReason(v1::REASON_AUDIT_INCONSISTENT));
  std::string forged = log->checkpoint();
  forged[forged.size() - 5] ^= 1;
  EXPECT_FALSE(mirror->Take(forged, ReaderOf(*log)).ok());
  EXPECT_EQ(mirror->size(), 0u);
  EXPECT_THAT(mirror->Take(log->checkpoint(), ReaderOf(*log)), IsOk());
}

TEST_F(LogMirrorTest, FindsWhatWasDoneToTheCopy) {
  const auto log = Open();
  Grow(*log, 10);
  ASSERT_THAT(OpenMirror()->Take(log->checkpoint(), ReaderOf(*log)), IsOk());
  std::string growing = folder_.Read("copy/growing");
  growing[20] ^= 1;
  folder_.Write("copy/growing", growing);
  EXPECT_FALSE(LogMirror::Open(folder_.Path("copy"), KeyOf(*key_)).ok());
}

// A crash came after the files and before the checkpoint.
TEST_F(LogMirrorTest, GoesOnAfterACrash) {
  const auto log = Open();
  Grow(*log, 200);
  ASSERT_THAT(OpenMirror()->Take(log->checkpoint(), ReaderOf(*log)), IsOk());
  const std::string older = folder_.Read("copy/checkpoint");
  Grow(*log, 400);
  ASSERT_THAT(OpenMirror()->Take(log->checkpoint(), ReaderOf(*log)), IsOk());
  folder_.Write("copy/checkpoint", older);
  const auto mirror = OpenMirror();
  ASSERT_NE(mirror, nullptr);
  EXPECT_EQ(mirror->size(), 200u);
  EXPECT_THAT(mirror->Take(log->checkpoint(), ReaderOf(*log)), IsOk());
  EXPECT_THAT(VerifyCopy().problems, IsEmpty());
}

}  // namespace
}  // namespace codeseal::audit
