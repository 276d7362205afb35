// Promise 22: a log that hangs never holds anybody up beyond the timeout.

#include "tests/integration/audit_fixture.h"

namespace codeseal::testing {
namespace {

using ::testing::IsEmpty;

class Promise22Test : public AuditServerTest {};

TEST_F(Promise22Test, promise_22_a_hanging_disk_is_answered_in_time) {
  timeout_ = "1s";
  Start();
  ASSERT_THAT(SignSoon(), IsOk());
  for (const char* fault : {"fdatasync hang", "pwrite hang"}) {
    PlayDisk(fault);
    const int used = shim_.CallCount("C_Sign");
    for (int i = 0; i < 2; ++i) {
      const absl::Time begun = absl::Now();
      EXPECT_THAT(Sign(), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
      EXPECT_LT(absl::Now() - begun, absl::Seconds(1 + 4));
    }
    EXPECT_EQ(shim_.CallCount("C_Sign"), used);
    // Whoever needs no log is served.
    EXPECT_THAT(client_->GetIdentity("ec"), IsOk());
    PlayDisk("");
    EXPECT_THAT(SignSoon(), IsOk());
  }
  Stop();
  EXPECT_THAT(Verify().problems, IsEmpty());
}

TEST_F(Promise22Test, promise_22_a_server_whose_disk_hangs_can_be_stopped) {
  timeout_ = "1s";
  Start();
  ASSERT_THAT(SignSoon(), IsOk());
  PlayDisk("fdatasync hang");
  EXPECT_THAT(Sign(), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
  const absl::Time begun = absl::Now();
  server_->Stop();
  EXPECT_LT(absl::Now() - begun, absl::Seconds(15));
}

}  // namespace
}  // namespace codeseal::testing
