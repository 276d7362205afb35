// Promise 8: a number that the token gives out again, for another key, never
// leads to a signature by that key.

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

TEST_F(PromiseTest, Promise08AReusedHandleNeverSignsWithAnotherKey) {
  world_.AddKey("main", "04", KeyAlgorithm::kP256);  // the other key
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  // Right after a new login, when handles were found anew.
  shim_.Play(
      "C_SignInit count=1 rv=CKR_SESSION_CLOSED until=C_CloseAllSessions\n"
      "C_SignInit count=1 swap\n");
  EXPECT_THAT(Sign("shaky"), HasReason(v1::REASON_SELF_VERIFY_FAILED));
  // And at any other time.
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_SignInit swap");
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(Sign("shaky").ok());
  ExpectResumes();
}

}  // namespace
}  // namespace codeseal::testing
