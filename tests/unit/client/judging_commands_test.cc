// RunAssess and RunPreflight: words, streams, exit codes, JSON.

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "client/commands.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/signed_bundle.h"

namespace codeseal::client {
namespace {

using ::codeseal::testing::MadeTree;
using ::codeseal::testing::MakeSignedApp;
using ::codeseal::testing::TestChain;
using ::testing::HasSubstr;

struct Outcome {
  std::string out;
  std::string err;
  ExitCode exit_code = ExitCode::kInternal;
  nlohmann::json result() const {
    return nlohmann::json::parse(out)["results"].at(0);
  }
};

class JudgingCommandsTest : public ::testing::Test {
 protected:
  JudgingCommandsTest() : chain_(testing::MakeCodeSigningChain()) {
    MakeSignedApp(tree_, &chain_);
    // Its root plays Apple's.
    tree_.File("root.pem", chain_.root.pem());
  }

  template <typename Work>
  static Outcome Run(const OutputOptions& output, const Work& work) {
    std::ostringstream out;
    std::ostringstream err;
    Outcome outcome;
    {
      Reporter reporter("test", output, out, err, /*terminal=*/false);
      work(reporter);
      outcome.exit_code = reporter.Finish();
    }
    outcome.out = out.str();
    outcome.err = err.str();
    return outcome;
  }

  Outcome Assess(AssessCommand command, const OutputOptions& output = {}) {
    if (command.paths.empty()) command.paths = {app()};
    return Run(output,
               [&](Reporter& reporter) { RunAssess(command, reporter); });
  }

  Outcome Preflight(PreflightCommand command,
                    const OutputOptions& output = {}) {
    command.purpose = "notarization";
    if (command.paths.empty()) command.paths = {app()};
    return Run(output,
               [&](Reporter& reporter) { RunPreflight(command, reporter); });
  }

  std::string app() const { return tree_.Path("Demo.app"); }

  MadeTree tree_;
  const TestChain chain_;
  const OutputOptions apple_ = {.style = OutputStyle::kApple};
  const OutputOptions json_ = {.json = true};
};

TEST_F(JudgingCommandsTest, RejectedInApplesWords) {
  const Outcome quiet = Assess({}, apple_);
  EXPECT_EQ(quiet.exit_code, ExitCode::kRequirementFailed);
  EXPECT_EQ(quiet.err, app() + ": rejected\n");
  EXPECT_EQ(quiet.out, "");
  OutputOptions verbose = apple_;
  verbose.verbosity = 2;
  EXPECT_THAT(Assess({}, verbose).err,
              ::testing::StartsWith(app() + ": rejected\n" +
                                    "origin=codeseal test signer\n"));
}

TEST_F(JudgingCommandsTest, NoUsableSignatureInApplesWords) {
  MadeTree tree;
  MakeSignedApp(tree, nullptr);
  OutputOptions verbose = apple_;
  verbose.verbosity = 1;
  AssessCommand command;
  command.paths = {tree.Path("Demo.app")};
  const Outcome outcome = Assess(command, verbose);
  EXPECT_EQ(outcome.exit_code, ExitCode::kRequirementFailed);
  EXPECT_THAT(outcome.err,
              ::testing::StartsWith(command.paths[0] + ": rejected\n" +
                                    "source=no usable signature\n"));
}

TEST_F(JudgingCommandsTest, BrokenSignatureIsAFault) {
  tree_.File("Demo.app/Contents/Resources/data.txt", "changed");
  const Outcome outcome = Assess({}, apple_);
  EXPECT_EQ(outcome.exit_code, ExitCode::kNo);
  EXPECT_EQ(outcome.err, app() + ": a sealed resource is missing or invalid\n");
  const Outcome ours = Assess({});
  EXPECT_EQ(ours.exit_code, ExitCode::kNo);
  EXPECT_THAT(ours.out, HasSubstr("data.txt"));
}

TEST_F(JudgingCommandsTest, StopsAtTheFirstNoLikeSpctl) {
  AssessCommand command;
  command.paths = {app(), app()};
  command.stops_at_first_no = true;
  EXPECT_EQ(Assess(command, apple_).err, app() + ": rejected\n");
  command.stops_at_first_no = false;
  EXPECT_EQ(Assess(command, apple_).err,
            app() + ": rejected\n" + app() + ": rejected\n");
}

TEST_F(JudgingCommandsTest, AssessmentAsJson) {
  const Outcome outcome = Assess({}, json_);
  const nlohmann::json result = outcome.result();
  EXPECT_EQ(result["accepted"], false);
  EXPECT_EQ(result["origin"], "codeseal test signer");
  EXPECT_EQ(result["issues"][0]["rule"], "developer-id");
  EXPECT_EQ(result["issues"][0]["severity"], "error");
  EXPECT_FALSE(result["issues"][0]["fix"].get<std::string>().empty());
  EXPECT_FALSE(result["undecided"].empty());
}

TEST_F(JudgingCommandsTest, PreflightAsTheNotarysLog) {
  const Outcome outcome =
      Preflight({.anchors_path = tree_.Path("root.pem")}, json_);
  EXPECT_EQ(outcome.exit_code, ExitCode::kNo);
  const nlohmann::json result = outcome.result();
  EXPECT_EQ(result["status"], "Invalid");
  EXPECT_EQ(result["statusCode"], 4000);
  EXPECT_EQ(result["archiveFilename"], "Demo.app");
  EXPECT_FALSE(result["ticketContents"].empty());
  bool told = false;
  for (const nlohmann::json& issue : result["issues"]) {
    if (issue["rule"] != "secure-timestamp") continue;
    told = true;
    EXPECT_EQ(issue["severity"], "error");
    EXPECT_EQ(issue["message"],
              "The signature does not include a secure timestamp.");
    EXPECT_TRUE(issue["docUrl"].is_string());
    EXPECT_TRUE(issue["architecture"].is_string());
    EXPECT_THAT(issue["path"].get<std::string>(), HasSubstr("Demo.app/"));
  }
  EXPECT_TRUE(told);
}

TEST_F(JudgingCommandsTest, PreflightForPeople) {
  const Outcome outcome = Preflight({});
  EXPECT_EQ(outcome.exit_code, ExitCode::kNo);
  EXPECT_THAT(outcome.out,
              HasSubstr("The executable does not have the hardened runtime "
                        "enabled. [hardened-runtime]\n  fix    "));
  EXPECT_THAT(outcome.out, HasSubstr(" errors\n"));
}

TEST_F(JudgingCommandsTest, MissingPathIsReportedAndOthersAreJudged) {
  AssessCommand command;
  command.paths = {tree_.Path("none.app"), app()};
  const Outcome outcome = Assess(command);
  EXPECT_THAT(outcome.err, HasSubstr("none.app"));
  EXPECT_THAT(outcome.out, HasSubstr("Demo.app: rejected"));
}

}  // namespace
}  // namespace codeseal::client
