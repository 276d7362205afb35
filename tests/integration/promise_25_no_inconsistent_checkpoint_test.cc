// Promise 25: no checkpoint that contradicts an earlier one is ever signed. A
// log that was restored from an old snapshot is refused, and so is every
// signature, until the right log is back.

#include "tests/integration/audit_fixture.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

class Promise25Test : public AuditServerTest {};

TEST_F(Promise25Test, promise_25_a_restored_snapshot_is_refused) {
  Start();
  ASSERT_THAT(Sign(), IsOk());
  Stop();
  const std::string snapshot = world_.folder().Path("snapshot");
  const std::string latest = world_.folder().Path("latest");
  fs::copy(LogPath(), snapshot, fs::copy_options::recursive);
  Start();
  ASSERT_THAT(Sign(), IsOk());
  Stop();
  fs::rename(LogPath(), latest);
  fs::copy(snapshot, LogPath(), fs::copy_options::recursive);
  const std::string record = world_.folder().Read("auditlog.signed");
  const std::string saved = world_.folder().Read("latest/checkpoint");

  Start();
  const int used = shim_.CallCount("C_Sign");
  EXPECT_THAT(Sign(), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
  EXPECT_EQ(shim_.CallCount("C_Sign"), used);
  EXPECT_THAT(server_->log(), HasSubstr("REASON_AUDIT_INCONSISTENT"));
  EXPECT_EQ(world_.folder().Read("auditlog.signed"), record);
  EXPECT_EQ(world_.folder().Read("auditlog/checkpoint"),
            world_.folder().Read("snapshot/checkpoint"));
  EXPECT_FALSE(Verify({saved}).problems.empty());

  fs::remove_all(LogPath());
  fs::rename(latest, LogPath());
  EXPECT_THAT(SignSoon(), IsOk());
  EXPECT_THAT(Verify({saved}).problems, IsEmpty());
}

}  // namespace
}  // namespace codeseal::testing
