// Disk images and installer packages through the whole path, taken apart
// afterwards by a program that shares nothing with ours.

#include <sys/xattr.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/integration/client_fixture.h"
#include "tests/support/disk_image_builder.h"
#include "tests/support/package_builder.h"
#include "tests/support/server_process.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kInstallerUsage[] = "1.2.840.113635.100.4.13";

class ClientImageTest : public ClientTest {
 protected:
  ClientImageTest() {
    const std::string chain =
        world_.AddKey("main", "03", KeyAlgorithm::kRsa2048, kInstallerUsage);
    const std::string identities =
        world_.IdentitiesSection() +
        ServerWorld::Identity("installer", "main", "03", chain,
                              "    rules: {allow_packages: true}\n");
    server_ = std::make_unique<ServerProcess>(
        world_.WriteConfig(world_.Config(world_.TokensSection(), identities)));
    const std::string& address = server_->address();
    environment_["CODESEAL_SERVER"] =
        "localhost" + address.substr(address.rfind(':'));
    environment_["CODESEAL_CA"] = world_.tls_ca();
    environment_["CODESEAL_CERT"] = world_.client().certificate;
    environment_["CODESEAL_KEY"] = world_.client().key;
  }

  SubprocessResult Check(const std::string& kind, const std::string& path,
                         const std::string& unsigned_path,
                         const std::string& more) const {
    return RunProgram({"python3", "-B", CODESEAL_CHECK_SIGNED, kind, path,
                       unsigned_path, world_.code_ca(), more});
  }

  ServerWorld world_;
  std::unique_ptr<ServerProcess> server_;
};

TEST_F(ClientImageTest, SignsDiskImages) {
  const std::string original =
      folder_.Write("original.dmg", MakeDiskImage(300'000));
  const std::string path = folder_.Write("a.dmg", MakeDiskImage(300'000));
  for (const bool again : {false, true}) {
    std::vector<std::string> arguments = {
        "sign", "-v", "-s", "rsa", "-i", "com.example.image", path};
    if (again) {
      const SubprocessResult refused = Codeseal(arguments);
      EXPECT_EQ(refused.exit_code, 1);
      EXPECT_THAT(refused.err, HasSubstr("is already signed"));
      arguments.push_back("-f");
    }
    const SubprocessResult sign = Codeseal(arguments);
    ASSERT_EQ(sign.exit_code, 0) << sign.err;
    EXPECT_THAT(sign.out, HasSubstr(path + ": signed disk image"));
    const SubprocessResult check =
        Check("dmg", path, original, "com.example.image");
    EXPECT_EQ(check.exit_code, 0) << check.out << check.err;
    const SubprocessResult verify =
        Codeseal({"verify", "--anchors", world_.code_ca(), path});
    EXPECT_EQ(verify.exit_code, 0) << verify.err;
    EXPECT_THAT(verify.out,
                HasSubstr(path + ": satisfies its Designated Requirement"));
  }
  const SubprocessResult show = Codeseal({"show", path});
  EXPECT_THAT(show.out, HasSubstr("Format=disk image"));
  EXPECT_THAT(show.out, HasSubstr("Identifier=com.example.image"));

  // One byte of the data, one of the trailer.
  const std::string good = folder_.Read("a.dmg");
  for (const size_t from_end : {good.size() - 7, size_t{20}}) {
    std::string bad = good;
    bad[bad.size() - from_end] ^= 1;
    const std::string bad_path = folder_.Write("bad.dmg", bad);
    const SubprocessResult verify = Codeseal({"verify", bad_path});
    EXPECT_EQ(verify.exit_code, 1) << from_end;
    EXPECT_THAT(verify.err, HasSubstr("invalid signature"));
  }

  ASSERT_EQ(Codeseal({"strip", path}).exit_code, 0);
  EXPECT_EQ(folder_.Read("a.dmg"), folder_.Read("original.dmg"));
  const SubprocessResult strip = Codeseal({"strip", path});
  EXPECT_EQ(strip.exit_code, 1);
  EXPECT_THAT(strip.err, HasSubstr("is not signed"));
}

TEST_F(ClientImageTest, SignsDiskImagesAdHoc) {
  const std::string path = folder_.Write("a.dmg", MakeDiskImage());
  const SubprocessResult sign = Codeseal({"sign", "-s", "-", path});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_EQ(Codeseal({"verify", path}).exit_code, 0);
  EXPECT_THAT(Codeseal({"show", path}).out, HasSubstr("Signature=adhoc"));
}

TEST_F(ClientImageTest, RefusesDiskImagesThatItCannotSign) {
  const std::string encrypted =
      folder_.Write("encrypted.dmg", "encrcdsa and the rest");
  const std::string segmented = folder_.Write(
      "segmented.dmg", WithKolyField(MakeDiskImage(), kKolySegmentCount, 3, 4));
  const SubprocessResult sign =
      Codeseal({"sign", "-s", "rsa", encrypted, segmented});
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.err, Explains(encrypted, "encrypted", "convert it"));
  EXPECT_THAT(sign.err, HasSubstr("part 1 of 3"));
  EXPECT_EQ(folder_.Read("encrypted.dmg"), "encrcdsa and the rest");
}

TEST_F(ClientImageTest, SignsPackages) {
  for (const char* digest : {"sha1", "sha256"}) {
    PackageSpec spec;
    spec.sha256 = std::string(digest) == "sha256";
    const std::string original =
        folder_.Write("original.pkg", MakePackage(spec));
    const std::string path = folder_.Write("a.pkg", MakePackage(spec));
    for (const bool again : {false, true}) {
      std::vector<std::string> arguments = {"sign", "-v", "-s", "installer",
                                            path};
      if (again) {
        const SubprocessResult refused = Codeseal(arguments);
        EXPECT_EQ(refused.exit_code, 1);
        EXPECT_THAT(refused.err, HasSubstr("is already signed"));
        arguments.push_back("-f");
      }
      const SubprocessResult sign = Codeseal(arguments);
      ASSERT_EQ(sign.exit_code, 0) << sign.err;
      EXPECT_THAT(sign.out, HasSubstr("com.example.tool"));
      const SubprocessResult check = Check("pkg", path, original, digest);
      EXPECT_EQ(check.exit_code, 0) << check.out << check.err;
      const SubprocessResult verify =
          Codeseal({"verify", "--anchors", world_.code_ca(), path});
      EXPECT_EQ(verify.exit_code, 0) << verify.err;
      EXPECT_THAT(verify.out, HasSubstr("Package \"a.pkg\":\n"
                                        "   Status: signed by a certificate"));
      EXPECT_THAT(verify.out, HasSubstr("SHA256 Fingerprint:"));
    }
    const SubprocessResult show = Codeseal({"show", path});
    EXPECT_THAT(show.out, HasSubstr("Package identifier: com.example.tool\n"));

    // Without the root among the anchors the status says so.
    EXPECT_THAT(Codeseal({"verify", path}).out,
                HasSubstr("Status: signed by untrusted certificate"));

    std::string bad = folder_.Read("a.pkg");
    bad.back() ^= 1;
    const SubprocessResult verify =
        Codeseal({"verify", folder_.Write("bad.pkg", bad)});
    EXPECT_EQ(verify.exit_code, 1);
    EXPECT_THAT(verify.out, HasSubstr("Status: package is invalid"));
    EXPECT_THAT(verify.err, HasSubstr("Tool.pkg/Payload"));

    ASSERT_EQ(Codeseal({"strip", path}).exit_code, 0);
    const SubprocessResult unsigned_package = Codeseal({"verify", path});
    EXPECT_EQ(unsigned_package.exit_code, 1);
    EXPECT_THAT(unsigned_package.out, HasSubstr("Status: no signature"));
  }
}

TEST_F(ClientImageTest, UpgradesTheChecksumOfAPackage) {
  const std::string original = folder_.Write("original.pkg", MakePackage());
  const std::string path = folder_.Write("a.pkg", MakePackage());
  const SubprocessResult sign = Codeseal(
      {"sign", "-s", "installer", "--digest-algorithm", "sha256", path});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  const SubprocessResult check = Check("pkg", path, original, "sha256");
  EXPECT_EQ(check.exit_code, 0) << check.out << check.err;
}

TEST_F(ClientImageTest, PackagesAndCodeHaveTheirOwnIdentities) {
  const std::string package = folder_.Write("a.pkg", MakePackage());
  const std::string image = folder_.Write("a.dmg", MakeDiskImage());
  const SubprocessResult wrong = Codeseal({"sign", "-s", "rsa", package});
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_THAT(wrong.err, Explains(package, "not for signing installer packages",
                                  "installer identity"));
  const SubprocessResult also_wrong =
      Codeseal({"sign", "-s", "installer", image});
  EXPECT_EQ(also_wrong.exit_code, 1);
  EXPECT_THAT(also_wrong.err, HasSubstr("not for code"));
  EXPECT_EQ(folder_.Read("a.pkg"), MakePackage());
  EXPECT_EQ(folder_.Read("a.dmg"), MakeDiskImage());
  const SubprocessResult ad_hoc = Codeseal({"sign", "-s", "-", package});
  EXPECT_EQ(ad_hoc.exit_code, 2);
  EXPECT_THAT(ad_hoc.err, HasSubstr("no ad-hoc signatures"));
}

TEST_F(ClientImageTest, RefusesBundleStylePackages) {
  std::filesystem::create_directories(folder_.Path("Old.pkg/Contents"));
  for (const char* command : {"sign", "verify", "show", "strip"}) {
    std::vector<std::string> arguments = {command, folder_.Path("Old.pkg")};
    if (std::string(command) == "sign") {
      arguments.insert(arguments.begin() + 1, {"-s", "installer"});
    }
    const SubprocessResult result = Codeseal(arguments);
    EXPECT_EQ(result.exit_code, 1) << command;
    EXPECT_THAT(result.err, Explains("Old.pkg", "bundle-style package",
                                     "make it a flat package"))
        << command;
  }
}

// ext4 has room for 4 KiB of attributes; an ad-hoc signature fits.
TEST_F(ClientImageTest, SignsScriptsInExtendedAttributes) {
  const std::string text = "#!/bin/sh\nexit 0\n";
  const std::string path = folder_.Write("tool.sh", text);
  if (setxattr(path.c_str(), "user.kept", "kept", 4, 0) != 0) {
    GTEST_SKIP() << "the file system has no extended attributes";
  }
  EXPECT_EQ(Codeseal({"verify", path}).exit_code, 1);
  const SubprocessResult sign =
      Codeseal({"sign", "-s", "-", "-i", "com.example.script", path});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_THAT(sign.err, HasSubstr("archives and copies lose them"));
  EXPECT_EQ(folder_.Read("tool.sh"), text);
  char kept[8] = {};
  EXPECT_EQ(getxattr(path.c_str(), "user.kept", kept, sizeof(kept)), 4);
  // The blobs as macOS names them, below Linux's prefix.
  for (const char* name :
       {"CodeDirectory", "CodeRequirements", "CodeSignature"}) {
    const std::string full = std::string("user.com.apple.cs.") + name;
    EXPECT_GE(getxattr(path.c_str(), full.c_str(), nullptr, 0), 0) << name;
  }
  EXPECT_EQ(Codeseal({"verify", path}).exit_code, 0);
  const SubprocessResult show = Codeseal({"show", "-r", "-", path});
  EXPECT_THAT(show.out,
              HasSubstr("host => identifier \"com.apple.sh\" and anchor "
                        "apple"));
  EXPECT_THAT(Codeseal({"show", path}).out, HasSubstr("Format=generic"));

  const SubprocessResult again = Codeseal({"sign", "-s", "-", path});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, HasSubstr("is already signed"));
  EXPECT_EQ(Codeseal({"sign", "-f", "-s", "-", path}).exit_code, 0);

  ASSERT_EQ(Codeseal({"strip", path}).exit_code, 0);
  EXPECT_LT(
      getxattr(path.c_str(), "user.com.apple.cs.CodeDirectory", nullptr, 0), 0);
  EXPECT_EQ(getxattr(path.c_str(), "user.kept", kept, sizeof(kept)), 4);
  EXPECT_EQ(Codeseal({"strip", path}).exit_code, 1);
}

TEST_F(ClientImageTest, SignsScriptsWithDetachedSignatures) {
  const std::string text = "#!/bin/sh\nexit 0\n";
  const std::string path = folder_.Write("tool.sh", text);
  const std::string signature = folder_.Path("tool.sig");
  const SubprocessResult sign =
      Codeseal({"sign", "-s", "rsa", "--detached", signature, path});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_EQ(folder_.Read("tool.sh"), text);
  const SubprocessResult verify = Codeseal(
      {"verify", "--anchors", world_.code_ca(), "--detached", signature, path});
  EXPECT_EQ(verify.exit_code, 0) << verify.err;
  EXPECT_EQ(Codeseal({"verify", path}).exit_code, 1);
  folder_.Write("tool.sh", text + "\n");
  const SubprocessResult changed =
      Codeseal({"verify", "--detached", signature, path});
  EXPECT_EQ(changed.exit_code, 1);
  EXPECT_THAT(changed.err, HasSubstr("for another file, or the file was"));
}

TEST_F(ClientImageTest, PackagesHaveNoDetachedSignature) {
  const std::string path = folder_.Write("a.pkg", MakePackage());
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"sign", "-s", "installer"}, {"verify"}}) {
    std::vector<std::string> args = command;
    args.insert(args.end(), {"--detached", folder_.Path("a.sig"), path});
    const SubprocessResult result = Codeseal(args);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr("keeps its signature inside"));
  }
  EXPECT_EQ(folder_.Read("a.pkg"), MakePackage());
}

TEST_F(ClientImageTest, AChangedScriptIsNotValid) {
  const std::string path = folder_.Write("tool.sh", "#!/bin/sh\nexit 0\n");
  if (setxattr(path.c_str(), "user.kept", "kept", 4, 0) != 0) {
    GTEST_SKIP() << "the file system has no extended attributes";
  }
  ASSERT_EQ(Codeseal({"sign", "-s", "-", path}).exit_code, 0);
  folder_.Write("tool.sh", "#!/bin/sh\nexit 1\n");
  const SubprocessResult verify = Codeseal({"verify", path});
  EXPECT_EQ(verify.exit_code, 1);
  EXPECT_THAT(verify.err, HasSubstr("invalid signature"));
}

// The server reads what it signs: a dry run asks it, and it says no.
TEST_F(ClientImageTest, DryRunAsksTheServerAndWritesNothing) {
  const std::string path = folder_.Write("a.pkg", MakePackage());
  const SubprocessResult sign =
      Codeseal({"sign", "-n", "-v", "-s", "installer", path});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_THAT(sign.out, HasSubstr("would be signed installer package"));
  EXPECT_EQ(folder_.Read("a.pkg"), MakePackage());
  EXPECT_THAT(server_->log(), HasSubstr("validated"));
}

}  // namespace
}  // namespace codeseal::testing
