// The situations that people ask about in Apple's forum and in TN2206: each is
// made, must be found with the right rule and a hint, and must be gone once the
// hint is followed.

#include "codesign/assess/preflight.h"

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/assess/demo_app.h"

namespace codeseal {
namespace {

using ::codeseal::testing::AppleLikeRoot;
using ::codeseal::testing::DemoApp;
using ::codeseal::testing::DeveloperId;
using ::codeseal::testing::HowToSign;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::kDemoContents;
using ::codeseal::testing::kOtherTeam;
using ::codeseal::testing::kTeam;
using ::codeseal::testing::MadeTree;
using ::codeseal::testing::MakeAppleLikeChain;
using ::codeseal::testing::MakeDemoApp;
using ::codeseal::testing::MakeProfile;
using ::codeseal::testing::ProfileSpec;
using ::codeseal::testing::TestChain;
using ::codeseal::testing::UnsignedCode;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint32_t kLoadDylib = 0xc;
constexpr uint32_t kRpath = 0x8000001c;
constexpr char kRestricted[] = "com.apple.developer.networking.vpn.api";

PlistValue True() { return {true}; }

PlistValue Texts(std::vector<std::string> texts) {
  PlistArray array;
  for (std::string& text : texts) array.push_back({std::move(text)});
  return {array};
}

const TestChain& OtherTeam() {
  static const TestChain* const chain = new TestChain(MakeAppleLikeChain(
      {.common_name = "Developer ID Application: Other (OTHERTEAM2)",
       .team = kOtherTeam}));
  return *chain;
}

const TestChain& Development() {
  static const TestChain* const chain = new TestChain(
      MakeAppleLikeChain({.common_name = "Apple Development: Jane (PERSONID)",
                          .markers = {testing::kDevelopmentMarker},
                          .issuer_markers = {}}));
  return *chain;
}

const TestChain& Distribution() {
  static const TestChain* const chain = new TestChain(MakeAppleLikeChain(
      {.common_name = "Apple Distribution: Example (TEAMID1234)",
       .markers = {testing::kDistributionMarker},
       .issuer_markers = {}}));
  return *chain;
}

const TestChain& NobodysCa() {
  static const TestChain* const chain =
      new TestChain(testing::MakeCodeSigningChain());
  return *chain;
}

const TestChain& SoonOver() {
  static const TestChain* const chain = new TestChain(
      MakeAppleLikeChain({.not_after = absl::Now() + absl::Hours(24 * 7)}));
  return *chain;
}

// What the app needs to claim kRestricted.
ProfileSpec GoodProfile() {
  ProfileSpec spec;
  spec.entitlements[kRestricted] = Texts({"allow-vpn"});
  return spec;
}

void UseProfile(DemoApp& app, const ProfileSpec& spec) {
  app.main.entitlements[kRestricted] = Texts({"allow-vpn"});
  app.profile = MakeProfile(spec);
}

std::string In(const std::string& path) { return kDemoContents + path; }

struct Situation {
  const char* name;
  PreflightPurpose purpose;
  std::string rule;
  std::string hint;  // a part of it
  std::function<void(DemoApp&)> make;
  // Does what the hint says, to the app as it was made.
  std::function<void(DemoApp&)> follow;
  Severity severity = Severity::kError;
};

void PrintTo(const Situation& situation, std::ostream* out) {
  *out << situation.name;
}

PreflightReport Look(const DemoApp& app, PreflightOptions options) {
  MadeTree tree;
  MakeDemoApp(tree, app);
  options.anchors = {AppleLikeRoot().certificate()};
  const absl::StatusOr<PreflightReport> report =
      Preflight(tree.Path("Demo.app"), options);
  EXPECT_THAT(report, IsOk());
  return report.ok() ? *report : PreflightReport();
}

std::vector<Finding> OfRule(const PreflightReport& report,
                            const std::string& rule) {
  std::vector<Finding> found;
  for (const Finding& each : report.findings) {
    if (each.rule == rule) found.push_back(each);
  }
  return found;
}

// "error signed: ..." of all but notes.
std::vector<std::string> Complaints(const PreflightReport& report) {
  std::vector<std::string> lines;
  for (const Finding& each : report.findings) {
    if (each.severity == Severity::kNote) continue;
    lines.push_back(std::string(SeverityName(each.severity)) + " " + each.rule +
                    ": " + each.path + ": " + each.detail);
  }
  return lines;
}

class PreflightSituationTest : public ::testing::TestWithParam<Situation> {};

TEST_P(PreflightSituationTest, IsFoundAndItsHintHelps) {
  const Situation& situation = GetParam();
  PreflightOptions options;
  options.purpose = situation.purpose;
  DemoApp app;
  situation.make(app);
  const PreflightReport report = Look(app, options);
  const std::vector<Finding> found = OfRule(report, situation.rule);
  ASSERT_FALSE(found.empty()) << ::testing::PrintToString(Complaints(report));
  EXPECT_EQ(found.front().severity, situation.severity);
  EXPECT_THAT(found.front().fix, HasSubstr(situation.hint));
  EXPECT_THAT(found.front().path, HasSubstr("Demo.app"));
  EXPECT_FALSE(found.front().message.empty());
  if (situation.severity == Severity::kError) {
    EXPECT_FALSE(report.accepted());
  }

  situation.follow(app);
  const PreflightReport after = Look(app, options);
  EXPECT_THAT(OfRule(after, situation.rule), IsEmpty());
  EXPECT_THAT(Complaints(after), IsEmpty());
}

constexpr PreflightPurpose kNotary = PreflightPurpose::kNotarization;
constexpr PreflightPurpose kDirect = PreflightPurpose::kDeveloperId;
constexpr PreflightPurpose kStore = PreflightPurpose::kAppStore;

void SignAgain(DemoApp& app) { app.after_signing = {}; }

const std::vector<Situation>& Situations() {
  static const auto* const situations = new std::vector<Situation>{
      // Not signed, or not any more.
      {"NotSigned", kNotary, "signed", "codeseal sign",
       [](DemoApp& app) {
         app.after_signing = [app](MadeTree& tree) {
           tree.Executable(In("MacOS/Demo"), AsText(UnsignedCode(app.main)));
           tree.Remove(In("_CodeSignature"));
         };
       },
       SignAgain},
      {"NestedCodeNotSigned", kNotary, "signed", "--deep",
       [](DemoApp& app) {
         app.after_signing = [app](MadeTree& tree) {
           tree.Executable(In(app.library_path),
                           AsText(UnsignedCode(app.library)));
         };
       },
       SignAgain},
      {"ResourceChangedAfterSigning", kNotary, "valid-signature",
       "nothing may change",
       [](DemoApp& app) {
         app.after_signing = [](MadeTree& tree) {
           tree.File(In("Resources/data.txt"), "changed");
         };
       },
       SignAgain},
      {"FileAddedAfterSigning", kNotary, "valid-signature", "sign the bundle",
       [](DemoApp& app) {
         app.after_signing = [](MadeTree& tree) {
           tree.File(In("Resources/new.txt"), "new");
         };
       },
       SignAgain},
      {"ResourceRemovedAfterSigning", kNotary, "valid-signature",
       "undo the change",
       [](DemoApp& app) {
         app.after_signing = [](MadeTree& tree) {
           tree.Remove(In("Resources/data.txt"));
         };
       },
       SignAgain},
      {"ExecutableSignedButNotTheBundle", kNotary, "valid-signature",
       "sign the bundle",
       [](DemoApp& app) {
         app.after_signing = [app](MadeTree& tree) {
           testing::SignAs how = HowToSign(app.main);
           const Bytes code = BuildSignedFile(how);
           tree.Executable(In("MacOS/Demo"), AsText(code));
           tree.Remove(In("_CodeSignature"));
         };
       },
       SignAgain},
      // TN2206: obsolete envelopes, unsealed contents, links.
      {"SealOfVersion1", kNotary, "valid-signature", "sign again",
       [](DemoApp& app) { app.rules = ResourceRuleSet::kLegacy; },
       [](DemoApp& app) { app.rules = ResourceRuleSet::kDefault; }},
      {"FileBesideContents", kNotary, "valid-signature", "Contents/Resources",
       [](DemoApp& app) {
         app.after_signing = [](MadeTree& tree) {
           tree.File("Demo.app/readme.txt", "read me");
         };
       },
       [](DemoApp& app) {
         app.after_signing = {};
         app.files["Resources/readme.txt"] = "read me";
       }},
      {"LinkLeavesTheBundle", kNotary, "valid-signature", "inside the bundle",
       [](DemoApp& app) {
         app.before_signing = [](MadeTree& tree) {
           tree.Link(In("Resources/link"), "/etc/passwd");
         };
       },
       [](DemoApp& app) {
         app.before_signing = [](MadeTree& tree) {
           tree.Link(In("Resources/link"), "data.txt");
         };
       }},
      // Whose signature.
      {"SignedAdHoc", kNotary, "developer-id-certificate", "Developer ID",
       [](DemoApp& app) { app.main.chain = app.library.chain = nullptr; },
       [](DemoApp& app) {
         app.main.chain = app.library.chain = &DeveloperId();
       }},
      {"LinkerSignedLibrary", kNotary, "developer-id-certificate",
       "Developer ID",
       [](DemoApp& app) {
         app.library.chain = nullptr;
         app.library.flags = kLinkerSignedFlag;
       },
       [](DemoApp& app) {
         app.library.chain = &DeveloperId();
         app.library.flags = 0;
       }},
      {"SignedForDevelopment", kNotary, "developer-id-certificate",
       "Developer ID", [](DemoApp& app) { app.main.chain = &Development(); },
       [](DemoApp& app) { app.main.chain = &DeveloperId(); }},
      {"SignedByAnotherCa", kNotary, "developer-id-certificate",
       "identities list",
       [](DemoApp& app) { app.main.chain = app.library.chain = &NobodysCa(); },
       [](DemoApp& app) {
         app.main.chain = app.library.chain = &DeveloperId();
       }},
      {"DeveloperIdForTheStore", kStore, "distribution-certificate",
       "Apple Distribution",
       [](DemoApp& app) {
         app.main.entitlements["com.apple.security.app-sandbox"] = True();
       },
       [](DemoApp& app) {
         app.main.chain = app.library.chain = &Distribution();
       }},
      {"TwoTeamsForTheStore", kStore, "one-team", "--deep",
       [](DemoApp& app) {
         app.main.entitlements["com.apple.security.app-sandbox"] = True();
         app.main.chain = &Distribution();
         app.library.chain = &OtherTeam();
         app.library.team = kOtherTeam;
       },
       [](DemoApp& app) {
         app.library.chain = &Distribution();
         app.library.team = kTeam;
       }},
      {"CertificateExpiresSoon", kNotary, "certificate-expiry", "--timestamp",
       [](DemoApp& app) { app.main.chain = &SoonOver(); },
       [](DemoApp& app) { app.main.chain = &DeveloperId(); },
       Severity::kWarning},
      {"CodeDirectoryWithoutTeam", kDirect, "team-identifier", "codeseal sign",
       [](DemoApp& app) { app.main.team = app.library.team = ""; },
       [](DemoApp& app) { app.main.team = app.library.team = kTeam; },
       Severity::kWarning},
      // What the notary says most.
      {"NoTimestamp", kNotary, "secure-timestamp", "--timestamp",
       [](DemoApp& app) { app.main.is_stamped = false; },
       [](DemoApp& app) { app.main.is_stamped = true; }},
      {"NoTimestampOfNestedCode", kNotary, "secure-timestamp", "--timestamp",
       [](DemoApp& app) { app.library.is_stamped = false; },
       [](DemoApp& app) { app.library.is_stamped = true; }},
      {"NoHardenedRuntime", kNotary, "hardened-runtime", "-o runtime",
       [](DemoApp& app) { app.main.flags = 0; },
       [](DemoApp& app) { app.main.flags = kRuntimeFlag; }},
      {"DebugEntitlement", kNotary, "get-task-allow", "remove it",
       [](DemoApp& app) {
         app.main.entitlements["com.apple.security.get-task-allow"] = True();
       },
       [](DemoApp& app) { app.main.entitlements.clear(); }},
      {"DebuggableHostOfPlugIns", kNotary, "debuggable", "get-task-allow",
       [](DemoApp& app) {
         app.main.entitlements["com.apple.security.get-task-allow"] = True();
         app.main
             .entitlements["com.apple.security.cs.disable-library-validation"] =
             True();
       },
       [](DemoApp& app) {
         app.main.entitlements.erase("com.apple.security.get-task-allow");
       },
       Severity::kWarning},
      {"SdkTooOld", kNotary, "sdk-version", "SDK of macOS 10.9",
       [](DemoApp& app) { app.main.version->sdk = 0x000a0800; },
       [](DemoApp& app) { app.main.version->sdk = 0x000a0900; }},
      {"SdkUnknown", kNotary, "sdk-version", "link it again",
       [](DemoApp& app) { app.library.version.reset(); },
       [](DemoApp& app) { app.library.version = app.main.version; }},
      {"Sha1Only", kNotary, "weak-digest", "sha256",
       [](DemoApp& app) { app.library.digests = {DigestKind::kSha1}; },
       [](DemoApp& app) {
         app.library.digests = {DigestKind::kSha1, DigestKind::kSha256};
       }},
      // Libraries.
      {"LibraryOfHomebrew", kNotary, "library-path", "@rpath/libssl.dylib",
       [](DemoApp& app) {
         app.main.path_commands = {
             {kLoadDylib, "/opt/homebrew/lib/libssl.dylib"}};
       },
       [](DemoApp& app) {
         app.main.path_commands = {{kRpath, "@executable_path/../Frameworks"},
                                   {kLoadDylib, "@rpath/libdemo.dylib"}};
       }},
      {"SearchPathOutside", kNotary, "library-path", "-delete_rpath",
       [](DemoApp& app) {
         app.library.path_commands = {{kLoadDylib, "@rpath/libdemo.dylib"},
                                      {kRpath, "/usr/local/lib"},
                                      {kRpath, "@loader_path"}};
       },
       [](DemoApp& app) {
         app.library.path_commands = {{kLoadDylib, "@rpath/libdemo.dylib"},
                                      {kRpath, "@loader_path"}};
       }},
      {"PathLeavesTheBundle", kDirect, "library-path", "Contents/Frameworks",
       [](DemoApp& app) {
         app.main.path_commands = {
             {kLoadDylib, "@executable_path/../../../Shared/libx.dylib"}};
       },
       [](DemoApp& app) {
         app.main.path_commands = {
             {kLoadDylib, "@executable_path/../Frameworks/libdemo.dylib"}};
       }},
      {"LibraryOfAnotherTeam", kNotary, "library-team",
       "disable-library-validation",
       [](DemoApp& app) {
         app.library.chain = &OtherTeam();
         app.library.team = kOtherTeam;
       },
       [](DemoApp& app) {
         app.main
             .entitlements["com.apple.security.cs.disable-library-validation"] =
             True();
       },
       Severity::kWarning},
      {"LibraryValidationForgoneAndAskedFor", kNotary,
       "library-validation-conflict", "without the flag",
       [](DemoApp& app) {
         app.main.flags = kRuntimeFlag | kLibraryValidationFlag;
         app.main
             .entitlements["com.apple.security.cs.disable-library-validation"] =
             True();
       },
       [](DemoApp& app) { app.main.flags = kRuntimeFlag; }, Severity::kWarning},
      {"DoesRuntimeImplyLibraryValidation", kNotary, "library-validation",
       "library-validation sets both", [](DemoApp&) {},
       [](DemoApp& app) {
         app.main.flags = kRuntimeFlag | kLibraryValidationFlag;
       },
       Severity::kNote},
      {"RuntimeExceptionWithoutRuntime", kStore, "runtime-exceptions",
       "-o runtime",
       [](DemoApp& app) {
         app.main.chain = app.library.chain = &Distribution();
         app.main.flags = 0;
         app.main.entitlements["com.apple.security.app-sandbox"] = True();
         app.main.entitlements["com.apple.security.cs.allow-jit"] = True();
       },
       [](DemoApp& app) { app.main.flags = kRuntimeFlag; }, Severity::kWarning},
      // Entitlements.
      {"NoSandboxForTheStore", kStore, "sandbox", "app-sandbox",
       [](DemoApp& app) {
         app.main.chain = app.library.chain = &Distribution();
       },
       [](DemoApp& app) {
         app.main.entitlements["com.apple.security.app-sandbox"] = True();
       }},
      {"EntitlementsOfALibrary", kNotary, "library-entitlements",
       "without entitlements",
       [](DemoApp& app) {
         app.library.entitlements["com.apple.security.cs.allow-jit"] = True();
         app.library.flags = kRuntimeFlag;
       },
       [](DemoApp& app) { app.library.entitlements.clear(); },
       Severity::kWarning},
      {"PrivateEntitlement", kNotary, "private-entitlement", "remove it",
       [](DemoApp& app) {
         app.main.entitlements["com.apple.private.tcc.allow"] = True();
       },
       [](DemoApp& app) { app.main.entitlements.clear(); }},
      {"AppGroupWithoutTeam", kNotary, "app-group", "TEAMID.NAME",
       [](DemoApp& app) {
         app.main.entitlements["com.apple.security.application-groups"] =
             Texts({"group.com.example"});
       },
       [](DemoApp& app) {
         app.main.entitlements["com.apple.security.application-groups"] =
             Texts({"TEAMID1234.com.example"});
       }},
      // Provisioning profiles.
      {"EntitlementWithoutProfile", kNotary, "profile-missing",
       "embedded.provisionprofile",
       [](DemoApp& app) {
         app.main.entitlements[kRestricted] = Texts({"allow-vpn"});
       },
       [](DemoApp& app) { app.profile = MakeProfile(GoodProfile()); }},
      {"ProfileIsNoProfile", kNotary, "profile-readable", "download it again",
       [](DemoApp& app) {
         UseProfile(app, GoodProfile());
         app.profile = ToBytes("not a profile");
       },
       [](DemoApp& app) { app.profile = MakeProfile(GoodProfile()); }},
      {"ProfileExpired", kNotary, "profile-expired", "make a new profile",
       [](DemoApp& app) {
         ProfileSpec spec = GoodProfile();
         spec.expires_at = absl::Now() - absl::Hours(1);
         UseProfile(app, spec);
       },
       [](DemoApp& app) { app.profile = MakeProfile(GoodProfile()); }},
      {"ProfileForDevices", kNotary, "profile-kind", "for this distribution",
       [](DemoApp& app) {
         ProfileSpec spec = GoodProfile();
         spec.changes["ProvisionsAllDevices"].value = false;
         spec.changes["ProvisionedDevices"] = Texts({"0000"});
         UseProfile(app, spec);
       },
       [](DemoApp& app) { app.profile = MakeProfile(GoodProfile()); }},
      {"ProfileOfAnotherTeam", kNotary, "profile-team", "profile of the team",
       [](DemoApp& app) {
         ProfileSpec spec = GoodProfile();
         spec.team = kOtherTeam;
         UseProfile(app, spec);
       },
       [](DemoApp& app) { app.profile = MakeProfile(GoodProfile()); }},
      {"ProfileForAnotherApp", kNotary, "profile-application-identifier",
       "the identifier that the profile names",
       [](DemoApp& app) {
         ProfileSpec spec = GoodProfile();
         spec.application_identifier = "TEAMID1234.com.example.other";
         UseProfile(app, spec);
       },
       [](DemoApp& app) {
         app.main.identifier = "com.example.other";
         app.bundle_identifier = "com.example.other";
       }},
      {"ProfileWithoutTheCertificate", kNotary, "profile-certificate",
       "add the certificate",
       [](DemoApp& app) {
         ProfileSpec spec = GoodProfile();
         spec.certificates = {OtherTeam().leaf.certificate()};
         UseProfile(app, spec);
       },
       [](DemoApp& app) { app.profile = MakeProfile(GoodProfile()); }},
      {"ProfileWithoutTheEntitlement", kNotary, "profile-entitlement",
       "add the capability", [](DemoApp& app) { UseProfile(app, {}); },
       [](DemoApp& app) { app.profile = MakeProfile(GoodProfile()); }},
      {"ProfileWithAnotherValue", kNotary, "profile-entitlement",
       "remove the entitlement",
       [](DemoApp& app) {
         UseProfile(app, GoodProfile());
         app.main.entitlements[kRestricted] = Texts({"allow-vpn", "more"});
       },
       [](DemoApp& app) {
         app.main.entitlements[kRestricted] = Texts({"allow-vpn"});
       }},
      {"ProfileGrantsMore", kNotary, "profile-unclaimed", "claim it",
       [](DemoApp& app) {
         app.main.entitlements["com.apple.application-identifier"] = {
             std::string("TEAMID1234.com.example.demo")};
         app.profile = MakeProfile(GoodProfile());
       },
       [](DemoApp& app) {
         app.main.entitlements[kRestricted] = Texts({"allow-vpn"});
       },
       Severity::kNote},
      // Places and files.
      {"OtherIdentifierThanInfoPlist", kNotary, "bundle-identifier",
       "without -i",
       [](DemoApp& app) { app.main.identifier = "com.example.other"; },
       [](DemoApp& app) { app.main.identifier = app.bundle_identifier; },
       Severity::kWarning},
      {"DataInMacOs", kNotary, "data-in-code-place", "Contents/Resources",
       [](DemoApp& app) {
         app.after_signing = [](MadeTree& tree) {
           tree.File(In("MacOS/config.json"), "{}");
         };
       },
       [](DemoApp& app) {
         app.after_signing = {};
         app.files["Resources/config.json"] = "{}";
       },
       Severity::kWarning},
      {"CodeInResources", kNotary, "code-in-resources", "Contents/Frameworks",
       [](DemoApp& app) { app.library_path = "Resources/libdemo.dylib"; },
       [](DemoApp& app) { app.library_path = "Frameworks/libdemo.dylib"; },
       Severity::kWarning},
      {"FinderLeftItsFile", kNotary, "finder-files", "remove it",
       [](DemoApp& app) { app.files["Resources/._data.txt"] = "fork"; },
       [](DemoApp& app) { app.files.erase("Resources/._data.txt"); },
       Severity::kWarning},
      {"NotExecutable", kNotary, "executable-bit", "chmod +x",
       [](DemoApp& app) {
         app.after_signing = [](MadeTree& tree) {
           tree.Mode(In("MacOS/Demo"), 0644);
         };
       },
       [](DemoApp& app) {
         app.after_signing = [](MadeTree& tree) {
           tree.Mode(In("MacOS/Demo"), 0755);
         };
       }},
      {"ArchiveInside", kNotary, "archive", "unpack it",
       [](DemoApp& app) { app.files["Resources/more.zip"] = "PK\x03\x04"; },
       [](DemoApp& app) { app.files.erase("Resources/more.zip"); },
       Severity::kNote},
  };
  return *situations;
}

INSTANTIATE_TEST_SUITE_P(All, PreflightSituationTest,
                         ::testing::ValuesIn(Situations()),
                         [](const auto& each) {
                           return std::string(each.param.name);
                         });

TEST(PreflightTest, GoodAppHasOnlyNotes) {
  for (const PreflightPurpose purpose : {kNotary, kDirect}) {
    PreflightOptions options;
    options.purpose = purpose;
    const PreflightReport report = Look({}, options);
    EXPECT_TRUE(report.accepted());
    EXPECT_THAT(Complaints(report), IsEmpty());
    ASSERT_EQ(report.ticket.size(), 2u);  // Demo and its library
    EXPECT_EQ(report.ticket[0].architecture, "arm64");
  }
}

// Without the CA of the tests nothing of it is Apple's.
TEST(PreflightTest, OnlyApplesRootsCountUnlessTold) {
  MadeTree tree;
  MakeDemoApp(tree, {});
  const absl::StatusOr<PreflightReport> report =
      Preflight(tree.Path("Demo.app"), {});
  ASSERT_THAT(report, IsOk());
  EXPECT_EQ(OfRule(*report, "developer-id-certificate").size(), 2u);
}

TEST(PreflightTest, GivenProfileMustBeTheOneInside) {
  PreflightOptions options;
  DemoApp app;
  app.main.entitlements[kRestricted] = Texts({"allow-vpn"});
  options.profile = MakeProfile(GoodProfile());
  options.profile_path = "given.provisionprofile";
  EXPECT_EQ(OfRule(Look(app, options), "profile-embedded").size(), 1u);
  app.profile = MakeProfile(GoodProfile());
  EXPECT_EQ(OfRule(Look(app, options), "profile-embedded").size(), 1u)
      << "two profiles are never the same bytes";
  app.profile = options.profile;
  EXPECT_THAT(Complaints(Look(app, options)), IsEmpty());
}

TEST(PreflightTest, ToolByItselfIsLookedAt) {
  MadeTree tree;
  DemoApp app;
  app.main.is_stamped = false;
  const Bytes code = BuildSignedFile(HowToSign(app.main));
  tree.Executable("demo", AsText(code));
  PreflightOptions options;
  options.anchors = {AppleLikeRoot().certificate()};
  const absl::StatusOr<PreflightReport> report =
      Preflight(tree.Path("demo"), options);
  ASSERT_THAT(report, IsOk());
  EXPECT_EQ(Complaints(*report).size(), 1u);
  EXPECT_EQ(OfRule(*report, "secure-timestamp").size(), 1u);
}

// A bundle around a script has its signature in files; it is judged as well.
TEST(PreflightTest, BundleWithoutMachOIsLookedAt) {
  MadeTree tree;
  tree.Plist("Plain.bundle/Contents/Info.plist",
             {{"CFBundleExecutable", "run.sh"}});
  tree.Executable("Plain.bundle/Contents/MacOS/run.sh", "#!/bin/sh\n");
  testing::SignPlainBundle(tree.Path("Plain.bundle"));
  const absl::StatusOr<PreflightReport> report =
      Preflight(tree.Path("Plain.bundle"), {});
  ASSERT_THAT(report, IsOk());
  EXPECT_EQ(OfRule(*report, "developer-id-certificate").size(), 1u);
  EXPECT_THAT(OfRule(*report, "sdk-version"), IsEmpty());
  EXPECT_THAT(OfRule(*report, "data-in-code-place"), IsEmpty());
  EXPECT_THAT(OfRule(*report, "valid-signature"), IsEmpty());
}

// A rule that no situation shows could be broken without anyone noticing.
TEST(PreflightTest, EveryRuleHasASituation) {
  std::set<std::string> shown = {"profile-embedded",  // above
                                 "installer-certificate",
                                 "disk-image"};  // package_and_image_test.cc
  for (const Situation& situation : Situations()) shown.insert(situation.rule);
  for (const PreflightRuleName& rule : PreflightRules()) {
    EXPECT_TRUE(shown.contains(std::string(rule.name))) << rule.name;
  }
  EXPECT_GE(Situations().size(), 30u);
}

}  // namespace
}  // namespace codeseal
