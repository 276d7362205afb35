#include "audit/approval/statement.h"

#include <string>

#include "gtest/gtest.h"

namespace codeseal::audit {
namespace {

const Bytes kKey = ToBytes(AsBytes("a public key"));
const absl::Time kAt = absl::FromUnixSeconds(1'700'000'000);

v1::Grant FullGrant() {
  v1::Grant grant;
  grant.set_id("7f3a9100-0000-4000-8000-000000000000");
  grant.set_identity("developer-id");
  grant.add_cdhashes(std::string("\x01\xff", 2));
  grant.add_cdhashes("A");
  grant.set_release("2.1");
  grant.add_identifiers("com.example.tool");
  grant.set_max_uses(3);
  grant.mutable_expires_at()->set_seconds(1'700'003'600);
  grant.set_requester("spiffe://corp/ci/runner");
  grant.set_reason("release day");
  return grant;
}

TEST(ApprovalStatementTest, SaysAllThatTheApprovalIsAbout) {
  EXPECT_EQ(FormatApproval(FullGrant(), true, kKey, kAt),
            "codeseal approval v1\n"
            "decision: approve\n"
            "grant: 7f3a9100-0000-4000-8000-000000000000\n"
            "identity: developer-id\n"
            "cdhash: 01ff\n"
            "cdhash: 41\n"
            "release: 2.1\n"
            "identifier: com.example.tool\n"
            "max_uses: 3\n"
            "expires_at: 2023-11-14T23:13:20Z\n"
            "requester: spiffe://corp/ci/runner\n"
            "reason: release day\n"
            "key: sha256:"
            "0b7348fa038970c48ec07cd73b6257f39ec810f60f16ee73b62e3c6e2610abc6\n"
            "at: 2023-11-14T22:13:20Z\n");
}

TEST(ApprovalStatementTest, ARejectionIsAnotherStatement) {
  EXPECT_NE(FormatApproval(FullGrant(), false, kKey, kAt)
                .find("\ndecision: reject\n"),
            std::string::npos);
}

TEST(ApprovalStatementTest, NoValueLooksLikeALine) {
  v1::Grant grant = FullGrant();
  grant.set_reason("x\nat: 2000-01-01T00:00:00Z\\\x7f\xff");
  const std::string text = FormatApproval(grant, true, kKey, kAt);
  EXPECT_NE(text.find("\nreason: x\\x0aat: 2000-01-01T00:00:00Z\\x5c\\x7f"),
            std::string::npos)
      << text;
  EXPECT_EQ(text.find("\nat: 2000"), std::string::npos);
}

}  // namespace
}  // namespace codeseal::audit
