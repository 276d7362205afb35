#include "codesign/bundle/bundle_plan.h"

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "codesign/base/error.h"
#include "tests/support/mach_o_builder.h"
#include "tests/support/made_tree.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildMachO;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::MadeTree;
using ::testing::ElementsAre;

class BundlePlanTest : public ::testing::Test {
 protected:
  void Code(const std::string& path,
            MachOFileType type = MachOFileType::kExecute) {
    tree_.Executable(path, AsText(BuildMachO({.file_type = type})));
  }
  void App(const std::string& path, const std::string& name = "Demo") {
    tree_.Plist(path + "/Contents/Info.plist", {{"CFBundleExecutable", name}});
    Code(path + "/Contents/MacOS/" + name);
  }
  void FlatBundle(const std::string& path) {
    tree_.Plist(path + "/Info.plist", {{"CFBundleExecutable", "Code"}});
    Code(path + "/Code");
  }
  void Version(const std::string& path) {
    tree_.Plist(path + "/Resources/Info.plist",
                {{"CFBundleExecutable", "Code"}});
    Code(path + "/Code", MachOFileType::kDylib);
  }
  void Framework(const std::string& path) {
    Version(path + "/Versions/A");
    tree_.Link(path + "/Versions/Current", "A");
    tree_.Link(path + "/Code", "Versions/Current/Code");
    tree_.Link(path + "/Resources", "Versions/Current/Resources");
  }

  absl::StatusOr<BundlePlan> Create(const PlanOptions& options = {},
                                    const std::string& path = "Demo.app") {
    return BundlePlan::Create(tree_.Path(path), options);
  }

  // "bundle nested 0 sign Contents/Frameworks/A.framework", ...: kind, how it
  // is sealed, stage, whether it is signed now, and the path below Demo.app.
  std::vector<std::string> Lines(const BundlePlan& plan) {
    static constexpr const char* kKinds[] = {"bundle ", "macho ", "other "};
    static constexpr const char* kSealed[] = {"root ", "nested ", "version ",
                                              "resource "};
    std::vector<std::string> lines;
    for (const CodeItem& item : plan.items()) {
      const size_t prefix = tree_.Path("Demo.app").size() + 1;
      lines.push_back(
          std::string(kKinds[static_cast<int>(item.kind)]) +
          kSealed[static_cast<int>(item.sealed_as)] +
          std::to_string(item.stage) +
          (item.is_signed_now ? " sign" : " keep") +
          (item.path.size() > prefix ? " " + item.path.substr(prefix) : ""));
      EXPECT_EQ(item.bundle.has_value(), item.kind == CodeKind::kBundle);
    }
    return lines;
  }

  std::vector<std::string> PartsOf(const BundlePlan& plan,
                                   const std::string& path) {
    const CodeItem* item = plan.Find(tree_.Path(path));
    EXPECT_NE(item, nullptr) << path;
    std::vector<std::string> parts;
    if (item == nullptr) return parts;
    for (const size_t part : item->parts) {
      EXPECT_LT(part, static_cast<size_t>(item - plan.items().data()));
      parts.push_back(plan.items()[part].path.substr(tree_.Path(path).size()));
    }
    return parts;
  }

  MadeTree tree_;
};

TEST_F(BundlePlanTest, AppAlone) {
  App("Demo.app");
  const auto plan = Create();
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(Lines(*plan), ElementsAre("bundle root 0 sign"));
  EXPECT_EQ(plan->stage_count(), 1u);
  EXPECT_EQ(plan->root().path, tree_.Path("Demo.app"));
  EXPECT_EQ(plan->Find(tree_.Path("Demo.app")), &plan->root());
  EXPECT_EQ(plan->Find(tree_.Path("Other.app")), nullptr);
}

TEST_F(BundlePlanTest, DeepIsInsideOut) {
  App("Demo.app");
  const std::string contents = "Demo.app/Contents/";
  Framework(contents + "Frameworks/A.framework");
  Code(contents + "Frameworks/libB.dylib", MachOFileType::kDylib);
  Code(contents + "MacOS/tool");
  tree_.Executable(contents + "MacOS/script", "#!/bin/sh\n");
  App(contents + "XPCServices/C.xpc");
  App(contents + "Library/LoginItems/D.app");
  Framework(contents + "XPCServices/C.xpc/Contents/Frameworks/E.framework");
  const auto deep = Create({.is_deep = true});
  ASSERT_THAT(deep, IsOk());
  EXPECT_THAT(
      Lines(*deep),
      ElementsAre("bundle nested 0 sign Contents/Frameworks/A.framework",
                  "macho nested 0 sign Contents/Frameworks/libB.dylib",
                  "bundle nested 0 sign Contents/Library/LoginItems/D.app",
                  "other nested 0 sign Contents/MacOS/script",
                  "macho nested 0 sign Contents/MacOS/tool",
                  "bundle nested 0 sign "
                  "Contents/XPCServices/C.xpc/Contents/Frameworks/E.framework",
                  "bundle nested 0 sign Contents/XPCServices/C.xpc",
                  "bundle root 0 sign"));
  EXPECT_EQ(deep->stage_count(), 1u);
  EXPECT_THAT(PartsOf(*deep, "Demo.app"),
              ElementsAre("/Contents/Frameworks/A.framework",
                          "/Contents/Frameworks/libB.dylib",
                          "/Contents/Library/LoginItems/D.app",
                          "/Contents/MacOS/script", "/Contents/MacOS/tool",
                          "/Contents/XPCServices/C.xpc"));
  EXPECT_THAT(PartsOf(*deep, contents + "XPCServices/C.xpc"),
              ElementsAre("/Contents/Frameworks/E.framework"));
}

TEST_F(BundlePlanTest, NotDeepLeavesNestedCodeAlone) {
  App("Demo.app");
  Code("Demo.app/Contents/MacOS/tool");
  const auto plan = Create();
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(Lines(*plan),
              ElementsAre("macho nested 0 keep Contents/MacOS/tool",
                          "bundle root 0 sign"));
}

TEST_F(BundlePlanTest, EveryVersionOfAFramework) {
  App("Demo.app");
  const std::string path = "Demo.app/Contents/Frameworks/A.framework";
  Framework(path);
  Version(path + "/Versions/B");
  const auto plan = Create({.is_deep = true});
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(
      Lines(*plan),
      ElementsAre(
          "bundle version 0 sign Contents/Frameworks/A.framework/Versions/B",
          "bundle nested 0 sign Contents/Frameworks/A.framework",
          "bundle root 0 sign"));
  EXPECT_EQ(plan->Find(tree_.Path(path))->bundle->version(), "A");
}

TEST_F(BundlePlanTest, CodeAmongResourcesForcesAnOrder) {
  App("Demo.app");
  Code("Demo.app/Contents/Resources/tool");
  App("Demo.app/Contents/Resources/Inner.app", "Inner");
  Code("Demo.app/Contents/Resources/Inner.app/Contents/MacOS/helper");
  const auto kept = Create({.is_deep = true});
  ASSERT_THAT(kept, IsOk());
  EXPECT_THAT(Lines(*kept),
              ElementsAre("macho nested 0 sign "
                          "Contents/Resources/Inner.app/Contents/MacOS/helper",
                          "bundle resource 0 keep Contents/Resources/Inner.app",
                          "macho resource 0 keep Contents/Resources/tool",
                          "bundle root 1 sign"));
  EXPECT_EQ(kept->stage_count(), 2u);
  const auto shallow = Create();
  ASSERT_THAT(shallow, IsOk());
  EXPECT_EQ(shallow->stage_count(), 1u);
  const auto all = Create({.is_deep = true, .signs_resources = true});
  ASSERT_THAT(all, IsOk());
  EXPECT_THAT(Lines(*all),
              ElementsAre("macho nested 0 sign "
                          "Contents/Resources/Inner.app/Contents/MacOS/helper",
                          "bundle resource 0 sign Contents/Resources/Inner.app",
                          "macho resource 0 sign Contents/Resources/tool",
                          "bundle root 1 sign"));
}

TEST_F(BundlePlanTest, FlatBundlesHaveNothingButResources) {
  FlatBundle("Demo.app");
  FlatBundle("Demo.app/Frameworks/A.framework");
  FlatBundle("Demo.app/PlugIns/B.appex");
  FlatBundle("Demo.app/PlugIns/B.appex/Frameworks/C.framework");
  Code("Demo.app/Frameworks/libD.dylib", MachOFileType::kDylib);
  const auto plan = Create({.is_deep = true, .signs_resources = true});
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(
      Lines(*plan),
      ElementsAre(
          "bundle resource 0 sign Frameworks/A.framework",
          "macho resource 0 sign Frameworks/libD.dylib",
          "bundle resource 0 sign PlugIns/B.appex/Frameworks/C.framework",
          "bundle resource 1 sign PlugIns/B.appex", "bundle root 2 sign"));
  EXPECT_EQ(plan->stage_count(), 3u);
}

TEST_F(BundlePlanTest, WhatLooksLikeCodeIsNone) {
  App("Demo.app");
  const std::string resources = "Demo.app/Contents/Resources/";
  Code(resources + "object.o", MachOFileType::kObject);
  tree_.File(resources + "Main.class",
             std::string_view("\xca\xfe\xba\xbe\0\0\0\x34", 8));
  tree_.File(resources + "short", "\xcf\xfa");
  tree_.File(resources + "cut", "\xcf\xfa\xed\xfe");
  tree_.Plist(resources + "Strings.bundle/Contents/Info.plist");
  tree_.Folder(resources + "Empty.bundle");
  tree_.Link(resources + "link", "../MacOS/Demo");
  tree_.File("Demo.app/Contents/_CodeSignature/CodeResources");
  const auto plan = Create({.is_deep = true, .signs_resources = true});
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(Lines(*plan), ElementsAre("bundle root 0 sign"));
}

TEST_F(BundlePlanTest, CodeInABundleWithoutCodeIsFound) {
  App("Demo.app");
  const std::string strings = "Demo.app/Contents/Resources/Strings.bundle/";
  tree_.Plist(strings + "Contents/Info.plist");
  Code(strings + "Contents/Resources/tool");
  const auto plan = Create();
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(Lines(*plan),
              ElementsAre("macho resource 0 keep "
                          "Contents/Resources/Strings.bundle/Contents/"
                          "Resources/tool",
                          "bundle root 0 sign"));
}

TEST_F(BundlePlanTest, DebugSymbolsAreResources) {
  App("Demo.app");
  Code("Demo.app/Contents/MacOS/Demo.dSYM/Contents/x", MachOFileType::kObject);
  const auto plan = Create({.is_deep = true});
  ASSERT_THAT(plan, IsOk());
  EXPECT_THAT(Lines(*plan), ElementsAre("bundle root 0 sign"));
}

TEST_F(BundlePlanTest, DottedFolderInACodePlaceMustBeABundle) {
  App("Demo.app");
  tree_.File("Demo.app/Contents/Frameworks/python3.9/a.py");
  const auto plan = Create();
  EXPECT_THAT(plan, HasReason(v1::REASON_BAD_BUNDLE_FORMAT));
  EXPECT_EQ(GetErrorDetail(plan.status())->subject(),
            tree_.Path("Demo.app/Contents/Frameworks/python3.9"));
}

TEST_F(BundlePlanTest, BadRulesOfNestedCodeAreNamed) {
  App("Demo.app");
  tree_.Plist("Demo.app/Contents/PlugIns/A.appex/Contents/Info.plist",
              {{"CFBundleResourceSpecification", "none.plist"}});
  const auto plan = Create();
  EXPECT_THAT(plan, HasReason(v1::REASON_RESOURCE_RULES_INVALID));
}

TEST_F(BundlePlanTest, NestingHasAnEnd) {
  std::string path = "Demo.app";
  for (int i = 0; i < 40; ++i) {
    App(path, "x");
    path += "/Contents/PlugIns/A.app";
  }
  EXPECT_THAT(Create(), HasReason(v1::REASON_BAD_BUNDLE_FORMAT));
}

TEST_F(BundlePlanTest, NoBundleNoPlan) {
  EXPECT_THAT(Create(), HasReason(v1::REASON_FILE_NOT_FOUND));
}

TEST_F(BundlePlanTest, TwoHundredItemsArePlannedAtOnce) {
  App("Demo.app");
  for (int i = 0; i < 100; ++i) {
    const std::string n = std::to_string(i);
    Framework("Demo.app/Contents/Frameworks/F" + n + ".framework");
    Code("Demo.app/Contents/MacOS/tool" + n);
    for (int j = 0; j < 10; ++j) {
      tree_.File("Demo.app/Contents/Resources/" + n + "/" + std::to_string(j),
                 "text");
    }
  }
  const absl::Time begin = absl::Now();
  const auto plan = Create({.is_deep = true});
  const absl::Duration time = absl::Now() - begin;
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->items().size(), 201u);
  EXPECT_EQ(plan->stage_count(), 1u);
  RecordProperty("milliseconds", std::to_string(time / absl::Milliseconds(1)));
  // Generous: other work may keep the machine busy.
  EXPECT_LT(time, absl::Seconds(2));
}

}  // namespace
}  // namespace codeseal
