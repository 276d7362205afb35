// What codeseal says under the name of codesign, line by line, for real code:
// two tools and an app that Apple's tools signed. show/reference.py makes the
// expected lines from the bytes, with nothing of codeseal's.

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "client/commands.h"
#include "client/options.h"
#include "client/render.h"
#include "codesign/base/mapped_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/corpus.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;
using ::codeseal::testing::CorpusItem;
using ::codeseal::testing::FindCorpusItem;
using ::codeseal::testing::RunProgram;
using ::codeseal::testing::SubprocessResult;
using ::codeseal::testing::TempFolder;

struct Outcome {
  std::string out;
  std::string err;
  int exit_code = -1;
};

// `codesign ARGUMENTS`, in this process.
Outcome Codesign(const std::vector<std::string>& arguments) {
  const client::Invocation invocation = client::ParseByName(
      "codesign", arguments,
      [](const std::string&) -> std::optional<std::string> { return {}; });
  std::ostringstream out;
  std::ostringstream err;
  Outcome outcome;
  {
    client::Reporter reporter(invocation.name, invocation.output, out, err,
                              /*terminal=*/false);
    if (const auto* show =
            std::get_if<client::ShowCommand>(&invocation.command)) {
      client::RunShow(*show, reporter);
    } else if (const auto* verify =
                   std::get_if<client::VerifyCommand>(&invocation.command)) {
      client::RunVerify(*verify, reporter);
    } else {
      ADD_FAILURE() << "neither show nor verify";
    }
    outcome.exit_code = static_cast<int>(reporter.Finish());
  }
  outcome.out = out.str();
  outcome.err = err.str();
  return outcome;
}

std::string Read(const std::string& path) {
  return std::string(AsText(MappedFile::Open(path).value().bytes()));
}

class AppleOutputTest : public ::testing::TestWithParam<const char*> {
 protected:
  const CorpusItem& item() const { return FindCorpusItem(GetParam()); }
};

// D27 has a seal of version 1, SHA-1 and an expired certificate.
INSTANTIATE_TEST_SUITE_P(Corpus, AppleOutputTest,
                         ::testing::Values("D17", "D21", "D27"),
                         [](const auto& each) {
                           return std::string(each.param);
                         });

TEST_P(AppleOutputTest, DisplayAtEachVerbosity) {
  CODESEAL_NEED_CORPUS_ITEM(item());
  for (int verbosity = 0; verbosity <= 6; ++verbosity) {
    std::vector<std::string> arguments = {"-d"};
    for (int i = 0; i < verbosity; ++i) arguments.push_back("-v");
    arguments.push_back(item().path);
    const Outcome ours = Codesign(arguments);
    const SubprocessResult reference =
        RunProgram({"python3", "-B",
                    std::string(CODESEAL_GOLDEN_FOLDER) + "/show/reference.py",
                    item().path, std::to_string(verbosity)});
    ASSERT_EQ(reference.exit_code, 0) << reference.err;
    EXPECT_EQ(ours.err, reference.out) << "verbosity " << verbosity;
    EXPECT_EQ(ours.out, "");
    EXPECT_EQ(ours.exit_code, 0);
  }
}

TEST_P(AppleOutputTest, CertificatesAreThoseOfTheSignature) {
  CODESEAL_NEED_CORPUS_ITEM(item());
  const TempFolder folder;
  const std::string prefix = folder.Path("certificate");
  const Outcome outcome =
      Codesign({"-d", "--extract-certificates=" + prefix, item().path});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  // Leaf first, each issued by the next, the last by itself.
  std::string issuer;
  for (int i = 0; i < 3; ++i) {
    const SubprocessResult names = RunProgram(
        {"openssl", "x509", "-inform", "DER", "-in", prefix + std::to_string(i),
         "-noout", "-subject", "-issuer"});
    ASSERT_EQ(names.exit_code, 0) << names.err;
    const std::string subject =
        names.out.substr(names.out.find('=') + 1,
                         names.out.find('\n') - names.out.find('=') - 1);
    if (i != 0) {
      EXPECT_EQ(subject, issuer);
    }
    issuer = names.out.substr(names.out.find("issuer=") + 7);
    issuer.pop_back();
    if (i == 2) {
      EXPECT_EQ(subject, issuer);
    }
  }
  EXPECT_FALSE(fs::exists(prefix + "3"));
}

TEST(AppleRequirementOutputTest, DesignatedOfDeveloperId) {
  for (const auto& [id, identifier, team] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {"D17", "\"term-size\"", "HX7739G8FX"},
           {"D21", "dartaotruntime", "S8QB4VV633"}}) {
    CODESEAL_CORPUS_ITEM(item, id);
    const Outcome outcome = Codesign({"-d", "-r-", item.path});
    EXPECT_EQ(outcome.out,
              "designated => identifier " + identifier +
                  " and anchor apple generic and certificate "
                  "1[field.1.2.840.113635.100.6.2.6] /* exists */ and "
                  "certificate leaf[field.1.2.840.113635.100.6.1.13] /* exists "
                  "*/ and certificate leaf[subject.OU] = " +
                  team + "\n");
    EXPECT_EQ(outcome.err, "Executable=" + item.path + "\n");
  }
}

// The three forms of the same entitlements.
TEST(AppleEntitlementsOutputTest, ListingXmlAndDer) {
  CODESEAL_CORPUS_ITEM(item, "D21");
  const Outcome listing = Codesign({"-d", "--entitlements", "-", item.path});
  const Outcome xml =
      Codesign({"-d", "--entitlements", "-", "--xml", item.path});
  const Outcome der =
      Codesign({"-d", "--entitlements", "-", "--der", item.path});
  EXPECT_THAT(listing.out,
              ::testing::StartsWith(
                  "[Dict]\n\t[Key] com.apple.security.cs.allow-unsigned-"
                  "executable-memory\n\t[Value]\n\t\t[Bool] true\n"));
  EXPECT_THAT(
      xml.out,
      ::testing::StartsWith(
          "<?xml version=\"1.0\" encoding=\"UTF-8\"?><!DOCTYPE plist PUBLIC "
          "\"-//Apple//DTD PLIST 1.0//EN\" \"https://www.apple.com/DTDs/"
          "PropertyList-1.0.dtd\"><plist version=\"1.0\"><dict><key>"));
  EXPECT_THAT(xml.out, ::testing::EndsWith("</dict></plist>"));
  // [APPLICATION 16] { INTEGER 1, [16] { ... } }, and openssl can read it.
  const TempFolder folder;
  const SubprocessResult parsed =
      RunProgram({"openssl", "asn1parse", "-inform", "DER", "-in",
                  folder.Write("entitlements.der", der.out)});
  EXPECT_EQ(parsed.exit_code, 0) << parsed.err;
  EXPECT_THAT(parsed.out, ::testing::HasSubstr("appl [ 16 ]"));
  EXPECT_THAT(parsed.out,
              ::testing::HasSubstr("com.apple.security.cs.disable-library-"
                                   "validation"));
}

// D27's seal is of version 1: nothing is wrong with it but its age.
TEST(AppleVerifyOutputTest, ValidCode) {
  for (const char* id : {"D17", "D21"}) {
    CODESEAL_CORPUS_ITEM(item, id);
    const Outcome quiet = Codesign({"-v", item.path});
    EXPECT_EQ(quiet.err, "");
    EXPECT_EQ(quiet.exit_code, 0);
    const Outcome outcome = Codesign({"-v", "-v", item.path});
    EXPECT_EQ(outcome.err, item.path + ": valid on disk\n" + item.path +
                               ": satisfies its Designated Requirement\n");
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.exit_code, 0);
  }
  CODESEAL_CORPUS_ITEM(app, "D27");
  EXPECT_THAT(Codesign({"-v", app.path}).err,
              ::testing::StartsWith(
                  app.path +
                  ": resource envelope is obsolete (version 1 signature)\n"));
  EXPECT_EQ(Codesign({"-v", app.path}).exit_code, 1);
  EXPECT_EQ(Codesign({"-v", "--no-strict", app.path}).exit_code, 0);
}

TEST(AppleVerifyOutputTest, BrokenCode) {
  CODESEAL_CORPUS_ITEM(item, "D17");
  const TempFolder folder;
  std::string code = Read(item.path);
  code[5000] = static_cast<char>(code[5000] ^ 1);
  const std::string changed = folder.Write("term-size", code);
  const Outcome outcome = Codesign({"-v", changed});
  EXPECT_THAT(outcome.err,
              ::testing::StartsWith(
                  changed + ": invalid signature (code or signature have been "
                            "modified)\nIn architecture: x86_64\n"));
  EXPECT_EQ(outcome.exit_code, 1);
  const Outcome requirement =
      Codesign({"-v", "-R=identifier nobody", item.path});
  EXPECT_THAT(requirement.err,
              ::testing::StartsWith("test-requirement: code failed to satisfy "
                                    "specified code requirement(s)\n"));
  EXPECT_EQ(requirement.exit_code, 3);
}

TEST(AppleVerifyOutputTest, ChangedBundle) {
  CODESEAL_CORPUS_ITEM(item, "D27");
  const TempFolder folder;
  const std::string app = folder.Path("info.app");
  fs::copy(item.path, app, fs::copy_options::recursive);
  const std::string file = app + "/Contents/Resources/new.txt";
  std::ofstream(file) << "new";
  const Outcome outcome = Codesign({"-v", "-v", "--no-strict", app});
  EXPECT_THAT(outcome.err,
              ::testing::StartsWith(
                  app + ": a sealed resource is missing or invalid\n"));
  EXPECT_EQ(outcome.out, "file added: " + file + "\n");
  EXPECT_EQ(outcome.exit_code, 1);
}

}  // namespace
}  // namespace codeseal
