// What a report says, as text and as JSON, to those who have no terminal and no
// advice to give as well.

#include "codesign/verify/report_output.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/support/signed_bundle.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildSignedFile;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::MadeTree;
using ::codeseal::testing::MakeCodeSigningChain;
using ::codeseal::testing::MakeSignedApp;
using ::codeseal::testing::TestChain;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Kind = ReportLine::Kind;

const TestChain& Chain() {
  static const TestChain chain = MakeCodeSigningChain();
  return chain;
}

std::string_view Advice(Reason) { return "ask a friend"; }

class ReportOutputTest : public ::testing::Test {
 protected:
  VerificationReport VerifyCode(const VerifyOptions& options = {}) {
    const absl::StatusOr<StoredCode> code = StoredCode::Open(path_);
    EXPECT_THAT(code, IsOk());
    return code.ok() ? Verify(*code, options) : VerificationReport();
  }
  void Write(ByteView file) {
    tree_.File("code", AsText(file));
    path_ = tree_.Path("code");
  }
  static std::vector<std::string> Texts(const ToldReport& told) {
    std::vector<std::string> texts;
    for (const ReportLine& line : told.lines) texts.push_back(line.text);
    return texts;
  }
  std::vector<std::string> Tell(const ReportTextOptions& options = {}) {
    return Texts(TellReport(VerifyCode(), options));
  }

  MadeTree tree_;
  std::string path_;
};

TEST_F(ReportOutputTest, WhatNobodyCheckedIsSaidOfValidSignedCodeAlone) {
  Write(BuildSignedFile({.chain = &Chain()}));
  EXPECT_THAT(Tell(),
              ElementsAre(path_ + ": valid on disk",
                          path_ + ": satisfies its Designated Requirement",
                          "  not checked: revocation, notarization"));
  // Of what nobody signed, nobody asks the notary.
  const Bytes ad_hoc = BuildSignedFile({});
  Write(ad_hoc);
  EXPECT_THAT(Tell(),
              ElementsAre(path_ + ": valid on disk",
                          path_ + ": satisfies its Designated Requirement"));
  EXPECT_THAT(Tell({.verbosity = 1}), Contains(HasSubstr("notarization")))
      << "but those who ask are told";
  Bytes broken = BuildSignedFile({.chain = &Chain()});
  broken[9000] ^= 1;
  Write(broken);
  EXPECT_THAT(Tell(), Not(Contains(HasSubstr("not checked"))));
  Write(AsBytes("no code"));
  EXPECT_THAT(Tell(), Not(Contains(HasSubstr("not checked"))));
}

TEST_F(ReportOutputTest, FaultHasApplesWordsThenOurs) {
  Bytes broken = BuildSignedFile({.chain = &Chain()});
  broken[9000] ^= 1;
  Write(broken);
  const ToldReport told = TellReport(VerifyCode(), {.hint = Advice});
  EXPECT_THAT(told.verdict, HasReason(v1::REASON_CODE_MODIFIED));
  EXPECT_THAT(
      Texts(told),
      ElementsAre(
          path_ + ": invalid signature (code or signature have been "
                  "modified)",
          "In architecture: arm64",
          ::testing::StartsWith("  why    page 2 differs (sha256; 1 of"),
          "  fix    ask a friend"));
  for (const ReportLine& line : told.lines) EXPECT_EQ(line.kind, Kind::kFault);
  EXPECT_THAT(Tell(), Not(Contains(HasSubstr("  fix"))))
      << "nobody there to follow advice";
}

TEST_F(ReportOutputTest, CodesignSaysNothingOfItsOwnChecks) {
  Write(BuildSignedFile({.chain = &Chain()}));
  const auto told = [this](int verbosity) {
    return Tell({.style = ReportStyle::kCodesign, .verbosity = verbosity});
  };
  EXPECT_THAT(told(-1), ElementsAre());
  EXPECT_THAT(told(5),
              ElementsAre(path_ + ": valid on disk",
                          path_ + ": satisfies its Designated Requirement"));
}

TEST_F(ReportOutputTest, RequirementThatIsNotMetIsTheVerdict) {
  Write(BuildSignedFile({.identifier = "com.example.tool"}));
  const VerificationReport report = [this] {
    VerifyOptions options;
    options.requirement = Bytes{0xfa, 0xde, 0x0c, 0x00, 0, 0, 0, 16,
                                0,    0,    0,    1,    0, 0, 0, 0};  // never
    return VerifyCode(options);
  }();
  const ToldReport told = TellReport(report, {.has_requirement = true});
  EXPECT_THAT(told.verdict, HasReason(v1::REASON_REQUIREMENT_NOT_SATISFIED));
  EXPECT_THAT(Texts(told),
              Contains("test-requirement: code failed to satisfy specified "
                       "code requirement(s)"));
  const nlohmann::json json = ReportJson(report, true, nullptr);
  EXPECT_EQ(json["valid"], true);
  EXPECT_EQ(json["satisfies_requirement"], false);
  EXPECT_EQ(json["satisfies_designated_requirement"], true);
}

TEST_F(ReportOutputTest, FilesAndNestedCodeOfABundle) {
  MakeSignedApp(tree_, nullptr);
  path_ = tree_.Path("Demo.app");
  tree_.File("Demo.app/Contents/Resources/new", "n");
  const VerificationReport report = VerifyCode();
  const ToldReport told =
      TellReport(report, {.style = ReportStyle::kCodesign, .verbosity = 1});
  int file_count = 0;
  int progress_count = 0;
  for (const ReportLine& line : told.lines) {
    if (line.kind == Kind::kFile) {
      ++file_count;
      EXPECT_EQ(line.text, "file added: " + path_ + "/Contents/Resources/new");
    }
    if (line.kind == Kind::kProgress) ++progress_count;
  }
  EXPECT_EQ(file_count, 1);
  EXPECT_EQ(progress_count, 6) << "three items, before and after";

  const nlohmann::json json = ReportJson(report, false, Advice);
  EXPECT_EQ(json["valid"], false);
  EXPECT_EQ(json["resources"]["added"],
            nlohmann::json::array({"Resources/new"}));
  ASSERT_EQ(json["nested"].size(), 3u);
  EXPECT_EQ(json["nested"][0]["valid"], true);
  EXPECT_FALSE(json.contains("satisfies_requirement"));
  const auto failed = std::find_if(
      json["checks"].begin(), json["checks"].end(),
      [](const nlohmann::json& check) { return check["outcome"] == "failed"; });
  ASSERT_NE(failed, json["checks"].end());
  EXPECT_EQ((*failed)["name"], kCheckResources);
  EXPECT_EQ((*failed)["error"]["fix"], "ask a friend");
  EXPECT_EQ((*failed)["apple_error"]["name"], "errSecCSBadResource");
}

TEST(ErrorJsonTest, LeavesOutWhatIsNotKnown) {
  const absl::Status bare =
      MakeError(absl::StatusCode::kNotFound, v1::STAGE_VERIFY,
                v1::REASON_NOT_SIGNED, "nothing there");
  EXPECT_EQ(ErrorJson(bare, nullptr),
            (nlohmann::json{{"code", "NOT_FOUND"},
                            {"reason", "NOT_SIGNED"},
                            {"stage", "VERIFY"},
                            {"message", "nothing there"}}));
  ErrorDetail detail;
  detail.set_reason(static_cast<Reason>(9999));
  detail.set_stage(v1::STAGE_VERIFY);
  detail.set_subject("a");
  detail.set_rule("CD-5");
  detail.set_byte_offset(0);
  const nlohmann::json full =
      ErrorJson(WithErrorDetail(absl::InternalError("x"), detail), Advice);
  EXPECT_EQ(full["reason"], "9999");
  EXPECT_EQ(full["rule"], "CD-5");
  EXPECT_EQ(full["subject"], "a");
  EXPECT_EQ(full["byte_offset"], 0);
  EXPECT_EQ(full["fix"], "ask a friend");
}

}  // namespace
}  // namespace codeseal
