// codeseal on this machine alone: ad-hoc signatures, verdicts, and every way in
// which a file can stand in the way.

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/integration/client_fixture.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class ClientLocalTest : public ClientTest {};

TEST_F(ClientLocalTest, SignsVerifiesShowsAndStrips) {
  const Bytes original = UnsignedUniversal();
  const std::string path = Write("tool", original);

  const SubprocessResult sign =
      Codeseal({"sign", "-s", "-", "-v", "-i", "com.example.tool", path});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_THAT(sign.out,
              HasSubstr(path + ": signed Mach-O universal (x86_64 arm64) "
                               "[com.example.tool]\n  x86_64 cdhash="));
  EXPECT_EQ(sign.err, "");

  const SubprocessResult verify = Codeseal({"verify", path});
  EXPECT_EQ(verify.exit_code, 0) << verify.err;
  EXPECT_EQ(verify.out, path + ": valid on disk\n" + path +
                            ": satisfies its Designated Requirement\n");

  const SubprocessResult show = Codeseal({"show", "-v", path});
  EXPECT_EQ(show.exit_code, 0) << show.err;
  EXPECT_THAT(show.out, HasSubstr("Identifier=com.example.tool\n"));
  EXPECT_THAT(show.out, HasSubstr("Signature=adhoc\n"));

  const SubprocessResult strip = Codeseal({"strip", path});
  EXPECT_EQ(strip.exit_code, 0) << strip.err;
  EXPECT_EQ(Codeseal({"verify", path}).exit_code, 1);
  EXPECT_THAT(Names(), UnorderedElementsAre("tool"));
}

TEST_F(ClientLocalTest, JsonSaysEverything) {
  const std::string path = Write("tool", UnsignedUniversal());
  const SubprocessResult sign = Codeseal(
      {"sign", "-s", "-", "--json", "--digest-algorithm", "sha1,sha256", path});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  const nlohmann::json document = nlohmann::json::parse(sign.out);
  EXPECT_EQ(document["command"], "sign");
  const nlohmann::json& result = document["results"].at(0);
  EXPECT_EQ(result["path"], path);
  EXPECT_EQ(result["ok"], true);
  EXPECT_EQ(result["replaced_signature"], false);
  ASSERT_EQ(result["slices"].size(), 2u);
  EXPECT_EQ(result["slices"][1]["architecture"], "arm64");
  EXPECT_EQ(result["slices"][1]["cdhashes"].size(), 2u);
  EXPECT_EQ(result["slices"][1]["cdhash"],
            result["slices"][1]["cdhashes"]["sha256"]);

  const SubprocessResult verify = Codeseal({"verify", "--json", path});
  ASSERT_EQ(verify.exit_code, 0) << verify.err;
  const nlohmann::json verdict =
      nlohmann::json::parse(verify.out)["results"].at(0);
  EXPECT_EQ(verdict["valid"], true);
  EXPECT_EQ(verdict["slices"][1]["cdhash"], result["slices"][1]["cdhash"]);
  EXPECT_FALSE(verdict["slices"][1]["checks"].empty());
}

TEST_F(ClientLocalTest, DryRunWritesNothing) {
  const Bytes original = UnsignedUniversal();
  const std::string path = Write("tool", original);
  const SubprocessResult sign = Codeseal({"sign", "-s", "-", "-nv", path});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_THAT(sign.out, HasSubstr(": would be signed Mach-O universal"));
  EXPECT_EQ(Read("tool"), original);
}

TEST_F(ClientLocalTest, AlreadySignedNeedsForce) {
  const std::string path = Write("tool", UnsignedUniversal());
  ASSERT_EQ(Codeseal({"sign", "-s", "-", path}).exit_code, 0);
  const Bytes first = Read("tool");
  const SubprocessResult again =
      Codeseal({"sign", "-s", "-", "-i", "other", path});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, Explains(path, "already signed", "-f"));
  EXPECT_EQ(Read("tool"), first);
  const SubprocessResult forced =
      Codeseal({"sign", "-s", "-", "-f", "-i", "other", path});
  EXPECT_EQ(forced.exit_code, 0) << forced.err;
  EXPECT_EQ(forced.out, path + ": replacing existing signature\n");
  EXPECT_EQ(Codeseal({"verify", path}).exit_code, 0);
}

TEST_F(ClientLocalTest, EveryPathIsTriedAndTheWorstCodeReturned) {
  const std::string good = Write("good", UnsignedUniversal());
  const Bytes whole = UnsignedUniversal();
  const std::string text = Write("text", ByteView(whole).first(5000));
  const std::string last = Write("last", UnsignedUniversal());
  const SubprocessResult sign =
      Codeseal({"sign", "-s", "-", "-v", good, text, last});
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.out, HasSubstr(good + ": signed"));
  EXPECT_THAT(sign.out, HasSubstr(last + ": signed"));
  EXPECT_THAT(sign.err, Explains(text, "", ""));
  EXPECT_EQ(Codeseal({"verify", "-q", good, last}).exit_code, 0);
}

TEST_F(ClientLocalTest, NoRoomForTheLoadCommand) {
  MachODescription tight;
  tight.header_room = 8;
  const Bytes original = BuildMachO(tight);
  const std::string path = Write("tight", original);
  const SubprocessResult sign = Codeseal({"sign", "-s", "-", path});
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.err, Explains(path + " (arm64)", "16 bytes", "-headerpad"));
  EXPECT_EQ(Read("tight"), original);
}

TEST_F(ClientLocalTest, UnsignedCodeIsCalledSo) {
  const std::string path = Write("tool", UnsignedUniversal());
  const SubprocessResult verify = Codeseal({"verify", path});
  EXPECT_EQ(verify.exit_code, 1);
  EXPECT_THAT(verify.err,
              HasSubstr(path + ": code object is not signed at all\n"));
  for (const char* command : {"show", "strip"}) {
    const SubprocessResult result = Codeseal({command, path});
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, Explains(path, "not signed", "sign it first"));
  }
}

TEST_F(ClientLocalTest, ShowGivesEachPartToThePipe) {
  const std::string path = Write("tool", UnsignedUniversal());
  const std::string entitlements =
      Write("e.plist",
            AsBytes("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                    "<plist version=\"1.0\"><dict>"
                    "<key>com.example.allowed</key><true/></dict></plist>\n"));
  ASSERT_EQ(Codeseal({"sign", "-s", "-", "-i", "com.example.tool",
                      "--entitlements", entitlements, path})
                .exit_code,
            0);
  EXPECT_EQ(Codeseal({"show", "--entitlements", "-", path}).out,
            "[Dict]\n\t[Key] com.example.allowed\n\t[Value]\n"
            "\t\t[Bool] true\n");
  EXPECT_THAT(Codeseal({"show", "--xml", "--entitlements", "-", path}).out,
              HasSubstr("<key>com.example.allowed</key><true/>"));
  EXPECT_TRUE(Codeseal({"show", "-r", "-", path})
                  .out.starts_with("# designated => cdhash H\""));
  const nlohmann::json json = nlohmann::json::parse(
      Codeseal({"show", "--json", "-a", "all", path}).out);
  const nlohmann::json& slices = json["results"].at(0)["slices"];
  ASSERT_EQ(slices.size(), 2u);
  EXPECT_EQ(slices[0]["architecture"], "x86_64");
  EXPECT_EQ(slices[1]["entitlements"]["com.example.allowed"], true);
  const SubprocessResult ppc = Codeseal({"show", "-a", "ppc", path});
  EXPECT_EQ(ppc.exit_code, 2);
  EXPECT_THAT(ppc.err, Explains(path, "no slice ppc", ""));
}

TEST_F(ClientLocalTest, MissingFile) {
  const std::string path = folder_.Path("missing");
  for (const char* command : {"verify", "show", "strip"}) {
    const SubprocessResult result = Codeseal({command, path});
    EXPECT_EQ(result.exit_code, 1) << command;
    EXPECT_THAT(result.err, Explains(path, "No such file", "check the path"));
  }
}

TEST_F(ClientLocalTest, TruncatedAnywhereIsRefusedAndUntouched) {
  const Bytes whole = UnsignedUniversal();
  for (size_t size = 0; size < whole.size(); size += 4096) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<long>(size));
    const std::string path = Write("cut", cut);
    const SubprocessResult sign = Codeseal({"sign", "-s", "-", path});
    EXPECT_EQ(sign.exit_code, 1) << size;
    EXPECT_THAT(sign.err, Explains(path, "", "")) << size;
    EXPECT_EQ(Read("cut"), cut) << size;
  }
}

TEST_F(ClientLocalTest, OtherKindsOfCodeAreNamed) {
  const std::string app = folder_.Path("Demo.app");
  std::filesystem::create_directory(app);
  for (const char* command : {"verify", "show"}) {
    const SubprocessResult result = Codeseal({command, app});
    EXPECT_EQ(result.exit_code, 1) << command;
    EXPECT_THAT(result.err, Explains(app, "bundle format unrecognized", ""));
  }
  EXPECT_THAT(Codeseal({"strip", app}).err,
              Explains(app, "bundle format unrecognized", "Info.plist"));
  EXPECT_EQ(Codeseal({"sign", "-s", "-", app}).exit_code, 1);
  const std::string package = Write("p.pkg", AsBytes("xar!xxxxxxxxxxxxxxxxxx"));
  EXPECT_THAT(Codeseal({"sign", "-s", "-", package}).err,
              Explains(package, "xar header", "build the package again"));
}

TEST_F(ClientLocalTest, ChangedByteIsFoundInItsArchitecture) {
  const std::string path = Write("tool", UnsignedUniversal());
  ASSERT_EQ(Codeseal({"sign", "-s", "-", path}).exit_code, 0);
  Bytes bytes = Read("tool");
  bytes[0x4000 + 9000] ^= 1;  // code of the first slice
  Write("tool", bytes);
  const SubprocessResult verify = Codeseal({"verify", path});
  EXPECT_EQ(verify.exit_code, 1);
  EXPECT_EQ(verify.out, "");
  EXPECT_THAT(verify.err,
              HasSubstr(path + ": invalid signature (code or signature have "
                               "been modified)\nIn architecture: x86_64\n"));
  EXPECT_THAT(verify.err, HasSubstr("  fix    "));
}

TEST_F(ClientLocalTest, FailedRequirementOfValidCodeHasItsOwnCode) {
  const std::string path = Write("tool", UnsignedUniversal());
  ASSERT_EQ(
      Codeseal({"sign", "-s", "-", "-i", "com.example.tool", path}).exit_code,
      0);
  const SubprocessResult satisfied =
      Codeseal({"verify", "-R", "=identifier \"com.example.tool\"", path});
  EXPECT_EQ(satisfied.exit_code, 0) << satisfied.err;
  EXPECT_THAT(satisfied.out,
              HasSubstr(path + ": explicit requirement satisfied\n"));
  const SubprocessResult failed =
      Codeseal({"verify", "-R", "=identifier other", path});
  EXPECT_EQ(failed.exit_code, 3);
  EXPECT_THAT(failed.out, HasSubstr(path + ": valid on disk\n"));
  EXPECT_THAT(failed.err,
              HasSubstr("test-requirement: code failed to satisfy specified "
                        "code requirement(s)\n"));
  EXPECT_EQ(Codeseal({"requirement", "test", "-R", "=identifier other", path})
                .exit_code,
            3);
  EXPECT_EQ(Codeseal({"requirement", "test", "-R",
                      "=identifier \"com.example.tool\"", path})
                .exit_code,
            0);
}

TEST_F(ClientLocalTest, RequirementsAreCompiledAndDumped) {
  const std::string path = folder_.Path("r.bin");
  const SubprocessResult compile =
      Codeseal({"requirement", "compile", "=anchor apple generic", "-o", path});
  EXPECT_EQ(compile.exit_code, 0) << compile.err;
  EXPECT_EQ(Codeseal({"requirement", "dump", path}).out,
            "anchor apple generic\n");
  const SubprocessResult wrong =
      Codeseal({"requirement", "compile", "=anchor and"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, Explains("the requirement", "", "correct the text"));
}

TEST_F(ClientLocalTest, UsageFaultsAreCodeTwo) {
  const std::string path = Write("tool", UnsignedUniversal());
  EXPECT_EQ(Codeseal({}).exit_code, 2);
  const SubprocessResult nobody = Codeseal({"sign", path});
  EXPECT_EQ(nobody.exit_code, 2);
  EXPECT_THAT(nobody.err, Explains(path, "CODESEAL_IDENTITY", ""));
  const SubprocessResult nowhere = Codeseal({"sign", "-s", "release", path});
  EXPECT_EQ(nowhere.exit_code, 2);
  EXPECT_THAT(nowhere.err, Explains(path, "--server (or CODESEAL_SERVER)", ""));
  const SubprocessResult timestamp =
      Codeseal({"sign", "-s", "-", "--timestamp", path});
  EXPECT_EQ(timestamp.exit_code, 2);
  EXPECT_THAT(timestamp.err,
              Explains(path, "ad-hoc signature has no room", ""));
  const SubprocessResult page_size =
      Codeseal({"sign", "-s", "-", "--page-size", "5000", path});
  EXPECT_EQ(page_size.exit_code, 2);
  EXPECT_THAT(page_size.err, Explains(path, "--page-size", "--help"));
}

TEST_F(ClientLocalTest, ReadOnlyFolder) {
  const Bytes original = UnsignedUniversal();
  // Permissions bind everybody but root, so root becomes somebody else, who
  // needs a program that may be read.
  std::filesystem::create_directory(folder_.Path("locked"));
  const std::string path = folder_.Write("locked/tool", AsText(original));
  std::vector<std::string> argv = {CODESEAL_CLIENT, "sign", "-s", "-", path};
  if (geteuid() == 0) {
    const std::string program = folder_.Path("codeseal");
    std::filesystem::copy_file(CODESEAL_CLIENT, program);
    chmod(program.c_str(), 0755);
    chmod(folder_.path().c_str(), 0755);
    chmod(path.c_str(), 0666);
    argv[0] = program;
    argv.insert(argv.begin(), {"setpriv", "--reuid=65534", "--regid=65534",
                               "--clear-groups"});
  }
  chmod(folder_.Path("locked").c_str(), 0555);
  const SubprocessResult sign = RunProgram(argv, environment_);
  chmod(folder_.Path("locked").c_str(), 0755);
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.err,
              Explains(path, "Permission denied", "make the folder writable"));
  EXPECT_EQ(Read("locked/tool"), original);
}

TEST_F(ClientLocalTest, FullDisk) {
  const Bytes original = UnsignedUniversal();
  const std::string disk = folder_.Path("disk");
  std::filesystem::create_directory(disk);
  const std::string size =
      "size=" + std::to_string(original.size() + 16 * 1024);
  if (mount("none", disk.c_str(), "tmpfs", 0, size.c_str()) != 0) {
    GTEST_SKIP() << "a small disk needs the right to mount one";
  }
  const std::string path = folder_.Write("disk/tool", AsText(original));
  const SubprocessResult sign = Codeseal({"sign", "-s", "-", path});
  const Bytes after = Read("disk/tool");
  size_t name_count = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator(disk)) {
    ++name_count;
  }
  umount(disk.c_str());
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.err,
              Explains(path, "No space left on device", "free some space"));
  EXPECT_EQ(after, original);
  EXPECT_EQ(name_count, 1u) << "a staged file was left behind";
}

}  // namespace
}  // namespace codeseal::testing
