// RunVerify and RunShow on bundles: Apple's words, our hints, JSON.

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "client/commands.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/forged_cms.h"
#include "tests/support/signed_bundle.h"

namespace codeseal::client {
namespace {

using ::codeseal::testing::MadeTree;
using ::codeseal::testing::MakeSignedApp;
using ::testing::AllOf;
using ::testing::HasSubstr;

struct Outcome {
  std::string out;
  std::string err;
  ExitCode exit_code = ExitCode::kInternal;
  nlohmann::json result() const {
    return nlohmann::json::parse(out)["results"].at(0);
  }
};

class VerifyCommandTest : public ::testing::Test {
 protected:
  VerifyCommandTest() { MakeSignedApp(tree_, nullptr); }

  std::string In(const std::string& path) const {
    return "Demo.app/Contents/" + path;
  }

  Outcome Verify(VerifyCommand command, OutputOptions output = {}) {
    if (command.paths.empty()) command.paths = {tree_.Path("Demo.app")};
    std::ostringstream out;
    std::ostringstream err;
    Outcome outcome;
    {
      Reporter reporter("verify", output, out, err, /*terminal=*/false);
      RunVerify(command, reporter);
      outcome.exit_code = reporter.Finish();
    }
    outcome.out = out.str();
    outcome.err = err.str();
    return outcome;
  }

  MadeTree tree_;
  const OutputOptions json_ = {.json = true};
};

TEST_F(VerifyCommandTest, ValidBundle) {
  const Outcome outcome = Verify({.deep = true});
  EXPECT_EQ(outcome.exit_code, ExitCode::kDone) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("Demo.app: valid on disk\n"));
  EXPECT_THAT(outcome.out,
              HasSubstr("Demo.app: satisfies its Designated Requirement\n"));
  EXPECT_EQ(outcome.err, "");
}

TEST_F(VerifyCommandTest, ProgressOfNestedCodeAtTwoVs) {
  const Outcome outcome = Verify({}, {.verbosity = 2});
  const std::string tool = tree_.Path(In("MacOS/tool"));
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("--prepared:" + tool + "\n"),
                                 HasSubstr("--validated:" + tool + "\n")));
}

TEST_F(VerifyCommandTest, ChangedFilesAreListed) {
  tree_.File(In("Resources/new"), "n");
  tree_.File(In("Resources/data.txt"), "changed");
  tree_.Remove(In("Resources/link"));
  const Outcome outcome = Verify({});
  EXPECT_EQ(outcome.exit_code, ExitCode::kNo);
  EXPECT_THAT(
      outcome.err,
      HasSubstr(tree_.Path("Demo.app") +
                ": a sealed resource is missing or invalid\n"
                "file modified: " +
                tree_.Path(In("Resources/data.txt")) +
                "\nfile missing: " + tree_.Path(In("Resources/link")) +
                "\nfile added: " + tree_.Path(In("Resources/new")) + "\n"));
  EXPECT_THAT(outcome.err, HasSubstr("\n  fix    "));

  const nlohmann::json result = Verify({}, json_).result();
  EXPECT_EQ(result["valid"], false);
  EXPECT_EQ(result["resources"]["added"],
            nlohmann::json::array({"Resources/new"}));
  EXPECT_EQ(result["resources"]["modified"],
            nlohmann::json::array({"Resources/data.txt"}));
  EXPECT_EQ(result["resources"]["missing"],
            nlohmann::json::array({"Resources/link"}));
}

TEST_F(VerifyCommandTest, FaultOfNestedCodeNamesIt) {
  const std::string plug = In("PlugIns/Plug.bundle");
  tree_.File(plug + "/Contents/Resources/plug.txt", "changed");
  EXPECT_EQ(Verify({}).exit_code, ExitCode::kDone);
  const Outcome outcome = Verify({.deep = true});
  EXPECT_EQ(outcome.exit_code, ExitCode::kNo);
  EXPECT_THAT(outcome.err,
              HasSubstr("Demo.app: a sealed resource is missing or invalid\n"
                        "In subcomponent: " +
                        tree_.Path(plug) + "\nfile modified: " +
                        tree_.Path(plug + "/Contents/Resources/plug.txt")));
  const nlohmann::json result = Verify({.deep = true}, json_).result();
  ASSERT_EQ(result["nested"].size(), 3u);
  EXPECT_EQ(result["nested"][2]["valid"], false);
  EXPECT_EQ(result["nested"][2]["satisfies_requirement"], true);
  EXPECT_EQ(result["nested"][0]["valid"], true);
}

TEST_F(VerifyCommandTest, StrictWords) {
  EXPECT_EQ(Verify({.strict = {"sym"}}).exit_code, ExitCode::kDone);
  EXPECT_EQ(Verify({.strict = {"sideband", "all"}}).exit_code, ExitCode::kDone);
  const Outcome wrong = Verify({.strict = {"everything"}});
  EXPECT_EQ(wrong.exit_code, ExitCode::kUsage);
  EXPECT_THAT(wrong.err, HasSubstr("invalid strict option - everything"));
  tree_.File("Demo.app/extra", "x");
  EXPECT_EQ(Verify({}).exit_code, ExitCode::kNo);
  EXPECT_EQ(Verify({.no_strict = true}).exit_code, ExitCode::kDone);
  EXPECT_EQ(Verify({.strict = {"none"}}).exit_code, ExitCode::kDone);
}

TEST_F(VerifyCommandTest, ShowTellsOfTheSeal) {
  std::ostringstream out;
  std::ostringstream err;
  Reporter reporter("show", {}, out, err, /*terminal=*/false);
  ShowCommand command;
  command.paths = {tree_.Path("Demo.app")};
  RunShow(command, reporter);
  EXPECT_EQ(reporter.Finish(), ExitCode::kDone) << err.str();
  EXPECT_THAT(
      out.str(),
      AllOf(HasSubstr("Format=app bundle with Mach-O thin (arm64)\n"),
            HasSubstr("Sealed Resources version=2 rules=13 files=6\n")));
}

// Everything that the text has at its highest verbosity, and more.
TEST_F(VerifyCommandTest, ShowTellsEverythingAsJson) {
  const testing::TestChain chain = testing::MakeCodeSigningChain();
  MadeTree tree;
  MakeSignedApp(tree, &chain);
  std::ostringstream out;
  std::ostringstream err;
  Reporter reporter("show", json_, out, err, /*terminal=*/false);
  ShowCommand command;
  command.paths = {tree.Path("Demo.app")};
  RunShow(command, reporter);
  EXPECT_EQ(reporter.Finish(), ExitCode::kDone) << err.str();
  const nlohmann::json result =
      nlohmann::json::parse(out.str())["results"].at(0);
  EXPECT_EQ(result["sealed_resources"]["files"], 6);
  EXPECT_EQ(result["notarization_ticket"], false);
  const nlohmann::json& slice = result["slices"].at(0);
  EXPECT_EQ(slice["architecture"], "arm64");
  EXPECT_EQ(slice["digest"], "sha256");
  EXPECT_EQ(slice["build_version"]["sdk"], "14.0.0");
  EXPECT_EQ(slice["info_plist_entries"], 2);
  EXPECT_EQ(slice["internal_requirements"]["size"], 12);
  ASSERT_EQ(slice["certificates"].size(), 3u);
  EXPECT_EQ(slice["certificates"][0]["sha1"],
            HexEncode(chain.leaf.certificate().Sha1()));
  EXPECT_EQ(slice["certificates"][2]["pem"], chain.root.pem());
  const nlohmann::json& directory = slice["code_directories"].at(0);
  EXPECT_EQ(directory["full_digest"], slice["cms_digest"]);
  EXPECT_EQ(directory["cdhash"], slice["cdhash"]);
  // The digest of the empty requirement set is a known number.
  EXPECT_EQ(slice["special_slot_digests"]["-2"],
            "987920904eab650e75788c054aa0b0524e6a80bfc71aa32df8d237a61743f986");
  EXPECT_EQ(slice["code_slot_digests"].size(), slice["code_slots"]);
}

// --- Revocation -------------------------------------------------------------

class VerifyRevocationTest : public VerifyCommandTest {
 protected:
  VerifyRevocationTest() : chain_(testing::MakeCodeSigningChain()) {
    const Bytes file = testing::BuildSignedFile(
        {.identifier = "com.example.tool", .chain = &chain_});
    tree_.File("tool", AsText(file));
  }

  // Of both issuers; `revoked` is on the intermediate's.
  std::vector<std::string> Lists(const std::vector<Certificate>& revoked) {
    testing::RevocationListSpec spec;
    tree_.File("root.crl", AsText(MakeRevocationList(chain_.root, spec)));
    spec.revoked = revoked;
    tree_.File("intermediate.crl",
               AsText(MakeRevocationList(chain_.intermediate, spec)));
    return {tree_.Path("root.crl"), tree_.Path("intermediate.crl")};
  }

  const testing::TestChain chain_;
};

TEST_F(VerifyRevocationTest, ListsAreAsked) {
  VerifyCommand command = {.paths = {tree_.Path("tool")}};
  EXPECT_THAT(Verify(command).out, HasSubstr("not checked: revocation"));
  command.list_paths = Lists({});
  const Outcome good = Verify(command, {.verbosity = 2});
  EXPECT_EQ(good.exit_code, ExitCode::kDone) << good.err;
  EXPECT_THAT(good.out, HasSubstr("passed revocation: codeseal test signer"));
  EXPECT_THAT(good.out, HasSubstr("not checked: notarization"));
  command.list_paths = Lists({chain_.leaf.certificate()});
  const Outcome revoked = Verify(command);
  EXPECT_EQ(revoked.exit_code, ExitCode::kNo);
  EXPECT_THAT(revoked.err, AllOf(HasSubstr("CSSMERR_TP_CERT_REVOKED"),
                                 HasSubstr("another certificate")));
}

TEST_F(VerifyRevocationTest, FilesThatAreNoListsAreNamed) {
  const Outcome outcome = Verify(
      {.ocsp_paths = {tree_.Path("tool")}, .paths = {tree_.Path("tool")}});
  EXPECT_NE(outcome.exit_code, ExitCode::kDone);
  EXPECT_THAT(outcome.err, HasSubstr("OCSP"));
}

}  // namespace
}  // namespace codeseal::client
