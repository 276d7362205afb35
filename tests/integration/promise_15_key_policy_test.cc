// Promise 15: a key that was not made in the token, or could leave it, does not
// sign for an identity with the strict policy.

#include "tests/integration/promise_fixture.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;

TEST_F(PromiseTest, Promise15AnImportedKeyIsRefusedUnlessAllowed) {
  SoftHsm& softhsm = world_.softhsm();
  const std::string path = softhsm.folder().Path("own.pem");
  softhsm.Run({"openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
               "ec_paramgen_curve:P-256", "-out", path});
  softhsm.ImportKey("main", "imported", {7}, softhsm.folder().Read("own.pem"));
  const auto token = Token::Create(softhsm.Config("main"));
  ASSERT_THAT(token, IsOk());
  const auto listing = (*token)->List(absl::Now() + absl::Seconds(30));
  ASSERT_THAT(listing, IsOk());
  std::string chain;
  for (const KeyListing& key : listing->keys) {
    if (key.label == "imported") {
      chain = world_.WriteChain("imported", key.public_key);
    }
  }
  more_identities_ =
      ServerWorld::Identity("strict", "main", "07", chain) +
      ServerWorld::Identity("imported", "main", "07", chain,
                            "    key_policy: imported-allowed\n");
  Start();
  const absl::Status refused = Sign("strict");
  EXPECT_THAT(refused, HasReason(v1::REASON_KEY_POLICY));
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(UnavailableBecause("strict"), HasSubstr("CKA_LOCAL"));
  EXPECT_THAT(Sign("imported"), IsOk());
}

}  // namespace
}  // namespace codeseal::testing
