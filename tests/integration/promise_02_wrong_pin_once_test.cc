// Promise 2: a wrong PIN is sent at most once, however often the server is
// started anew, until an operator clears the hold.

#include "tests/integration/promise_fixture.h"
#include "tests/support/subprocess.h"

namespace codeseal::testing {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

TEST_F(PromiseTest, Promise02AWrongPinIsSentOnceAcrossRestarts) {
  world_.softhsm().folder().Write("pin", "11111111\n");
  for (int i = 0; i < 20; ++i) {
    Start();
    EXPECT_THAT(Sign("shaky"), AnyOf(HasReason(v1::REASON_PIN_REJECTED),
                                     HasReason(v1::REASON_PIN_HOLD)));
    if (i % 2 == 0) Kill();
  }
  EXPECT_EQ(shim_.CallCount("C_Login"), 1);
  EXPECT_THAT(log(), HasSubstr("clear-pin-hold"));

  // The right PIN alone does not end it: nobody has looked yet.
  world_.softhsm().folder().Write("pin", std::string(SoftHsm::kPin) + "\n");
  Start();
  EXPECT_THAT(Sign("shaky"), HasReason(v1::REASON_PIN_HOLD));
  EXPECT_EQ(shim_.CallCount("C_Login"), 1);
  EXPECT_THAT(log(), HasSubstr("another one now"));

  EXPECT_THAT(ClearPinHold("main"), IsOk());
  ExpectResumes();
  EXPECT_EQ(shim_.CallCount("C_Login", "0xa0"), 1);
}

TEST_F(PromiseTest, Promise02AHoldIsClearedByTheCommandToo) {
  shim_.Play("C_Login rv=CKR_PIN_INCORRECT");
  Start();
  EXPECT_FALSE(Sign("shaky").ok());
  shim_.Play("");
  EXPECT_FALSE(Sign("shaky").ok());
  const auto cleared =
      RunProgram({ServerProgram(), "token", "clear-pin-hold", "--config",
                  world_.folder().Path("codeseald.yaml"), "--token", "main"});
  EXPECT_EQ(cleared.exit_code, 0) << cleared.err;
  // Nobody told the server: it asks again within a second or two.
  EXPECT_LT(TimeUntilSigned(), absl::Seconds(5));
  EXPECT_THAT(ClearPinHold("nobody"), HasReason(v1::REASON_TOKEN_NOT_FOUND));
}

// The server is killed while the token thinks about the PIN.
TEST_F(PromiseTest, Promise02APinWhoseAnswerWasLostIsNotSentAgain) {
  shim_.Play("C_Login hang");
  Start();  // listens although the token hangs
  Kill();
  shim_.Play("C_GetTokenInfo flags=USER_PIN_COUNT_LOW");
  const int before = shim_.CallCount("C_Login");
  Start();
  EXPECT_THAT(Sign("shaky"), HasReason(v1::REASON_PIN_HOLD));
  EXPECT_EQ(shim_.CallCount("C_Login"), before);
}

}  // namespace
}  // namespace codeseal::testing
