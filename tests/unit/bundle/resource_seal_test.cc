#include "codesign/bundle/resource_seal.h"

#include <sys/stat.h>
#include <unistd.h>

#include "codesign/base/error.h"
#include "codesign/bundle/bundle_error.h"
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
using ::testing::Not;

NestedCode Code(const std::string& path) {
  NestedCode code = {.requirement = "identifier \"" + path + "\""};
  code.cdhash.fill(0x11);
  return code;
}

absl::StatusOr<NestedCode> SignedNestedCode(const std::string& path,
                                            const std::string&) {
  return Code(path);
}

Bytes Sha(DigestKind kind, std::string_view content) {
  return ComputeDigest(kind, AsBytes(content));
}

class ResourceSealTest : public ::testing::Test {
 protected:
  // Demo.app, modern or flat, with an executable and nothing else.
  ResourceSealTest() { MakeModern(); }

  void MakeModern() {
    tree_.Remove("Demo.app");
    base_ = "Demo.app/Contents/";
    tree_.Plist(base_ + "Info.plist", {{"CFBundleExecutable", "Demo"}});
    tree_.Executable(base_ + "MacOS/Demo", "code");
  }
  void MakeFlat() {
    tree_.Remove("Demo.app");
    base_ = "Demo.app/";
    tree_.Plist(base_ + "Info.plist", {{"CFBundleExecutable", "Demo"}});
    tree_.Executable(base_ + "Demo", "code");
  }

  // Paths relative to the resource base.
  void File(const std::string& path, std::string_view content = "text") {
    tree_.File(base_ + path, content);
  }
  void Link(const std::string& path, std::string_view target) {
    tree_.Link(base_ + path, target);
  }
  void Remove(const std::string& path) { tree_.Remove(base_ + path); }

  Bundle Open() {
    auto bundle = Bundle::Open(tree_.Path("Demo.app"));
    EXPECT_THAT(bundle, IsOk());
    return *std::move(bundle);
  }

  absl::StatusOr<ResourceSeal> Seal(
      const SealOptions& options = {},
      const NestedCodeFinder& find = SignedNestedCode,
      ResourceRuleSet set = ResourceRuleSet::kDefault) {
    const Bundle bundle = Open();
    return SealResources(bundle,
                         DefaultResourceRules(set, bundle.resources_prefix()),
                         options, find);
  }

  std::vector<std::string> SealedPaths(const SealOptions& options = {}) {
    const auto seal = Seal(options);
    EXPECT_THAT(seal, IsOk());
    std::vector<std::string> paths;
    for (const auto& [path, resource] : *seal->files2) paths.push_back(path);
    return paths;
  }
  std::vector<std::string> Version1Paths() {
    const auto seal = Seal();
    EXPECT_THAT(seal, IsOk());
    std::vector<std::string> paths;
    for (const auto& [path, resource] : *seal->files) paths.push_back(path);
    return paths;
  }

  // "added a", "modified b", ...
  std::vector<std::string> Problems(
      const ResourceSeal& seal, const CompareOptions& options = {},
      const NestedCodeChecker& check = [](const std::string&,
                                          const NestedCode&) {
        return absl::OkStatus();
      }) {
    const auto problems = CompareResources(Open(), seal, options, check);
    EXPECT_THAT(problems, IsOk());
    std::vector<std::string> texts;
    for (const ResourceProblem& problem : *problems) {
      EXPECT_FALSE(problem.status.ok());
      static constexpr const char* kWords[] = {"added ", "modified ",
                                               "missing ", "bad code "};
      texts.push_back(kWords[static_cast<int>(problem.change)] + problem.path);
    }
    return texts;
  }

  MadeTree tree_;
  std::string base_;
};

// --- What is sealed
// ---------------------------------------------------------------

TEST_F(ResourceSealTest, SealsFilesButNotTheSignatureAndWhatItCovers) {
  File("PkgInfo");
  File("version.plist");
  File("Resources/a");
  File("Resources/Info.plist");
  File("Resources/.DS_Store");
  File("_CodeSignature/CodeResources");
  File("_MASReceipt/receipt");
  File("CodeResources");  // a stapled ticket
  File("Other/_CodeSignature");
  EXPECT_THAT(SealedPaths(),
              ElementsAre("Other/_CodeSignature", "Resources/Info.plist",
                          "Resources/a", "version.plist"));
  EXPECT_THAT(Version1Paths(),
              ElementsAre("Resources/.DS_Store", "Resources/Info.plist",
                          "Resources/a", "version.plist"));
}

TEST_F(ResourceSealTest, FlatBundleSealsNestedCodeFileByFile) {
  MakeFlat();
  File("a.png");
  File("Frameworks/A.framework/A");
  File("Frameworks/A.framework/_CodeSignature/CodeResources");
  EXPECT_THAT(SealedPaths(),
              ElementsAre("Frameworks/A.framework/A",
                          "Frameworks/A.framework/_CodeSignature/CodeResources",
                          "a.png"));
  EXPECT_THAT(Version1Paths(),
              ElementsAre("Frameworks/A.framework/A",
                          "Frameworks/A.framework/_CodeSignature/CodeResources",
                          "Info.plist", "a.png"));
}

TEST_F(ResourceSealTest, NestedCodeIsWhatItIsNotItsBytes) {
  File("MacOS/helper");
  File("MacOS/folder/tool");
  File("Frameworks/A.framework/Versions/A/A");
  File("Frameworks/plain/libB.dylib");
  File("PlugIns/C.appex/Contents/MacOS/C");
  std::vector<std::string> asked;
  const auto seal =
      Seal({},
           [&](const std::string& path,
               const std::string& absolute_path) -> absl::StatusOr<NestedCode> {
             EXPECT_EQ(absolute_path, tree_.Path(base_ + path));
             asked.push_back(path);
             return Code(path);
           });
  ASSERT_THAT(seal, IsOk());
  EXPECT_THAT(
      asked,
      ElementsAre("Frameworks/A.framework", "Frameworks/plain/libB.dylib",
                  "MacOS/folder/tool", "MacOS/helper", "PlugIns/C.appex"));
  EXPECT_EQ(seal->files2->size(), 5u);
  EXPECT_EQ(seal->files2->at("PlugIns/C.appex"),
            (SealedResource{.what = Code("PlugIns/C.appex")}));
  EXPECT_THAT(*seal->files, IsEmpty());
}

TEST_F(ResourceSealTest, UnsignedNestedCodeStopsTheSeal) {
  File("MacOS/helper");
  const auto seal = Seal({}, [](const std::string&, const std::string&) {
    return absl::StatusOr<NestedCode>(
        BundleError(v1::REASON_UNSIGNED_NESTED_CODE, ""));
  });
  EXPECT_THAT(seal, AllOf(HasReason(v1::REASON_UNSIGNED_NESTED_CODE),
                          HasMessage("code object is not signed at all")));
  EXPECT_EQ(GetErrorDetail(seal.status())->subject(),
            tree_.Path("Demo.app/Contents/MacOS/helper"));
}

TEST_F(ResourceSealTest, LinksAreSealedByTarget) {
  Link("Resources/b", "a");
  Link("MacOS/link", "Demo");            // never nested
  Link("Frameworks/A.framework", "/x");  // neither
  Link("Resources/en.lproj/l", "../a");
  Link("Resources/folder", "en.lproj");  // not followed
  const auto seal = Seal();
  ASSERT_THAT(seal, IsOk());
  const auto link = [](const char* target, bool optional = false) {
    return SealedResource{.what = SealedSymlink{target}, .optional = optional};
  };
  EXPECT_EQ(seal->files2->size(), 5u);
  EXPECT_EQ(seal->files2->at("Resources/b"), link("a"));
  EXPECT_EQ(seal->files2->at("MacOS/link"), link("Demo"));
  EXPECT_EQ(seal->files2->at("Frameworks/A.framework"), link("/x"));
  EXPECT_EQ(seal->files2->at("Resources/en.lproj/l"), link("../a", true));
  EXPECT_EQ(seal->files2->at("Resources/folder"), link("en.lproj"));
  EXPECT_THAT(*seal->files, IsEmpty());
}

TEST_F(ResourceSealTest, FilesHaveOneDigestOfEachKind) {
  File("Resources/a", "alpha");
  const auto digests = [&](std::vector<DigestKind> kinds) {
    const auto seal = Seal({.digests = std::move(kinds)});
    EXPECT_THAT(seal, IsOk());
    EXPECT_EQ(seal->files->at("Resources/a").sha1,
              Sha(DigestKind::kSha1, "alpha"));
    return std::get<SealedFile>(seal->files2->at("Resources/a").what).digests;
  };
  const std::pair sha1 = {DigestKind::kSha1, Sha(DigestKind::kSha1, "alpha")};
  const std::pair sha256 = {DigestKind::kSha256,
                            Sha(DigestKind::kSha256, "alpha")};
  const std::pair sha384 = {DigestKind::kSha384,
                            Sha(DigestKind::kSha384, "alpha")};
  EXPECT_THAT(digests({DigestKind::kSha256}), ElementsAre(sha256));
  EXPECT_THAT(digests({DigestKind::kSha1}), ElementsAre(sha1));
  EXPECT_THAT(digests({DigestKind::kSha1, DigestKind::kSha256}),
              ElementsAre(sha1, sha256));
  EXPECT_THAT(digests({DigestKind::kSha384, DigestKind::kSha256}),
              ElementsAre(sha256, sha384));
}

// Their digests are separate pieces of work, and memory is let go meanwhile.
TEST_F(ResourceSealTest, LargeAndEmptyFiles) {
  const std::string large((size_t{9} << 20) + 1, 'x');
  File("Resources/large", large);
  File("Resources/middle", large.substr(0, size_t{3} << 20));
  File("Resources/empty", "");
  const auto seal = Seal({.digests = {DigestKind::kSha1, DigestKind::kSha256}});
  ASSERT_THAT(seal, IsOk());
  for (const auto& [path, content] : std::map<std::string, std::string>{
           {"large", large},
           {"middle", large.substr(0, size_t{3} << 20)},
           {"empty", ""}}) {
    const auto& digests =
        std::get<SealedFile>(seal->files2->at("Resources/" + path).what)
            .digests;
    EXPECT_EQ(digests.at(DigestKind::kSha1), Sha(DigestKind::kSha1, content));
    EXPECT_EQ(digests.at(DigestKind::kSha256),
              Sha(DigestKind::kSha256, content));
  }
}

TEST_F(ResourceSealTest, LocalizationsAreOptional) {
  File("Resources/en.lproj/a");
  File("Resources/Base.lproj/a");
  File("Resources/en.lproj/locversion.plist");
  const auto seal = Seal();
  ASSERT_THAT(seal, IsOk());
  EXPECT_TRUE(seal->files2->at("Resources/en.lproj/a").optional);
  EXPECT_FALSE(seal->files2->at("Resources/Base.lproj/a").optional);
  EXPECT_EQ(seal->files2->size(), 2u);
  EXPECT_EQ(seal->files->at("Resources/en.lproj/a").optional, true);
  EXPECT_EQ(seal->files->at("Resources/Base.lproj/a").optional, std::nullopt);
}

TEST_F(ResourceSealTest, VersionsCanBeLeftOut) {
  File("Resources/a");
  const auto only2 = Seal({.writes_version1 = false});
  ASSERT_THAT(only2, IsOk());
  EXPECT_FALSE(only2->files.has_value());
  EXPECT_FALSE(only2->rules.rules.empty());  // stays all the same
  EXPECT_EQ(only2->version(), 2);
  const auto only1 = Seal({.writes_version2 = false}, SignedNestedCode,
                          ResourceRuleSet::kLegacy);
  ASSERT_THAT(only1, IsOk());
  EXPECT_FALSE(only1->files2.has_value());
  EXPECT_FALSE(only1->rules.rules2.has_value());
  EXPECT_EQ(only1->version(), 1);
}

TEST_F(ResourceSealTest, RootCanBeSealed) {
  File("Resources/a");
  tree_.File("Demo.app/beside", "x");
  EXPECT_THAT(SealedPaths({.seals_root = true}),
              ElementsAre("../beside", "Resources/a"));
  EXPECT_THAT(SealedPaths({.seals_root = false}), ElementsAre("Resources/a"));
}

TEST_F(ResourceSealTest, RootOfAVersionCannotBeSealed) {
  tree_.Executable("Demo.framework/Versions/A/Demo", "code");
  tree_.Plist("Demo.framework/Versions/A/Resources/Info.plist",
              {{"CFBundleExecutable", "Demo"}});
  tree_.Link("Demo.framework/Versions/Current", "A");
  const auto bundle = Bundle::Open(tree_.Path("Demo.framework"));
  ASSERT_THAT(bundle, IsOk());
  EXPECT_THAT(SealResources(*bundle,
                            DefaultResourceRules(ResourceRuleSet::kDefault, ""),
                            {.seals_root = true}, SignedNestedCode),
              HasReason(v1::REASON_BAD_BUNDLE_FORMAT));
}

// --- What is refused
// ----------------------------------------------------------------

TEST_F(ResourceSealTest, RefusesDsStoreLinks) {
  Link("Resources/.DS_Store", "a");
  EXPECT_THAT(Seal(), AllOf(HasReason(v1::REASON_DS_STORE_SYMLINK),
                            HasMessage(".DS_Store files cannot be a symlink")));
  Remove("Resources/.DS_Store");
  Link("Resources/.ds_STORE", "a");
  EXPECT_THAT(Seal(), HasReason(v1::REASON_DS_STORE_SYMLINK));
}

TEST_F(ResourceSealTest, RefusesPipesUnlessLenient) {
  tree_.Folder(base_ + "Resources");
  ASSERT_EQ(mkfifo(tree_.Path(base_ + "Resources/pipe").c_str(), 0600), 0);
  const auto seal = Seal();
  EXPECT_THAT(seal, HasReason(v1::REASON_RESOURCE_NOT_SUPPORTED));
  EXPECT_EQ(GetErrorDetail(seal.status())->subject(),
            tree_.Path("Demo.app/Contents/Resources/pipe"));
  EXPECT_THAT(SealedPaths({.is_strict = false}), IsEmpty());
}

TEST_F(ResourceSealTest, RefusesClosedFoldersUnlessLenient) {
  File("Resources/closed/a");
  tree_.Mode("", 0755);
  tree_.Mode(base_ + "Resources/closed", 0);
  const bool is_superuser = geteuid() == 0;
  ASSERT_TRUE(!is_superuser || seteuid(65534) == 0);
  const auto strict = Seal();
  const auto lenient = Seal({.is_strict = false});
  ASSERT_TRUE(!is_superuser || seteuid(0) == 0);
  tree_.Mode(base_ + "Resources/closed", 0755);
  EXPECT_THAT(strict, HasReason(v1::REASON_RESOURCE_NOT_READABLE));
  EXPECT_THAT(lenient, IsOk());
}

TEST_F(ResourceSealTest, UnreadableFileIsNamed) {
  File("Resources/a");
  tree_.Mode("", 0755);
  tree_.Mode(base_ + "Resources/a", 0);
  const bool is_superuser = geteuid() == 0;
  ASSERT_TRUE(!is_superuser || seteuid(65534) == 0);
  const auto seal = Seal();
  ASSERT_TRUE(!is_superuser || seteuid(0) == 0);
  EXPECT_THAT(seal, HasReason(v1::REASON_FILE_NOT_READABLE));
  EXPECT_EQ(GetErrorDetail(seal.status())->subject(),
            tree_.Path("Demo.app/Contents/Resources/a"));
}

TEST_F(ResourceSealTest, RefusesNamesThatMacOsCannotHave) {
  for (const char* name : {"\xff", "\xc3", "\xc0\xaf", "\xed\xa0\x80",
                           "\xf4\x90\x80\x80", "\xe0\x80\x80", "a\x80"}) {
    File(std::string("Resources/") + name);
    EXPECT_THAT(Seal(), HasReason(v1::REASON_RESOURCE_NAME_NOT_UTF8)) << name;
    Remove(std::string("Resources/") + name);
  }
  Link("Resources/link", "\xff");
  EXPECT_THAT(Seal(), HasReason(v1::REASON_RESOURCE_NAME_NOT_UTF8));
  Remove("Resources/link");
  for (const char* name : {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"}) {
    File(std::string("Resources/") + name);
  }
  EXPECT_THAT(Seal(), IsOk());
}

TEST_F(ResourceSealTest, MissingFolderIsNamed) {
  const Bundle bundle = Open();
  tree_.Remove("Demo.app");
  EXPECT_THAT(
      SealResources(bundle, DefaultResourceRules(ResourceRuleSet::kDefault, ""),
                    {}, SignedNestedCode),
      HasReason(v1::REASON_FILE_NOT_FOUND));
}

// --- Stored form
// -------------------------------------------------------------------

// Laid out by hand after a seal of Apple's.
TEST_F(ResourceSealTest, BuildsApplesBytes) {
  ResourceSeal seal;
  seal.rules.rules["^Resources/"] = PlistValue{true};
  seal.rules.rules2.emplace()["^.*"] = PlistValue{true};
  auto& files = seal.files.emplace();
  files["Resources/a"].sha1 = Bytes(20, 0);
  files["Resources/en.lproj/b"] = {.sha1 = Bytes(20, 0), .optional = true};
  auto& files2 = seal.files2.emplace();
  files2["MacOS/x"].what = NestedCode{.requirement = "cdhash H\"00\" & <x>"};
  files2["Resources/a"].what =
      SealedFile{{{DigestKind::kSha256, Bytes(32, 0)}}};
  files2["Resources/en.lproj/b"] = {
      .what = SealedFile{{{DigestKind::kSha1, Bytes(20, 0)}}},
      .optional = true};
  files2["Resources/l"].what = SealedSymlink{"a"};
  files2["Resources/old"].what =
      SealedFile{{{DigestKind::kSha1, Bytes(20, 0)}}};
  const std::string sha1 = "AAAAAAAAAAAAAAAAAAAAAAAAAAA=";
  const std::string sha256 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
  EXPECT_EQ(ToString(BuildCodeResources(seal)),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
            "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
            "<plist version=\"1.0\">\n"
            "<dict>\n"
            "\t<key>files</key>\n"
            "\t<dict>\n"
            "\t\t<key>Resources/a</key>\n"
            "\t\t<data>\n\t\t" +
                sha1 +
                "\n\t\t</data>\n"
                "\t\t<key>Resources/en.lproj/b</key>\n"
                "\t\t<dict>\n"
                "\t\t\t<key>hash</key>\n"
                "\t\t\t<data>\n\t\t\t" +
                sha1 +
                "\n\t\t\t</data>\n"
                "\t\t\t<key>optional</key>\n"
                "\t\t\t<true/>\n"
                "\t\t</dict>\n"
                "\t</dict>\n"
                "\t<key>files2</key>\n"
                "\t<dict>\n"
                "\t\t<key>MacOS/x</key>\n"
                "\t\t<dict>\n"
                "\t\t\t<key>cdhash</key>\n"
                "\t\t\t<data>\n\t\t\t" +
                sha1 +
                "\n\t\t\t</data>\n"
                "\t\t\t<key>requirement</key>\n"
                "\t\t\t<string>cdhash H\"00\" &amp; &lt;x&gt;</string>\n"
                "\t\t</dict>\n"
                "\t\t<key>Resources/a</key>\n"
                "\t\t<dict>\n"
                "\t\t\t<key>hash2</key>\n"
                "\t\t\t<data>\n\t\t\t" +
                sha256 +
                "\n\t\t\t</data>\n"
                "\t\t</dict>\n"
                "\t\t<key>Resources/en.lproj/b</key>\n"
                "\t\t<dict>\n"
                "\t\t\t<key>hash</key>\n"
                "\t\t\t<data>\n\t\t\t" +
                sha1 +
                "\n\t\t\t</data>\n"
                "\t\t\t<key>optional</key>\n"
                "\t\t\t<true/>\n"
                "\t\t</dict>\n"
                "\t\t<key>Resources/l</key>\n"
                "\t\t<dict>\n"
                "\t\t\t<key>symlink</key>\n"
                "\t\t\t<string>a</string>\n"
                "\t\t</dict>\n"
                "\t\t<key>Resources/old</key>\n"
                "\t\t<data>\n\t\t" +
                sha1 +
                "\n\t\t</data>\n"
                "\t</dict>\n"
                "\t<key>rules</key>\n"
                "\t<dict>\n"
                "\t\t<key>^Resources/</key>\n"
                "\t\t<true/>\n"
                "\t</dict>\n"
                "\t<key>rules2</key>\n"
                "\t<dict>\n"
                "\t\t<key>^.*</key>\n"
                "\t\t<true/>\n"
                "\t</dict>\n"
                "</dict>\n"
                "</plist>\n");
}

TEST_F(ResourceSealTest, ReadsBackWhatItWrites) {
  File("Resources/a & b", "alpha");
  File("Resources/en.lproj/c", "gamma");
  File("MacOS/helper");
  Link("Resources/link", "a & b");
  for (const std::vector<DigestKind>& digests :
       {std::vector{DigestKind::kSha1}, std::vector{DigestKind::kSha256},
        std::vector{DigestKind::kSha1, DigestKind::kSha256},
        std::vector{DigestKind::kSha384, DigestKind::kSha256Truncated}}) {
    const auto seal = Seal({.digests = digests});
    ASSERT_THAT(seal, IsOk());
    const auto read = ParseCodeResources(BuildCodeResources(*seal));
    ASSERT_THAT(read, IsOk());
    EXPECT_EQ(*read, *seal);
    std::vector<DigestKind> sorted = digests;
    std::sort(sorted.begin(), sorted.end());
    EXPECT_EQ(read->Digests(), sorted);
  }
}

TEST_F(ResourceSealTest, LoadsTheStoredSeal) {
  EXPECT_THAT(LoadCodeResources(Open()),
              HasReason(v1::REASON_RESOURCES_NOT_FOUND));
  const auto seal = Seal();
  ASSERT_THAT(seal, IsOk());
  File("_CodeSignature/CodeResources", AsText(BuildCodeResources(*seal)));
  const auto loaded = LoadCodeResources(Open());
  ASSERT_THAT(loaded, IsOk());
  EXPECT_EQ(*loaded, *seal);
  File("_CodeSignature/CodeResources", "damaged");
  const auto damaged = LoadCodeResources(Open());
  EXPECT_THAT(damaged, HasReason(v1::REASON_RESOURCE_SEAL_INVALID));
  EXPECT_EQ(GetErrorDetail(damaged.status())->subject(),
            tree_.Path("Demo.app/Contents/_CodeSignature/CodeResources"));
}

struct SealFault {
  const char* name;
  const char* files2;  // the one value of files2
};

class SealFaultTest : public ::testing::TestWithParam<SealFault> {};

TEST_P(SealFaultTest, IsRefused) {
  const std::string text =
      "<plist><dict><key>rules</key><dict/><key>rules2</key><dict/>"
      "<key>files2</key><dict><key>Resources/a</key>" +
      std::string(GetParam().files2) + "</dict></dict></plist>";
  const auto seal = ParseCodeResources(AsBytes(text));
  EXPECT_THAT(seal, HasReason(v1::REASON_RESOURCE_SEAL_INVALID));
  EXPECT_EQ(GetErrorDetail(seal.status())->subject(), "Resources/a");
}

INSTANTIATE_TEST_SUITE_P(
    Faults, SealFaultTest,
    ::testing::Values(
        SealFault{"Type", "<true/>"}, SealFault{"NothingInside", "<dict/>"},
        SealFault{"ShortDigest", "<data>AAAA</data>"},
        SealFault{"DigestIsText",
                  "<dict><key>hash2</key><string>x</string></dict>"},
        SealFault{"DigestOfOtherKind",
                  "<dict><key>hash2</key>"
                  "<data>AAAAAAAAAAAAAAAAAAAAAAAAAAA=</data></dict>"},
        SealFault{"UnknownDigest",
                  "<dict><key>hash9</key>"
                  "<data>AAAAAAAAAAAAAAAAAAAAAAAAAAA=</data>"
                  "</dict>"},
        SealFault{"LinkIsNoText", "<dict><key>symlink</key><true/></dict>"},
        SealFault{"RequirementIsNoText",
                  "<dict><key>requirement</key><true/></dict>"},
        SealFault{"ShortCdHash",
                  "<dict><key>requirement</key><string>x</string>"
                  "<key>cdhash</key><data>AAAA</data></dict>"},
        SealFault{"OptionalIsNoBoolean",
                  "<dict><key>optional</key><string>x</string>"
                  "<key>symlink</key><string>x</string></dict>"}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(CodeResourcesTest, RefusesWhatIsNoSeal) {
  const auto parse = [](const std::string& body) {
    return ParseCodeResources(
        AsBytes("<plist><dict>" + body + "</dict></plist>"));
  };
  const auto is_invalid = HasReason(v1::REASON_RESOURCE_SEAL_INVALID);
  EXPECT_THAT(parse("<key>rules</key><dict/><key>files</key><dict/>"), IsOk());
  EXPECT_THAT(parse(""), is_invalid);
  EXPECT_THAT(parse("<key>rules</key><dict/>"), is_invalid);
  EXPECT_THAT(parse("<key>files</key><dict/>"), is_invalid);
  EXPECT_THAT(parse("<key>rules</key><dict/><key>files</key><array/>"),
              is_invalid);
  EXPECT_THAT(parse("<key>rules</key><dict/><key>files2</key><dict/>"),
              is_invalid);
  EXPECT_THAT(
      parse("<key>rules</key><dict/><key>files</key><dict>"
            "<key>a</key><dict><key>symlink</key><string>b</string></dict>"
            "</dict>"),
      is_invalid);
  EXPECT_THAT(ParseCodeResources(AsBytes("x")), is_invalid);
}

// --- Comparison
// ------------------------------------------------------------------

TEST_F(ResourceSealTest, NothingIsWrongWithAFreshSeal) {
  File("Resources/a");
  File("Resources/en.lproj/b");
  File("MacOS/helper");
  Link("Resources/link", "a");
  const auto seal = Seal();
  ASSERT_THAT(seal, IsOk());
  EXPECT_THAT(Problems(*seal), IsEmpty());
  EXPECT_THAT(Problems(*seal, {.digests = {DigestKind::kSha256}}), IsEmpty());
}

TEST_F(ResourceSealTest, FindsWhatWasAddedModifiedAndRemoved) {
  File("Resources/changed");
  File("Resources/removed");
  File("Resources/same");
  const auto seal = Seal();
  ASSERT_THAT(seal, IsOk());
  File("Resources/changed", "TEXT");
  Remove("Resources/removed");
  File("Resources/added");
  EXPECT_THAT(Problems(*seal),
              ElementsAre("added Resources/added", "modified Resources/changed",
                          "missing Resources/removed"));
}

TEST_F(ResourceSealTest, WhatCannotBeReadIsModified) {
  File("Resources/a");
  const auto seal = Seal();
  ASSERT_THAT(seal, IsOk());
  tree_.Mode("", 0755);
  tree_.Mode(base_ + "Resources/a", 0);
  const bool is_superuser = geteuid() == 0;
  ASSERT_TRUE(!is_superuser || seteuid(65534) == 0);
  const std::vector<std::string> problems = Problems(*seal);
  ASSERT_TRUE(!is_superuser || seteuid(0) == 0);
  EXPECT_THAT(problems, ElementsAre("modified Resources/a"));
}

TEST_F(ResourceSealTest, OptionalFilesMayGoButNotChange) {
  File("Resources/en.lproj/a");
  File("Resources/fr.lproj/a");
  File("Resources/Base.lproj/a");
  const auto seal = Seal();
  ASSERT_THAT(seal, IsOk());
  Remove("Resources/en.lproj");
  EXPECT_THAT(Problems(*seal), IsEmpty());
  File("Resources/fr.lproj/a", "other");
  File("Resources/fr.lproj/b");
  Remove("Resources/Base.lproj/a");
  EXPECT_THAT(Problems(*seal), ElementsAre("missing Resources/Base.lproj/a",
                                           "modified Resources/fr.lproj/a",
                                           "added Resources/fr.lproj/b"));
}

TEST_F(ResourceSealTest, ChangedTypeIsModified) {
  File("Resources/file");
  Link("Resources/link", "file");
  File("MacOS/helper");
  const auto seal = Seal();
  ASSERT_THAT(seal, IsOk());
  Remove("Resources/file");
  Remove("Resources/link");
  Remove("MacOS/helper");
  Link("Resources/file", "x");
  File("Resources/link");
  Link("MacOS/helper", "Demo");
  EXPECT_THAT(Problems(*seal),
              ElementsAre("modified MacOS/helper", "modified Resources/file",
                          "modified Resources/link"));
}

TEST_F(ResourceSealTest, LinkToAnotherTargetIsModified) {
  Link("Resources/link", "a");
  const auto seal = Seal();
  ASSERT_THAT(seal, IsOk());
  Remove("Resources/link");
  Link("Resources/link", "b");
  EXPECT_THAT(Problems(*seal), ElementsAre("modified Resources/link"));
}

TEST_F(ResourceSealTest, NestedCodeIsLeftToItsJudge) {
  File("MacOS/helper");
  File("PlugIns/C.appex/Contents/a");
  const auto seal = Seal();
  ASSERT_THAT(seal, IsOk());
  File("MacOS/helper", "replaced");
  std::vector<std::string> judged;
  EXPECT_THAT(Problems(*seal, {},
                       [&](const std::string& path, const NestedCode& sealed) {
                         judged.push_back(path);
                         EXPECT_EQ(sealed.cdhash, Code("").cdhash);
                         return path.ends_with("helper")
                                    ? BundleError(v1::REASON_BAD_NESTED_CODE,
                                                  "")
                                    : absl::OkStatus();
                       }),
              ElementsAre("bad code MacOS/helper"));
  EXPECT_THAT(judged,
              ElementsAre(tree_.Path("Demo.app/Contents/MacOS/helper"),
                          tree_.Path("Demo.app/Contents/PlugIns/C.appex")));
  Remove("PlugIns/C.appex");
  EXPECT_THAT(Problems(*seal), ElementsAre("missing PlugIns/C.appex"));
}

TEST_F(ResourceSealTest, SealMustHaveTheDigestsOfTheCode) {
  File("Resources/a");
  const auto seal = Seal({.digests = {DigestKind::kSha1}});
  ASSERT_THAT(seal, IsOk());
  EXPECT_THAT(Problems(*seal, {.digests = {DigestKind::kSha1}}), IsEmpty());
  EXPECT_THAT(Problems(*seal, {.digests = {DigestKind::kSha256}}),
              ElementsAre("modified Resources/a"));
}

TEST_F(ResourceSealTest, EveryDigestMustFit) {
  File("Resources/a");
  auto seal = Seal({.digests = {DigestKind::kSha1, DigestKind::kSha256}});
  ASSERT_THAT(seal, IsOk());
  std::get<SealedFile>(seal->files2->at("Resources/a").what)
      .digests[DigestKind::kSha1][0] ^= 1;
  EXPECT_THAT(Problems(*seal), ElementsAre("modified Resources/a"));
}

TEST_F(ResourceSealTest, Version1IgnoresLinksAndNestedCode) {
  File("Resources/a");
  const auto seal = Seal({.writes_version2 = false}, SignedNestedCode,
                         ResourceRuleSet::kLegacy);
  ASSERT_THAT(seal, IsOk());
  Link("Resources/link", "a");
  File("MacOS/helper");
  EXPECT_THAT(Problems(*seal), IsEmpty());
  File("Resources/b");
  File("Resources/a", "other");
  EXPECT_THAT(Problems(*seal),
              ElementsAre("modified Resources/a", "added Resources/b"));
  Remove("Resources/a");
  Link("Resources/a", "b");
  EXPECT_THAT(Problems(*seal),
              ElementsAre("modified Resources/a", "added Resources/b"));
}

TEST_F(ResourceSealTest, SealedRootIsComparedAsAWhole) {
  tree_.File("Demo.app/beside", "x");
  const auto seal = Seal({.seals_root = true});
  ASSERT_THAT(seal, IsOk());
  EXPECT_THAT(Problems(*seal), IsEmpty());
  tree_.File("Demo.app/beside", "y");
  EXPECT_THAT(Problems(*seal), ElementsAre("modified ../beside"));
}

TEST_F(ResourceSealTest, LinksMayBeKeptInside) {
  tree_.File("outside");
  File("Resources/a");
  Link("Resources/good", "a");
  Link("Resources/toMain", "../MacOS/Demo");
  Link("Resources/broken", "nowhere");
  Link("Resources/out", "../../../outside");
  Link("Resources/toInfo", "../Info.plist");  // inside, but not sealed
  Link("Resources/absolute", tree_.Path("Demo.app/Contents/Resources/a"));
  const auto seal = Seal();
  ASSERT_THAT(seal, IsOk());
  EXPECT_THAT(Problems(*seal), IsEmpty());
  EXPECT_THAT(
      Problems(*seal, {.restricts_symlinks = true}),
      ElementsAre("bad code Resources/absolute", "bad code Resources/broken",
                  "bad code Resources/out", "bad code Resources/toInfo"));
}

TEST_F(ResourceSealTest, LinksMayLeadToTheEnclosingBundle) {
  tree_.File("Outer/sealed");
  tree_.File("Outer/omitted");
  std::filesystem::rename(tree_.Path("Demo.app"), tree_.Path("Outer/Demo.app"));
  tree_.Link("Outer/Demo.app/Contents/Resources/a", "../../../sealed");
  tree_.Link("Outer/Demo.app/Contents/Resources/b", "../../../omitted");
  const auto bundle = Bundle::Open(tree_.Path("Outer/Demo.app"));
  ASSERT_THAT(bundle, IsOk());
  const auto seal = SealResources(
      *bundle, DefaultResourceRules(ResourceRuleSet::kDefault, "Resources/"),
      {}, SignedNestedCode);
  ASSERT_THAT(seal, IsOk());
  const auto matcher = ResourceMatcher::Create(
      {{"^sealed$", PlistValue{true}}, {"^omitted$", PlistValue{false}}}, {});
  ASSERT_THAT(matcher, IsOk());
  const ResourceScope outer = {
      .base = std::filesystem::canonical(tree_.Path("Outer")).string(),
      .matcher = &*matcher};
  const auto problems = CompareResources(
      *bundle, *seal, {.restricts_symlinks = true, .outer_scope = &outer},
      [](const std::string&, const NestedCode&) { return absl::OkStatus(); });
  ASSERT_THAT(problems, IsOk());
  ASSERT_EQ(problems->size(), 1u);
  EXPECT_EQ(problems->front().path, "Resources/b");
  EXPECT_THAT(problems->front().status, HasReason(v1::REASON_INVALID_SYMLINK));
}

TEST_F(ResourceSealTest, StrengthOfSeals) {
  File("Resources/a");
  EXPECT_THAT(CheckSealIsStrong(Open(), *Seal()), IsOk());
  EXPECT_THAT(CheckSealIsStrong(Open(), *Seal({.writes_version2 = false})),
              HasReason(v1::REASON_WEAK_RESOURCE_ENVELOPE));
  auto weak = Seal();
  (*weak->rules.rules2)["^Resources/secret"] = PlistValue{false};
  EXPECT_THAT(CheckSealIsStrong(Open(), *weak),
              HasReason(v1::REASON_WEAK_RESOURCE_RULES));
}

}  // namespace
}  // namespace codeseal
