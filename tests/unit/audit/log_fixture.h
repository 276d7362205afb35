// A log in a fresh folder with a P-256 key of the test's own.

#ifndef CODESEAL_TESTS_UNIT_AUDIT_LOG_FIXTURE_H_
#define CODESEAL_TESTS_UNIT_AUDIT_LOG_FIXTURE_H_

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "audit/entry.h"
#include "audit/log.h"
#include "gtest/gtest.h"
#include "tests/support/software_key.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal::audit {

inline constexpr char kTestOrigin[] = "log.example/test";

// The root of these entries, straight from the definition.
inline TreeHash NaiveRoot(const std::vector<Bytes>& entries, size_t begin,
                          size_t end) {
  if (begin == end) return EmptyTreeRoot();
  if (end - begin == 1) return HashLeaf(entries[begin]);
  size_t split = 1;
  while (split * 2 < end - begin) split *= 2;
  return HashChildren(NaiveRoot(entries, begin, begin + split),
                      NaiveRoot(entries, begin + split, end));
}

inline Bytes TestEntry(uint64_t number) {
  Entry entry;
  entry.kind = EntryKind::kIntent;
  entry.time = absl::FromUnixSeconds(1'700'000'000);
  entry.request_id = std::to_string(number);
  return EncodeEntry(entry);
}

inline NoteKey KeyOf(const testing::SoftwareKey& key) {
  return *NoteKey::Create(kTestOrigin, NoteKey::Type::kEcdsa,
                          ToBytes(key.public_key()));
}

inline DigestSigner SignerOf(std::shared_ptr<testing::SoftwareKey> key) {
  return [key](ByteView sha256, absl::Time deadline) {
    return key->Sign(SignMechanism::kEcdsa, SignDigest::kSha256, sha256,
                     deadline);
  };
}

class LogFixture : public ::testing::Test {
 protected:
  LogFixture() : key_(testing::SoftwareKey::Cached("p256")) {
    options_.path = folder_.Path("log");
    options_.timeout = absl::Seconds(20);  // a slow machine is no fault
  }

  std::string Path(const std::string& name) const {
    return options_.path + "/" + name;
  }
  std::string RecordPath() const { return options_.path + ".signed"; }

  absl::StatusOr<std::unique_ptr<Log>> TryOpen() {
    return Log::Open(options_, KeyOf(*key_), SignerOf(key_));
  }
  std::unique_ptr<Log> Open() {
    auto log = TryOpen();
    EXPECT_THAT(log, testing::IsOk());
    return *std::move(log);
  }

  // Appends `count` entries at once and waits for their receipts.
  static std::vector<Receipt> AppendMany(Log& log, uint64_t first,
                                         uint64_t count) {
    std::vector<Receipt> receipts;
    std::mutex mutex;
    std::condition_variable changed;
    for (uint64_t i = first; i < first + count; ++i) {
      AppendOptions options;
      options.wants_receipt = true;
      log.Append(TestEntry(i), options, [&](absl::StatusOr<Receipt> receipt) {
        EXPECT_THAT(receipt, testing::IsOk());
        const std::lock_guard lock(mutex);
        receipts.push_back(receipt.ok() ? *receipt : Receipt());
        changed.notify_one();
      });
    }
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return receipts.size() == count; });
    return receipts;
  }
  static absl::StatusOr<Receipt> AppendIntent(Log& log, uint64_t number) {
    return log.Append(TestEntry(number), AppendOptions());
  }
  static absl::StatusOr<Receipt> AppendOutcome(Log& log, uint64_t number) {
    AppendOptions options;
    options.wants_receipt = true;
    options.may_use_reserve = true;
    return log.Append(TestEntry(number), options);
  }

  void CopyLog(const std::string& to) const {
    std::filesystem::copy(options_.path, folder_.Path(to),
                          std::filesystem::copy_options::recursive);
  }
  void ReplaceLog(const std::string& from) const {
    std::filesystem::remove_all(options_.path);
    std::filesystem::copy(folder_.Path(from), options_.path,
                          std::filesystem::copy_options::recursive);
  }

  testing::TempFolder folder_;
  const std::shared_ptr<testing::SoftwareKey> key_;
  LogOptions options_;
};

}  // namespace codeseal::audit

#endif  // CODESEAL_TESTS_UNIT_AUDIT_LOG_FIXTURE_H_
