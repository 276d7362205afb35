// Bundles that are right, and what must be found when they are changed. Each
// change is made to a signed Demo.app (tests/support/signed_bundle.h).

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "codesign/verify/description.h"
#include "codesign/verify/verifier.h"
#include "gmock/gmock.h"
#include "tests/support/signed_bundle.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;
using ::codeseal::testing::BuildSignedFile;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::kArm64;
using ::codeseal::testing::kX86_64;
using ::codeseal::testing::MadeTree;
using ::codeseal::testing::MakeCodeSigningChain;
using ::codeseal::testing::MakeSignedApp;
using ::codeseal::testing::SignAs;
using ::codeseal::testing::SignBundle;
using ::codeseal::testing::SignedCode;
using ::codeseal::testing::TestChain;
using ::testing::HasSubstr;

constexpr char kContents[] = "Demo.app/Contents/";
constexpr char kTool[] = "Demo.app/Contents/MacOS/tool";
constexpr char kPlug[] = "Demo.app/Contents/PlugIns/Plug.bundle";
constexpr char kKit[] = "Demo.app/Contents/Frameworks/Kit.framework";

const TestChain& Chain() {
  static const TestChain chain = MakeCodeSigningChain();
  return chain;
}

VerifyOptions Deep() {
  VerifyOptions options;
  options.is_deep = true;
  return options;
}

VerificationReport VerifyAt(const MadeTree& tree, const std::string& path,
                            const VerifyOptions& options = {}) {
  const absl::StatusOr<StoredCode> code = StoredCode::Open(tree.Path(path));
  EXPECT_THAT(code, IsOk());
  return code.ok() ? Verify(*code, options) : VerificationReport();
}

// "added Resources/new", as the report lists them.
std::vector<std::string> Problems(const VerificationReport& report) {
  std::vector<std::string> texts;
  if (!report.resources.has_value()) return texts;
  static constexpr const char* kWords[] = {"added ", "modified ", "missing ",
                                           "bad "};
  for (const ResourceProblem& problem : report.resources->problems) {
    texts.push_back(kWords[static_cast<int>(problem.change)] + problem.path);
  }
  return texts;
}

void WriteTool(MadeTree& tree, const SignAs& how) {
  const Bytes file = BuildSignedFile(how);
  tree.File(kTool, AsText(file));
}

void FlipByte(const MadeTree& tree, const std::string& path, size_t offset) {
  std::fstream file(tree.Path(path),
                    std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(static_cast<std::streamoff>(offset));
  const int byte = file.get();
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(static_cast<char>(byte ^ 1));
}

// --- What is right, and what may change ------------------------------------

struct Allowed {
  const char* name;
  std::function<void(MadeTree&)> change;
};

void PrintTo(const Allowed& allowed, std::ostream* out) {
  *out << allowed.name;
}

class AllowedChangeTest : public ::testing::TestWithParam<Allowed> {};

// Shallow and deep, signed by a certificate and, where it says so, ad-hoc.
TEST_P(AllowedChangeTest, KeepsTheSealValid) {
  MadeTree tree;
  MakeSignedApp(tree, &Chain());
  GetParam().change(tree);
  for (const bool is_deep : {false, true}) {
    VerifyOptions options;
    options.is_deep = is_deep;
    const VerificationReport report = VerifyAt(tree, "Demo.app", options);
    EXPECT_THAT(report.Validity(), IsOk());
    EXPECT_THAT(report.DesignatedRequirement(), IsOk());
    EXPECT_EQ(report.nested.size(), 4u);  // tool, Kit A and B, Plug
    EXPECT_THAT(Problems(report), ::testing::IsEmpty());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Bundle, AllowedChangeTest,
    ::testing::Values(
        Allowed{"Nothing", [](MadeTree&) {}},
        Allowed{"NestedSliceRemoved",
                [](MadeTree& tree) {
                  WriteTool(tree, {.identifier = "com.example.tool",
                                   .chain = &Chain(),
                                   .slices = {kX86_64}});
                }},
        Allowed{"LocalisationDeleted",
                [](MadeTree& tree) {
                  tree.Remove(std::string(kContents) + "Resources/en.lproj");
                }},
        Allowed{"NestedCodeReplacedByEquivalent",
                [](MadeTree& tree) {
                  WriteTool(tree, {.identifier = "com.example.tool",
                                   .chain = &Chain(),
                                   .slices = {kArm64},
                                   .code_size = 50'000});
                }},
        Allowed{"NestedBundleReplacedByEquivalent",
                [](MadeTree& tree) {
                  tree.File(std::string(kPlug) + "/Contents/Resources/new.txt",
                            "new");
                  SignBundle(
                      tree.Path(kPlug),
                      {.identifier = "com.example.plug", .chain = &Chain()});
                }},
        Allowed{"FinderFileAdded",
                [](MadeTree& tree) {
                  tree.File(std::string(kContents) + "Resources/.DS_Store");
                }}),
    [](const auto& each) { return std::string(each.param.name); });

// Ad-hoc code is nothing but itself: no version beside the current one can meet
// the requirement.
TEST(BundleVerifyTest, AdHocFrameworkHasOneVersion) {
  MadeTree tree;
  MakeSignedApp(tree, nullptr);
  fs::copy(tree.Path(std::string(kKit) + "/Versions/A"),
           tree.Path(std::string(kKit) + "/Versions/B"),
           fs::copy_options::recursive);
  EXPECT_THAT(VerifyAt(tree, "Demo.app").Validity(), IsOk());
  SignBundle(tree.Path(kKit), {.identifier = "com.example.kit2"}, "B");
  const VerificationReport report = VerifyAt(tree, "Demo.app");
  ASSERT_NE(report.FirstFailure(), nullptr);
  EXPECT_EQ(report.FirstFailure()->apple_error, kErrBadFrameworkVersion);
}

// A thin copy of ad-hoc code is still one of the cdhashes that its requirement
// lists.
TEST(BundleVerifyTest, SliceOfAdHocNestedCodeMayBeRemoved) {
  MadeTree tree;
  MakeSignedApp(tree, nullptr);
  EXPECT_THAT(VerifyAt(tree, "Demo.app", Deep()).Validity(), IsOk());
  WriteTool(tree, {.identifier = "com.example.tool", .slices = {kX86_64}});
  EXPECT_THAT(VerifyAt(tree, "Demo.app", Deep()).Validity(), IsOk());
  WriteTool(tree, {.identifier = "com.example.tool", .code_size = 10'000});
  EXPECT_THAT(VerifyAt(tree, "Demo.app").Validity(),
              HasReason(v1::REASON_BAD_NESTED_CODE));
}

TEST(BundleVerifyTest, MainExecutableMeansTheBundle) {
  MadeTree tree;
  MakeSignedApp(tree, &Chain());
  const VerificationReport report =
      VerifyAt(tree, std::string(kContents) + "MacOS/Demo");
  EXPECT_THAT(report.Validity(), IsOk());
  EXPECT_EQ(report.format, "app bundle with Mach-O thin (arm64)");
  ASSERT_TRUE(report.resources.has_value());
  EXPECT_EQ(report.resources->version, 2);
  EXPECT_EQ(report.resources->rule_count, 13u);
  // data.txt, words.strings, link, and three pieces of code.
  EXPECT_EQ(report.resources->file_count, 6u);
}

TEST(BundleVerifyTest, WhatWasNotLookedAtIsInTheReport) {
  MadeTree tree;
  MakeSignedApp(tree, &Chain());
  const VerificationReport report = VerifyAt(tree, "Demo.app");
  ASSERT_EQ(report.nested.size(), 4u);
  const NestedReport& plug = report.nested.back();
  EXPECT_THAT(plug.report.path, HasSubstr("Plug.bundle"));
  EXPECT_THAT(plug.requirement, HasSubstr("com.example.plug"));
  const auto outcome = [](const std::vector<Check>& checks,
                          std::string_view name) {
    for (const Check& check : checks) {
      if (check.name == name) return check.outcome;
    }
    ADD_FAILURE() << "no check " << name;
    return CheckOutcome::kFailed;
  };
  EXPECT_EQ(outcome(plug.report.checks, kCheckResources),
            CheckOutcome::kNotChecked);
  EXPECT_EQ(outcome(plug.report.slices[0].checks, kCheckCodePages),
            CheckOutcome::kNotChecked);
  EXPECT_EQ(outcome(report.checks, kCheckResources), CheckOutcome::kPassed);
  VerifyOptions options;
  options.is_strict = false;
  EXPECT_EQ(
      outcome(VerifyAt(tree, "Demo.app", options).checks, kCheckBundleShape),
      CheckOutcome::kNotChecked);
}

TEST(BundleVerifyTest, BundleWithoutMachOIsSignedBesideItself) {
  MadeTree tree;
  tree.Plist("Words.bundle/Contents/Info.plist", {{"CFBundleName", "Words"}});
  tree.File("Words.bundle/Contents/Resources/a.txt", "a");
  testing::SignPlainBundle(tree.Path("Words.bundle"));
  const VerificationReport report = VerifyAt(tree, "Words.bundle");
  EXPECT_THAT(report.Validity(), IsOk());
  EXPECT_THAT(report.DesignatedRequirement(), IsOk());
  EXPECT_EQ(report.format, "bundle");
  EXPECT_EQ(report.slices.front().identifier, "com.example.plain");

  const std::string folder = "Words.bundle/Contents/_CodeSignature/";
  tree.File(folder + "CodeSignature-old", "rogue");
  EXPECT_THAT(VerifyAt(tree, "Words.bundle").Validity(),
              HasReason(v1::REASON_UNSEALED_APP_ROOT));
  tree.Remove(folder + "CodeSignature-old");
  std::ofstream(tree.Path(folder + "CodeRequirements"), std::ios::app) << "x";
  EXPECT_THAT(VerifyAt(tree, "Words.bundle").Validity(),
              HasReason(v1::REASON_MALFORMED_SIGNATURE));
  tree.Remove(folder + "CodeRequirements");
  EXPECT_THAT(VerifyAt(tree, "Words.bundle").Validity(),
              HasReason(v1::REASON_SPECIAL_SLOT_MISMATCH));
  tree.Remove(folder + "CodeDirectory");
  EXPECT_THAT(VerifyAt(tree, "Words.bundle").Validity(),
              HasReason(v1::REASON_NOT_SIGNED));
}

// --- What must be found ----------------------------------------------------

struct Broken {
  const char* name;
  std::function<void(MadeTree&)> change;
  AppleError apple_error;
  const char* where;  // part of the fault's subject
  bool only_deep = false;
};

void PrintTo(const Broken& broken, std::ostream* out) { *out << broken.name; }

class BrokenBundleTest : public ::testing::TestWithParam<Broken> {};

TEST_P(BrokenBundleTest, IsRefusedWithApplesWords) {
  MadeTree tree;
  MakeSignedApp(tree, &Chain());
  GetParam().change(tree);
  if (GetParam().only_deep) {
    EXPECT_THAT(VerifyAt(tree, "Demo.app").Validity(), IsOk());
  }
  const VerificationReport report = VerifyAt(tree, "Demo.app", Deep());
  const Check* failure = report.FirstFailure();
  ASSERT_NE(failure, nullptr);
  ASSERT_TRUE(failure->apple_error.has_value());
  EXPECT_EQ(failure->apple_error->name, GetParam().apple_error.name);
  EXPECT_THAT(std::string(Message(failure->status)),
              ::testing::StartsWith(std::string(GetParam().apple_error.text)));
  EXPECT_THAT(GetErrorDetail(failure->status)->subject(),
              HasSubstr(GetParam().where));
  EXPECT_EQ(GetErrorDetail(failure->status)->stage(), v1::STAGE_VERIFY);
}

std::string In(const std::string& path) { return kContents + path; }

void Overwrite(MadeTree& tree, const std::string& path) {
  tree.File(path, "changed");
}

INSTANTIATE_TEST_SUITE_P(
    Bundle, BrokenBundleTest,
    ::testing::Values(
        Broken{"ResourceAdded",
               [](MadeTree& tree) { tree.File(In("Resources/new"), "n"); },
               kErrBadResource, "Resources/new"},
        Broken{
            "ResourceChanged",
            [](MadeTree& tree) { Overwrite(tree, In("Resources/data.txt")); },
            kErrBadResource, "Resources/data.txt"},
        Broken{"ResourceMissing",
               [](MadeTree& tree) { tree.Remove(In("Resources/data.txt")); },
               kErrBadResource, "Resources/data.txt"},
        Broken{"ResourceRenamedByCase",
               [](MadeTree& tree) {
                 fs::rename(tree.Path(In("Resources/data.txt")),
                            tree.Path(In("Resources/Data.txt")));
               },
               kErrBadResource, "Resources/Data.txt"},
        // The same letters in another Unicode form: macOS may take one for the
        // other, the seal does not.
        Broken{"ResourceInOtherUnicodeForm",
               [](MadeTree& tree) {
                 tree.File(In("Resources/caf\u00e9.txt"), "data");
                 SignBundle(tree.Path("Demo.app"), {.chain = &Chain()});
                 fs::rename(tree.Path(In("Resources/caf\u00e9.txt")),
                            tree.Path(In("Resources/cafe\u0301.txt")));
               },
               kErrBadResource, "Resources/caf"},
        Broken{"LocalisationChanged",
               [](MadeTree& tree) {
                 Overwrite(tree, In("Resources/en.lproj/words.strings"));
               },
               kErrBadResource, "words.strings"},
        Broken{"LinkTurned",
               [](MadeTree& tree) {
                 tree.Remove(In("Resources/link"));
                 tree.Link(In("Resources/link"), "en.lproj");
               },
               kErrBadResource, "Resources/link"},
        Broken{"LinkBecameFile",
               [](MadeTree& tree) {
                 tree.Remove(In("Resources/link"));
                 tree.File(In("Resources/link"), "data");
               },
               kErrBadResource, "Resources/link"},
        Broken{"FileBecameLink",
               [](MadeTree& tree) {
                 tree.Remove(In("Resources/data.txt"));
                 tree.Link(In("Resources/data.txt"), "en.lproj/words.strings");
               },
               kErrBadResource, "Resources/data.txt"},
        Broken{"InfoPlistChanged",
               [](MadeTree& tree) {
                 tree.Plist(In("Info.plist"), {{"CFBundleExecutable", "Demo"},
                                               {"CFBundleName", "Other"}});
               },
               kErrInfoPlistFailed, "MacOS/Demo (arm64)"},
        Broken{"SealChanged",
               [](MadeTree& tree) {
                 FlipByte(tree, In("_CodeSignature/CodeResources"), 20);
               },
               kErrResourceDirectoryFailed, "Demo.app"},
        Broken{"SealMissing",
               [](MadeTree& tree) {
                 tree.Remove(In("_CodeSignature/CodeResources"));
               },
               kErrResourceDirectoryFailed, "Demo.app"},
        Broken{"PageChanged",
               [](MadeTree& tree) { FlipByte(tree, In("MacOS/Demo"), 9000); },
               kErrSignatureFailed, "MacOS/Demo (arm64)"},
        // As a linker leaves it.
        Broken{"ExecutableOfNoBundle",
               [](MadeTree& tree) {
                 const Bytes file =
                     BuildSignedFile({.change = [](SignedCode& code) {
                       code.fields.flags |= kLinkerSignedFlag;
                     }});
                 tree.File(In("MacOS/Demo"), AsText(file));
               },
               kErrResourcesNotFound, "Demo.app"},
        Broken{"ExecutableNotSigned",
               [](MadeTree& tree) {
                 const Bytes file = testing::BuildMachO();
                 tree.File(In("MacOS/Demo"), AsText(file));
               },
               kErrUnsigned, "MacOS/Demo (arm64)"},
        Broken{
            "RogueFileInSignatureFolder",
            [](MadeTree& tree) { tree.File(In("_CodeSignature/extra"), "x"); },
            kErrUnsealedAppRoot, "_CodeSignature/extra"},
        Broken{"FileBesideContents",
               [](MadeTree& tree) { tree.File("Demo.app/extra", "x"); },
               kErrUnsealedAppRoot, "Demo.app"},
        Broken{"NestedCodeNotSigned",
               [](MadeTree& tree) {
                 const Bytes file = testing::BuildMachO();
                 tree.File(kTool, AsText(file));
               },
               kErrUnsigned, "MacOS/tool (arm64)"},
        Broken{"NestedCodeAdded",
               [](MadeTree& tree) {
                 const Bytes file = BuildSignedFile({});
                 tree.File(In("MacOS/other"), AsText(file));
               },
               kErrBadResource, "MacOS/other"},
        Broken{"NestedCodeMissing", [](MadeTree& tree) { tree.Remove(kTool); },
               kErrBadResource, "MacOS/tool"},
        Broken{"NestedCodeOfOtherName",
               [](MadeTree& tree) {
                 WriteTool(tree, {.identifier = "com.example.other",
                                  .chain = &Chain()});
               },
               kErrBadNestedCode, "MacOS/tool"},
        Broken{"NestedCodeOfOtherSigner",
               [](MadeTree& tree) {
                 static const TestChain other = MakeCodeSigningChain();
                 WriteTool(tree,
                           {.identifier = "com.example.tool", .chain = &other});
               },
               kErrBadNestedCode, "MacOS/tool"},
        Broken{"NestedCodeAdHoc",
               [](MadeTree& tree) {
                 WriteTool(tree, {.identifier = "com.example.tool"});
               },
               kErrBadNestedCode, "MacOS/tool"},
        // One slice meets the requirement, the other does not.
        Broken{"NestedSliceOfOtherSigner",
               [](MadeTree& tree) {
                 const Bytes good = BuildSignedFile(
                     {.identifier = "com.example.tool", .chain = &Chain()});
                 const Bytes bad = BuildSignedFile(
                     {.identifier = "com.example.tool", .slices = {kX86_64}});
                 const Bytes file = testing::BuildUniversal(
                     {.slices = {{kX86_64, bad}, {kArm64, good}}});
                 tree.File(kTool, AsText(file));
               },
               kErrBadNestedCode, "MacOS/tool"},
        Broken{"NestedPageChanged",
               [](MadeTree& tree) {
                 FlipByte(tree, std::string(kPlug) + "/Contents/MacOS/Plug",
                          9000);
               },
               kErrSignatureFailed, "Plug (arm64)", /*only_deep=*/true},
        Broken{"NestedResourceChanged",
               [](MadeTree& tree) {
                 Overwrite(tree,
                           std::string(kPlug) + "/Contents/Resources/plug.txt");
               },
               kErrBadResource, "Resources/plug.txt", /*only_deep=*/true},
        Broken{"NestedInfoPlistChanged",
               [](MadeTree& tree) {
                 tree.Plist(std::string(kPlug) + "/Contents/Info.plist",
                            {{"CFBundleExecutable", "Plug"}, {"a", "b"}});
               },
               kErrInfoPlistFailed, "Plug (arm64)"},
        Broken{"FrameworkResourceChanged",
               [](MadeTree& tree) {
                 Overwrite(tree,
                           std::string(kKit) + "/Versions/A/Resources/new");
               },
               kErrBadResource, "Versions/A/Resources/new", true},
        Broken{"OtherVersionChanged",
               [](MadeTree& tree) {
                 FlipByte(tree, std::string(kKit) + "/Versions/B/Kit", 9000);
               },
               kErrBadFrameworkVersion, "Demo.app", true},
        Broken{"OtherVersionNotSigned",
               [](MadeTree& tree) {
                 const Bytes file = testing::BuildMachO();
                 tree.File(std::string(kKit) + "/Versions/B/Kit", AsText(file));
               },
               kErrBadFrameworkVersion, "Demo.app"},
        Broken{"FileInFrameworkRoot",
               [](MadeTree& tree) {
                 tree.File(std::string(kKit) + "/extra", "x");
               },
               kErrUnsealedFrameworkRoot, "Kit.framework"}),
    [](const auto& each) { return std::string(each.param.name); });

// The current version of the framework is the app around it.
TEST(BundleVerifyTest, BundleThatContainsItselfIsNotFollowed) {
  MadeTree tree;
  MakeSignedApp(tree, &Chain());
  tree.Remove(std::string(kKit) + "/Versions/Current");
  tree.Link(std::string(kKit) + "/Versions/Current", "../../../..");
  const VerificationReport report = VerifyAt(tree, "Demo.app", Deep());
  ASSERT_NE(report.FirstFailure(), nullptr);
  EXPECT_EQ(report.FirstFailure()->apple_error, kErrBadBundleFormat);
  EXPECT_EQ(report.FirstFailure()->subcomponent, tree.Path(kKit));
  EXPECT_THAT(std::string(Message(report.Validity())),
              HasSubstr("contains itself"));
}

TEST(BundleVerifyTest, NestedFaultNamesTheInnermostCode) {
  MadeTree tree;
  MakeSignedApp(tree, &Chain());
  Overwrite(tree, std::string(kPlug) + "/Contents/Resources/plug.txt");
  const VerificationReport report = VerifyAt(tree, "Demo.app", Deep());
  ASSERT_NE(report.FirstFailure(), nullptr);
  EXPECT_EQ(report.FirstFailure()->subcomponent, tree.Path(kPlug));
  // The app's own resources are as they were.
  EXPECT_THAT(Problems(report), ::testing::IsEmpty());
}

TEST(BundleVerifyTest, EveryProblemIsListed) {
  MadeTree tree;
  MakeSignedApp(tree, &Chain());
  tree.File(In("Resources/a-new"), "n");
  Overwrite(tree, In("Resources/data.txt"));
  tree.Remove(In("Resources/link"));
  WriteTool(tree, {.identifier = "com.example.tool"});
  EXPECT_THAT(Problems(VerifyAt(tree, "Demo.app")),
              ::testing::ElementsAre("bad MacOS/tool", "added Resources/a-new",
                                     "modified Resources/data.txt",
                                     "missing Resources/link"));
}

TEST(BundleVerifyTest, LinkOutOfTheBundleIsRefusedOnDemand) {
  MadeTree tree;
  MakeSignedApp(tree, &Chain());
  tree.File("outside", "x");
  tree.Link(In("Resources/out"), "../../../outside");
  SignBundle(tree.Path("Demo.app"), {.chain = &Chain()});
  EXPECT_THAT(VerifyAt(tree, "Demo.app").Validity(), IsOk());
  VerifyOptions options;
  options.restricts_symlinks = true;
  const VerificationReport report = VerifyAt(tree, "Demo.app", options);
  EXPECT_THAT(report.Validity(), HasReason(v1::REASON_INVALID_SYMLINK));
  EXPECT_THAT(Problems(report), ::testing::ElementsAre("bad Resources/out"));
}

TEST(BundleVerifyTest, OldSealsNeedNoStrict) {
  MadeTree tree;
  tree.Plist(In("Info.plist"), {{"CFBundleExecutable", "Demo"}});
  tree.Executable(In("MacOS/Demo"), "unsigned");
  tree.File(In("Resources/data.txt"), "data");
  SignBundle(tree.Path("Demo.app"), {.rules = ResourceRuleSet::kLegacy});
  EXPECT_THAT(VerifyAt(tree, "Demo.app").Validity(),
              HasReason(v1::REASON_WEAK_RESOURCE_ENVELOPE));
  VerifyOptions options;
  options.is_strict = false;
  EXPECT_THAT(VerifyAt(tree, "Demo.app", options).Validity(), IsOk());
  Overwrite(tree, In("Resources/data.txt"));
  EXPECT_THAT(VerifyAt(tree, "Demo.app", options).Validity(),
              HasReason(v1::REASON_SEALED_RESOURCE_CHANGED));
}

TEST(BundleVerifyTest, NoStrictAllowsOddShapes) {
  MadeTree tree;
  MakeSignedApp(tree, &Chain());
  tree.File("Demo.app/extra", "x");
  tree.File(In("_CodeSignature/extra"), "x");
  VerifyOptions options;
  options.is_strict = false;
  EXPECT_THAT(VerifyAt(tree, "Demo.app", options).Validity(), IsOk());
}

TEST(BundleVerifyTest, ResourcesMayBeLeftOut) {
  MadeTree tree;
  MakeSignedApp(tree, &Chain());
  tree.File(In("Resources/new"), "n");
  VerifyOptions options;
  options.ignores_resources = true;
  EXPECT_THAT(VerifyAt(tree, "Demo.app", options).Validity(), IsOk());
}

TEST(BundleVerifyTest, VersionOfAFrameworkCanBeChosen) {
  MadeTree tree;
  MakeSignedApp(tree, &Chain());
  FlipByte(tree, std::string(kKit) + "/Versions/B/Kit", 9000);
  EXPECT_THAT(VerifyAt(tree, kKit).Validity(), IsOk());
  const absl::StatusOr<StoredCode> b = StoredCode::Open(tree.Path(kKit), "B");
  ASSERT_THAT(b, IsOk());
  EXPECT_THAT(Verify(*b, {}).Validity(), HasReason(v1::REASON_CODE_MODIFIED));
  EXPECT_THAT(StoredCode::Open(tree.Path(kKit), "C"),
              HasReason(v1::REASON_FILE_NOT_FOUND));
}

// --- Every byte ------------------------------------------------------------

// Whether code at the path is refused with each byte of [begin, end) of a file
// changed, one after another; `step` leaves some out.
void ExpectEachByteCounts(const MadeTree& tree, const std::string& code_path,
                          const std::string& file, size_t begin, size_t end,
                          size_t step = 1) {
  for (size_t offset = begin; offset < end; offset += step) {
    FlipByte(tree, file, offset);
    const absl::StatusOr<StoredCode> code =
        StoredCode::Open(tree.Path(code_path));
    EXPECT_FALSE(code.ok() && Verify(*code, {}).Validity().ok())
        << "byte " << offset << " of " << file;
    FlipByte(tree, file, offset);
  }
}

// What no signature covers, by design: in the CMS, fields outside the signed
// attributes and the chain (versions, lists of algorithms, attributes that are
// not signed, certificates that nobody needs); gaps between blobs, and behind
// the SuperBlob, which linkers leave.
TEST(BundleVerifyTest, EveryProtectedByteCounts) {
  MadeTree tree;
  MakeSignedApp(tree, &Chain());
  const std::string plug = kPlug;
  const std::string executable = plug + "/Contents/MacOS/Plug";
  const std::string seal = plug + "/Contents/_CodeSignature/CodeResources";
  const std::string info = plug + "/Contents/Info.plist";
  size_t signature_offset = 0;
  size_t cms_offset = 0;
  {
    const absl::StatusOr<StoredCode> code = StoredCode::Open(tree.Path(plug));
    ASSERT_THAT(code, IsOk());
    const CodePart& part = code->parts().front();
    const absl::StatusOr<SuperBlob> blobs =
        SuperBlob::Parse(part.signature, kEmbeddedSignatureMagic);
    ASSERT_THAT(blobs, IsOk());
    signature_offset = static_cast<size_t>(*code->FileOffset(part.signature));
    cms_offset = static_cast<size_t>(*code->FileOffset(*blobs->Find(kCmsSlot)));
  }
  ASSERT_LT(signature_offset, cms_offset);
  // Header, index, CodeDirectory, requirements, the header of the CMS blob. A
  // SuperBlob that is a byte longer has a gap at its end.
  ExpectEachByteCounts(tree, plug, executable, signature_offset,
                       signature_offset + 7);
  ExpectEachByteCounts(tree, plug, executable, signature_offset + 8,
                       cms_offset + kBlobHeaderSize);
  // Mach-O header and load commands.
  ExpectEachByteCounts(tree, plug, executable, 0, 600, 7);
  ExpectEachByteCounts(tree, plug, info, 0, fs::file_size(tree.Path(info)));
  ExpectEachByteCounts(tree, plug, seal, 0, fs::file_size(tree.Path(seal)), 5);
  EXPECT_THAT(VerifyAt(tree, plug).Validity(), IsOk());
}

// --- What is shown ---------------------------------------------------------

// No seal covers the ticket: it comes after the signature.
TEST(BundleVerifyTest, StapledTicketIsRecognisedNotChecked) {
  MadeTree tree;
  MakeSignedApp(tree, &Chain());
  const auto note = [&tree] {
    const VerificationReport report = VerifyAt(tree, "Demo.app", Deep());
    EXPECT_THAT(report.Validity(), IsOk());
    EXPECT_EQ(report.checks.back().name, kCheckNotarization);
    EXPECT_EQ(report.checks.back().outcome, CheckOutcome::kNotChecked);
    return report.checks.back().note;
  };
  const auto lines = [&tree] {
    const absl::StatusOr<StoredCode> code =
        StoredCode::Open(tree.Path("Demo.app"));
    EXPECT_THAT(code, IsOk());
    const CodeDescription description = Describe(*code);
    return FormatDescription(description, description.slices[0], 1);
  };
  EXPECT_THAT(note(), HasSubstr("no ticket is stapled"));
  EXPECT_THAT(lines(), ::testing::Not(HasSubstr("Notarization Ticket")));
  tree.File(In("CodeResources"), "s8ch and what only Apple can read");
  EXPECT_THAT(note(), HasSubstr("a ticket is stapled"));
  EXPECT_THAT(lines(), HasSubstr("Notarization Ticket=stapled\n"));
}

TEST(BundleDescriptionTest, LinesOfABundle) {
  MadeTree tree;
  MakeSignedApp(tree, nullptr);
  const absl::StatusOr<StoredCode> code =
      StoredCode::Open(tree.Path("Demo.app"));
  ASSERT_THAT(code, IsOk());
  const CodeDescription description = Describe(*code);
  ASSERT_EQ(description.slices.size(), 1u);
  const SliceDescription& slice = description.slices[0];
  const std::string text = FormatDescription(description, slice, 1);
  EXPECT_THAT(text, HasSubstr("Executable=" + tree.Path(In("MacOS/Demo")) +
                              "\n"
                              "Identifier=com.example.demo\n"
                              "Format=app bundle with Mach-O thin (arm64)\n"));
  EXPECT_THAT(text, HasSubstr("Info.plist entries=2\n"));
  EXPECT_THAT(text, HasSubstr("Sealed Resources version=2 rules=13 files=6\n"));
}

}  // namespace
}  // namespace codeseal
