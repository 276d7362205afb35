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

Check MakeCheck(const std::string& name, CheckOutcome outcome,
                const absl::Status& status = absl::OkStatus(),
                std::optional<AppleError> apple_error = std::nullopt,
                const std::string& note = "") {
  return {name, outcome, status, apple_error, note, ""};
}

// A report made by hand: nested code that cannot be opened, nested code that is
// not what the seal wants, and a page and four files that differ.
VerificationReport MakeBadReport() {
  const auto fault = [](Reason reason, const std::string& message) {
    return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                     reason, message);
  };
  ErrorDetail place;
  place.set_reason(v1::REASON_CODE_MODIFIED);
  place.set_stage(v1::STAGE_VERIFY);
  place.set_byte_offset(4096);

  VerificationReport report;
  report.path = "/x/Demo.app";
  report.format = "app bundle";
  SliceReport& intel = report.slices.emplace_back();
  intel.architecture = "x86_64";
  intel.identifier = "com.example.demo";
  intel.team_identifier = "TEAM123456";
  intel.digests = {DigestKind::kSha1, DigestKind::kSha256};
  intel.cdhashes = {CdHash{1}, CdHash{2}};
  intel.cdhash = {2};
  intel.authorities = Chain().certificates();
  intel.signing_time = absl::FromUnixSeconds(1'600'000'000);
  intel.timestamp = absl::FromUnixSeconds(1'600'000'001);
  intel.trusted = true;
  intel.checks = {MakeCheck(kCheckSigned, CheckOutcome::kPassed,
                            absl::OkStatus(), std::nullopt, "by somebody")};
  SliceReport& arm = report.slices.emplace_back();
  arm.architecture = "arm64";
  arm.ad_hoc = true;
  arm.checks = {
      MakeCheck(kCheckRevocation, CheckOutcome::kNotChecked),
      MakeCheck(kCheckCodePages, CheckOutcome::kFailed,
                WithErrorDetail(absl::FailedPreconditionError(
                                    std::string(kErrSignatureFailed.text) +
                                    ": page 1 differs"),
                                place),
                kErrSignatureFailed)};

  ResourceReport& resources = report.resources.emplace();
  resources.version = 2;
  resources.rule_count = 10;
  resources.file_count = 20;
  const absl::Status file = WithSubject(
      fault(v1::REASON_CODE_MODIFIED, "differs"), "/x/Demo.app/file");
  resources.problems = {{ResourceChange::kAdded, "a", file},
                        {ResourceChange::kMissing, "b", file},
                        {ResourceChange::kModified, "c", file},
                        {ResourceChange::kBadCode, "d", file}};

  NestedReport& closed = report.nested.emplace_back();
  closed.requirement = "identifier kit";
  closed.status = fault(v1::REASON_NOT_SIGNED, "cannot be opened");
  closed.report.path = "/x/Demo.app/kit";
  NestedReport& other = report.nested.emplace_back();
  other.is_other_version = true;
  other.report.path = "/x/Demo.app/plug";
  other.report.slices.emplace_back().checks = {MakeCheck(
      kCheckExplicitRequirement, CheckOutcome::kFailed,
      fault(v1::REASON_REQUIREMENT_NOT_SATISFIED, "not that"), kErrReqFailed)};
  return report;
}

TEST(ReportJsonTest, SaysEverything) {
  const auto json = [](const char* text) {
    return nlohmann::json::parse(text);
  };
  const std::string cdhash1 = "01" + std::string(38, '0');
  const std::string cdhash2 = "02" + std::string(38, '0');
  const nlohmann::json told = ReportJson(MakeBadReport(), true, Advice);

  EXPECT_EQ(told["path"], "/x/Demo.app");
  EXPECT_EQ(told["format"], "app bundle");
  EXPECT_EQ(told["valid"], false);
  EXPECT_EQ(told["satisfies_designated_requirement"], true);
  EXPECT_EQ(told["satisfies_requirement"], true);
  EXPECT_EQ(told["checks"], nlohmann::json::array());

  nlohmann::json intel = json(R"json({
    "architecture": "x86_64", "identifier": "com.example.demo",
    "team_identifier": "TEAM123456", "ad_hoc": false, "trusted": true,
    "signing_time": "2020-09-13T12:26:40Z",
    "timestamp": "2020-09-13T12:26:41Z",
    "checks": [
      {"name": "signed", "outcome": "passed", "note": "by somebody"}]})json");
  intel["cdhashes"] = {{"sha1", cdhash1}, {"sha256", cdhash2}};
  intel["cdhash"] = cdhash2;
  intel["authorities"] = nlohmann::json::array();
  for (const Certificate& each : Chain().certificates()) {
    intel["authorities"].push_back(each.CommonName());
  }
  ASSERT_EQ(told["slices"].size(), 2u);
  EXPECT_EQ(told["slices"][0], intel);
  const nlohmann::json arm = json(R"json({
    "architecture": "arm64", "identifier": "", "team_identifier": "",
    "ad_hoc": true, "trusted": false, "cdhashes": {}, "authorities": [],
    "checks": [
      {"name": "revocation", "outcome": "not checked"},
      {"name": "code-pages", "outcome": "failed",
       "error": {
         "code": "FAILED_PRECONDITION", "reason": "CODE_MODIFIED",
         "stage": "VERIFY", "fix": "ask a friend", "byte_offset": 4096,
         "message":
"invalid signature (code or signature have been modified): page 1 differs"},
       "apple_error": {
         "code": -67061, "name": "errSecCSSignatureFailed",
         "text": "invalid signature (code or signature have been modified)"}
      }]})json");
  EXPECT_EQ(told["slices"][1], arm);

  const nlohmann::json resources = json(R"json({
    "version": 2, "rules": 10, "files": 20,
    "added": ["a"], "missing": ["b"], "modified": ["c", "d"]})json");
  EXPECT_EQ(told["resources"], resources);

  ASSERT_EQ(told["nested"].size(), 2u);
  const nlohmann::json closed = json(R"json({
    "path": "/x/Demo.app/kit", "format": "", "valid": false, "slices": [],
    "checks": [], "requirement": "identifier kit",
    "satisfies_requirement": false, "is_other_version": false,
    "error": {"code": "FAILED_PRECONDITION", "reason": "NOT_SIGNED",
              "stage": "VERIFY", "message": "cannot be opened",
              "fix": "ask a friend"}})json");
  EXPECT_EQ(told["nested"][0], closed);
  EXPECT_EQ(told["nested"][1]["satisfies_requirement"], false);
  EXPECT_EQ(told["nested"][1]["is_other_version"], true);
  EXPECT_FALSE(told["nested"][1].contains("nested"));
  EXPECT_FALSE(told["nested"][1].contains("resources"));
}

TEST(ReportTextTest, CodesignsProgressIsOfCodeThatTheSealWants) {
  VerificationReport report = MakeBadReport();
  report.nested.emplace_back().report.path = "/x/Demo.app/good";
  const auto progress = [&report](ReportStyle style, int verbosity) {
    std::vector<std::string> lines;
    for (const ReportLine& line :
         TellReport(report, {.style = style, .verbosity = verbosity}).lines) {
      if (line.kind == Kind::kProgress) lines.push_back(line.text);
    }
    return lines;
  };
  const std::vector<std::string> all = {
      "--prepared:/x/Demo.app/kit", "--prepared:/x/Demo.app/plug",
      "--prepared:/x/Demo.app/good", "--validated:/x/Demo.app/good"};
  EXPECT_THAT(progress(ReportStyle::kCodesign, 0), ElementsAre());
  EXPECT_EQ(progress(ReportStyle::kCodesign, 1), all);
  EXPECT_THAT(progress(ReportStyle::kCodeseal, 1), ElementsAre());
  EXPECT_EQ(progress(ReportStyle::kCodeseal, 2), all);
}

TEST(ReportTextTest, FaultNamesArchitectureFilesAndPlace) {
  const std::vector<std::string> files = {
      "file added: /x/Demo.app/file", "file missing: /x/Demo.app/file",
      "file modified: /x/Demo.app/file", "file modified: /x/Demo.app/file"};
  std::vector<std::string> lines = {
      "/x/Demo.app: invalid signature (code or signature have been modified)",
      "In architecture: arm64"};
  const std::string why = "  why    page 1 differs (at byte 4096)";
  const auto tell = [](const ReportTextOptions& options) {
    std::vector<std::string> texts;
    for (ReportLine& each : TellReport(MakeBadReport(), options).lines) {
      texts.push_back(std::move(each.text));
    }
    return texts;
  };
  std::vector<std::string> quiet = lines;
  quiet.push_back(why);
  EXPECT_EQ(tell({.style = ReportStyle::kCodesign, .verbosity = -1}), quiet);
  lines.insert(lines.end(), files.begin(), files.end());
  lines.push_back(why);
  EXPECT_EQ(tell({.style = ReportStyle::kCodesign}), lines);
  EXPECT_EQ(tell({}), lines);
  // Then every check by name: first what nobody made, then all.
  lines.push_back("  arm64: not checked revocation");
  EXPECT_EQ(tell({.verbosity = 1}), lines);
  const std::vector<std::string> verbose = tell({.verbosity = 2});
  EXPECT_THAT(verbose, Contains("  x86_64: passed signed: by somebody"));
  EXPECT_THAT(verbose, Contains("  arm64: failed code-pages"));
}

TEST(ReportTextTest, FaultOfNestedCodeNamesItsPathArchitectureAndFiles) {
  VerificationReport report = MakeBadReport();
  VerificationReport outer;
  outer.path = "/x/Outer.app";
  outer.checks = {
      MakeCheck(kCheckNestedCode, CheckOutcome::kFailed,
                MakeError(absl::StatusCode::kFailedPrecondition,
                          v1::STAGE_VERIFY, v1::REASON_CODE_MODIFIED, ""),
                kErrSignatureFailed)};
  outer.checks[0].subcomponent = report.path;
  outer.nested.emplace_back().report = std::move(report);
  std::vector<std::string> texts;
  const ToldReport told = TellReport(outer, {.style = ReportStyle::kCodesign});
  for (const ReportLine& each : told.lines) texts.push_back(each.text);
  ASSERT_GE(texts.size(), 4u);
  EXPECT_EQ(texts[0],
            "/x/Outer.app: invalid signature (code or signature have been "
            "modified)");
  EXPECT_EQ(texts[1], "In subcomponent: /x/Demo.app");
  EXPECT_EQ(texts[2], "In architecture: arm64");
  EXPECT_EQ(texts[3], "file added: /x/Demo.app/file");
  EXPECT_THAT(told.verdict, HasReason(v1::REASON_CODE_MODIFIED));
}

TEST(ReportTextTest, DesignatedRequirementThatIsNotMetIsTheVerdict) {
  VerificationReport report;
  report.path = "/x/tool";
  report.slices.emplace_back().checks = {MakeCheck(
      kCheckDesignatedRequirement, CheckOutcome::kFailed,
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                v1::REASON_REQUIREMENT_NOT_SATISFIED, "not that"))};
  const std::string fault =
      "/x/tool: does not satisfy its designated Requirement";
  ToldReport told = TellReport(report, {});
  EXPECT_THAT(told.verdict, HasReason(v1::REASON_REQUIREMENT_NOT_SATISFIED));
  EXPECT_EQ(told.lines.at(1).text, fault);
  EXPECT_EQ(
      ReportJson(report, false, nullptr)["satisfies_designated_requirement"],
      false);
  // codesign -q does not look.
  told = TellReport(report, {.style = ReportStyle::kCodesign, .verbosity = -1});
  EXPECT_THAT(told.verdict, IsOk());
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
