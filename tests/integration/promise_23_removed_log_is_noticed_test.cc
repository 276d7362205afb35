// Promise 23: a log that is removed, cut short or replaced while the server
// runs is noticed, before another key is used.

#include "tests/integration/audit_fixture.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class Promise23Test : public AuditServerTest {
 protected:
  void ExpectNoticed() {
    const int used = shim_.CallCount("C_Sign");
    EXPECT_THAT(Sign(), HasReason(v1::REASON_AUDIT_UNAVAILABLE));
    EXPECT_EQ(shim_.CallCount("C_Sign"), used);
    // Operators are told right after the caller.
    const absl::Time limit = absl::Now() + absl::Seconds(20);
    while (server_->log().find("audit_log_stopped") == std::string::npos &&
           absl::Now() < limit) {
    }
    EXPECT_THAT(server_->log(), HasSubstr("audit_log_stopped"));
  }
};

TEST_F(Promise23Test, promise_23_removed) {
  Start();
  ASSERT_THAT(Sign(), IsOk());
  fs::rename(Path("growing"), world_.folder().Path("aside"));
  ExpectNoticed();
  fs::rename(world_.folder().Path("aside"), Path("growing"));
  EXPECT_THAT(SignSoon(), IsOk());
}

TEST_F(Promise23Test, promise_23_folder_removed) {
  Start();
  ASSERT_THAT(Sign(), IsOk());
  fs::remove_all(LogPath());
  ExpectNoticed();
}

TEST_F(Promise23Test, promise_23_folder_replaced_by_a_copy) {
  Start();
  ASSERT_THAT(Sign(), IsOk());
  fs::rename(LogPath(), world_.folder().Path("aside"));
  fs::copy(world_.folder().Path("aside"), LogPath(),
           fs::copy_options::recursive);
  ExpectNoticed();
}

TEST_F(Promise23Test, promise_23_truncated) {
  Start();
  ASSERT_THAT(Sign(), IsOk());
  fs::resize_file(Path("growing"), fs::file_size(Path("growing")) - 1);
  ExpectNoticed();
}

TEST_F(Promise23Test, promise_23_record_removed) {
  Start();
  ASSERT_THAT(Sign(), IsOk());
  fs::remove(LogPath() + ".signed");
  ExpectNoticed();
}

}  // namespace
}  // namespace codeseal::testing
