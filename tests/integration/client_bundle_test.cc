// Whole apps signed by a real server, and judged by a second program that has
// nothing of codeseal.

#include <filesystem>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/integration/client_fixture.h"
#include "tests/support/made_app.h"
#include "tests/support/made_tree.h"
#include "tests/support/server_process.h"
#include "tests/support/tree_snapshot.h"

namespace codeseal::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class ClientBundleTest : public ClientTest {
 protected:
  void StartServer() {
    server_ =
        std::make_unique<ServerProcess>(world_.WriteConfig(world_.Config()));
    const std::string& address = server_->address();
    environment_["CODESEAL_SERVER"] =
        "localhost" + address.substr(address.rfind(':'));
    environment_["CODESEAL_CA"] = world_.tls_ca();
    environment_["CODESEAL_CERT"] = world_.client().certificate;
    environment_["CODESEAL_KEY"] = world_.client().key;
  }

  static SubprocessResult Python(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"python3", CODESEAL_CHECK_BUNDLE});
    return RunProgram(arguments);
  }
  static void ExpectSound(const std::string& app) {
    const SubprocessResult check = Python({"check-quick", app});
    EXPECT_EQ(check.exit_code, 0) << check.out << check.err;
  }
  std::string App() const { return tree_.Path("Demo.app"); }

  ServerWorld world_;
  std::unique_ptr<ServerProcess> server_;
  MadeTree tree_;
};

TEST_F(ClientBundleTest, TwoHundredLibrariesAreSignedTogether) {
  StartServer();
  const MadeApp app(tree_, "Demo.app", 200);
  const SubprocessResult sign = Codeseal(
      {"sign", "-s", "ec", "--deep", "-o", "runtime", "--json", App()});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_LT(sign.peak_memory, 128 * 1024) << "KiB";
  const nlohmann::json result =
      nlohmann::json::parse(sign.out)["results"].at(0);
  EXPECT_EQ(result["format"],
            "app bundle with Mach-O universal (x86_64 arm64)");
  EXPECT_EQ(result["nested"].size(), 211u);
  const SubprocessResult check = Python({"check", App()});
  EXPECT_EQ(check.exit_code, 0) << check.out << check.err;
  // Two slices of each Mach-O and the script, but for the framework's version
  // that is not current: no seal leads there.
  EXPECT_THAT(check.out,
              HasSubstr(" slices=" + std::to_string(app.code_count() * 2 - 1)));
  EXPECT_EQ(Codeseal({"verify", "--deep", "--anchors", world_.code_ca(), App()})
                .exit_code,
            0);

  // Again: nothing but signatures changes.
  fs::copy(App(), tree_.Path("Old.app"),
           fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  const SubprocessResult again =
      Codeseal({"sign", "-f", "-s", "ec", "--deep", "-o", "runtime", App()});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr(App() + ": replacing existing signature"));
  const SubprocessResult compare =
      Python({"compare", tree_.Path("Old.app"), App()});
  EXPECT_EQ(compare.exit_code, 0) << compare.out << compare.err;
  ExpectSound(App());

  // The judge does judge.
  tree_.File("Demo.app/Contents/Resources/en.lproj/Main.strings", "changed");
  EXPECT_EQ(Python({"check-quick", App()}).exit_code, 1);
}

TEST_F(ClientBundleTest, PathsInsideEachOtherAreSignedInOrder) {
  StartServer();
  MadeApp(tree_, "Demo.app", 1);
  const std::string updater = App() + "/Contents/Frameworks/Updater.framework";
  // Everything but the updater is signed by the last path.
  const SubprocessResult sign =
      Codeseal({"sign", "-s", "ec", "--deep", updater, App()});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  ExpectSound(App());
}

TEST_F(ClientBundleTest, SettingsOfNestedCode) {
  MadeApp(tree_, "Demo.app", 2);
  const std::string entitlements =
      "<plist version=\"1.0\"><dict><key>com.example.NAME</key><true/></dict>"
      "</plist>";
  folder_.Write("app.plist", entitlements);
  folder_.Write("helper.plist", entitlements);
  const std::string settings = folder_.Write(
      "settings.yaml",
      "Contents/**.app:\n"
      "  entitlements: helper.plist\n"
      "  options: runtime\n"
      "Contents/XPCServices/*:\n"
      "  entitlements: none\n"
      "  identifier: com.example.other\n"
      "Contents/Helpers/crash-reporter:\n"
      "  requirements: '=designated => identifier \"com.example.crash\"'\n"
      "  identifier: com.example.crash\n");
  const SubprocessResult sign =
      Codeseal({"sign", "-s", "-", "--deep", "--settings", settings,
                "--entitlements", folder_.Path("app.plist"), "-v", App()});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_THAT(sign.out, HasSubstr("Service.xpc: signed bundle with Mach-O "
                                  "universal (x86_64 arm64) "
                                  "[com.example.other]"));
  ExpectSound(App());
  const auto shown = [&](const std::string& path) {
    return Codeseal({"show", "-v", "-r", "-", "--entitlements", "-",
                     App() + "/Contents/" + path})
        .out;
  };
  EXPECT_THAT(shown("Helpers/Demo Helper.app"), HasSubstr("com.example.NAME"));
  EXPECT_THAT(shown("XPCServices/Service.xpc"),
              Not(HasSubstr("com.example.NAME")));
  EXPECT_THAT(shown("Helpers/crash-reporter"),
              HasSubstr("designated => identifier \"com.example.crash\""));
}

TEST_F(ClientBundleTest, SettingsThatCannotBeRightAreRefused) {
  MadeApp(tree_, "Demo.app", 0);
  const TreeSnapshot before = TakeSnapshot(App());
  const struct {
    const char* text;
    const char* why;
  } kCases[] = {
      {"Contents/Helpers/*:\n  entitlement: a.plist\n",
       "settings.yaml:2: unknown key entitlement"},
      {"Contents/Helper/*:\n  options: runtime\n",
       "settings.yaml:1: Contents/Helper/* fits no code"},
      {"a:\n  options: fast\n", "settings.yaml:2: "},
      {"a:\n  entitlements: none.plist\n", "settings.yaml:2: "},
      {"a: b\n", "settings.yaml:1: want"},
      {"a:\n  options: runtime\na:\n  options: hard\n", "is given twice"},
      {"a: [\n", "settings.yaml:"},
  };
  for (const auto& each : kCases) {
    const std::string settings = folder_.Write("settings.yaml", each.text);
    const SubprocessResult sign =
        Codeseal({"sign", "-s", "-", "--deep", "--settings", settings, App()});
    EXPECT_EQ(sign.exit_code, 2) << each.text << sign.err;
    EXPECT_THAT(sign.err, Explains(App(), each.why, ""));
    EXPECT_EQ(TakeSnapshot(App()), before) << each.text;
  }
}

// A dry run says what would be done, and does nothing.
TEST_F(ClientBundleTest, DryRunIsJudgedAndWritesNothing) {
  StartServer();
  MadeApp(tree_, "Demo.app", 1);
  const TreeSnapshot before = TakeSnapshot(App());
  const SubprocessResult sign =
      Codeseal({"sign", "-n", "-s", "ec", "--deep", "-v", App()});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_THAT(sign.out, HasSubstr(App() + ": would be signed app bundle"));
  EXPECT_EQ(TakeSnapshot(App()), before);
}

}  // namespace
}  // namespace codeseal::testing
