// codeseal invoked as codesign, csreq, security and spctl: scripts that were
// written for a Mac see Apple's words, streams and exit codes. Behind it a real
// server.

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "codesign/cms/certificate.h"
#include "gtest/gtest.h"
#include "tests/integration/apple_names_fixture.h"
#include "tests/support/tree_snapshot.h"

namespace codeseal::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

TEST_F(AppleNamesTest, SignsSilentlyAndSaysMoreWithV) {
  const std::string entitlements = folder_.Write("E.plist", kEntitlements);
  const SubprocessResult sign =
      Codesign({"-s", "ec", "-f", "--options", "runtime", "--entitlements",
                entitlements, "--timestamp=none", tool_});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_EQ(sign.out + sign.err, "");
  const SubprocessResult again =
      Codesign({"-f", "-v", "-i", "com.x", "--sign=ec", tool_});
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_EQ(again.out, "");
  EXPECT_EQ(again.err,
            tool_ + ": replacing existing signature\n" + tool_ +
                ": signed Mach-O universal (x86_64 arm64) [com.x]\n");
}

TEST_F(AppleNamesTest, IdentityByCertificate) {
  const Certificate leaf = Leaf("ec");
  const std::string sha1 = HexEncode(leaf.Sha1());
  for (const std::string& name :
       {sha1, absl::AsciiStrToUpper(sha1), leaf.CommonName()}) {
    const SubprocessResult sign = Codesign({"-f", "-s", name, tool_});
    EXPECT_EQ(sign.exit_code, 0) << sign.err;
    EXPECT_THAT(Codesign({"-dvv", tool_}).err,
                HasSubstr("Authority=" + leaf.CommonName() + "\n"));
  }
  const SubprocessResult unknown = Codesign({"-f", "-s", "nobody", tool_});
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_THAT(unknown.err, StartsWith("nobody: no identity found\n"));
}

TEST_F(AppleNamesTest, RefusalsToSign) {
  Sign();
  const SubprocessResult again = Codesign({"-s", "ec", tool_});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, StartsWith(tool_ + ": is already signed\n"));
  const std::string gone = folder_.Path("gone");
  const SubprocessResult missing = Codesign({"-s", "ec", gone});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.err, StartsWith(gone + ": No such file or directory\n"));
  EXPECT_EQ(missing.out, "");
  const SubprocessResult usage = Codesign({"-s", "ec"});
  EXPECT_EQ(usage.exit_code, 2);
  EXPECT_THAT(usage.err, StartsWith("Usage: codesign -s identity"));
}

TEST_F(AppleNamesTest, ServerThatIsGoneIsAFailure) {
  environment_["CODESEAL_SERVER"] = "localhost:1";
  const SubprocessResult sign = Codesign({"-s", "ec", tool_});
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.err, AllOf(StartsWith(tool_ + ": "), HasSubstr("  fix ")));
}

TEST_F(AppleNamesTest, Verify) {
  Sign();
  const SubprocessResult silent = Codesign({"-v", tool_});
  EXPECT_EQ(silent.exit_code, 0);
  EXPECT_EQ(silent.out + silent.err, "");
  const SubprocessResult told = Codesign({"-vv", "--strict", tool_});
  EXPECT_EQ(told.exit_code, 0);
  EXPECT_EQ(told.out, "");
  EXPECT_EQ(told.err, tool_ + ": valid on disk\n" + tool_ +
                          ": satisfies its Designated Requirement\n");
  const SubprocessResult satisfied =
      Codesign({"--verify", "--verbose", "-R=identifier tool", tool_});
  EXPECT_EQ(satisfied.exit_code, 0);
  EXPECT_THAT(satisfied.err,
              HasSubstr(tool_ + ": explicit requirement satisfied\n"));
  const SubprocessResult other =
      Codesign({"--verify", "-R=anchor apple", tool_});
  EXPECT_EQ(other.exit_code, 3);
  EXPECT_THAT(other.err,
              StartsWith("test-requirement: code failed to satisfy specified "
                         "code requirement(s)\n"));
}

TEST_F(AppleNamesTest, VerifyOfChangedAndUnsignedCode) {
  const SubprocessResult none = Codesign({"--verify", tool_});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.err,
              StartsWith(tool_ + ": code object is not signed at all\n"
                                 "In architecture: x86_64\n"));
  Sign();
  Bytes changed = Read("tool");
  changed[0x4000 + 8000] ^= 1;
  Write("tool", changed);
  const SubprocessResult bad = Codesign({"--verify", tool_});
  EXPECT_EQ(bad.exit_code, 1);
  EXPECT_EQ(bad.out, "");
  EXPECT_THAT(
      bad.err,
      StartsWith(tool_ + ": invalid signature (code or signature have been "
                         "modified)\nIn architecture: x86_64\n"));
}

TEST_F(AppleNamesTest, DisplayGoesToStandardError) {
  EXPECT_EQ(Codesign({"-d", tool_}).exit_code, 1);
  EXPECT_THAT(Codesign({"-d", tool_}).err,
              StartsWith(tool_ + ": code object is not signed at all\n"));
  const std::string entitlements = folder_.Write("E.plist", kEntitlements);
  ASSERT_EQ(
      Codesign({"-s", "ec", "--entitlements", entitlements, tool_}).exit_code,
      0);
  const SubprocessResult brief = Codesign({"-d", tool_});
  EXPECT_EQ(brief.out, "");
  EXPECT_EQ(brief.err, "Executable=" + tool_ + "\n");
  EXPECT_THAT(Codesign({"-dvvv", tool_}).err,
              AllOf(StartsWith("Executable=" + tool_ + "\nIdentifier=tool\n"),
                    HasSubstr("\nCDHash="), HasSubstr("\nAuthority=")));

  const SubprocessResult requirements = Codesign({"-d", "-r-", tool_});
  EXPECT_THAT(requirements.out,
              StartsWith("designated => identifier tool and certificate "));
  EXPECT_THAT(requirements.err, HasSubstr("Executable="));
  const SubprocessResult xml =
      Codesign({"--display", "--entitlements", ":-", tool_});
  EXPECT_THAT(xml.out, AllOf(StartsWith("<?xml"),
                             HasSubstr("com.apple.security.cs.allow-jit")));
  EXPECT_THAT(Codesign({"-d", "--entitlements", "-", tool_}).out,
              StartsWith("[Dict]\n"));
}

TEST_F(AppleNamesTest, ConstraintsAreSignedAndShown) {
  const std::string constraint =
      folder_.Write("parent.plist",
                    "<plist version=\"1.0\"><dict><key>team-identifier</key>"
                    "<string>AB12CD34EF</string></dict></plist>");
  const std::string wrong = folder_.Write(
      "wrong.plist",
      "<plist version=\"1.0\"><dict><key>$nor</key><dict/></dict></plist>");
  EXPECT_EQ(Codesign({"--validate-constraint", constraint}).exit_code, 0);
  const SubprocessResult refused =
      Codesign({"-s", "ec", "--launch-constraint-parent", wrong, tool_});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("wrong.plist"), HasSubstr("$nor")));

  const SubprocessResult sign =
      Codesign({"-s", "ec", "--launch-constraint-parent", constraint, tool_});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_EQ(Codesign({"-v", tool_}).exit_code, 0);
  EXPECT_THAT(
      Codesign({"-dvvvv", tool_}).err,
      HasSubstr("Launch Constraints:\n\tHas Parent Launch Constraints\n"));
  EXPECT_THAT(Codeseal({"show", tool_}).out,
              AllOf(HasSubstr("Parent Launch Constraints:\n\t[Dict]\n"),
                    HasSubstr("AB12CD34EF")));
}

TEST_F(AppleNamesTest, DetachedSignatureLeavesTheCodeAlone) {
  const std::string before = folder_.Read("tool");
  const std::string signature = folder_.Path("tool.sig");
  const SubprocessResult sign =
      Codesign({"-s", "ec", "-D", signature, "--file-list", "-", tool_});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_EQ(sign.out, signature + "\n");
  EXPECT_EQ(folder_.Read("tool"), before);
  EXPECT_EQ(Codesign({"-v", tool_}).exit_code, 1);
  EXPECT_EQ(Codesign({"-v", "-D", signature, tool_}).exit_code, 0);
  EXPECT_THAT(Codesign({"-dvv", "-D", signature, tool_}).err,
              HasSubstr("Authority=" + Leaf("ec").CommonName() + "\n"));
  EXPECT_EQ(Codesign({"-s", "ec", "-D", signature, tool_}).exit_code, 1);
}

TEST_F(AppleNamesTest, DetachedSignatureLeavesABundleAlone) {
  const std::string app = folder_.Path("Demo.app");
  std::filesystem::create_directories(app + "/Contents/MacOS");
  std::filesystem::copy_file(tool_, app + "/Contents/MacOS/Demo");
  folder_.Write("Demo.app/Contents/Info.plist",
                "<plist><dict><key>CFBundleExecutable</key>"
                "<string>Demo</string></dict></plist>");
  const TreeSnapshot before = TakeSnapshot(app);
  const std::string signature = folder_.Path("Demo.sig");
  const SubprocessResult sign = Codesign({"-s", "ec", "-D", signature, app});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_EQ(TakeSnapshot(app), before);
  EXPECT_EQ(Codesign({"-v", app}).exit_code, 1);
  const SubprocessResult valid = Codesign({"-v", "-D", signature, app});
  EXPECT_EQ(valid.exit_code, 0) << valid.err;
  EXPECT_THAT(Codesign({"-dvv", "-D", signature, app}).err,
              AllOf(HasSubstr("Format=bundle with Mach-O universal"),
                    HasSubstr(" location=explicit detached\n"),
                    HasSubstr("Sealed Resources version=2 rules=13 files=0\n"),
                    HasSubstr("Authority=" + Leaf("ec").CommonName() + "\n")));
  folder_.Write("Demo.app/Contents/PkgInfo2", "added");
  const SubprocessResult changed = Codesign({"-v", "-D", signature, app});
  EXPECT_EQ(changed.exit_code, 1);
  EXPECT_THAT(changed.err,
              HasSubstr("a sealed resource is missing or invalid\n"));
  const SubprocessResult deep =
      Codesign({"-s", "ec", "--deep", "-f", "-D", signature, app});
  EXPECT_EQ(deep.exit_code, 1);
  EXPECT_THAT(deep.err, HasSubstr("no room for nested code"));
}

TEST_F(AppleNamesTest, FileListNamesWhatSigningChanged) {
  const std::string app = folder_.Path("Demo.app");
  std::filesystem::create_directories(app + "/Contents/MacOS");
  std::filesystem::copy_file(tool_, app + "/Contents/MacOS/Demo");
  folder_.Write("Demo.app/Contents/Info.plist",
                "<plist><dict><key>CFBundleExecutable</key>"
                "<string>Demo</string></dict></plist>");
  const std::string real = std::filesystem::canonical(app).string();
  const std::string expected = real + "/Contents/MacOS/Demo\n" + real +
                               "/Contents/_CodeSignature/CodeResources\n";
  const std::string list = folder_.Write("list", "before\n");
  const SubprocessResult sign =
      Codesign({"-s", "ec", "--file-list", list, app});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_EQ(folder_.Read("list"), "before\n" + expected);
  EXPECT_EQ(Codesign({"-d", "--file-list=-", app}).out, expected);
}

TEST_F(AppleNamesTest, RemovesSignatures) {
  Sign();
  const SubprocessResult removed = Codesign({"--remove-signature", tool_});
  EXPECT_EQ(removed.exit_code, 0) << removed.err;
  EXPECT_EQ(removed.out + removed.err, "");
  EXPECT_THAT(Codesign({"-v", tool_}).err,
              StartsWith(tool_ + ": code object is not signed at all\n"));
  const SubprocessResult again = Codesign({"--remove-signature", tool_});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err,
              StartsWith(tool_ + ": code object is not signed at all\n"));
}

TEST_F(AppleNamesTest, SecurityListsIdentitiesAsBuildToolsReadThem) {
  const SubprocessResult valid =
      As("security", {"find-identity", "-v", "-p", "codesigning"});
  EXPECT_EQ(valid.exit_code, 0) << valid.err;
  EXPECT_THAT(valid.out, MatchesRegex("  1\\) [0-9A-F]{40} \"[^\"]+\"\n"
                                      "  2\\) [0-9A-F]{40} \"[^\"]+\"\n"
                                      "     2 valid identities found\n"));
  const Certificate leaf = Leaf("ec");
  EXPECT_THAT(valid.out,
              HasSubstr(absl::AsciiStrToUpper(HexEncode(leaf.Sha1())) + " \"" +
                        leaf.CommonName() + "\"\n"));
  EXPECT_THAT(As("security", {"find-identity", "-p", "codesigning"}).out,
              AllOf(StartsWith("\nPolicy: Code Signing\n"
                               "  Matching identities\n  1) "),
                    HasSubstr("     2 identities found\n\n"
                              "  Valid identities only\n  1) ")));
  EXPECT_EQ(As("security", {"find-identity", "-v", "-p", "ssl-server"}).out,
            "     0 valid identities found\n");
}

TEST_F(AppleNamesTest, SecurityOpensProfiles) {
  const std::string key = folder_.Path("key.pem");
  const std::string certificate = folder_.Path("certificate.pem");
  const std::string content = folder_.Write("content", kEntitlements);
  const std::string profile = folder_.Path("test.provisionprofile");
  ASSERT_EQ(RunProgram({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x",
                        "-keyout", key, "-out", certificate})
                .exit_code,
            0);
  ASSERT_EQ(RunProgram({"openssl", "cms", "-sign", "-binary", "-nodetach",
                        "-signer", certificate, "-inkey", key, "-outform",
                        "DER", "-in", content, "-out", profile})
                .exit_code,
            0);
  const SubprocessResult printed = As("security", {"cms", "-D", "-i", profile});
  EXPECT_EQ(printed.exit_code, 0) << printed.err;
  EXPECT_EQ(printed.out, kEntitlements);

  // The content is not printed when the signature does not fit it.
  std::string changed = folder_.Read("test.provisionprofile");
  changed.replace(changed.find("allow-jit"), 9, "allow-all");
  folder_.Write("test.provisionprofile", changed);
  const SubprocessResult refused = As("security", {"cms", "-D", "-i", profile});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(refused.out, "");
  EXPECT_THAT(refused.err, HasSubstr("signature"));
  EXPECT_EQ(As("security", {"cms", "-D", "-i", content}).exit_code, 1);
}

// What is signed by one's own CA is valid, and nobody Gatekeeper knows.
TEST_F(AppleNamesTest, Spctl) {
  const SubprocessResult none = As("spctl", {"--assess", "-vv", tool_});
  EXPECT_EQ(none.exit_code, 3);
  EXPECT_EQ(none.out, "");
  EXPECT_THAT(none.err, StartsWith(tool_ + ": rejected\n"
                                           "source=no usable signature\n"));
  Sign();
  const SubprocessResult tool =
      As("spctl", {"--assess", "--type", "execute", "-vv", tool_});
  EXPECT_EQ(tool.exit_code, 3);
  EXPECT_THAT(tool.err,
              StartsWith(tool_ +
                         ": rejected (the code is valid but does not seem to "
                         "be an app)\norigin=" +
                         Leaf("ec").CommonName() + "\n"));
  const std::string gone = folder_.Path("gone");
  const SubprocessResult missing = As("spctl", {"-a", gone});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.err, StartsWith(gone + ": No such file or directory\n"));
  EXPECT_EQ(As("spctl", {"-a"}).exit_code, 2);
  EXPECT_EQ(As("spctl", {"--status"}).out, "assessments enabled\n");
}

TEST_F(AppleNamesTest, Csreq) {
  const std::string binary = folder_.Path("req.bin");
  ASSERT_EQ(As("csreq", {"-r=anchor  apple", "-b", binary}).exit_code, 0);
  EXPECT_EQ(HexEncode(Read("req.bin")), "fade0c00000000100000000100000003");
  EXPECT_EQ(As("csreq", {"-r", binary, "-t"}).out, "anchor apple\n");
  const SubprocessResult wrong = As("csreq", {"-r=anchor apple and", "-t"});
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_THAT(wrong.err, HasSubstr("line 1, column 17"));
  EXPECT_EQ(As("csreq", {"-t"}).exit_code, 2);
}

// What CI recipes for a Mac do around signing, word for word.
TEST_F(AppleNamesTest, ScriptForAMacRunsUnmodified) {
  folder_.Write("E.plist", kEntitlements);
  const std::string script = folder_.Write(
      "sign.sh",
      "set -euo pipefail\n"
      "cd \"$(dirname \"$0\")\"\n"
      "security create-keychain -p pw build.keychain\n"
      "security default-keychain -s build.keychain\n"
      "security unlock-keychain -p pw build.keychain\n"
      "security set-keychain-settings -lut 21600 build.keychain\n"
      "security import cert.p12 -k build.keychain -P pw -T "
      "/usr/bin/codesign\n"
      "security set-key-partition-list -S apple-tool:,apple:,codesign: -s "
      "-k pw build.keychain\n"
      "security list-keychains -d user -s build.keychain "
      "$(security list-keychains -d user | sed s/\\\"//g)\n"
      "ID=$(security find-identity -v -p codesigning | grep ' 2) ' | awk "
      "'{print $2}')\n"
      "codesign -s \"$ID\" -f --options runtime --entitlements E.plist "
      "--timestamp=none tool\n"
      "codesign --verify --deep --strict --verbose=2 tool\n"
      "codesign -d --entitlements :- tool | grep -q allow-jit\n"
      "security delete-keychain build.keychain\n");
  const SubprocessResult run = RunProgram({"bash", script}, environment_);
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  EXPECT_THAT(run.err, HasSubstr("tool: valid on disk\n"));
}

}  // namespace
}  // namespace codeseal::testing
