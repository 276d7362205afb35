// Promise 6: a token that is removed makes its identities unavailable and
// nothing else; signing goes on when it is back.

#include <filesystem>

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

TEST_F(PromiseTest, Promise06ARemovedTokenRecoversWhenItReturns) {
  Start();
  for (const char* rv : {"CKR_DEVICE_REMOVED", "CKR_TOKEN_NOT_PRESENT"}) {
    ASSERT_THAT(Sign("shaky"), IsOk());
    shim_.Play(std::string("* rv=") + rv);
    EXPECT_FALSE(SignInTime().ok()) << rv;
    EXPECT_THAT(Sign("calm"), IsOk());
    EXPECT_NE(UnavailableBecause("shaky"), "") << rv;
    ExpectResumes();
    EXPECT_EQ(UnavailableBecause("shaky"), "") << rv;
  }
}

// SoftHSM says "logged in" all the while and shows no objects.
TEST_F(PromiseTest, Promise06ATokenFolderThatIsMovedAwayAndBack) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  const std::string folder = world_.softhsm().token_folder();
  const std::string away = folder + ".away";
  std::filesystem::rename(folder, away);
  EXPECT_FALSE(SignInTime().ok());
  std::filesystem::rename(away, folder);
  ExpectResumes();
}

TEST_F(PromiseTest, Promise06ATokenThatIsAwayAtTheStartStopsNobody) {
  shim_.Play("* rv=CKR_DEVICE_REMOVED");
  Start();
  EXPECT_THAT(Sign("calm"), IsOk());
  EXPECT_FALSE(SignInTime().ok());
  EXPECT_NE(UnavailableBecause("shaky"), "");
  ExpectResumes();
}

// Nobody signs: the server finds out by itself, with a real signature, since
// the session's state says that all is well.
TEST_F(PromiseTest, Promise06ADeadTokenIsNoticedWhileIdle) {
  main_options_ = "sessions: 2, op_timeout: 2s, idle_ping: 100ms";
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_Sign rv=CKR_DEVICE_ERROR");
  const absl::Time end = absl::Now() + absl::Seconds(20);
  while (UnavailableBecause("shaky").empty() && absl::Now() < end) {
    absl::SleepFor(absl::Milliseconds(10));  // a monitor that asks again
  }
  EXPECT_NE(UnavailableBecause("shaky"), "");
  EXPECT_EQ(UnavailableBecause("calm"), "");
  shim_.Play("");
  while (!UnavailableBecause("shaky").empty() && absl::Now() < end) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_EQ(UnavailableBecause("shaky"), "");
}

}  // namespace
}  // namespace codeseal::testing
