#include "codesign/code_signing.h"

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "codesign/base/mapped_file.h"
#include "codesign/bundle/resource_seal.h"
#include "codesign/bundle_code.h"
#include "codesign/signature_folder.h"
#include "codesign/super_blob.h"
#include "codesign/verify/stored_code.h"
#include "codesign/verify/verifier.h"
#include "tests/support/made_app.h"
#include "tests/support/made_tree.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tree_snapshot.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::MadeApp;
using ::codeseal::testing::MadeTree;
using ::codeseal::testing::TakeSnapshot;
using ::codeseal::testing::TreeSnapshot;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsSupersetOf;
using ::testing::Not;

class CodeSigningTest : public ::testing::Test {
 protected:
  CodeSigningTest() {
    deep_.plan.is_deep = true;
    deep_.options_of = [this](const std::string& path) {
      return Options(path);
    };
    shallow_ = deep_;
    shallow_.plan.is_deep = false;
  }

  absl::StatusOr<SigningOptions> Options(const std::string& path) {
    asked_.push_back(path);
    return options_;
  }

  // Ad-hoc; the paths of what was signed, stage by stage with "|" between.
  absl::StatusOr<std::vector<std::string>> Sign(
      const std::string& path, const CodeSigningOptions& options) {
    ASSIGN_OR_RETURN(CodeSigning signing,
                     CodeSigning::Create(tree_.Path(path), options));
    std::vector<std::string> signed_paths;
    while (true) {
      ASSIGN_OR_RETURN(const auto stage, signing.PlanStage());
      if (stage.empty()) break;
      if (!signed_paths.empty()) signed_paths.push_back("|");
      for (const CodeToSign& each : stage) {
        signed_paths.push_back(
            fs::path(each.path).lexically_relative(tree_.Path()).string());
      }
      RETURN_IF_ERROR(
          signing.WriteStage(std::vector<std::vector<Bytes>>(stage.size())));
    }
    RETURN_IF_ERROR(signing.Commit());
    return signed_paths;
  }

  // The seal of a bundle, after checking that slot -3 of the code has it.
  ResourceSeal SealOf(const std::string& path) {
    const auto bundle = Bundle::Open(tree_.Path(path));
    EXPECT_THAT(bundle, IsOk());
    const auto code = OpenBundleCode(*bundle);
    EXPECT_THAT(code, IsOk());
    const auto file = MappedFile::Open(bundle->CodeResourcesPath());
    EXPECT_THAT(file, IsOk());
    for (size_t i = 0; i < (*code)->slice_count(); ++i) {
      const auto signature =
          EmbeddedSignature::Parse((*code)->StoredSignature(i));
      EXPECT_THAT(signature, IsOk());
      EXPECT_THAT(CheckSpecialSlot(signature->best(), kCodeResourcesSlot,
                                   file->bytes()),
                  IsOk());
      EXPECT_TRUE(signature->best().SealsSpecialSlot(kCodeResourcesSlot));
    }
    auto seal = LoadCodeResources(*bundle);
    EXPECT_THAT(seal, IsOk());
    return *std::move(seal);
  }

  // What is sealed of nested code is what its signature says.
  void ExpectSealedAs(const ResourceSeal& seal, const std::string& key,
                      const std::string& path) {
    const auto* nested = std::get_if<NestedCode>(&seal.files2->at(key).what);
    ASSERT_NE(nested, nullptr) << key;
    const auto bundle = Bundle::Open(tree_.Path(path));
    auto file = MappedFile::Open(tree_.Path(path));
    const auto code =
        bundle.ok() ? OpenBundleCode(*bundle) : OpenMachO(*std::move(file));
    ASSERT_THAT(code, IsOk());
    const auto identity = ReadIdentity(**code, CpuType::kArm64);
    ASSERT_THAT(identity, IsOk());
    EXPECT_EQ(nested->cdhash, identity->cdhash) << key;
    EXPECT_EQ(nested->requirement, identity->designated_requirement) << key;
  }

  MadeTree tree_;
  SigningOptions options_;
  CodeSigningOptions deep_;
  CodeSigningOptions shallow_;
  std::vector<std::string> asked_;
};

constexpr char kContents[] = "Demo.app/Contents/";

TEST_F(CodeSigningTest, SealsAllNestedCodeInOneStageInsideOut) {
  MadeApp(tree_, "Demo.app", 3);
  const auto signed_paths = Sign("Demo.app", deep_);
  ASSERT_THAT(signed_paths, IsOk());
  EXPECT_THAT(*signed_paths, Not(Contains("|")));
  EXPECT_EQ(signed_paths->back(), "Demo.app");
  EXPECT_EQ(signed_paths->size(), 15u);

  const ResourceSeal seal = SealOf("Demo.app");
  EXPECT_TRUE(seal.files.has_value());
  for (const char* nested :
       {"Frameworks/lib0.dylib", "Frameworks/Core.framework",
        "Frameworks/Updater.framework", "Helpers/crash-reporter",
        "Helpers/Demo Helper.app", "XPCServices/Service.xpc",
        "PlugIns/Share.appex", "PlugIns/Script.bundle",
        "Library/LoginItems/Login.app", "MacOS/demo-tool"}) {
    ExpectSealedAs(seal, nested, std::string(kContents) + nested);
  }
  EXPECT_TRUE(std::holds_alternative<SealedSymlink>(
      seal.files2->at("MacOS/Demo-link").what));
  const std::string updater =
      std::string(kContents) + "Frameworks/Updater.framework";
  ExpectSealedAs(SealOf(updater), "XPCServices/Install.xpc",
                 updater + "/Versions/A/XPCServices/Install.xpc");
  // The version that is not current is signed, too.
  SealOf(std::string(kContents) + "Frameworks/Core.framework/Versions/A");
}

TEST_F(CodeSigningTest, ScriptBundleHasItsSignatureInFiles) {
  MadeApp(tree_, "Demo.app", 0);
  const std::string script = std::string(kContents) + "PlugIns/Script.bundle";
  tree_.File(script + "/Contents/_CodeSignature/stale", "of an older tool");
  ASSERT_THAT(Sign("Demo.app", deep_), IsOk());
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(
           tree_.Path(script + "/Contents/_CodeSignature"))) {
    names.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(names, ::testing::UnorderedElementsAre(
                         "CodeDirectory", "CodeRequirements", "CodeResources",
                         "CodeSignature"));
  const Bytes stored =
      ReadSignatureFolder(tree_.Path(script + "/Contents/_CodeSignature"))
          .signature;
  const auto signature = EmbeddedSignature::Parse(stored);
  ASSERT_THAT(signature, IsOk());
  EXPECT_EQ(signature->primary().page_size(), 0u);
  EXPECT_EQ(signature->primary().code_slot_count(), 1u);
  EXPECT_TRUE(signature->primary().SealsSpecialSlot(kInfoPlistSlot));
  SealOf(script);
}

TEST_F(CodeSigningTest, DetachedSignatureLeavesABundleAsItIs) {
  MadeApp(tree_, "Demo.app", 1);
  // Its two ad-hoc versions differ, and verification looks at both.
  tree_.Remove(std::string(kContents) + "Frameworks/Core.framework");
  ASSERT_THAT(Sign("Demo.app", deep_), IsOk());
  const std::string script = std::string(kContents) + "PlugIns/Script.bundle";
  for (const std::string& path : {script, std::string("Demo.app")}) {
    SCOPED_TRACE(path);
    // Its own seal is gone: the detached signature must keep one.
    tree_.Remove(path + "/Contents/_CodeSignature");
    const TreeSnapshot before = TakeSnapshot(tree_.Path(path));
    CodeSigningOptions detached = shallow_;
    detached.detached_path = tree_.Path("sig");
    const auto signed_paths = Sign(path, detached);
    ASSERT_THAT(signed_paths, IsOk());
    EXPECT_THAT(*signed_paths, ElementsAre(path));
    EXPECT_EQ(TakeSnapshot(tree_.Path(path)), before);
    EXPECT_THAT(Sign(path, detached), HasReason(v1::REASON_ALREADY_SIGNED));

    const auto verdict = [&]() -> absl::Status {
      ASSIGN_OR_RETURN(StoredCode code, StoredCode::Open(tree_.Path(path)));
      ASSIGN_OR_RETURN(const MappedFile signature,
                       MappedFile::Open(detached.detached_path));
      RETURN_IF_ERROR(code.UseDetached(signature.bytes()));
      return Verify(code, {}).Validity();
    };
    EXPECT_THAT(verdict(), IsOk());
    const std::string added = path + "/Contents/Resources/added.txt";
    tree_.File(added, "not sealed");
    EXPECT_THAT(verdict(), HasReason(v1::REASON_SEALED_RESOURCE_CHANGED));
    tree_.Remove(added);
    tree_.Remove("sig");
    if (path == script) {
      ASSERT_THAT(Sign(path, shallow_), IsOk());
    }
  }
}

TEST_F(CodeSigningTest, DetachedSignatureIsForOneItemOutsideOfIt) {
  MadeApp(tree_, "Demo.app", 0);
  CodeSigningOptions options = deep_;
  options.detached_path = tree_.Path("sig");
  EXPECT_THAT(Sign("Demo.app", options), HasReason(v1::REASON_BAD_OPTION));
  options = shallow_;
  options.detached_path = tree_.Path("Demo.app/Contents/Resources/sig");
  EXPECT_THAT(Sign("Demo.app", options), HasReason(v1::REASON_BAD_OPTION));
  options.detached_path = tree_.Path("Demo.app.sig");
  EXPECT_THAT(Sign("Demo.app", options),
              HasReason(v1::REASON_UNSIGNED_NESTED_CODE));
  EXPECT_FALSE(fs::exists(options.detached_path));
}

TEST_F(CodeSigningTest, SigningAgainGivesTheSameBytes) {
  MadeApp(tree_, "Demo.app", 2);
  ASSERT_THAT(Sign("Demo.app", deep_), IsOk());
  const TreeSnapshot first = TakeSnapshot(tree_.Path());
  EXPECT_THAT(Sign("Demo.app", deep_), HasReason(v1::REASON_ALREADY_SIGNED));
  options_.force = true;
  ASSERT_THAT(Sign("Demo.app", deep_), IsOk());
  EXPECT_EQ(TakeSnapshot(tree_.Path()), first);
  // Nested code that is signed need not be signed again.
  const auto outer = Sign("Demo.app", shallow_);
  ASSERT_THAT(outer, IsOk());
  EXPECT_THAT(*outer, ElementsAre("Demo.app"));
  EXPECT_EQ(TakeSnapshot(tree_.Path()), first);
}

TEST_F(CodeSigningTest, SignedNestedCodeStaysWithoutForceAndSoDoesWhatIsInIt) {
  MadeApp(tree_, "Demo.app", 1);
  const std::string updater =
      std::string(kContents) + "Frameworks/Updater.framework";
  ASSERT_THAT(Sign(updater, deep_), IsOk());
  const TreeSnapshot signed_updater = TakeSnapshot(tree_.Path(updater));
  const auto signed_paths = Sign("Demo.app", deep_);
  ASSERT_THAT(signed_paths, IsOk());
  EXPECT_EQ(signed_paths->size(), 11u);
  EXPECT_THAT(*signed_paths, Not(Contains(updater)));
  EXPECT_EQ(TakeSnapshot(tree_.Path(updater)), signed_updater);
  ExpectSealedAs(SealOf("Demo.app"), "Frameworks/Updater.framework", updater);
}

TEST_F(CodeSigningTest, UnsignedNestedCodeIsNamed) {
  MadeApp(tree_, "Demo.app", 1);
  const TreeSnapshot before = TakeSnapshot(tree_.Path());
  const auto result = Sign("Demo.app", shallow_);
  EXPECT_THAT(result, HasReason(v1::REASON_UNSIGNED_NESTED_CODE));
  EXPECT_EQ(GetErrorDetail(result.status())->subject(),
            tree_.Path(std::string(kContents) + "Frameworks/Core.framework"));
  EXPECT_EQ(TakeSnapshot(tree_.Path()), before);
}

// A flat bundle seals its inner code byte for byte: what is inside has to be
// written first.
TEST_F(CodeSigningTest, CodeSealedAsResourceIsWrittenBeforeItsSealIsMade) {
  const auto flat = [&](const std::string& path, uint32_t number) {
    tree_.Plist(path + "/Info.plist", {{"CFBundleExecutable", "Code"},
                                       {"CFBundleIdentifier", "com.example"}});
    tree_.Executable(path + "/Code", AsText(testing::MadeCode(
                                         number, MachOFileType::kExecute)));
  };
  flat("Demo.app", 1);
  flat("Demo.app/Frameworks/F.framework", 2);
  flat("Demo.app/PlugIns/P.appex", 3);
  deep_.plan.signs_resources = true;
  const auto signed_paths = Sign("Demo.app", deep_);
  ASSERT_THAT(signed_paths, IsOk());
  EXPECT_THAT(*signed_paths,
              ElementsAre("Demo.app/Frameworks/F.framework",
                          "Demo.app/PlugIns/P.appex", "|", "Demo.app"));
  const ResourceSeal seal = SealOf("Demo.app");
  for (const char* path :
       {"Frameworks/F.framework/Code",
        "Frameworks/F.framework/_CodeSignature/CodeResources"}) {
    const auto file = MappedFile::Open(tree_.Path("Demo.app/") + path);
    ASSERT_THAT(file, IsOk());
    EXPECT_EQ(std::get<SealedFile>(seal.files2->at(path).what)
                  .digests.at(DigestKind::kSha256),
              ComputeDigest(DigestKind::kSha256, file->bytes()));
  }
}

TEST_F(CodeSigningTest, FaultOfALaterStageLeavesEverythingAndNamesTheOriginal) {
  tree_.Plist("Demo.app/Info.plist", {{"CFBundleExecutable", "Code"}});
  tree_.Executable("Demo.app/Code",
                   AsText(testing::MadeCode(1, MachOFileType::kExecute)));
  tree_.Executable("Demo.app/inner",
                   AsText(testing::MadeCode(2, MachOFileType::kExecute)));
  tree_.Link("Demo.app/.DS_Store", "inner");
  const TreeSnapshot before = TakeSnapshot(tree_.Path());
  deep_.plan.signs_resources = true;
  const auto result = Sign("Demo.app", deep_);
  EXPECT_THAT(result, HasReason(v1::REASON_DS_STORE_SYMLINK));
  EXPECT_EQ(GetErrorDetail(result.status())->subject(),
            tree_.Path("Demo.app/.DS_Store"));
  EXPECT_EQ(TakeSnapshot(tree_.Path()), before);
}

TEST_F(CodeSigningTest, OptionsAreAskedForEachItemThatIsSigned) {
  MadeApp(tree_, "Demo.app", 1);
  deep_.options_of =
      [&](const std::string& path) -> absl::StatusOr<SigningOptions> {
    asked_.push_back(path);
    SigningOptions options;
    if (path == "Contents/Helpers/crash-reporter") {
      options.identifier = "com.example.crash";
      options.flags = kRuntimeFlag;
    }
    return options;
  };
  ASSERT_THAT(Sign("Demo.app", deep_), IsOk());
  EXPECT_EQ(asked_.size(), 13u);
  EXPECT_THAT(asked_, IsSupersetOf({"", "Contents/Frameworks/lib0.dylib"}));
  const auto file = MappedFile::Open(
      tree_.Path(std::string(kContents) + "Helpers/crash-reporter"));
  const auto universal = UniversalFile::Parse(file->bytes());
  const auto signature =
      EmbeddedSignature::Parse(universal->slices()[0].mach_o.Signature());
  EXPECT_EQ(signature->primary().identifier(), "com.example.crash");
  EXPECT_TRUE(signature->primary().HasFlag(kRuntimeFlag));
}

TEST_F(CodeSigningTest, SealHasTheDigestsOfTheCode) {
  MadeApp(tree_, "Demo.app", 0);
  options_.digests = {DigestKind::kSha1, DigestKind::kSha256};
  ASSERT_THAT(Sign("Demo.app", deep_), IsOk());
  EXPECT_THAT(SealOf("Demo.app").Digests(),
              ElementsAre(DigestKind::kSha1, DigestKind::kSha256));
}

TEST_F(CodeSigningTest, VersionOfAFrameworkAlone) {
  MadeApp(tree_, "Demo.app", 0);
  const std::string core = std::string(kContents) + "Frameworks/Core.framework";
  deep_.plan.version = "A";
  ASSERT_THAT(Sign(core, deep_), IsOk());
  EXPECT_TRUE(fs::exists(tree_.Path(core + "/Versions/A/_CodeSignature")));
  EXPECT_FALSE(fs::exists(tree_.Path(core + "/Versions/B/_CodeSignature")));
}

TEST_F(CodeSigningTest, ExecutableMeansItsBundle) {
  MadeApp(tree_, "Demo.app", 0);
  const std::string xpc = std::string(kContents) + "XPCServices/Service.xpc";
  ASSERT_THAT(Sign(xpc + "/Contents/MacOS/Service", deep_), IsOk());
  SealOf(xpc);
}

TEST_F(CodeSigningTest, PreservedRulesOfAnOldSealMustBeStrong) {
  MadeApp(tree_, "Demo.app", 0);
  ASSERT_THAT(Sign("Demo.app", deep_), IsOk());
  const std::string path =
      tree_.Path(std::string(kContents) + "_CodeSignature/CodeResources");
  ResourceSeal seal = SealOf("Demo.app");
  PlistDict omit;
  omit["omit"] = PlistValue{true};
  omit["weight"] = PlistValue{5000.0};
  seal.rules.rules2->emplace("^Resources/data", PlistValue{omit});
  tree_.File(std::string(kContents) + "_CodeSignature/CodeResources",
             AsText(BuildCodeResources(seal)));
  options_.force = true;
  options_.preserve_metadata = kPreserveResourceRules;
  EXPECT_THAT(Sign("Demo.app", shallow_),
              HasReason(v1::REASON_WEAK_RESOURCE_RULES));
  options_.strict = false;
  ASSERT_THAT(Sign("Demo.app", shallow_), IsOk());
  const ResourceSeal again = SealOf("Demo.app");
  EXPECT_TRUE(again.rules.rules2->contains("^Resources/data"));
  EXPECT_FALSE(again.files2->contains("Resources/data & <more>.txt"));
}

TEST_F(CodeSigningTest, ProgressEndsWithEveryItem) {
  MadeApp(tree_, "Demo.app", 5);
  HashingProgress last;
  deep_.on_progress = [&](const HashingProgress& progress) { last = progress; };
  ASSERT_THAT(Sign("Demo.app", deep_), IsOk());
  EXPECT_EQ(last.items_done, last.item_count);
  EXPECT_EQ(last.item_count, 17u);
  EXPECT_GT(last.size_done, 0u);
  EXPECT_LE(last.size_done, last.size);
}

}  // namespace
}  // namespace codeseal
