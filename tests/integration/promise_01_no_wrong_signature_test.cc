// Promise 1: no reply carries a signature that does not verify: the caller gets
// DATA_LOSS, wherever it was found out. A token that keeps signing wrongly is
// not asked each time.

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

auto IsWrongSignature() {
  return ::testing::AllOf(HasReason(v1::REASON_SELF_VERIFY_FAILED),
                          HasCode(absl::StatusCode::kDataLoss));
}

TEST_F(PromiseTest, Promise01NoReplyCarriesAWrongSignature) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  // In the middle of a session that has proven itself.
  shim_.Play("C_Sign count=1 flip");
  EXPECT_THAT(Sign("shaky"), IsWrongSignature());
  EXPECT_THAT(Sign("shaky"), IsOk());
  EXPECT_EQ(shim_.Processes().size(), 2u) << "the worker was replaced";

  // In a session that is new: it is found out before the server looks.
  shim_.Play("C_SignInit count=1 rv=CKR_SESSION_CLOSED\nC_Sign flip");
  EXPECT_THAT(Sign("shaky"), IsWrongSignature());
  shim_.Play("C_Sign flip");
  const int before = shim_.CallCount("C_Sign");
  const absl::Time begin = absl::Now();
  while (absl::Now() - begin < absl::Seconds(2)) {
    EXPECT_FALSE(Sign("shaky").ok());
  }
  // 0, 0, 20, 40, 80, ... 1000 ms between tries: the breaker is open.
  EXPECT_LT(shim_.CallCount("C_Sign") - before, 14);
  EXPECT_THAT(Sign("calm"), IsOk());
  ExpectResumes();
}

}  // namespace
}  // namespace codeseal::testing
