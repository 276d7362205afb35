// Promise 21: no signature without durable audit. On a disk that is full,
// read-only or broken the key is not used, nothing leaves, and signing goes on
// when the disk does.

#include <errno.h>
#include <sys/mount.h>
#include <unistd.h>

#include "tests/integration/audit_fixture.h"

namespace codeseal::testing {
namespace {

using ::testing::IsEmpty;
namespace fs = std::filesystem;

class Promise21Test : public AuditServerTest {
 protected:
  // Neither key nor reply, until `mend`.
  void ExpectRefusedUntil(const std::function<void()>& mend) {
    const int used = shim_.CallCount("C_Sign");
    for (int i = 0; i < 3; ++i) {
      EXPECT_THAT(Sign(), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
    }
    EXPECT_EQ(shim_.CallCount("C_Sign"), used);
    mend();
    EXPECT_THAT(SignSoon(), IsOk());
  }
};

TEST_F(Promise21Test, promise_21_a_broken_disk) {
  Start();
  ASSERT_THAT(Sign(), IsOk());
  for (const char* fault : {"fdatasync fail 5", "pwrite fail 5",
                            "pwrite fail 28", "pwrite fail 30"}) {
    PlayDisk(fault);
    ExpectRefusedUntil([this] { PlayDisk(""); });
  }
  Stop();
  EXPECT_THAT(Verify().problems, IsEmpty());
}

// The disk breaks while the token signs: the signature is made, and withheld
// until the log has it. It is not made again.
TEST_F(Promise21Test, promise_21_what_cannot_be_logged_is_kept_back) {
  Start();
  ASSERT_THAT(Sign(), IsOk());
  shim_.Play("C_Sign count=1 delay=1s");
  const int used = shim_.CallCount("C_Sign");
  const v1::SignRequest request = NewRequest();
  absl::StatusOr<v1::SignResponse> reply;
  std::thread caller([&] { reply = client_->Sign(request); });
  // The intent is on disk before the key is used.
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (Verify().open_intents.empty() && absl::Now() < limit) {
  }
  PlayDisk("fdatasync fail 5");
  caller.join();
  EXPECT_THAT(reply, HasReason(v1::REASON_AUDIT_UNAVAILABLE));
  EXPECT_EQ(shim_.CallCount("C_Sign"), used + 1);
  EXPECT_FALSE(client_->GetSignature(request.request_id()).ok());
  PlayDisk("");
  ASSERT_THAT(SignSoon(), IsOk());
  const int used_until_now = shim_.CallCount("C_Sign");
  reply = client_->Sign(request);
  ASSERT_THAT(reply, IsOk());
  EXPECT_TRUE(reply->replayed());
  EXPECT_THAT(audit::CheckReceipt(ReceiptOf(*reply), Key()), IsOk());
  // A replay has the same receipt.
  const auto again = client_->Sign(request);
  ASSERT_THAT(again, IsOk());
  EXPECT_EQ(again->audit().SerializeAsString(),
            reply->audit().SerializeAsString());
  EXPECT_EQ(shim_.CallCount("C_Sign"), used_until_now);
  Stop();
  const audit::LogReport report = Verify();
  EXPECT_THAT(report.problems, IsEmpty());
  EXPECT_THAT(report.open_intents, IsEmpty());
}

// A real file system of one megabyte.
class Promise21MountTest : public Promise21Test {
 protected:
  Promise21MountTest() {
    fs::create_directory(LogPath());
    is_mounted_ = mount("none", LogPath().c_str(), "tmpfs", 0, "size=1m") == 0;
  }
  ~Promise21MountTest() override {
    server_.reset();
    if (is_mounted_) umount2(LogPath().c_str(), MNT_DETACH);
  }

  bool is_mounted_ = false;
};

TEST_F(Promise21MountTest, promise_21_a_full_disk) {
  if (!is_mounted_) GTEST_SKIP() << "mounting needs root";
  Start();
  ASSERT_THAT(Sign(), IsOk());
  world_.folder().Write("auditlog/ballast", std::string(2 << 20, 'x'));
  // What is left of the last page may hold one or two more entries.
  for (int i = 0; i < 20 && Sign().ok(); ++i) {
  }
  ExpectRefusedUntil([this] { fs::remove(Path("ballast")); });
}

TEST_F(Promise21MountTest, promise_21_a_read_only_disk) {
  if (!is_mounted_) GTEST_SKIP() << "mounting needs root";
  Start();
  ASSERT_THAT(Sign(), IsOk());
  PlayDisk("fdatasync fail 30");  // the kernel refuses to remount what is open
  ExpectRefusedUntil([this] { PlayDisk(""); });
}

}  // namespace
}  // namespace codeseal::testing
