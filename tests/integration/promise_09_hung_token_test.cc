// Promise 9: a signature that hangs is given up within the token's timeout and
// its place is free again; another token does not notice.

#include <thread>

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

TEST_F(PromiseTest, Promise09AHungSignatureFreesItsPlaceInTime) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_Sign hang");
  EXPECT_THAT(SignInTime(), HasReason(v1::REASON_TOKEN_TIMEOUT));
  ExpectResumes();
  EXPECT_EQ(shim_.Processes().size(), 2u) << "the worker was replaced";
}

TEST_F(PromiseTest, Promise09TheOtherTokenSignsWhileOneHangs) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_Sign hang");
  const int calls = shim_.CallCount("C_SignInit");
  std::thread stuck([this] { SignInTime().IgnoreError(); });
  ASSERT_TRUE(shim_.WaitForCalls("C_SignInit", calls));
  for (int i = 0; i < 20; ++i) EXPECT_THAT(Sign("calm"), IsOk());
  stuck.join();
  ExpectResumes();
}

}  // namespace
}  // namespace codeseal::testing
