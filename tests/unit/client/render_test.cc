#include "client/render.h"

#include <sstream>
#include <string>

#include "codesign/base/error.h"
#include "gtest/gtest.h"

namespace codeseal::client {
namespace {

absl::Status Denied(const std::string& subject) {
  ErrorDetail detail;
  detail.set_stage(v1::STAGE_POLICY);
  detail.set_reason(v1::REASON_POLICY_VIOLATION);
  detail.set_subject(subject);
  detail.set_rule("release/no-debug");
  detail.set_request_id("7f3a91");
  return WithErrorDetail(
      absl::PermissionDeniedError("get-task-allow is denied"), detail);
}

TEST(RenderErrorTest, SaysWhatWhyFixAndId) {
  EXPECT_EQ(RenderError("sign", "Demo", Denied("Demo (arm64)")),
            "codeseal: cannot sign Demo (arm64)\n"
            "  why    get-task-allow is denied (rule release/no-debug)\n"
            "  fix    change what the rule names, or sign with an identity "
            "whose rules allow it\n"
            "  id     7f3a91 (quote this to the signing team)\n");
}

TEST(RenderErrorTest, SubjectThatIsNotTheObjectGoesToTheReason) {
  EXPECT_TRUE(
      RenderError("sign", "Demo", Denied("identity release"))
          .starts_with("codeseal: cannot sign Demo\n"
                       "  why    identity release: get-task-allow is denied"));
}

TEST(RenderErrorTest, ByteOffsetIsNamed) {
  EXPECT_NE(RenderError("verify", "f",
                        ParseError(v1::REASON_BAD_MAGIC, 16, "bad magic"))
                .find("bad magic (at byte 16)"),
            std::string::npos);
}

TEST(RenderErrorTest, ControlCharactersOfAFileNeverReachTheTerminal) {
  const std::string text = RenderError(
      "verify", "f\x1b[2J",
      ParseError(v1::REASON_BAD_IDENTIFIER, 0, "identifier is \x1b]0;x\x07"));
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\x07'), std::string::npos);
  EXPECT_NE(text.find("f\\x1b[2J"), std::string::npos);
}

class ReporterTest : public ::testing::Test {
 protected:
  std::ostringstream out_;
  std::ostringstream err_;
};

TEST_F(ReporterTest, JsonIsOneDocumentWithEveryPathAndTheWorstCode) {
  Reporter reporter("sign", {.json = true}, out_, err_, false);
  reporter.Say(0, "not for programs");
  reporter.Succeed({{"path", "a"}, {"identifier", "com.example.a"}});
  reporter.Fail("sign", "b", Denied("b (arm64)"));
  EXPECT_EQ(reporter.Finish(), ExitCode::kNo);

  const nlohmann::json document = nlohmann::json::parse(out_.str());
  EXPECT_EQ(document["command"], "sign");
  EXPECT_EQ(document["exit_code"], 1);
  ASSERT_EQ(document["results"].size(), 2u);
  EXPECT_EQ(document["results"][0]["ok"], true);
  EXPECT_EQ(document["results"][1]["path"], "b");
  EXPECT_EQ(document["results"][1]["error"]["reason"], "POLICY_VIOLATION");
  EXPECT_EQ(document["results"][1]["error"]["rule"], "release/no-debug");
  EXPECT_EQ(document["results"][1]["error"]["code"], "PERMISSION_DENIED");
  EXPECT_NE(err_.str().find("cannot sign b (arm64)"), std::string::npos);
}

TEST_F(ReporterTest, PathThatIsNotUtf8StillGivesJson) {
  Reporter reporter("sign", {.json = true}, out_, err_, false);
  reporter.Succeed({{"path", "caf\xe9"}});
  EXPECT_EQ(reporter.Finish(), ExitCode::kDone);
  EXPECT_TRUE(nlohmann::json::accept(out_.str())) << out_.str();
}

TEST_F(ReporterTest, VerbosityChoosesTheLines) {
  Reporter quiet("sign", {.verbosity = -1}, out_, err_, true);
  quiet.Say(0, "default");
  quiet.Progress("hashing");
  EXPECT_EQ(out_.str() + err_.str(), "");

  Reporter normal("sign", {}, out_, err_, true);
  normal.Say(0, "default");
  normal.Say(1, "detail");
  EXPECT_EQ(out_.str(), "default\n");
}

TEST_F(ReporterTest, ProgressNeedsATerminalAndLeavesNothingBehind) {
  Reporter piped("sign", {}, out_, err_, false);
  piped.Progress("hashing 1 of 2");
  EXPECT_EQ(err_.str(), "");

  Reporter shown("sign", {}, out_, err_, true);
  shown.Progress("hashing 1 of 2");
  EXPECT_EQ(shown.Finish(), ExitCode::kDone);
  EXPECT_TRUE(err_.str().ends_with("\r\x1b[K")) << err_.str();
}

}  // namespace
}  // namespace codeseal::client
