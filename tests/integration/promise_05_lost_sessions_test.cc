// Promise 5: when all sessions are invalid, no request that has time fails, and
// the login is there again within 2 s.

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

TEST_F(PromiseTest, Promise05InvalidSessionsAreReplacedWithinTheRequest) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  for (const char* rv : {"CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED",
                         "CKR_USER_NOT_LOGGED_IN"}) {
    // Every session of the process is dead until they are all closed.
    shim_.Play(std::string("C_SignInit count=1 rv=") + rv +
               " until=C_CloseAllSessions");
    const int logins = shim_.CallCount("C_Login");
    const absl::Time begin = absl::Now();
    EXPECT_THAT(Sign("shaky"), IsOk()) << rv;
    EXPECT_LT(absl::Now() - begin, kResumeLimit) << rv;
    EXPECT_EQ(shim_.CallCount("C_Login"), logins + 1) << rv;
  }
  EXPECT_EQ(shim_.Processes().size(), 1u);
}

TEST_F(PromiseTest, Promise05OneInvalidSessionCostsNoLogin) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  const int logins = shim_.CallCount("C_Login");
  shim_.Play("C_SignInit count=1 rv=CKR_SESSION_HANDLE_INVALID");
  EXPECT_THAT(Sign("shaky"), IsOk());
  EXPECT_EQ(shim_.CallCount("C_Login"), logins);
}

TEST_F(PromiseTest, Promise05SessionsThatStayInvalidAreAnAnswerInTime) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_SignInit rv=CKR_SESSION_HANDLE_INVALID");
  EXPECT_FALSE(SignInTime().ok());
  ExpectResumes();
}

}  // namespace
}  // namespace codeseal::testing
