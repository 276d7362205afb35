#include "server/policy.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildSignRequest;
using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::SignRequestSpec;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

class PolicyTest : public ::testing::Test {
 protected:
  // The rule that says no; "" for none.
  std::string Judge() {
    request_ = BuildSignRequest(spec_);
    return JudgeRequest();
  }
  std::string JudgeRequest() {
    const absl::StatusOr<CheckedRequest> checked = CheckSignRequest(request_);
    EXPECT_THAT(checked, IsOk());
    if (!checked.ok()) return "not a good request";
    const absl::Status status =
        CheckPolicy(*checked, {"release", rules_, team_, kNow});
    if (status.ok()) return "";
    EXPECT_THAT(status, HasCode(absl::StatusCode::kPermissionDenied));
    EXPECT_EQ(GetReason(status), v1::REASON_POLICY_VIOLATION);
    return GetErrorDetail(status)->rule();
  }

  SignRequestSpec spec_;
  IdentityRules rules_;
  std::string team_;
  v1::SignRequest request_;
};

TEST_F(PolicyTest, WithoutRulesEverythingPassesButAnotherTeam) {
  EXPECT_EQ(Judge(), "");
  spec_.team_identifier = "OTHERTEAM1";
  EXPECT_EQ(Judge(), "release/team");
}

TEST_F(PolicyTest, TeamIsTheCertificatesOrTheConfiguredOne) {
  team_ = "TESTTEAM01";
  EXPECT_EQ(Judge(), "release/team");
  spec_.team_identifier = "TESTTEAM01";
  EXPECT_EQ(Judge(), "");
  team_ = "";
  EXPECT_EQ(Judge(), "release/team");
  rules_.team = "TESTTEAM01";
  EXPECT_EQ(Judge(), "");
}

TEST_F(PolicyTest, IdentifierFitsAPattern) {
  rules_.identifiers = {"org.example", "com.example.*"};
  EXPECT_EQ(Judge(), "");
  spec_.identifier = "org.example";
  EXPECT_EQ(Judge(), "");
  spec_.identifier = "com.examples.demo";
  EXPECT_EQ(Judge(), "release/identifiers");
}

TEST_F(PolicyTest, AllRequiredFlagsAreSet) {
  rules_.require_flags = kRuntimeFlag | kLibraryValidationFlag;
  spec_.flags = kRuntimeFlag;
  EXPECT_EQ(Judge(), "release/require_flags");
  spec_.flags |= kLibraryValidationFlag;
  EXPECT_EQ(Judge(), "");
}

TEST_F(PolicyTest, DeniedEntitlementsMayOnlyBeFalse) {
  const auto plist = [](const std::string& value) {
    return "<plist version=\"1.0\"><dict><key>com.apple.security."
           "get-task-allow</key>" +
           value + "</dict></plist>";
  };
  rules_.entitlements_deny = {"*get-task-allow"};
  EXPECT_EQ(Judge(), "");
  for (const char* const granted : {"<true/>", "<string>x</string>"}) {
    spec_.entitlements = plist(granted);
    EXPECT_EQ(Judge(), "release/entitlements_deny") << granted;
  }
  spec_.entitlements = plist("<false/>");
  EXPECT_EQ(Judge(), "");
  rules_.entitlements_deny = {"com.apple.private.*"};
  spec_.entitlements = plist("<true/>");
  EXPECT_EQ(Judge(), "");
}

TEST_F(PolicyTest, ForbiddenFlagsAreNotSet) {
  rules_.forbid_flags = kLibraryValidationFlag;
  EXPECT_EQ(Judge(), "");
  spec_.flags = kRuntimeFlag | kLibraryValidationFlag;
  EXPECT_EQ(Judge(), "release/forbid_flags");
}

std::string Entitlements(const std::string& entries) {
  return "<plist version=\"1.0\"><dict>" + entries + "</dict></plist>";
}

TEST_F(PolicyTest, EntitlementsAreDeniedByValue) {
  rules_.entitlements_deny = {"environment=Develop*", "groups=group.other.*",
                              "level=7"};
  for (const char* const allowed :
       {"<key>environment</key><string>Production</string>",
        "<key>groups</key><array><string>group.mine.a</string></array>",
        "<key>level</key><integer>8</integer>", "<key>groups</key><dict/>"}) {
    spec_.entitlements = Entitlements(allowed);
    EXPECT_EQ(Judge(), "") << allowed;
  }
  for (const char* const denied :
       {"<key>environment</key><string>Development</string>",
        "<key>groups</key><array><string>group.mine.a</string>"
        "<string>group.other.b</string></array>",
        "<key>level</key><integer>7</integer>"}) {
    spec_.entitlements = Entitlements(denied);
    EXPECT_EQ(Judge(), "release/entitlements_deny") << denied;
  }
}

TEST_F(PolicyTest, WithAnAllowListNothingElseIsAllowed) {
  rules_.entitlements_allow = {"com.apple.security.*", "groups=group.mine.*"};
  for (const char* const allowed :
       {"", "<key>com.apple.security.app-sandbox</key><true/>",
        "<key>com.apple.developer.x</key><false/>",
        "<key>groups</key><array><string>group.mine.a</string></array>",
        "<key>groups</key><string>group.mine.a</string>"}) {
    spec_.entitlements = Entitlements(allowed);
    EXPECT_EQ(Judge(), "") << allowed;
  }
  for (const char* const denied :
       {"<key>com.apple.developer.x</key><true/>", "<key>groups</key><true/>",
        "<key>groups</key><array/>", "<key>groups</key><dict/>",
        "<key>groups</key><array><string>group.mine.a</string>"
        "<string>group.other.b</string></array>"}) {
    spec_.entitlements = Entitlements(denied);
    EXPECT_EQ(Judge(), "release/entitlements_allow") << denied;
  }
  // What is denied is denied in any case.
  rules_.entitlements_deny = {"com.apple.security.get-task-allow"};
  spec_.entitlements =
      Entitlements("<key>com.apple.security.get-task-allow</key><true/>");
  EXPECT_EQ(Judge(), "release/entitlements_deny");
}

TEST_F(PolicyTest, TheBestDigestIsGoodEnough) {
  rules_.min_digest = DigestKind::kSha256;
  EXPECT_EQ(Judge(), "");
  spec_.digests = {DigestKind::kSha1, DigestKind::kSha256};
  EXPECT_EQ(Judge(), "");
  rules_.min_digest = DigestKind::kSha384;
  EXPECT_EQ(Judge(), "release/min_digest");
  spec_.digests = {DigestKind::kSha1};
  rules_.min_digest = DigestKind::kSha256;
  EXPECT_EQ(Judge(), "release/min_digest");
  rules_.min_digest = DigestKind::kSha1;
  EXPECT_EQ(Judge(), "");
}

TEST_F(PolicyTest, EveryBrokenRuleIsSaidAtOnce) {
  rules_.identifiers = {"org.example"};
  rules_.require_flags = kRuntimeFlag;
  rules_.entitlements_deny = {"a", "b"};
  spec_.entitlements = Entitlements("<key>a</key><true/><key>b</key><true/>");
  spec_.team_identifier = "OTHERTEAM1";
  EXPECT_EQ(Judge(), "release/team");
  const absl::Status status = CheckPolicy(*CheckSignRequest(request_),
                                          {"release", rules_, team_, kNow});
  for (const char* const part :
       {"5 rules are broken:\n", "\nrelease/team: ", "\nrelease/identifiers: ",
        "\nrelease/require_flags: ", "entitlement a is denied",
        "entitlement b is denied"}) {
    EXPECT_THAT(status, HasMessage(part));
  }
}

TEST_F(PolicyTest, DigestsAloneMustBeAllowed) {
  request_ = BuildSignRequest(spec_);
  v1::DigestSet& set = *request_.mutable_digest_set();
  set.add_digests()->set_hash_type(2);
  set.mutable_digests(0)->set_digest(std::string(32, 'a'));
  set.set_message_digest(std::string(32, 'a'));
  EXPECT_EQ(JudgeRequest(), "release/digest_only");
  rules_.allow_digest_only = true;
  EXPECT_EQ(JudgeRequest(), "");
}

TEST_F(PolicyTest, SigningTimeIsAboutNow) {
  request_ = BuildSignRequest(spec_);
  const int64_t now = absl::ToUnixSeconds(kNow);
  for (const int64_t difference : {-300, 0, 300}) {
    request_.mutable_signing_time()->set_seconds(now + difference);
    EXPECT_EQ(JudgeRequest(), "");
  }
  for (const int64_t difference : {-301, 301}) {
    request_.mutable_signing_time()->set_seconds(now + difference);
    EXPECT_EQ(JudgeRequest(), "release/signing_time");
  }
}

}  // namespace
}  // namespace codeseal
