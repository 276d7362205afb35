// Build tools that were written for a Mac sign an app on Linux: a shell script,
// @electron/osx-sign and electron-builder, each over codeseal's codesign. The
// npm packages come from electron/fetch; without them their tests are skipped.

#include <sys/xattr.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/integration/apple_names_fixture.h"

namespace codeseal::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string InfoPlist(const std::string& name, const std::string& executable,
                      const std::string& type) {
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
         "<plist version=\"1.0\"><dict>\n"
         "<key>CFBundleIdentifier</key><string>com.example." +
         name + "</string>\n<key>CFBundleExecutable</key><string>" +
         executable + "</string>\n<key>CFBundlePackageType</key><string>" +
         type + "</string>\n</dict></plist>\n";
}

class BuildToolsTest : public AppleNamesTest {
 protected:
  BuildToolsTest() {
    entitlements_ = folder_.Write("E.plist", kEntitlements);
    MakeApp();
  }

  // As Electron lays one out: a helper app, a versioned framework with a
  // library, a loose library.
  void MakeApp() const {
    const std::string contents = "Demo.app/Contents/";
    const std::string helper =
        contents + "Frameworks/Demo Helper.app/Contents/";
    const std::string framework =
        contents + "Frameworks/Electron Framework.framework/";
    Add(contents + "Info.plist", InfoPlist("demo", "Demo", "APPL"));
    AddCode(contents + "MacOS/Demo", 1);
    Add(contents + "Resources/en.lproj/locale.txt", "text");
    Add(contents + "Resources/app/main.js", "console.log(1)");
    // Build tools sign what is not text, too.
    Add(contents + "Resources/icon.icns", std::string("icns\0\0\1", 7));
    AddCode(contents + "Frameworks/libffmpeg.dylib", 2);
    Add(helper + "Info.plist", InfoPlist("helper", "Demo Helper", "APPL"));
    AddCode(helper + "MacOS/Demo Helper", 3);
    Add(framework + "Versions/A/Resources/Info.plist",
        InfoPlist("framework", "Electron Framework", "FMWK"));
    AddCode(framework + "Versions/A/Electron Framework", 4);
    AddCode(framework + "Versions/A/Libraries/libGLESv2.dylib", 5);
    Link(framework + "Versions/Current", "A");
    for (const char* name : {"Electron Framework", "Libraries", "Resources"}) {
      Link(framework + name, std::string("Versions/Current/") + name);
    }
  }
  void Add(const std::string& name, std::string_view text) const {
    fs::create_directories(fs::path(folder_.Path(name)).parent_path());
    folder_.Write(name, text);
  }
  void AddCode(const std::string& name, size_t number) const {
    Add(name, AsText(UnsignedUniversal(10000 + 1000 * number)));
    fs::permissions(folder_.Path(name), fs::perms(0755));
  }
  void Link(const std::string& name, const std::string& target) const {
    fs::create_symlink(target, folder_.Path(name));
  }

  std::string App() const { return folder_.Path("Demo.app"); }

  // Signed as a Mac wants it: everything, with the runtime and entitlements.
  void ExpectSigned() const {
    const SubprocessResult verify =
        Codeseal({"verify", "--deep", "--anchors", world_.code_ca(), App()});
    EXPECT_EQ(verify.exit_code, 0) << verify.err;
    EXPECT_THAT(Codesign({"-dvv", App()}).err,
                AllOf(HasSubstr("flags=0x10000(runtime)"),
                      HasSubstr("Identifier=com.example.demo\n"),
                      HasSubstr("Sealed Resources version=2")));
    EXPECT_THAT(Codesign({"-d", "--entitlements", ":-", App()}).out,
                HasSubstr("com.apple.security.cs.allow-jit"));
  }

  std::string entitlements_;
};

TEST_F(BuildToolsTest, ShellScriptForAMac) {
  const std::string script = folder_.Write(
      "sign.sh",
      "#!/bin/bash\n"
      "set -euo pipefail\n"
      "cd \"$(dirname \"$0\")\"\n"
      "ID=\"$1\"\n"
      "codesign -s \"$ID\" -f --options runtime --entitlements E.plist "
      "--timestamp=none --deep Demo.app\n"
      "codesign --verify --deep --strict --verbose=2 Demo.app\n"
      "codesign -vvv --deep --strict Demo.app\n"
      "codesign -dvvv Demo.app\n");
  const SubprocessResult run =
      RunProgram({"bash", script, Leaf("rsa").CommonName()}, environment_);
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err, AllOf(HasSubstr("Demo.app: valid on disk\n"),
                             HasSubstr("Demo.app: satisfies its Designated "
                                       "Requirement\n"),
                             HasSubstr("--validated:")));
  ExpectSigned();
}

// $self.identifier is each item's own.
TEST_F(BuildToolsTest, RequirementThatNamesItsOwnCode) {
  const SubprocessResult sign =
      Codesign({"-s", "rsa", "--deep",
                "-r=designated => identifier "
                "\"$self.identifier\" and anchor trusted",
                App()});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_EQ(Codesign({"-d", "-r-", App()}).out,
            "designated => identifier \"com.example.demo\" and anchor "
            "trusted\n");
  EXPECT_EQ(Codesign({"-d", "-r-",
                      App() + "/Contents/Frameworks/Demo "
                              "Helper.app"})
                .out,
            "designated => identifier \"com.example.helper\" and anchor "
            "trusted\n");
}

// Whoever builds the same app gets the same signed app out of the signatures
// alone.
TEST_F(BuildToolsTest, DetachedSignaturesMakeTheSameApp) {
  const std::string again = folder_.Path("Again.app");
  fs::copy(App(), again,
           fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  const SubprocessResult sign =
      Codesign({"-s", "rsa", "--deep", "-o", "runtime", "--entitlements",
                entitlements_, App()});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  const std::string signatures = folder_.Path("Demo.sig");
  const SubprocessResult detach = Codeseal({"detach", App(), "-o", signatures});
  ASSERT_EQ(detach.exit_code, 0) << detach.err;

  fs::copy(again, folder_.Path("Other.app"),
           fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  const SubprocessResult attach = Codeseal({"attach", signatures, again});
  EXPECT_EQ(attach.exit_code, 0) << attach.err;
  const SubprocessResult diff =
      RunProgram({"diff", "-r", "--no-dereference", App(), again});
  EXPECT_EQ(diff.exit_code, 0) << diff.out << diff.err;

  const std::string other = folder_.Path("Other.app");
  AddCode("Other.app/Contents/Frameworks/libffmpeg.dylib", 9);
  const SubprocessResult refused = Codeseal({"attach", signatures, other});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err,
              Explains("libffmpeg.dylib", "not the code that was signed", ""));
  EXPECT_FALSE(fs::exists(other + "/Contents/_CodeSignature"));
}

// Fills the room that ext4 has for attributes; false where there is more.
bool FillAttributes(const std::string& path) {
  const std::string some(3000, 'x');
  const auto set = [&](const char* name, size_t size) {
    return setxattr(path.c_str(), name, some.data(), size, 0) == 0;
  };
  return set("user.first", 3000) && !set("user.second", 3000) &&
         set("user.third", 700);
}

TEST_F(BuildToolsTest, ResourceWithoutRoomForASignatureIsPassedOver) {
  const std::string icon = App() + "/Contents/Resources/icon.icns";
  const std::string loose = folder_.Write("loose.icns", "icns");
  if (!FillAttributes(icon) || !FillAttributes(loose)) {
    GTEST_SKIP() << "this file system has room for more attributes";
  }
  const SubprocessResult passed = Codesign({"-f", "-s", "rsa", icon});
  EXPECT_EQ(passed.exit_code, 0) << passed.err;
  EXPECT_THAT(passed.err, HasSubstr(icon + ": warning: not signed by itself"));
  // Where no seal covers it, and under our own name, it is a failure.
  EXPECT_EQ(Codesign({"-f", "-s", "rsa", loose}).exit_code, 1);
  EXPECT_EQ(Codeseal({"sign", "-f", "-s", "rsa", icon}).exit_code, 1);
  EXPECT_EQ(Codesign({"-s", "rsa", "--deep", App()}).exit_code, 0);
  EXPECT_EQ(Codesign({"--verify", "--deep", App()}).exit_code, 0);
}

class ElectronTest : public BuildToolsTest,
                     public ::testing::WithParamInterface<const char*> {
 protected:
  static std::string Tools() {
    const char* const corpus = std::getenv("CODESEAL_CORPUS");
    return (corpus != nullptr ? std::string(corpus)
                              : std::string(std::getenv("HOME")) +
                                    "/.cache/codeseal/corpus") +
           "/electron";
  }
};

TEST_P(ElectronTest, SignsAnApp) {
  if (!fs::exists(Tools() + "/complete")) {
    const char* const required = std::getenv("CODESEAL_REQUIRE_CORPUS");
    if (required != nullptr && std::string_view(required) == "1") {
      FAIL() << "tests/integration/electron/fetch was not run";
    }
    GTEST_SKIP() << GetParam() << " was not fetched";
  }
  environment_["ELECTRON_TOOLS"] = Tools();
  environment_["ELECTRON_BUILDER_CACHE"] = folder_.Path("cache");
  fs::create_directory(folder_.Path("cache"));
  const SubprocessResult run = RunProgram(
      {"node", CODESEAL_ELECTRON_FOLDER "/sign.js", GetParam(), App(),
       Leaf("rsa").CommonName(), entitlements_, folder_.path()},
      environment_);
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  EXPECT_THAT(run.out, HasSubstr("signed\n"));
  ExpectSigned();
}

INSTANTIATE_TEST_SUITE_P(Tools, ElectronTest,
                         ::testing::Values("osx-sign", "electron-builder"),
                         [](const auto& each) {
                           return std::string(each.param) == "osx-sign"
                                      ? "OsxSign"
                                      : "ElectronBuilder";
                         });

}  // namespace
}  // namespace codeseal::testing
