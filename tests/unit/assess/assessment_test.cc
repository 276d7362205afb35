#include "codesign/assess/assessment.h"

#include <string>
#include <vector>

#include "codesign/base/mapped_file.h"
#include "gmock/gmock.h"
#include "tests/support/package_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/assess/demo_app.h"

namespace codeseal {
namespace {

using ::codeseal::testing::AppleLikeRoot;
using ::codeseal::testing::CodeSpec;
using ::codeseal::testing::DemoApp;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::HowToSign;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::kDemoContents;
using ::codeseal::testing::MadeTree;
using ::codeseal::testing::MakeAppleLikeChain;
using ::codeseal::testing::MakeDemoApp;
using ::codeseal::testing::TestChain;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kTicketFile[] = "Demo.app/Contents/CodeResources";
constexpr char kTicket[] = "s8ch and what only Apple can read";

Assessment AssessAt(const MadeTree& tree, AssessOptions options = {},
                    const std::string& path = "Demo.app") {
  options.anchors = {AppleLikeRoot().certificate()};
  const absl::StatusOr<Assessment> assessment =
      Assess(tree.Path(path), options);
  EXPECT_THAT(assessment, IsOk());
  return assessment.ok() ? *assessment : Assessment();
}

// Without a timestamp of today the old certificate of the tests will do.
DemoApp Unstamped(DemoApp app) {
  app.main.is_stamped = app.library.is_stamped = false;
  return app;
}

Assessment AssessApp(const DemoApp& app, const AssessOptions& options = {}) {
  MadeTree tree;
  MakeDemoApp(tree, Unstamped(app));
  return AssessAt(tree, options);
}

std::vector<std::string> Rules(const Assessment& assessment) {
  std::vector<std::string> rules;
  for (const Finding& each : assessment.findings) rules.push_back(each.rule);
  return rules;
}

// Developer ID certificates since 2019 have this date; notarization counts.
constexpr char kDeveloperIdDate[] = "1.2.840.113635.100.6.1.33";

const TestChain& NewDeveloperId() {
  static const TestChain* const chain = new TestChain(MakeAppleLikeChain(
      {.markers = {testing::kDeveloperIdMarker, kDeveloperIdDate}}));
  return *chain;
}

DemoApp SignedBy(const TestChain* chain) {
  DemoApp app;
  app.main.chain = app.library.chain = chain;
  return app;
}

TEST(AssessmentTest, DeveloperIdOfBefore2019NeedsNoNotary) {
  const Assessment assessment = AssessApp({});
  EXPECT_TRUE(assessment.accepted);
  EXPECT_EQ(assessment.source, AssessmentSource::kDeveloperId);
  EXPECT_EQ(AssessmentSourceName(assessment.source), "Developer ID");
  EXPECT_EQ(assessment.origin,
            "Developer ID Application: Example (TEAMID1234)");
  EXPECT_THAT(assessment.findings, IsEmpty());
  EXPECT_THAT(assessment.undecided, Contains(HasSubstr("revoked")));
}

// The date of the signature counts for more than that of the certificate.
TEST(AssessmentTest, WhatIsSignedTodayNeedsTheNotary) {
  MadeTree tree;
  MakeDemoApp(tree, {});
  EXPECT_EQ(AssessAt(tree).source, AssessmentSource::kUnnotarizedDeveloperId);
}

TEST(AssessmentTest, NewDeveloperIdNeedsTheNotary) {
  const Assessment assessment = AssessApp(SignedBy(&NewDeveloperId()));
  EXPECT_FALSE(assessment.accepted);
  EXPECT_EQ(assessment.source, AssessmentSource::kUnnotarizedDeveloperId);
  EXPECT_THAT(Rules(assessment), ::testing::ElementsAre("notarized"));
  EXPECT_THAT(assessment.undecided,
              Contains(HasSubstr("whether Apple's service has a ticket")));
}

TEST(AssessmentTest, StapledTicketIsRecognisedNotChecked) {
  DemoApp app = SignedBy(&NewDeveloperId());
  app.after_signing = [](MadeTree& tree) { tree.File(kTicketFile, kTicket); };
  const Assessment assessment = AssessApp(app);
  EXPECT_TRUE(assessment.accepted);
  EXPECT_EQ(AssessmentSourceName(assessment.source), "Notarized Developer ID");
  EXPECT_THAT(assessment.undecided,
              Contains(HasSubstr("it was seen, not checked")));
}

struct Signer {
  const char* name;
  std::vector<std::string> markers;
  AssessmentSource source;
};

class SourceTest : public ::testing::TestWithParam<Signer> {};

TEST_P(SourceTest, FollowsFromTheCertificate) {
  const TestChain chain =
      MakeAppleLikeChain({.markers = GetParam().markers, .issuer_markers = {}});
  const Assessment assessment = AssessApp(SignedBy(&chain));
  EXPECT_EQ(assessment.source, GetParam().source);
  EXPECT_EQ(assessment.accepted, GetParam().source != AssessmentSource::kNone);
}

INSTANTIATE_TEST_SUITE_P(
    All, SourceTest,
    ::testing::Values(Signer{"AppleSystem",
                             {testing::kAppleSoftwareMarker},
                             AssessmentSource::kAppleSystem},
                      Signer{"MacAppStore",
                             {testing::kMacAppStoreMarker},
                             AssessmentSource::kMacAppStore},
                      // For submission, not for users.
                      Signer{"Distribution",
                             {testing::kDistributionMarker},
                             AssessmentSource::kNone},
                      Signer{"Development",
                             {testing::kDevelopmentMarker},
                             AssessmentSource::kNone},
                      // Developer ID by an issuer that may not issue it.
                      Signer{"FalseDeveloperId",
                             {testing::kDeveloperIdMarker},
                             AssessmentSource::kNone}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(AssessmentTest, RootsThatAreNotApplesCountForNothing) {
  MadeTree tree;
  MakeDemoApp(tree, {});
  const absl::StatusOr<Assessment> assessment =
      Assess(tree.Path("Demo.app"), {});
  ASSERT_THAT(assessment, IsOk());
  EXPECT_FALSE(assessment->accepted);
  EXPECT_EQ(assessment->source, AssessmentSource::kNone);
  EXPECT_THAT(Rules(*assessment), ::testing::ElementsAre("developer-id"));
}

TEST(AssessmentTest, UnsignedAndAdHocCodeHasNoUsableSignature) {
  for (const bool is_signed : {false, true}) {
    DemoApp app = SignedBy(nullptr);
    if (!is_signed) {
      app.after_signing = [app](MadeTree& tree) {
        tree.Executable(std::string(kDemoContents) + "MacOS/Demo",
                        AsText(testing::UnsignedCode(app.main)));
      };
    }
    const Assessment assessment = AssessApp(app);
    EXPECT_FALSE(assessment.accepted);
    EXPECT_EQ(AssessmentSourceName(assessment.source), "no usable signature");
    EXPECT_THAT(assessment.broken, IsOk());
    EXPECT_THAT(Rules(assessment), ::testing::ElementsAre("usable-signature"));
  }
}

TEST(AssessmentTest, ChangedCodeIsAFaultNotAnAnswer) {
  DemoApp app;
  app.after_signing = [](MadeTree& tree) {
    tree.File(std::string(kDemoContents) + "Resources/data.txt", "changed");
    tree.File(std::string(kDemoContents) + "Resources/new.txt", "new");
  };
  const Assessment assessment = AssessApp(app);
  EXPECT_FALSE(assessment.accepted);
  EXPECT_THAT(assessment.broken, HasReason(v1::REASON_SEALED_RESOURCE_CHANGED));
  EXPECT_EQ(assessment.broken_words, "a sealed resource is missing or invalid");
  EXPECT_EQ(assessment.findings.size(), 2u);  // both files
}

// Gatekeeper looks at nested code in full.
TEST(AssessmentTest, ChangedNestedCodeIsNamed) {
  DemoApp app;
  app.after_signing = [](MadeTree& tree) {
    const std::string path =
        std::string(kDemoContents) + "Frameworks/libdemo.dylib";
    std::string code(AsText(MappedFile::Open(tree.Path(path)).value().bytes()));
    code[5000] = static_cast<char>(code[5000] ^ 1);
    tree.Executable(path, code);
  };
  const Assessment assessment = AssessApp(app);
  EXPECT_THAT(assessment.broken, HasReason(v1::REASON_CODE_MODIFIED));
  EXPECT_THAT(assessment.broken_subcomponent, HasSubstr("libdemo.dylib"));
}

TEST(AssessmentTest, ObsoleteEnvelopes) {
  DemoApp old_seal;
  old_seal.rules = ResourceRuleSet::kLegacy;
  DemoApp beside_contents;
  beside_contents.after_signing = [](MadeTree& tree) {
    tree.File("Demo.app/readme.txt", "read me");
  };
  DemoApp link;
  link.before_signing = [](MadeTree& tree) {
    tree.Link(std::string(kDemoContents) + "Resources/link", "/etc/passwd");
  };
  for (const DemoApp& app : {old_seal, beside_contents, link}) {
    const Assessment assessment = AssessApp(app);
    EXPECT_FALSE(assessment.accepted);
    EXPECT_EQ(AssessmentSourceName(assessment.source),
              "obsolete resource envelope");
    EXPECT_THAT(assessment.broken, IsOk());
    EXPECT_THAT(Rules(assessment), Contains("resource-envelope"));
  }
}

TEST(AssessmentTest, ToolsAreNoApps) {
  MadeTree tree;
  const Bytes code = BuildSignedFile(
      HowToSign({.identifier = "com.example.tool", .is_stamped = false}));
  tree.Executable("tool", AsText(code));
  const Assessment assessment = AssessAt(tree, {}, "tool");
  EXPECT_FALSE(assessment.accepted);
  EXPECT_EQ(assessment.remark,
            "the code is valid but does not seem to be an app");
  EXPECT_EQ(AssessmentSourceName(assessment.source), "");
  EXPECT_THAT(Rules(assessment), ::testing::ElementsAre("app-like"));
  // That Apple has not seen it counts for more.
  const Bytes unseen = BuildSignedFile(HowToSign(
      {.identifier = "com.example.tool", .chain = &NewDeveloperId()}));
  tree.Executable("unseen", AsText(unseen));
  EXPECT_EQ(AssessmentSourceName(AssessAt(tree, {}, "unseen").source),
            "Unnotarized Developer ID");
  EXPECT_EQ(AssessAt(tree, {}, "unseen").remark, "");
  // For other questions it need not be one.
  EXPECT_TRUE(AssessAt(tree, {.type = AssessmentType::kOpen}, "tool").accepted);
}

TEST(AssessmentTest, DocumentsNeedAContext) {
  const Assessment assessment =
      AssessApp({}, {.type = AssessmentType::kOpen, .has_context = false});
  EXPECT_FALSE(assessment.accepted);
  EXPECT_EQ(AssessmentSourceName(assessment.source), "Insufficient Context");
}

TEST(AssessmentTest, UnsignedPackage) {
  MadeTree tree;
  tree.File("Demo.pkg", testing::MakePackage());
  const Assessment assessment =
      AssessAt(tree, {.type = AssessmentType::kInstall}, "Demo.pkg");
  EXPECT_FALSE(assessment.accepted);
  EXPECT_EQ(AssessmentSourceName(assessment.source), "no usable signature");
}

// --- The rule of OS X 10.10.4 ------------------------------------------------

constexpr uint32_t kLoadDylib = 0xc;
constexpr uint32_t kLoadWeakDylib = 0x80000018;
constexpr uint32_t kRpath = 0x8000001c;
using Commands = std::vector<testing::MachODescription::PathCommand>;

struct Loading {
  const char* name;
  Commands main;
  Commands library;
  // Empty: nothing is wrong. Otherwise parts of the finding's detail.
  std::string command;
  std::string place;
};

class LibraryRuleTest : public ::testing::TestWithParam<Loading> {};

TEST_P(LibraryRuleTest, LibrariesLieInTheBundleOrInTheSystem) {
  const Loading& loading = GetParam();
  DemoApp app;
  app.main.path_commands = loading.main;
  app.library.path_commands = loading.library;
  const Assessment assessment = AssessApp(app);
  EXPECT_EQ(assessment.accepted, loading.command.empty());
  if (loading.command.empty()) {
    EXPECT_THAT(assessment.findings, IsEmpty());
    return;
  }
  ASSERT_EQ(assessment.findings.size(), 1u);
  const Finding& finding = assessment.findings.front();
  EXPECT_EQ(finding.rule, "library-path");
  EXPECT_EQ(finding.architecture, "arm64");
  EXPECT_TRUE(finding.byte_offset.has_value());
  EXPECT_THAT(finding.detail,
              AllOf(HasSubstr(loading.command), HasSubstr(loading.place)));
}

INSTANTIATE_TEST_SUITE_P(
    All, LibraryRuleTest,
    ::testing::Values(
        Loading{"System",
                {{kLoadDylib, "/usr/lib/libSystem.B.dylib"},
                 {kLoadDylib,
                  "/System/Library/Frameworks/AppKit.framework/AppKit"}},
                {{kLoadDylib, "/usr/lib/libc++.1.dylib"}},
                "",
                ""},
        Loading{"InBundleByRpath",
                {{kLoadDylib, "@rpath/libdemo.dylib"},
                 {kRpath, "@executable_path/../Frameworks"}},
                {},
                "",
                ""},
        Loading{"InBundleByLoader",
                {},
                {{kLoadDylib, "@loader_path/libdemo.dylib"},
                 {kLoadDylib, "@executable_path/../MacOS/Demo"}},
                "",
                ""},
        Loading{"LibraryUsesTheSearchPathOfTheProgram",
                {{kRpath, "@executable_path/../Frameworks"}},
                {{kLoadDylib, "@rpath/libdemo.dylib"}},
                "",
                ""},
        Loading{"SwiftOfTheSystem",
                {{kLoadDylib, "@rpath/libswiftCore.dylib"},
                 {kRpath, "/usr/lib/swift"},
                 {kRpath, "/opt/swift"}},
                {},
                "",
                ""},
        Loading{"Absolute",
                {{kLoadDylib, "/usr/local/lib/libssl.dylib"}},
                {},
                "LC_LOAD_DYLIB /usr/local/lib/libssl.dylib",
                "leads to /usr/local/lib/libssl.dylib"},
        Loading{"WeakIsNoExcuse",
                {{kLoadWeakDylib, "/Library/Frameworks/X.framework/X"}},
                {},
                "LC_LOAD_WEAK_DYLIB",
                "/Library/Frameworks/X.framework/X"},
        Loading{"DotsLeaveTheSystem",
                {{kLoadDylib, "/usr/lib/../local/libx.dylib"}},
                {},
                "LC_LOAD_DYLIB",
                "/usr/local/libx.dylib"},
        Loading{"ExecutablePathLeavesTheBundle",
                {},
                {{kLoadDylib, "@executable_path/../../../libx.dylib"}},
                "@executable_path/../../../libx.dylib",
                "/libx.dylib"},
        Loading{"Relative",
                {{kLoadDylib, "libx.dylib"}},
                {},
                "LC_LOAD_DYLIB libx.dylib",
                "libx.dylib"},
        Loading{"SearchPathOutsideComesFirst",
                {{kLoadDylib, "@rpath/libdemo.dylib"},
                 {kRpath, "/opt/lib"},
                 {kRpath, "@executable_path/../Frameworks"}},
                {},
                "@rpath/libdemo.dylib",
                "LC_RPATH /opt/lib"},
        Loading{"SearchPathOfTheProgramLeadsOutside",
                {{kRpath, "@executable_path/../../.."}},
                {{kLoadDylib, "@rpath/libelse.dylib"}},
                "@rpath/libelse.dylib",
                "LC_RPATH"}),
    [](const auto& each) { return std::string(each.param.name); });

// What comes after the place where the library is found is never searched.
TEST(LibraryRuleTest, SearchEndsWhereTheLibraryIs) {
  DemoApp app;
  app.main.path_commands = {{kLoadDylib, "@rpath/libdemo.dylib"},
                            {kRpath, "@executable_path/../Frameworks"},
                            {kRpath, "/opt/lib"}};
  EXPECT_THAT(AssessApp(app).findings, IsEmpty());
}

// A path that happens to lead into the bundle where it was built leads nowhere
// on a user's Mac.
TEST(LibraryRuleTest, AbsolutePathIntoTheBundleIsOutside) {
  MadeTree tree;
  DemoApp app;
  const std::string library =
      tree.Path(std::string(kDemoContents) + "Frameworks/libdemo.dylib");
  app.main.path_commands = {{kLoadDylib, library}};
  MakeDemoApp(tree, Unstamped(app));
  EXPECT_THAT(Rules(AssessAt(tree)), ::testing::ElementsAre("library-path"));
  // Naming the executable means the bundle.
  EXPECT_THAT(Rules(AssessAt(tree, {}, "Demo.app/Contents/MacOS/Demo")),
              ::testing::ElementsAre("library-path"));
}

TEST(AssessmentTest, MissingFileIsAnError) {
  EXPECT_THAT(Assess("/nonexistent/Demo.app", {}),
              HasReason(v1::REASON_FILE_NOT_FOUND));
}

}  // namespace
}  // namespace codeseal
