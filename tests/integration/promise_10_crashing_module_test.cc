// Promise 10: a module that crashes takes neither other tokens nor the server
// along.

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

TEST_F(PromiseTest, Promise10ACrashingModuleTakesNobodyAlong) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_Sign count=1 crash");
  EXPECT_THAT(Sign("shaky"), IsOk()) << "repeated on the next worker";
  shim_.Play("C_Sign crash");
  EXPECT_FALSE(SignInTime().ok());
  EXPECT_THAT(Sign("calm"), IsOk());
  ExpectResumes();
  EXPECT_GE(shim_.Processes().size(), 3u);
}

}  // namespace
}  // namespace codeseal::testing
