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

// The same without any program: a line of codesign -d and how many -v it takes.
struct QuotedLine {
  int verbosity;
  const char* text;
};

struct QuotedDisplay {
  const char* id;
  const char* executable;  // of a bundle, below its folder
  std::vector<QuotedLine> lines;
};

const std::vector<QuotedDisplay>& QuotedDisplays() {
  static const std::vector<QuotedDisplay> displays = {
      {"D17",
       "",
       {{1, "Identifier=term-size"},
        {1, "Format=Mach-O thin (x86_64)"},
        {1,
         "CodeDirectory v=20500 size=277 flags=0x10000(runtime) hashes=3+2 "
         "location=embedded"},
        {4, "VersionPlatform=1"},
        {4, "VersionMin=658944"},
        {4, "VersionSDK=658944"},
        {3, "Hash type=sha256 size=32"},
        {3, "CandidateCDHash sha256=d23c15bad729b9bfcb58113d6806e6fd220e17be"},
        {3,
         "CandidateCDHashFull sha256=d23c15bad729b9bfcb58113d6806e6fd220e17be"
         "c5ad11cfd02154da6d19fe34"},
        {3, "Hash choices=sha256"},
        {3,
         "CMSDigest=d23c15bad729b9bfcb58113d6806e6fd220e17bec5ad11cfd02154da6d"
         "19fe34"},
        {3, "CMSDigestType=2"},
        {4, "Executable Segment base=0"},
        {4, "Executable Segment limit=0"},
        {4, "Executable Segment flags=0x1"},
        {4, "Page size=4096"},
        {3, "CDHash=d23c15bad729b9bfcb58113d6806e6fd220e17be"},
        {1, "Signature size=8986"},
        {2,
         "Authority=Developer ID Application: Node.js Foundation (HX7739G8FX)"},
        {2, "Authority=Developer ID Certification Authority"},
        {2, "Authority=Apple Root CA"},
        {1, "Timestamp=Jan 30, 2020 at 10:29:23 AM"},
        {1, "Info.plist=not bound"},
        {1, "TeamIdentifier=HX7739G8FX"},
        {1, "Runtime Version=10.14.0"},
        {1, "Sealed Resources=none"},
        {1, "Internal requirements count=1 size=172"}}},
      {"D21",
       "",
       {{1, "Identifier=dartaotruntime"},
        {1, "Format=Mach-O thin (arm64)"},
        {1,
         "CodeDirectory v=20500 size=37498 flags=0x10000(runtime) "
         "hashes=1161+7 location=embedded"},
        {4, "VersionPlatform=1"},
        {4, "VersionMin=917504"},
        {4, "VersionSDK=918528"},
        {3, "Hash type=sha256 size=32"},
        {3, "CandidateCDHash sha256=d39b8821d5d65134cef53039541126cbbab887de"},
        {3,
         "CandidateCDHashFull sha256=d39b8821d5d65134cef53039541126cbbab887de"
         "3c68ed1d0bfcf695730c5067"},
        {3, "Hash choices=sha256"},
        {3,
         "CMSDigest=d39b8821d5d65134cef53039541126cbbab887de3c68ed1d0bfcf69573"
         "0c5067"},
        {3, "CMSDigestType=2"},
        {4, "Executable Segment base=0"},
        {4, "Executable Segment limit=4521984"},
        {4, "Executable Segment flags=0x1"},
        {4, "Page size=4096"},
        {3, "CDHash=d39b8821d5d65134cef53039541126cbbab887de"},
        {1, "Signature size=9047"},
        {2, "Authority=Developer ID Application: FLUTTER.IO LLC (S8QB4VV633)"},
        {2, "Authority=Developer ID Certification Authority"},
        {2, "Authority=Apple Root CA"},
        {1, "Timestamp=Sep 15, 2026 at 8:20:19 AM"},
        {1, "Info.plist=not bound"},
        {1, "TeamIdentifier=S8QB4VV633"},
        {1, "Runtime Version=14.4.0"},
        {1, "Sealed Resources=none"},
        {1, "Internal requirements count=1 size=176"}}},
      {"D27",
       "/Contents/MacOS/terminal-notifier",
       {{1, "Identifier=nl.superalloy.oss.notify.terminal-notifier"},
        {1, "Format=app bundle with Mach-O thin (x86_64)"},
        {1,
         "CodeDirectory v=20100 size=311 flags=0x0(none) hashes=8+3 "
         "location=embedded"},
        {4, "VersionPlatform=1"},
        {4, "VersionMin=657408"},
        {4, "VersionSDK=657408"},
        {3, "Hash type=sha1 size=20"},
        {3, "CandidateCDHash sha1=7422e08dedef5837107239af3e84a6d92d23e43d"},
        {3,
         "CandidateCDHashFull sha1=7422e08dedef5837107239af3e84a6d92d23e43d"},
        {3, "Hash choices=sha1"},
        {3,
         "CMSDigest=f22d080e13d51a5a449345ea131bf6105288c882f88c4d965ef488156b"
         "23eebe"},
        {3, "CMSDigestType=2"},
        {4, "Page size=4096"},
        {3, "CDHash=7422e08dedef5837107239af3e84a6d92d23e43d"},
        {1, "Signature size=8532"},
        {2, "Authority=Developer ID Application: Springest Corporate B.V."},
        {2, "Authority=Developer ID Certification Authority"},
        {2, "Authority=Apple Root CA"},
        {1, "Timestamp=Aug 14, 2012 at 12:23:23 PM"},
        {1, "Info.plist entries=23"},
        {1, "TeamIdentifier=not set"},
        {1, "Sealed Resources version=1 rules=4 files=4"},
        {1, "Internal requirements count=1 size=236"}}},
  };
  return displays;
}

TEST(AppleDisplayTest, LineByLineAsQuoted) {
  for (const QuotedDisplay& display : QuotedDisplays()) {
    CODESEAL_CORPUS_ITEM(item, display.id);
    std::vector<std::string> arguments = {"-d", item.path};
    for (int verbosity = 0; verbosity <= 4; ++verbosity) {
      std::string expected =
          "Executable=" + item.path + display.executable + "\n";
      for (const QuotedLine& line : display.lines) {
        if (line.verbosity <= verbosity) {
          expected += std::string(line.text) + "\n";
        }
      }
      const Outcome outcome = Codesign(arguments);
      EXPECT_EQ(outcome.err, expected) << display.id << " " << verbosity;
      EXPECT_EQ(outcome.out, "");
      arguments.push_back("-v");
    }
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

// What codesign would have printed: our reason and advice stand below it, and
// are indented.
std::string ApplesPart(const std::string& err) {
  const size_t end = err.find("\n  ");
  return end == std::string::npos ? err : err.substr(0, end + 1);
}

TEST(AppleVerifyOutputTest, EveryLineAsQuoted) {
  CODESEAL_CORPUS_ITEM(item, "D17");
  const TempFolder folder;
  const std::string path = item.path;
  const auto expect = [](const std::vector<std::string>& arguments,
                         int exit_code, const std::string& lines) {
    const Outcome outcome = Codesign(arguments);
    EXPECT_EQ(ApplesPart(outcome.err), lines);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.exit_code, exit_code);
  };
  expect({"-v", "-v", "-R=identifier \"term-size\"", path}, 0,
         path + ": valid on disk\n" + path +
             ": satisfies its Designated Requirement\n" + path +
             ": explicit requirement satisfied\n");
  expect({"-v", "-R=identifier nobody", path}, 3,
         "test-requirement: code failed to satisfy specified code "
         "requirement(s)\nIn architecture: x86_64\n");
  std::string code = Read(path);
  code[5000] = static_cast<char>(code[5000] ^ 1);
  const std::string changed = folder.Write("term-size", code);
  expect({"-v", changed}, 1,
         changed +
             ": invalid signature (code or signature have been modified)\n"
             "In architecture: x86_64\n");
  const std::string text = folder.Write("text", "no code at all");
  for (const char* option : {"-v", "-d"}) {
    expect({option, text}, 1, text + ": code object is not signed at all\n");
  }
}

TEST(AppleVerifyOutputTest, BundleLineByLine) {
  CODESEAL_CORPUS_ITEM(item, "D27");
  const TempFolder folder;
  const std::string app = folder.Path("info.app");
  fs::copy(item.path, app, fs::copy_options::recursive);
  EXPECT_EQ(Codesign({"-v", "-v", "--no-strict", app}).err,
            app + ": valid on disk\n" + app +
                ": satisfies its Designated Requirement\n");
  // On standard output, in order of the paths; all else is on the other one.
  const std::string resources = app + "/Contents/Resources/";
  fs::remove(resources + "Notify.icns");
  std::ofstream(resources + "en.lproj/Credits.rtf", std::ios::app) << "more";
  std::ofstream(resources + "new.txt") << "new";
  const Outcome outcome = Codesign({"-v", "-v", "--no-strict", app});
  EXPECT_EQ(ApplesPart(outcome.err),
            app + ": a sealed resource is missing or invalid\n");
  EXPECT_EQ(outcome.out, "file missing: " + resources +
                             "Notify.icns\nfile modified: " + resources +
                             "en.lproj/Credits.rtf\nfile added: " + resources +
                             "new.txt\n");
  EXPECT_EQ(outcome.exit_code, 1);
}

}  // namespace
}  // namespace codeseal
