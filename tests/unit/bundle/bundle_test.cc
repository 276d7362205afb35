#include "codesign/bundle/bundle.h"

#include <unistd.h>

#include "codesign/base/error.h"
#include "tests/support/made_tree.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::MadeTree;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class BundleTest : public ::testing::Test {
 protected:
  void MakeApp(const std::string& path = "Demo.app") {
    tree_.Plist(
        path + "/Contents/Info.plist",
        {{"CFBundleExecutable", "Demo"}, {"CFBundlePackageType", "APPL"}});
    tree_.Executable(path + "/Contents/MacOS/Demo", "code");
    tree_.File(path + "/Contents/Resources/a");
  }

  void MakeFramework(const std::string& path = "Demo.framework") {
    MakeVersion(path + "/Versions/A");
    tree_.Link(path + "/Versions/Current", "A");
    tree_.Link(path + "/Demo", "Versions/Current/Demo");
    tree_.Link(path + "/Resources", "Versions/Current/Resources");
  }

  void MakeVersion(const std::string& path) {
    tree_.Plist(path + "/Resources/Info.plist",
                {{"CFBundleExecutable", "Demo"}});
    tree_.Executable(path + "/Demo", "code");
  }

  void MakeFlatApp(const std::string& path = "Demo.app") {
    tree_.Plist(path + "/Info.plist", {{"CFBundleExecutable", "Demo"},
                                       {"CFBundlePackageType", "APPL"}});
    tree_.Executable(path + "/Demo", "code");
  }

  absl::StatusOr<Bundle> Open(const std::string& path,
                              std::string_view version = "") {
    return Bundle::Open(tree_.Path(path), version);
  }

  // Opens; the reasons of the strict errors.
  std::vector<Reason> StrictReasons(const std::string& path) {
    const absl::StatusOr<Bundle> bundle = Open(path);
    EXPECT_THAT(bundle, IsOk());
    std::vector<Reason> reasons;
    if (!bundle.ok()) return reasons;
    for (const absl::Status& each : bundle->strict_errors()) {
      reasons.push_back(GetReason(each));
    }
    EXPECT_EQ(GetReason(bundle->CheckStrict()),
              reasons.empty() ? v1::REASON_UNSPECIFIED : reasons.front());
    return reasons;
  }

  MadeTree tree_;
};

TEST_F(BundleTest, ModernApp) {
  MakeApp();
  const auto bundle = Open("Demo.app///");
  ASSERT_THAT(bundle, IsOk());
  EXPECT_EQ(bundle->path(), tree_.Path("Demo.app"));
  EXPECT_EQ(bundle->layout(), BundleLayout::kModern);
  EXPECT_EQ(bundle->version(), "");
  EXPECT_EQ(bundle->resource_base(), tree_.Path("Demo.app/Contents"));
  EXPECT_EQ(bundle->resources_prefix(), "Resources/");
  EXPECT_EQ(bundle->info_plist_path(),
            tree_.Path("Demo.app/Contents/Info.plist"));
  EXPECT_EQ(bundle->main_file(), tree_.Path("Demo.app/Contents/MacOS/Demo"));
  EXPECT_EQ(bundle->main_file_kind(), MainFileKind::kExecutable);
  EXPECT_TRUE(bundle->is_app_like());
  EXPECT_FALSE(bundle->is_installer());
  EXPECT_EQ(bundle->FormatPrefix(), "app bundle with ");
  EXPECT_EQ(bundle->CodeResourcesPath(),
            tree_.Path("Demo.app/Contents/_CodeSignature/CodeResources"));
  EXPECT_THAT(bundle->strict_errors(), IsEmpty());
  EXPECT_THAT(bundle->CheckStrict(), IsOk());
}

TEST_F(BundleTest, VersionedFramework) {
  MakeFramework();
  const auto bundle = Open("Demo.framework");
  ASSERT_THAT(bundle, IsOk());
  EXPECT_EQ(bundle->layout(), BundleLayout::kResources);
  EXPECT_EQ(bundle->version(), "A");
  EXPECT_EQ(bundle->resource_base(), tree_.Path("Demo.framework/Versions/A"));
  EXPECT_EQ(bundle->main_file(), tree_.Path("Demo.framework/Versions/A/Demo"));
  EXPECT_EQ(bundle->resources_prefix(), "Resources/");
  EXPECT_EQ(bundle->FormatPrefix(), "bundle with ");
  EXPECT_FALSE(bundle->is_app_like());
  EXPECT_THAT(bundle->CheckStrict(), IsOk());
  EXPECT_THAT(FrameworkVersions(tree_.Path("Demo.framework")),
              ElementsAre("A"));
}

TEST_F(BundleTest, EveryVersionCanBeOpened) {
  MakeFramework();
  MakeVersion("Demo.framework/Versions/B");
  const auto bundle = Open("Demo.framework", "B");
  ASSERT_THAT(bundle, IsOk());
  EXPECT_EQ(bundle->version(), "B");
  EXPECT_EQ(bundle->main_file(), tree_.Path("Demo.framework/Versions/B/Demo"));
  EXPECT_THAT(bundle->CheckStrict(), IsOk());
  EXPECT_THAT(FrameworkVersions(tree_.Path("Demo.framework")),
              ElementsAre("A", "B"));
  EXPECT_THAT(Open("Demo.framework", "C"),
              HasReason(v1::REASON_FILE_NOT_FOUND));
}

TEST_F(BundleTest, VersionFolderIsABundleToo) {
  MakeFramework();
  const auto bundle = Open("Demo.framework/Versions/A");
  ASSERT_THAT(bundle, IsOk());
  EXPECT_EQ(bundle->layout(), BundleLayout::kResources);
  EXPECT_EQ(bundle->main_file(), tree_.Path("Demo.framework/Versions/A/Demo"));
}

TEST_F(BundleTest, FrameworkWithoutTopLinksIsSealed) {
  MakeVersion("Demo.framework/Versions/A");
  tree_.Link("Demo.framework/Versions/Current", "./A");
  EXPECT_THAT(StrictReasons("Demo.framework"), IsEmpty());
}

TEST_F(BundleTest, UnversionedFrameworkWithResources) {
  MakeVersion("Demo.framework");
  const auto bundle = Open("Demo.framework");
  ASSERT_THAT(bundle, IsOk());
  EXPECT_EQ(bundle->layout(), BundleLayout::kResources);
  EXPECT_EQ(bundle->resource_base(), tree_.Path("Demo.framework"));
  EXPECT_EQ(bundle->info_plist_path(),
            tree_.Path("Demo.framework/Resources/Info.plist"));
}

TEST_F(BundleTest, FlatApp) {
  MakeFlatApp();
  const auto bundle = Open("Demo.app");
  ASSERT_THAT(bundle, IsOk());
  EXPECT_EQ(bundle->layout(), BundleLayout::kFlat);
  EXPECT_EQ(bundle->resource_base(), tree_.Path("Demo.app"));
  EXPECT_EQ(bundle->resources_prefix(), "");
  EXPECT_EQ(bundle->main_file(), tree_.Path("Demo.app/Demo"));
  EXPECT_TRUE(bundle->is_app_like());
}

TEST_F(BundleTest, SupportFiles) {
  tree_.Plist("Demo.app/Support Files/Info.plist",
              {{"CFBundleExecutable", "Demo"}});
  tree_.Executable("Demo.app/Support Files/Executables/Demo", "code");
  const auto bundle = Open("Demo.app");
  ASSERT_THAT(bundle, IsOk());
  EXPECT_EQ(bundle->layout(), BundleLayout::kSupportFiles);
  EXPECT_EQ(bundle->resource_base(), tree_.Path("Demo.app/Support Files"));
  EXPECT_EQ(bundle->main_file(),
            tree_.Path("Demo.app/Support Files/Executables/Demo"));
  EXPECT_EQ(bundle->resources_prefix(), "Resources/");
  EXPECT_FALSE(bundle->is_app_like());
}

TEST_F(BundleTest, ExecutableIsSearchedWhereCoreFoundationLooks) {
  MakeApp();
  tree_.Executable("Demo.app/Contents/Demo", "other");
  EXPECT_EQ(Open("Demo.app")->main_file(),
            tree_.Path("Demo.app/Contents/MacOS/Demo"));
  tree_.Remove("Demo.app/Contents/MacOS");
  EXPECT_EQ(Open("Demo.app")->main_file(),
            tree_.Path("Demo.app/Contents/Demo"));
}

TEST_F(BundleTest, NameOfTheFolderIsTheLastGuess) {
  tree_.Executable("Demo.bundle/Contents/MacOS/Demo", "code");
  const auto bundle = Open("Demo.bundle");
  ASSERT_THAT(bundle, IsOk());
  EXPECT_EQ(bundle->main_file(), tree_.Path("Demo.bundle/Contents/MacOS/Demo"));
  EXPECT_EQ(bundle->info_plist_path(), std::nullopt);
}

TEST_F(BundleTest, BundleWithoutCodeIsItsInfoPlist) {
  tree_.Plist("Demo.xcframework/Info.plist", {{"CFBundlePackageType", "XFWK"}});
  const auto bundle = Open("Demo.xcframework");
  ASSERT_THAT(bundle, IsOk());
  EXPECT_EQ(bundle->main_file_kind(), MainFileKind::kInfoPlist);
  EXPECT_EQ(bundle->main_file(), bundle->info_plist_path());
  EXPECT_EQ(bundle->FormatPrefix(), "bundle");
  EXPECT_FALSE(bundle->is_installer());
}

TEST_F(BundleTest, Widget) {
  tree_.Plist("Demo.wdgt/Info.plist", {{"MainHTML", "Demo.html"}});
  tree_.File("Demo.wdgt/Demo.html");
  const auto bundle = Open("Demo.wdgt");
  ASSERT_THAT(bundle, IsOk());
  EXPECT_EQ(bundle->main_file_kind(), MainFileKind::kWidget);
  EXPECT_EQ(bundle->main_file(), tree_.Path("Demo.wdgt/Demo.html"));
  EXPECT_EQ(bundle->FormatPrefix(), "widget bundle");
  EXPECT_TRUE(bundle->is_app_like());
}

TEST_F(BundleTest, InstallerPackages) {
  tree_.Plist("a.pkg/Contents/Info.plist", {{"IFMajorVersion", "1"}});
  const auto package = Open("a.pkg");
  ASSERT_THAT(package, IsOk());
  EXPECT_TRUE(package->is_installer());
  EXPECT_EQ(package->FormatPrefix(), "installer package bundle");
  const auto rules = package->LoadResourceRules(ResourceRuleSet::kDefault);
  ASSERT_THAT(rules, IsOk());
  EXPECT_TRUE(rules->rules.contains("^.*/.*\\.pkg/"));

  tree_.File("b.mpkg/Contents/b.dist");
  const auto distribution = Open("b.mpkg");
  ASSERT_THAT(distribution, IsOk());
  EXPECT_EQ(distribution->main_file_kind(), MainFileKind::kDistribution);
  EXPECT_TRUE(distribution->is_installer());
  tree_.File("b.mpkg/Contents/c.dist");
  EXPECT_THAT(Open("b.mpkg"), HasReason(v1::REASON_BAD_BUNDLE_FORMAT));
}

// --- What cannot be opened ---------------------------------------------------

TEST_F(BundleTest, RefusesWhatIsNoBundle) {
  tree_.Folder("Empty.app");
  EXPECT_THAT(Open("Empty.app"),
              AllOf(HasReason(v1::REASON_BAD_BUNDLE_FORMAT),
                    HasMessage("bundle format unrecognized, invalid, or "
                               "unsuitable")));
  EXPECT_EQ(GetErrorDetail(Open("Empty.app").status())->subject(),
            tree_.Path("Empty.app"));
  tree_.File("file.app");
  EXPECT_THAT(Open("file.app"), HasReason(v1::REASON_BAD_BUNDLE_FORMAT));
  EXPECT_THAT(Open("none.app"), HasReason(v1::REASON_FILE_NOT_FOUND));
}

TEST_F(BundleTest, RefusesInfoPlistThatIsNone) {
  MakeApp();
  tree_.File("Demo.app/Contents/Info.plist", "<plist><array/></plist>");
  const auto bundle = Open("Demo.app");
  EXPECT_THAT(bundle, AllOf(HasReason(v1::REASON_BAD_INFO_PLIST),
                            HasMessage("a required plist file or resource is "
                                       "malformed")));
  EXPECT_EQ(GetErrorDetail(bundle.status())->subject(),
            tree_.Path("Demo.app/Contents/Info.plist"));
}

TEST_F(BundleTest, RefusesWidgetWithoutItsPage) {
  tree_.Plist("Demo.wdgt/Info.plist", {{"MainHTML", "Demo.html"}});
  EXPECT_THAT(Open("Demo.wdgt"), HasReason(v1::REASON_BAD_BUNDLE_FORMAT));
}

TEST_F(BundleTest, ExecutableOutsideTheBundleIsNone) {
  tree_.Executable("outside", "code");
  tree_.Folder("Demo.app/Contents/MacOS");
  for (const std::string& name :
       {std::string("../../../outside"), tree_.Path("outside")}) {
    tree_.Plist("Demo.app/Contents/Info.plist", {{"CFBundleExecutable", name}});
    const auto bundle = Open("Demo.app");
    ASSERT_THAT(bundle, IsOk());
    EXPECT_EQ(bundle->main_file_kind(), MainFileKind::kInfoPlist) << name;
  }
}

// --- BN-1 to BN-6: strict errors
// -----------------------------------------------

TEST_F(BundleTest, BN1_NothingMayLieBesideContents) {
  MakeApp();
  tree_.File("Demo.app/.DS_Store");
  tree_.File("Demo.app/.LSOverride");
  tree_.File("Demo.app/Icon\r");
  tree_.File("Demo.app/.SoftwareDepot.tracking");
  EXPECT_THAT(StrictReasons("Demo.app"), IsEmpty());
  const auto is_unsealed = ElementsAre(v1::REASON_UNSEALED_APP_ROOT);
  tree_.Mode("Demo.app/.DS_Store", 0755);  // could be run
  EXPECT_THAT(StrictReasons("Demo.app"), is_unsealed);
  tree_.Remove("Demo.app/.DS_Store");
  tree_.File("Demo.app/stray");
  EXPECT_THAT(StrictReasons("Demo.app"), is_unsealed);
  tree_.Remove("Demo.app/stray");
  tree_.Link("Demo.app/stray", "Contents");
  EXPECT_THAT(StrictReasons("Demo.app"), is_unsealed);
  tree_.Remove("Demo.app/stray");
  tree_.Folder("Demo.app/stray");
  EXPECT_THAT(StrictReasons("Demo.app"), is_unsealed);
  tree_.Remove("Demo.app/stray");
  EXPECT_THAT(StrictReasons("Demo.app"), IsEmpty());
}

TEST_F(BundleTest, BN1_ContentsMustBeAFolder) {
  MakeApp("Other.app");
  tree_.Link("Demo.app/Contents", "../Other.app/Contents");
  EXPECT_THAT(StrictReasons("Demo.app"),
              ElementsAre(v1::REASON_UNSEALED_APP_ROOT));
}

TEST_F(BundleTest, BN2_FrameworkRootHoldsVersionsAndLinks) {
  const auto is_unsealed = ElementsAre(v1::REASON_UNSEALED_FRAMEWORK_ROOT);
  MakeFramework();
  tree_.File("Demo.framework/.DS_Store");
  tree_.File("Demo.framework/Versions/.DS_Store");
  tree_.File("Demo.framework/module.map");
  tree_.Link("Demo.framework/Headers", "./Versions/A/Headers");
  EXPECT_THAT(StrictReasons("Demo.framework"), IsEmpty());

  struct {
    const char* name;
    const char* target;  // nullptr: a file
  } const kStrays[] = {{"stray", nullptr},
                       {"stray", "Versions/Current/other"},
                       {"stray", "Versions/B/stray"},
                       {"stray", "../stray"},
                       {"Versions/stray", nullptr},
                       {"Versions/stray", "A"}};
  for (const auto& stray : kStrays) {
    const std::string path = std::string("Demo.framework/") + stray.name;
    if (stray.target == nullptr) {
      tree_.File(path);
    } else {
      tree_.Link(path, stray.target);
    }
    EXPECT_THAT(StrictReasons("Demo.framework"), is_unsealed)
        << stray.name << " " << (stray.target ? stray.target : "");
    tree_.Remove(path);
  }
  tree_.Mode("Demo.framework/module.map", 0755);
  EXPECT_THAT(StrictReasons("Demo.framework"), is_unsealed);
}

TEST_F(BundleTest, BN2_CurrentMustBeALinkToItsSibling) {
  const auto is_unsealed = ElementsAre(v1::REASON_UNSEALED_FRAMEWORK_ROOT);
  MakeVersion("Demo.framework/Versions/A");
  MakeVersion("Demo.framework/Versions/Current");
  EXPECT_THAT(StrictReasons("Demo.framework"), is_unsealed);
  EXPECT_EQ(Open("Demo.framework")->version(), "Current");
  for (const char* target : {"../Versions/A", "A/", "./././A"}) {
    tree_.Remove("Demo.framework/Versions/Current");
    tree_.Link("Demo.framework/Versions/Current", target);
    EXPECT_THAT(StrictReasons("Demo.framework"), is_unsealed) << target;
  }
}

TEST_F(BundleTest, BN3_RootMustNotShowOtherCodeThanTheVersion) {
  MakeFramework();
  tree_.Remove("Demo.framework/Demo");
  tree_.Executable("Demo.framework/Demo", "other");
  // Apple reports the smaller number, -67011 before -67008.
  EXPECT_THAT(StrictReasons("Demo.framework"),
              ElementsAre(v1::REASON_AMBIGUOUS_BUNDLE_FORMAT,
                          v1::REASON_UNSEALED_FRAMEWORK_ROOT));
}

TEST_F(BundleTest, BN3_RootMustNotShowAnotherInfoPlist) {
  MakeFramework();
  tree_.Remove("Demo.framework/Resources");
  tree_.Plist("Demo.framework/Resources/Info.plist",
              {{"CFBundleExecutable", "Demo"}});
  EXPECT_THAT(StrictReasons("Demo.framework"),
              ElementsAre(v1::REASON_AMBIGUOUS_BUNDLE_FORMAT,
                          v1::REASON_UNSEALED_FRAMEWORK_ROOT));
}

TEST_F(BundleTest, BN4_ExecutableMustBeARegularFile) {
  MakeApp();
  tree_.Remove("Demo.app/Contents/MacOS/Demo");
  tree_.Executable("Demo.app/Contents/MacOS/real", "code");
  tree_.Link("Demo.app/Contents/MacOS/Demo", "real");
  EXPECT_THAT(StrictReasons("Demo.app"),
              ElementsAre(v1::REASON_NOT_REGULAR_FILE));
}

TEST_F(BundleTest, BN5_InfoPlistMustBeARegularFile) {
  MakeApp();
  tree_.Remove("Demo.app/Contents/Info.plist");
  tree_.Plist("Demo.app/Contents/Resources/Info.plist",
              {{"CFBundleExecutable", "Demo"}});
  tree_.Link("Demo.app/Contents/Info.plist", "Resources/Info.plist");
  EXPECT_THAT(StrictReasons("Demo.app"),
              ElementsAre(v1::REASON_NOT_REGULAR_FILE));
}

TEST_F(BundleTest, BN6_SignatureFolderHoldsTheSignatureAlone) {
  MakeApp();
  const std::vector<std::string> used = {"CodeResources"};
  const auto bundle = Open("Demo.app");
  ASSERT_THAT(bundle, IsOk());
  EXPECT_THAT(bundle->CheckSignatureFolder(used), IsOk());  // there is none
  const std::string folder = "Demo.app/Contents/_CodeSignature/";
  tree_.File(folder + "CodeResources", "x");
  tree_.File(folder + "CodeSignature");
  EXPECT_THAT(bundle->CheckSignatureFolder(used), IsOk());
  tree_.File(folder + "CodeSignature", "x");
  EXPECT_THAT(bundle->CheckSignatureFolder(used),
              HasReason(v1::REASON_UNSEALED_APP_ROOT));
  tree_.Remove(folder + "CodeSignature");
  tree_.File(folder + "stray");
  EXPECT_THAT(bundle->CheckSignatureFolder(used),
              HasReason(v1::REASON_UNSEALED_APP_ROOT));
  tree_.Remove(folder + "stray");
  tree_.Remove(folder + "CodeResources");
  tree_.Link(folder + "CodeResources", "../Resources/a");
  EXPECT_THAT(bundle->CheckSignatureFolder(used),
              HasReason(v1::REASON_UNSEALED_APP_ROOT));
}

// --- Rules
// -----------------------------------------------------------------------

TEST_F(BundleTest, DefaultRulesFitTheShape) {
  MakeApp();
  MakeFlatApp("Flat.app");
  const auto modern =
      Open("Demo.app")->LoadResourceRules(ResourceRuleSet::kDefault);
  ASSERT_THAT(modern, IsOk());
  EXPECT_EQ(*modern,
            DefaultResourceRules(ResourceRuleSet::kDefault, "Resources/"));
  const auto flat =
      Open("Flat.app")->LoadResourceRules(ResourceRuleSet::kDefault);
  ASSERT_THAT(flat, IsOk());
  EXPECT_EQ(*flat, DefaultResourceRules(ResourceRuleSet::kDefault, ""));
}

TEST_F(BundleTest, InfoPlistMayNameItsOwnRules) {
  const auto rules_of = [&](const std::string& name) {
    tree_.Plist("Demo.app/Info.plist",
                {{"CFBundleResourceSpecification", name}});
    return Open("Demo.app")->LoadResourceRules(ResourceRuleSet::kDefault);
  };
  const auto is_invalid = HasReason(v1::REASON_RESOURCE_RULES_INVALID);
  tree_.File("Demo.app/rules.plist",
             "<plist><dict><key>rules</key><dict><key>^a</key><true/></dict>"
             "</dict></plist>");
  const auto rules = rules_of("rules.plist");
  ASSERT_THAT(rules, IsOk());
  EXPECT_EQ(rules->rules.size(), 1u);
  EXPECT_THAT(rules_of("none.plist"), is_invalid);
  EXPECT_THAT(rules_of("../Demo.app/rules.plist"), is_invalid);
  EXPECT_THAT(rules_of(tree_.Path("Demo.app/rules.plist")), is_invalid);
  EXPECT_THAT(rules_of(""), is_invalid);
  tree_.File("Demo.app/bad.plist", "<plist><array/></plist>");
  EXPECT_THAT(rules_of("bad.plist"), is_invalid);
}

TEST_F(BundleTest, SignatureAndExecutableAreExcluded) {
  MakeApp();
  EXPECT_THAT(Open("Demo.app")->ExcludedPaths(),
              ElementsAre("_CodeSignature", "CodeResources", "_MASReceipt",
                          "MacOS/Demo"));
}

// --- Info.plist
// --------------------------------------------------------------------

TEST(BundleInfoTest, ReadsWhatTheShapeDependsOn) {
  const auto info = ParseBundleInfo(
      AsBytes("<plist><dict>"
              "<key>NSExecutable</key><string>old</string>"
              "<key>CFBundlePackageType</key><string>BNDL</string>"
              "<key>MainHTML</key><string>a.html</string>"
              "<key>CFBundleResourceSpecification</key><string>r</string>"
              "<key>IFMajorVersion</key><integer>1</integer>"
              "</dict></plist>"));
  ASSERT_THAT(info, IsOk());
  EXPECT_EQ(info->executable, "old");
  EXPECT_EQ(info->package_type, "BNDL");
  EXPECT_EQ(info->main_html, "a.html");
  EXPECT_EQ(info->resource_specification, "r");
  EXPECT_TRUE(info->is_installer);
  EXPECT_EQ(info->entry_count, 5u);
}

TEST(BundleInfoTest, IgnoresValuesOfOtherTypes) {
  const auto info = ParseBundleInfo(
      AsBytes("<plist><dict><key>CFBundleExecutable</key><integer>1</integer>"
              "<key>CFBundleResourceSpecification</key><true/>"
              "</dict></plist>"));
  ASSERT_THAT(info, IsOk());
  EXPECT_EQ(info->executable, "");
  EXPECT_EQ(info->resource_specification, "");
  EXPECT_FALSE(info->is_installer);
}

// --- Names
// -------------------------------------------------------------------------

TEST_F(BundleTest, ExecutableLeadsToItsBundle) {
  MakeApp();
  MakeFramework();
  MakeFlatApp("Flat.app");
  tree_.Executable("Demo.app/Contents/MacOS/helper", "code");
  tree_.Executable("loose", "code");
  const auto find = [&](const char* path) {
    return FindBundleOfExecutable(tree_.Path(path));
  };
  EXPECT_EQ(find("Demo.app/Contents/MacOS/Demo"), tree_.Path("Demo.app"));
  EXPECT_EQ(find("Flat.app/Demo"), tree_.Path("Flat.app"));
  EXPECT_EQ(find("Demo.framework/Versions/A/Demo"),
            tree_.Path("Demo.framework"));
  EXPECT_EQ(find("Demo.framework/Demo"), tree_.Path("Demo.framework"));
  EXPECT_EQ(find("Demo.app/Contents/MacOS/helper"), std::nullopt);
  EXPECT_EQ(find("loose"), std::nullopt);
}

TEST(BundleNameTest, KnowsExtensions) {
  for (const char* name :
       {"a.app", "a.framework", "a.xpc", "a.appex", "a.bundle", "a.plugin",
        "a.kext", "a.xctest", "a.xcframework"}) {
    EXPECT_TRUE(HasBundleExtension(name)) << name;
  }
  EXPECT_FALSE(HasBundleExtension("app"));
  EXPECT_FALSE(HasBundleExtension("a.dylib"));
}

TEST(BundleNameTest, DetachedFilesHaveApplesNames) {
  EXPECT_EQ(DetachedFileName(0), "CodeDirectory");
  EXPECT_EQ(DetachedFileName(1), "");  // Info.plist is where it is
  EXPECT_EQ(DetachedFileName(2), "CodeRequirements");
  EXPECT_EQ(DetachedFileName(3), "CodeResources");
  EXPECT_EQ(DetachedFileName(5), "CodeEntitlements");
  EXPECT_EQ(DetachedFileName(7), "CodeEntitlementDER");
  EXPECT_EQ(DetachedFileName(8), "LaunchConstraintSelf");
  EXPECT_EQ(DetachedFileName(11), "LibraryConstraint");
  EXPECT_EQ(DetachedFileName(0x1000), "CodeRequirements-1");
  EXPECT_EQ(DetachedFileName(0x1004), "CodeRequirements-5");
  EXPECT_EQ(DetachedFileName(0x1005), "");
  EXPECT_EQ(DetachedFileName(0x10000), "CodeSignature");
  EXPECT_EQ(DetachedFileName(12), "");
}

}  // namespace
}  // namespace codeseal
