// Broken bundles: each is refused in Apple's words and with our hint, and
// nothing of it changes.

#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/integration/client_fixture.h"
#include "tests/support/made_app.h"
#include "tests/support/made_tree.h"
#include "tests/support/tree_snapshot.h"

namespace codeseal::testing {
namespace {

constexpr char kFormat[] = "bundle format unrecognized, invalid, or unsuitable";
constexpr char kAmbiguous[] =
    "bundle format is ambiguous (could be app or framework)";
constexpr char kAppRoot[] = "unsealed contents present in the bundle root";
constexpr char kFrameworkRoot[] =
    "unsealed contents present in the root directory of an embedded framework";
constexpr char kRegular[] =
    "the main executable or Info.plist must be a regular file (no symlinks, "
    "etc.)";
constexpr char kPlist[] = "a required plist file or resource is malformed";
constexpr char kRules[] = "invalid resource specification rule(s)";
constexpr char kUnsigned[] = "code object is not signed at all";
constexpr char kWeak[] = "resource envelope is obsolete (custom omit rules)";

// A sound app and a sound framework to break.
class Victim {
 public:
  Victim() {
    MadeApp(tree, "Demo.app", 0);
    std::filesystem::rename(tree.Path("Demo.app/Contents/Frameworks/"
                                      "Core.framework"),
                            tree.Path("Core.framework"));
  }

  // Replaces a text in the app's Info.plist.
  void InfoPlist(const std::string& more) {
    tree.File("Demo.app/Contents/Info.plist",
              "<plist version=\"1.0\"><dict><key>CFBundleExecutable</key>"
              "<string>Demo</string>" +
                  more + "</dict></plist>");
  }
  void Rules(const std::string& rules) {
    InfoPlist(
        "<key>CFBundleResourceSpecification</key>"
        "<string>Resources/rules.plist</string>");
    tree.File("Demo.app/Contents/Resources/rules.plist", rules);
  }
  void Code(const std::string& path, const MachODescription& description) {
    tree.Executable(path, AsText(BuildMachO(description)));
  }

  MadeTree tree;
};

struct Case {
  const char* name;
  std::function<void(Victim&)> break_it;
  const char* words;              // Apple's
  const char* reason;             // as --json has it
  const char* path = "Demo.app";  // what is to be signed
  const char* subject = "";       // where the fault is, below the folder
  std::vector<std::string> options = {"--deep"};
};

const char kContents[] = "Demo.app/Contents";
const std::string kInfo = std::string(kContents) + "/Info.plist";
const std::string kMain = std::string(kContents) + "/MacOS/Demo";
const std::string kResources = std::string(kContents) + "/Resources";
const std::string kCore = "Core.framework";

std::vector<Case> Cases() {
  return {
      {"EmptyFolder",
       [](Victim& v) {
         v.tree.Remove("Demo.app");
         v.tree.Folder("Demo.app");
       },
       kFormat, "BAD_BUNDLE_FORMAT"},
      {"NoInfoPlistAndNoExecutable",
       [](Victim& v) {
         v.tree.Remove(kInfo);
         v.tree.Remove(kMain);
       },
       kFormat, "BAD_BUNDLE_FORMAT"},
      {"NoBundleAtAll", [](Victim& v) { v.tree.Folder("folder/inner"); },
       kFormat, "BAD_BUNDLE_FORMAT", "folder"},
      {"ExecutableIsALink",
       [](Victim& v) {
         v.tree.Remove(kMain);
         v.tree.Link(kMain, "demo-tool");
       },
       kRegular, "NOT_REGULAR_FILE"},
      {"InfoPlistIsALink",
       [](Victim& v) {
         std::filesystem::rename(v.tree.Path(kInfo),
                                 v.tree.Path(kResources + "/Info.plist"));
         v.tree.Link(kInfo, "Resources/Info.plist");
       },
       kRegular, "NOT_REGULAR_FILE"},
      {"InfoPlistIsNoXml",
       [](Victim& v) { v.tree.File(kInfo, "<plist><dict>"); }, kPlist,
       "BAD_INFO_PLIST"},
      {"InfoPlistIsEmpty", [](Victim& v) { v.tree.File(kInfo, ""); }, kPlist,
       "BAD_INFO_PLIST"},
      {"InfoPlistIsAnArray",
       [](Victim& v) {
         v.tree.File(kInfo, "<plist version=\"1.0\"><array/></plist>");
       },
       kPlist, "BAD_INFO_PLIST"},
      {"InfoPlistIsBrokenBinary",
       [](Victim& v) { v.tree.File(kInfo, "bplist00\xff\xff\xff"); }, kPlist,
       "BAD_INFO_PLIST"},
      {"InfoPlistOfNestedCode",
       [](Victim& v) {
         v.tree.File(std::string(kContents) +
                         "/XPCServices/Service.xpc/Contents/Info.plist",
                     "no plist");
       },
       kPlist, "BAD_INFO_PLIST", "Demo.app",
       "Demo.app/Contents/XPCServices/Service.xpc/Contents/Info.plist"},
      {"FileBesideContents",
       [](Victim& v) { v.tree.File("Demo.app/readme", ""); }, kAppRoot,
       "UNSEALED_APP_ROOT"},
      {"FolderBesideContents",
       [](Victim& v) { v.tree.Folder("Demo.app/Extra"); }, kAppRoot,
       "UNSEALED_APP_ROOT"},
      {"LinkBesideContents",
       [](Victim& v) { v.tree.Link("Demo.app/Demo", "Contents/MacOS/Demo"); },
       kAppRoot, "UNSEALED_APP_ROOT"},
      {"ExecutableDsStoreBesideContents",
       [](Victim& v) { v.tree.Executable("Demo.app/.DS_Store", ""); }, kAppRoot,
       "UNSEALED_APP_ROOT"},
      {"FileInRootOfNestedApp",
       [](Victim& v) {
         v.tree.File("Demo.app/Contents/Helpers/Demo Helper.app/x", "");
       },
       kAppRoot, "UNSEALED_APP_ROOT", "Demo.app",
       "Demo.app/Contents/Helpers/Demo Helper.app"},
      {"FileInRootOfFramework",
       [](Victim& v) { v.tree.File(kCore + "/readme", ""); }, kFrameworkRoot,
       "UNSEALED_FRAMEWORK_ROOT", "Core.framework"},
      {"FileAmongVersions",
       [](Victim& v) { v.tree.File(kCore + "/Versions/readme", ""); },
       kFrameworkRoot, "UNSEALED_FRAMEWORK_ROOT", "Core.framework"},
      {"FrameworkLinkLeadsElsewhere",
       [](Victim& v) {
         v.tree.Remove(kCore + "/Headers");
         v.tree.Link(kCore + "/Headers", "Versions/A/Headers");
       },
       kFrameworkRoot, "UNSEALED_FRAMEWORK_ROOT", "Core.framework"},
      {"CurrentVersionIsAFolder",
       [](Victim& v) {
         v.tree.Remove(kCore + "/Versions/Current");
         std::filesystem::rename(v.tree.Path(kCore + "/Versions/B"),
                                 v.tree.Path(kCore + "/Versions/Current"));
       },
       kFrameworkRoot, "UNSEALED_FRAMEWORK_ROOT", "Core.framework"},
      {"NestedFrameworkHasUnsealedRoot",
       [](Victim& v) {
         v.tree.File("Demo.app/Contents/Frameworks/Updater.framework/x", "");
       },
       kFrameworkRoot, "UNSEALED_FRAMEWORK_ROOT", "Demo.app",
       "Demo.app/Contents/Frameworks/Updater.framework"},
      {"FrameworkWithOtherCodeAtItsTop",
       [](Victim& v) {
         v.tree.Remove(kCore + "/Core");
         v.tree.Executable(kCore + "/Core", "other");
       },
       kAmbiguous, "AMBIGUOUS_BUNDLE_FORMAT", "Core.framework"},
      {"FrameworkWithOtherInfoPlistAtItsTop",
       [](Victim& v) {
         v.tree.Remove(kCore + "/Resources");
         v.tree.Plist(kCore + "/Resources/Info.plist",
                      {{"CFBundleExecutable", "Core"}});
       },
       kAmbiguous, "AMBIGUOUS_BUNDLE_FORMAT", "Core.framework"},
      {"FrameworkWithoutExecutable",
       [](Victim& v) {
         v.tree.Remove(kCore + "/Versions/B/Core");
         v.tree.Remove(kCore + "/Versions/B/Resources/Info.plist");
       },
       kFormat, "BAD_BUNDLE_FORMAT", "Core.framework"},
      {"OtherVersionIsBroken",
       [](Victim& v) {
         v.tree.Remove(kCore + "/Versions/A/Core");
         v.tree.Remove(kCore + "/Versions/A/Resources");
       },
       kFormat, "BAD_BUNDLE_FORMAT", "Core.framework",
       "Core.framework/Versions/A"},
      {"NestedLibraryUnsigned",
       [](Victim&) {},
       kUnsigned,
       "UNSIGNED_NESTED_CODE",
       "Demo.app",
       "Demo.app/Contents/Frameworks/Updater.framework",
       {}},
      {"TextAmongExecutables",
       [](Victim& v) {
         v.tree.Remove("Demo.app/Contents/Frameworks");
         v.tree.File("Demo.app/Contents/Frameworks/readme.txt", "text");
       },
       kUnsigned,
       "UNSIGNED_NESTED_CODE",
       "Demo.app",
       "Demo.app/Contents/Frameworks/readme.txt",
       {}},
      {"FolderWithADotAmongCode",
       [](Victim& v) {
         v.tree.File("Demo.app/Contents/Frameworks/1.2/readme", "text");
       },
       kFormat, "BAD_BUNDLE_FORMAT", "Demo.app",
       "Demo.app/Contents/Frameworks/1.2"},
      {"DsStoreIsALink",
       [](Victim& v) { v.tree.Link(kResources + "/x/.DS_Store", "../a"); },
       ".DS_Store files cannot be a symlink", "DS_STORE_SYMLINK", "Demo.app",
       "Demo.app/Contents/Resources/x/.DS_Store"},
      {"Pipe",
       [](Victim& v) {
         ASSERT_EQ(mkfifo(v.tree.Path(kResources + "/pipe").c_str(), 0644), 0);
       },
       "unsupported resource found (something not a directory, file or "
       "symlink)",
       "RESOURCE_NOT_SUPPORTED", "Demo.app",
       "Demo.app/Contents/Resources/pipe"},
      {"Socket",
       [](Victim& v) {
         ASSERT_EQ(mknod(v.tree.Path(kResources + "/socket").c_str(),
                         S_IFSOCK | 0644, 0),
                   0);
       },
       "unsupported resource found (something not a directory, file or "
       "symlink)",
       "RESOURCE_NOT_SUPPORTED", "Demo.app",
       "Demo.app/Contents/Resources/socket"},
      {"NameIsNotUtf8",
       [](Victim& v) { v.tree.File(kResources + "/\xff\xfe", ""); },
       "the name of a file is not UTF-8", "RESOURCE_NAME_NOT_UTF8"},
      {"LinkTargetIsNotUtf8",
       [](Victim& v) { v.tree.Link(kResources + "/link", "\xff\xfe"); },
       "the name of a file is not UTF-8", "RESOURCE_NAME_NOT_UTF8"},
      {"RulesMissing",
       [](Victim& v) {
         v.InfoPlist(
             "<key>CFBundleResourceSpecification</key>"
             "<string>rules.plist</string>");
       },
       kRules, "RESOURCE_RULES_INVALID"},
      {"RulesOutside",
       [](Victim& v) {
         v.InfoPlist(
             "<key>CFBundleResourceSpecification</key>"
             "<string>../../rules.plist</string>");
       },
       kRules, "RESOURCE_RULES_INVALID"},
      {"RulesAreNoPlist", [](Victim& v) { v.Rules("no rules"); }, kRules,
       "RESOURCE_RULES_INVALID"},
      {"RulesWithBadPattern",
       [](Victim& v) {
         v.Rules(
             "<plist version=\"1.0\"><dict><key>rules</key><dict>"
             "<key>^(</key><true/></dict></dict></plist>");
       },
       kRules, "RESOURCE_RULES_INVALID"},
      {"RulesThatOmitFiles",
       [](Victim& v) {
         v.Rules(
             "<plist version=\"1.0\"><dict><key>rules</key><dict>"
             "<key>^.*</key><true/><key>^Resources/data</key><dict>"
             "<key>omit</key><true/><key>weight</key><real>5000</real>"
             "</dict></dict></dict></plist>");
       },
       kWeak, "WEAK_RESOURCE_RULES"},
      {"TruncatedExecutable",
       [](Victim& v) {
         const std::string path = v.tree.Path(kMain);
         std::filesystem::resize_file(path, 20000);
       },
       "", "TRUNCATED"},
      {"ObjectFileAsExecutable",
       [](Victim& v) { v.Code(kMain, {.file_type = MachOFileType::kObject}); },
       "", "UNSUPPORTED_FILE_TYPE"},
      {"BytesBehindTheExecutable",
       [](Victim& v) { v.Code(kMain, {.trailing_size = 9}); },
       "main executable failed strict validation", "UNEXPECTED_DATA"},
      {"BytesBehindNestedCode",
       [](Victim& v) {
         v.Code(std::string(kContents) + "/Helpers/crash-reporter",
                {.trailing_size = 9});
       },
       "main executable failed strict validation", "UNEXPECTED_DATA",
       "Demo.app", "Demo.app/Contents/Helpers/crash-reporter"},
      {"NoRoomInTheHeader",
       [](Victim& v) { v.Code(kMain, {.header_room = 0}); }, "",
       "NO_HEADER_ROOM"},
      {"RootOfAFrameworkCannotBeSealed",
       [](Victim&) {},
       kFormat,
       "BAD_BUNDLE_FORMAT",
       "Core.framework",
       "",
       {"--deep", "--seal-root"}},
      {"NoSuchVersion",
       [](Victim&) {},
       "",
       "FILE_NOT_FOUND",
       "Core.framework",
       "",
       {"--bundle-version", "C"}},
      {"ResourceRulesOption",
       [](Victim&) {},
       "--resource-rules has been deprecated in Mac OS X >= 10.10",
       "BAD_OPTION",
       "Demo.app",
       "",
       {"--resource-rules", "rules.plist"}},
  };
}

class BadBundleTest : public ClientTest,
                      public ::testing::WithParamInterface<size_t> {};

TEST_P(BadBundleTest, IsRefusedAndUntouched) {
  const Case each = Cases()[GetParam()];
  Victim victim;
  each.break_it(victim);
  const TreeSnapshot before = TakeSnapshot(victim.tree.Path());
  const std::string path = victim.tree.Path(each.path);
  std::vector<std::string> arguments = {"sign", "-s", "-", "--json"};
  arguments.insert(arguments.end(), each.options.begin(), each.options.end());
  arguments.push_back(path);
  const SubprocessResult sign = Codeseal(arguments);

  const bool is_usage = std::string(each.reason) == "BAD_OPTION";
  EXPECT_EQ(sign.exit_code, is_usage ? 2 : 1) << sign.err;
  EXPECT_EQ(TakeSnapshot(victim.tree.Path()), before);
  const nlohmann::json document = nlohmann::json::parse(sign.out);
  const nlohmann::json& result = document["results"].at(0);
  ASSERT_TRUE(result.contains("error")) << sign.out;
  const nlohmann::json& error = result["error"];
  EXPECT_EQ(error["reason"], each.reason);
  EXPECT_THAT(error["message"].get<std::string>(),
              ::testing::StartsWith(each.words));
  if (*each.subject != '\0') {
    ASSERT_TRUE(error.contains("subject")) << sign.err;
    EXPECT_THAT(error["subject"].get<std::string>(),
                ::testing::StartsWith(victim.tree.Path(each.subject)));
  }
  // People see the same, and what to do: not the words for what nobody knew.
  EXPECT_THAT(sign.err, Explains("", each.words, ""));
  EXPECT_THAT(sign.err, Not(::testing::HasSubstr("report what it prints")));
  EXPECT_GT(error["fix"].get<std::string>().size(), 10u);
}

INSTANTIATE_TEST_SUITE_P(Bundles, BadBundleTest,
                         ::testing::Range(size_t{0}, Cases().size()),
                         [](const auto& each) {
                           return std::string(Cases()[each.param].name);
                         });

TEST(BadBundles, AreAtLeastForty) { EXPECT_GE(Cases().size(), 40u); }

}  // namespace
}  // namespace codeseal::testing
