// Promise 12: a token that closes idle sessions, the one that keeps the login
// among them, costs no request.

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

TEST_F(PromiseTest, Promise12SessionsThatExpireWhileIdleAreNotNoticed) {
  shim_.Play("sessions idle=100ms");
  Start();
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(Sign("shaky"), IsOk()) << i;
    absl::SleepFor(absl::Milliseconds(200));  // twice what they live
  }
  EXPECT_EQ(shim_.Processes().size(), 1u);
  EXPECT_GE(shim_.CallCount("C_GetSessionInfo", "0xb3") +
                shim_.CallCount("C_SignInit", "0xb3"),
            4)
      << "they did expire";
}

}  // namespace
}  // namespace codeseal::testing
