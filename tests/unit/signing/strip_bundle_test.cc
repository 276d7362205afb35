#include "codesign/strip_bundle.h"

#include <filesystem>
#include <string>

#include "codesign/bundle_code.h"
#include "codesign/code_signing.h"
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

class StripBundleTest : public ::testing::Test {
 protected:
  StripBundleTest() {
    MadeApp(tree_, "Demo.app", 1);
    before_ = TakeSnapshot(tree_.Path());
    Sign();
    signed_ = TakeSnapshot(tree_.Path());
  }

  void Sign() {
    CodeSigningOptions options;
    options.plan.is_deep = true;
    options.options_of = [](const std::string&) {
      return absl::StatusOr<SigningOptions>(SigningOptions());
    };
    auto signing = CodeSigning::Create(tree_.Path("Demo.app"), options);
    ASSERT_THAT(signing, IsOk());
    const auto stage = signing->PlanStage();
    ASSERT_THAT(stage, IsOk());
    ASSERT_THAT(
        signing->WriteStage(std::vector<std::vector<Bytes>>(stage->size())),
        IsOk());
    ASSERT_THAT(signing->Commit(), IsOk());
  }

  MadeTree tree_;
  testing::TreeSnapshot before_;
  testing::TreeSnapshot signed_;
};

TEST_F(StripBundleTest, TakesSealAndSignatureAndLeavesNestedCode) {
  ASSERT_THAT(StripBundle(tree_.Path("Demo.app")), IsOk());
  const auto after = TakeSnapshot(tree_.Path());
  for (const auto& [path, content] : after) {
    if (path == "Demo.app/Contents/MacOS/Demo") {
      EXPECT_NE(content, signed_.at(path));
    } else {
      EXPECT_EQ(content, signed_.at(path)) << path;
    }
  }
  EXPECT_FALSE(after.contains("Demo.app/Contents/_CodeSignature"));
  EXPECT_TRUE(after.contains(
      "Demo.app/Contents/XPCServices/Service.xpc/Contents/_CodeSignature"));
  const auto bundle = Bundle::Open(tree_.Path("Demo.app"));
  const auto code = OpenBundleCode(*bundle);
  EXPECT_FALSE(IsSigned(**code));
  EXPECT_THAT(StripBundle(tree_.Path("Demo.app")),
              HasReason(v1::REASON_NOT_SIGNED));
  Sign();
  EXPECT_EQ(TakeSnapshot(tree_.Path()), signed_);
}

TEST_F(StripBundleTest, ScriptBundleIsAsItWas) {
  const std::string script = "Demo.app/Contents/PlugIns/Script.bundle";
  ASSERT_THAT(StripBundle(tree_.Path(script)), IsOk());
  const auto after = TakeSnapshot(tree_.Path());
  for (const auto& [path, content] : before_) {
    if (!path.starts_with(script)) continue;
    EXPECT_EQ(after.at(path), content) << path;
  }
  EXPECT_FALSE(after.contains(script + "/Contents/_CodeSignature"));
}

}  // namespace
}  // namespace codeseal
