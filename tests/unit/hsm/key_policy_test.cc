#include "hsm/key_policy.h"

#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

KeyAttributes Generated() {
  return {.sensitive = true,
          .always_sensitive = true,
          .extractable = false,
          .never_extractable = true,
          .local = true,
          .sign = true};
}

TEST(KeyPolicyTest, GeneratedKeyIsFine) {
  EXPECT_THAT(CheckKeyPolicy(Generated(), KeyPolicy::kStrict), IsOk());
  EXPECT_THAT(CheckKeyPolicy(Generated(), KeyPolicy::kImportedAllowed), IsOk());
}

struct RuleCase {
  const char* rule;
  void (*spoil)(KeyAttributes&);
  const char* attribute;
  bool strict_only;
};

class KeyPolicyRuleTest : public ::testing::TestWithParam<RuleCase> {};

TEST_P(KeyPolicyRuleTest, EachAttributeIsDemandedByName) {
  KeyAttributes attributes = Generated();
  GetParam().spoil(attributes);
  const absl::Status strict = CheckKeyPolicy(attributes, KeyPolicy::kStrict);
  EXPECT_THAT(strict, HasReason(v1::REASON_KEY_POLICY));
  EXPECT_THAT(strict, HasCode(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(strict, HasMessage(GetParam().attribute));
  EXPECT_EQ(GetErrorDetail(strict)->rule(), GetParam().rule);
  EXPECT_EQ(CheckKeyPolicy(attributes, KeyPolicy::kImportedAllowed).ok(),
            GetParam().strict_only);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, KeyPolicyRuleTest,
    ::testing::Values(
        RuleCase{"KP-1", [](KeyAttributes& a) { a.sign = false; }, "CKA_SIGN",
                 false},
        RuleCase{"KP-2", [](KeyAttributes& a) { a.sensitive = false; },
                 "CKA_SENSITIVE", false},
        RuleCase{"KP-3", [](KeyAttributes& a) { a.extractable = true; },
                 "CKA_EXTRACTABLE", false},
        RuleCase{"KP-4", [](KeyAttributes& a) { a.always_sensitive = false; },
                 "CKA_ALWAYS_SENSITIVE", true},
        RuleCase{"KP-5", [](KeyAttributes& a) { a.never_extractable = false; },
                 "CKA_NEVER_EXTRACTABLE", true},
        RuleCase{"KP-6", [](KeyAttributes& a) { a.local = false; }, "CKA_LOCAL",
                 true},
        RuleCase{"KP-7", [](KeyAttributes& a) { a.decrypt = true; },
                 "CKA_DECRYPT", true},
        RuleCase{"KP-7", [](KeyAttributes& a) { a.unwrap = true; },
                 "CKA_UNWRAP", true}));

TEST(KeyPolicyTest, EveryFaultIsListed) {
  const absl::Status status =
      CheckKeyPolicy(KeyAttributes(), KeyPolicy::kStrict);
  for (const char* attribute : {"CKA_SIGN", "CKA_SENSITIVE", "CKA_EXTRACTABLE",
                                "CKA_LOCAL", "CKA_NEVER_EXTRACTABLE"}) {
    EXPECT_THAT(status, HasMessage(attribute));
  }
}

TEST(KeyPolicyTest, KeyAndCertificateAreCompared) {
  const Bytes key = {1, 2, 3};
  EXPECT_THAT(CheckKeyMatch(key, Bytes{1, 2, 3}), IsOk());
  EXPECT_THAT(CheckKeyMatch(key, Bytes{1, 2, 4}),
              HasReason(v1::REASON_KEY_MISMATCH));
  EXPECT_THAT(CheckKeyMatch({}, {}), HasReason(v1::REASON_KEY_MISMATCH));
}

}  // namespace
}  // namespace codeseal
