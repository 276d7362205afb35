// Promise 3: nobody logs in to a token that is locked, about to lock, or wants
// its PIN to be changed.

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

TEST_F(PromiseTest, Promise03NoLoginOnFinalTryLockedOrToBeChanged) {
  for (const char* flag :
       {"USER_PIN_FINAL_TRY", "USER_PIN_LOCKED", "USER_PIN_TO_BE_CHANGED"}) {
    shim_.Play(std::string("C_GetTokenInfo flags=") + flag);
    const int before = shim_.CallCount("C_Login");
    Start();
    EXPECT_THAT(Sign("shaky"), HasReason(v1::REASON_PIN_HOLD)) << flag;
    // Clearing the hold does not change what the token says.
    EXPECT_THAT(ClearPinHold("main"), IsOk());
    EXPECT_THAT(Sign("shaky"), HasReason(v1::REASON_PIN_HOLD)) << flag;
    EXPECT_EQ(shim_.CallCount("C_Login"), before) << flag;
    EXPECT_THAT(Sign("calm"), IsOk());
    // Somebody reset the PIN: no restart is needed.
    ExpectResumes();
  }
}

}  // namespace
}  // namespace codeseal::testing
