// Promise 7: a module that answers every call with the same error, until it is
// finalised or its process ends, is brought back without an operator.

#include "tests/integration/promise_fixture.h"
#include "tests/support/p11_kit_server.h"

namespace codeseal::testing {
namespace {

TEST_F(PromiseTest, Promise07AnErrorThatSticksUntilFinalizeIsShakenOff) {
  Start();
  ASSERT_THAT(Sign("shaky"), IsOk());
  shim_.Play("C_Sign count=1 rv=CKR_DEVICE_ERROR until=C_Finalize");
  // The token is never told to be well: the worker must do it.
  EXPECT_LT(TimeUntilSigned(), kResumeLimit);
  EXPECT_EQ(shim_.CallCount("C_Finalize"), 1);
}

// The client module of p11-kit never connects again by itself.
TEST_F(PromiseTest, Promise07ANetworkTokenWhoseFarEndIsKilledComesBack) {
  if (const std::string why = P11KitServer::MissingBecause(); !why.empty()) {
    GTEST_SKIP() << why;
  }
  P11KitServer far_end("main");
  more_tokens_ =
      "  remote: {module: " + P11KitServer::Module() +
      ", label: main, pin_source: \"file:" + world_.softhsm().pin_file() +
      "\", op_timeout: 2s}\n";
  more_identities_ =
      ServerWorld::Identity("main-02", "remote", "02", "main-02.chain.pem");
  Start();
  ASSERT_THAT(Sign("main-02"), IsOk());
  for (int i = 0; i < 2; ++i) {
    far_end.Kill();
    EXPECT_FALSE(Sign("main-02").ok());
    EXPECT_THAT(Sign("calm"), IsOk());
    far_end.Start();
    const absl::Time begin = absl::Now();
    absl::Status status = Sign("main-02");
    while (!status.ok() && absl::Now() - begin < absl::Seconds(20)) {
      status = Sign("main-02");
    }
    EXPECT_THAT(status, IsOk());
    EXPECT_LT(absl::Now() - begin, kResumeLimit);
  }
}

}  // namespace
}  // namespace codeseal::testing
