// Promise 13: keys that want the PIN for each signature work, and a refused PIN
// is not sent again for them either.

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

using ::testing::AnyOf;

TEST_F(PromiseTest, Promise13AKeyThatAlwaysAuthenticatesGetsThePinEachTime) {
  SoftHsm& softhsm = world_.softhsm();
  softhsm.Run({"pkcs11-tool", "--module", kSoftHsmModule, "--token-label",
               "main", "--login", "--pin", SoftHsm::kPin, "--keypairgen",
               "--key-type", "EC:prime256v1", "--usage-sign", "--sensitive",
               "--always-auth", "--id", "05", "--label", "careful"});
  auto token = Token::Create(softhsm.Config("main"));
  ASSERT_THAT(token, IsOk());
  const auto listing = (*token)->List(absl::Now() + absl::Seconds(30));
  ASSERT_THAT(listing, IsOk());
  std::string chain;
  for (const KeyListing& key : listing->keys) {
    if (key.label != "careful") continue;
    EXPECT_TRUE(key.attributes.always_authenticate);
    chain = world_.WriteChain("careful", key.public_key);
  }
  // pkcs11-tool leaves CKA_DECRYPT true.
  more_identities_ = ServerWorld::Identity(
      "careful", "main", "05", chain, "    key_policy: imported-allowed\n");
  Start();
  ASSERT_THAT(Sign("careful"), IsOk());
  const int before = shim_.CallCount("C_Login");
  for (int i = 0; i < 3; ++i) EXPECT_THAT(Sign("careful"), IsOk());
  EXPECT_EQ(shim_.CallCount("C_Login"), before + 3);
  EXPECT_THAT(Sign("shaky"), IsOk());
  EXPECT_EQ(shim_.CallCount("C_Login"), before + 3) << "only for that key";

  softhsm.folder().Write("pin", "11111111\n");
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(Sign("careful"), AnyOf(HasReason(v1::REASON_PIN_REJECTED),
                                       HasReason(v1::REASON_PIN_HOLD)));
  }
  EXPECT_EQ(shim_.CallCount("C_Login", "0xa0"), 1);
}

}  // namespace
}  // namespace codeseal::testing
