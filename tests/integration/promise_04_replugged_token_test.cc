// Promise 4: a token that refuses the right PIN after it was plugged in again
// (yubico-piv-tool issue 270) does not lose its tries.

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

using ::testing::AnyOf;

TEST_F(PromiseTest, Promise04ARightPinThatIsRefusedAfterReplugCostsOneTry) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  const int before = shim_.CallCount("C_Login");
  shim_.Play("* rv=CKR_DEVICE_REMOVED");
  EXPECT_FALSE(SignInTime().ok());
  shim_.Play("C_Login rv=CKR_PIN_INCORRECT");
  const absl::Time begin = absl::Now();
  while (shim_.CallCount("C_Login") == before &&
         absl::Now() - begin < absl::Seconds(20)) {
    EXPECT_FALSE(Sign("shaky").ok());
  }
  for (int i = 0; i < 50; ++i) {
    EXPECT_THAT(Sign("shaky"), AnyOf(HasReason(v1::REASON_PIN_REJECTED),
                                     HasReason(v1::REASON_PIN_HOLD)));
  }
  EXPECT_EQ(shim_.CallCount("C_Login"), before + 1);

  // The module has come to its senses, and the operator has looked: the same
  // PIN may be sent.
  shim_.Play("");
  EXPECT_FALSE(Sign("shaky").ok());
  EXPECT_THAT(ClearPinHold("main"), IsOk());
  ExpectResumes();
  EXPECT_EQ(shim_.CallCount("C_Login"), before + 2);
}

}  // namespace
}  // namespace codeseal::testing
