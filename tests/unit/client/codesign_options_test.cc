// The command lines of Apple's tools: that each option arrives where it should,
// and what is said of those that cannot.

#include "client/codesign_options.h"

#include <string>
#include <vector>

#include "client/csreq_options.h"
#include "client/security_options.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace codeseal::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

template <typename T>
T As(const Words& words) {
  const Invocation invocation = ParseCodesign(words);
  EXPECT_EQ(invocation.output.style, OutputStyle::kApple);
  const T* const command = std::get_if<T>(&invocation.command);
  EXPECT_NE(command, nullptr) << ::testing::PrintToString(words);
  return command == nullptr ? T() : *command;
}
SignCommand Sign(const Words& words) { return As<SignCommand>(words); }
ShowCommand Show(const Words& words) { return As<ShowCommand>(words); }
int Verbosity(const Words& words) {
  return ParseCodesign(words).output.verbosity;
}

TEST(CodesignOptionsTest, SigningAsScriptsDoIt) {
  const SignCommand sign = Sign(
      {"-s", "Developer ID Application: X (TEAM)", "-f", "--options", "runtime",
       "--entitlements", "E.plist", "--timestamp=none", "--deep", "App.app"});
  EXPECT_EQ(sign.identity, "Developer ID Application: X (TEAM)");
  EXPECT_TRUE(sign.force);
  EXPECT_EQ(sign.flags, "runtime");
  EXPECT_EQ(sign.entitlements_path, "E.plist");
  EXPECT_EQ(sign.timestamp, "none");
  EXPECT_TRUE(sign.deep);
  EXPECT_TRUE(sign.strict);
  EXPECT_THAT(sign.paths, ElementsAre("App.app"));
}

TEST(CodesignOptionsTest, ShortOptionsJoin) {
  EXPECT_EQ(Sign({"-fs", "ID", "a"}).identity, "ID");
  EXPECT_TRUE(Sign({"-fs", "ID", "a"}).force);
  EXPECT_EQ(Sign({"-fsID", "a"}).identity, "ID");
  EXPECT_EQ(Sign({"-fvvs", "-", "a"}).identity, "-");
  EXPECT_EQ(Verbosity({"-fvvs", "-", "a"}), 2);
  EXPECT_EQ(Sign({"-s", "-", "-oruntime,hard", "a"}).flags, "runtime,hard");
  EXPECT_EQ(Sign({"-s-", "-icom.x", "-P4096", "a"}).identifier, "com.x");
  EXPECT_EQ(Sign({"-s-", "-icom.x", "-P4096", "a"}).page_size, "4096");
}

TEST(CodesignOptionsTest, LongOptionsAndTheirValues) {
  EXPECT_EQ(Sign({"--sign=ID", "a"}).identity, "ID");
  EXPECT_EQ(Sign({"--sign", "ID", "a"}).identity, "ID");
  EXPECT_EQ(Sign({"-s-", "--dig", "sha1,sha256", "a"}).digest_algorithms,
            "sha1,sha256");
  EXPECT_EQ(Sign({"-sID", "a"}).timestamp, "");
  EXPECT_EQ(Sign({"-sID", "--timestamp", "a"}).timestamp, "default");
  EXPECT_EQ(Sign({"-sID", "--timestamp=http://t", "a"}).timestamp, "http://t");
  EXPECT_EQ(Sign({"-s-", "--timestamp", "a"}).timestamp, "none");
  EXPECT_EQ(
      Sign({"-s-", "--preserve-metadata=flags,runtime", "a"}).preserve_metadata,
      "flags,runtime");
  EXPECT_THAT(Sign({"-s-", "--preserve-metadata", "a"}).preserve_metadata,
              HasSubstr("entitlements"));
  EXPECT_EQ(Sign({"-s-", "--prefix", "com.x.", "a"}).identifier_prefix,
            "com.x.");
  EXPECT_EQ(Sign({"-s-", "--signature-size", "9000", "a"}).signature_size,
            9000u);
  EXPECT_EQ(Sign({"-s-", "--runtime-version", "13.1", "a"}).runtime_version,
            "13.1");
  EXPECT_TRUE(Sign({"-s-", "--force-library-entitlements", "a"})
                  .force_library_entitlements);
  EXPECT_TRUE(Sign({"-s-", "--dryrun", "a"}).dry_run);
  EXPECT_EQ(Sign({"-s-", "-r=designated => always", "a"}).requirement,
            "=designated => always");
  EXPECT_EQ(Sign({"-s-", "--requirements", "r.txt", "a"}).requirement, "r.txt");
  EXPECT_THAT(Sign({"-s-", "--keychain", "build.keychain", "a"}).paths,
              ElementsAre("a"));
}

TEST(CodesignOptionsTest, Constraints) {
  const SignCommand sign = Sign({"-s-", "--launch-constraint-self", "s",
                                 "--launch-constraint-parent", "p",
                                 "--launch-constraint-responsible", "r",
                                 "--library-constraint=l", "a"});
  EXPECT_EQ(sign.launch_constraint_self, "s");
  EXPECT_EQ(sign.launch_constraint_parent, "p");
  EXPECT_EQ(sign.launch_constraint_responsible, "r");
  EXPECT_EQ(sign.library_constraint, "l");
}

TEST(CodesignOptionsTest, PathsMayComeFirstAndAfterTwoDashes) {
  EXPECT_THAT(Sign({"a", "-s", "-", "b", "--", "-c"}).paths,
              ElementsAre("a", "b", "-c"));
}

TEST(CodesignOptionsTest, VerifyCountsItsOwnV) {
  EXPECT_THAT(As<VerifyCommand>({"-v", "a"}).paths, ElementsAre("a"));
  EXPECT_EQ(Verbosity({"-v", "a"}), -1);
  EXPECT_EQ(Verbosity({"-vv", "a"}), 0);
  EXPECT_EQ(Verbosity({"-vvv", "--deep", "--strict", "a"}), 1);
  EXPECT_EQ(Verbosity({"--verify", "a"}), -1);
  EXPECT_EQ(Verbosity({"--verify", "--verbose", "a"}), 0);
  EXPECT_EQ(Verbosity({"--verify", "--deep", "--strict", "--verbose=2", "a"}),
            1);
  EXPECT_EQ(As<VerifyCommand>({"-v", "-R=anchor apple", "a"}).requirement,
            "=anchor apple");
  EXPECT_TRUE(
      As<VerifyCommand>({"-v", "--check-expiration", "a"}).check_expiration);
  const auto strict =
      As<VerifyCommand>({"-v", "--deep", "--strict", "--strict=sym",
                         "--bundle-version", "B", "--ignore-resources", "a"});
  EXPECT_TRUE(strict.deep);
  EXPECT_FALSE(strict.no_strict);
  EXPECT_THAT(strict.strict, ElementsAre("sym"));
  EXPECT_EQ(strict.bundle_version, "B");
  EXPECT_TRUE(strict.ignore_resources);
  EXPECT_TRUE(As<VerifyCommand>({"-v", "--no-strict", "a"}).no_strict);
  EXPECT_THAT(As<PrintedText>({"-v", "--strict=x", "a"}).err,
              StartsWith("codesign: invalid strict option - x\n"));
}

TEST(CodesignOptionsTest, Display) {
  EXPECT_THAT(Show({"-dvvv", "a"}).paths, ElementsAre("a"));
  EXPECT_EQ(Verbosity({"-dvvv", "a"}), 3);
  EXPECT_EQ(Verbosity({"--display", "--verbose=4", "a"}), 4);
  EXPECT_EQ(Show({"-d", "-r-", "a"}).requirements_path, "-");
  EXPECT_EQ(Show({"-d", "-r", "-", "a"}).requirements_path, "-");
  EXPECT_EQ(Show({"-d", "--entitlements", ":-", "a"}).entitlements_path, "-");
  EXPECT_TRUE(Show({"-d", "--entitlements", ":-", "a"}).xml);
  EXPECT_FALSE(Show({"-d", "--entitlements", "-", "a"}).xml);
  EXPECT_TRUE(Show({"-d", "--entitlements", "-", "--xml", "a"}).xml);
  EXPECT_EQ(Show({"-d", "--entitlements=:e", "a"}).entitlements_path, "e");
  EXPECT_EQ(Show({"-d", "--extract-certificates", "a"}).certificates_prefix,
            "codesign");
  EXPECT_EQ(Show({"-d", "--extract-certificates=c", "a"}).certificates_prefix,
            "c");
  EXPECT_EQ(Show({"-d", "-a", "arm64", "a"}).architecture, "arm64");
  EXPECT_EQ(Show({"-d", "--all-architectures", "a"}).architecture, "all");
}

TEST(CodesignOptionsTest, RemoveSignature) {
  EXPECT_THAT(As<StripCommand>({"--remove-signature", "a", "b"}).paths,
              ElementsAre("a", "b"));
}

TEST(CodesignOptionsTest, ValidateConstraint) {
  EXPECT_THAT(As<CheckConstraintCommand>({"--validate-constraint", "a"}).paths,
              ElementsAre("a"));
}

TEST(CodesignOptionsTest, UsageOnStandardErrorAndTwo) {
  for (const Words& words : {Words{},
                             {"a"},
                             {"-s", "ID"},
                             {"-d"},
                             {"-s", "-", "-d", "a"},
                             {"-x", "a"},
                             {"--no-such-option", "a"},
                             {"-s"},
                             {"-v"},
                             {"--verify", "-s", "-", "a"},
                             {"-d", "--verbose=x", "a"},
                             {"-s-", "--signature-size", "x", "a"},
                             {"-s-", "--sig", "4", "a"}}) {
    const auto printed = As<PrintedText>(words);
    EXPECT_EQ(printed.exit_code, ExitCode::kUsage);
    EXPECT_EQ(printed.out, "");
    EXPECT_THAT(printed.err, HasSubstr("Usage: codesign -s identity"));
  }
  EXPECT_THAT(As<PrintedText>({"--no-such-option", "a"}).err,
              StartsWith("codesign: unrecognized option --no-such-option\n"));
  EXPECT_THAT(As<PrintedText>({"-s"}).err,
              StartsWith("codesign: option requires an argument -- -s\n"));
}

// Off a Mac they can't be; each says what can.
TEST(CodesignOptionsTest, WhatCannotExistHereSaysSo) {
  const std::vector<std::pair<Words, std::string>> cases = {
      {{"-h", "1"}, "use -d"},
      {{"-v", "1234"}, "give the path"},
      {{"-v", "+1234"}, "give the path"},
      {{"-v", "--check-notarization", "a"}, "stapler"},
      {{"-s-", "--resource-rules", "r", "a"}, "obsolete"},
      {{"-s-", "--detached-database", "a"}, "--detached FILE"},
      {{"-s-", "--team-identifier", "T", "a"}, "certificate"},
  };
  for (const auto& [words, advice] : cases) {
    const auto printed = As<PrintedText>(words);
    EXPECT_EQ(printed.exit_code, ExitCode::kNo) << printed.err;
    EXPECT_THAT(printed.err, StartsWith("codesign: "));
    EXPECT_THAT(printed.err, HasSubstr(advice));
  }
}

TEST(CodesignOptionsTest, DetachedAndFileList) {
  const auto sign =
      As<SignCommand>({"-s-", "-D", "sig", "--file-list", "-", "a"});
  EXPECT_EQ(sign.detached_path, "sig");
  EXPECT_EQ(sign.file_list_path, "-");
  EXPECT_EQ(As<VerifyCommand>({"-v", "--detached", "sig", "a"}).detached_path,
            "sig");
  const auto show = As<ShowCommand>({"-d", "-Dsig", "--file-list=f", "a"});
  EXPECT_EQ(show.detached_path, "sig");
  EXPECT_EQ(show.file_list_path, "f");
}

TEST(CsreqOptionsTest, TextOrBinary) {
  const auto parse = [](const Words& words) {
    return ParseCsreq(words).command;
  };
  const auto text =
      std::get<RequirementCompileCommand>(parse({"-r", "=anchor apple", "-t"}));
  EXPECT_EQ(text.requirement, "=anchor apple");
  EXPECT_EQ(text.output_path, "");
  const auto binary = std::get<RequirementCompileCommand>(
      parse({"-v", "-r-", "-b", "out.bin"}));
  EXPECT_EQ(binary.requirement, "-");
  EXPECT_EQ(binary.output_path, "out.bin");
  for (const Words& words : {Words{},
                             {"-r", "x"},
                             {"-t"},
                             {"-r=x", "-t", "y"},
                             {"-r=x", "-t", "-b", "y"},
                             {"-z"}}) {
    EXPECT_EQ(std::get<PrintedText>(parse(words)).exit_code, ExitCode::kUsage);
  }
}

class SecurityOptionsTest : public ::testing::Test {
 protected:
  template <typename T>
  static T As(const Words& words) {
    const Invocation invocation = ParseSecurity(words);
    const T* const command = std::get_if<T>(&invocation.command);
    EXPECT_NE(command, nullptr) << ::testing::PrintToString(words);
    return command == nullptr ? T() : *command;
  }
};

TEST_F(SecurityOptionsTest, FindIdentity) {
  const auto find = As<SecurityFindIdentityCommand>(
      {"find-identity", "-v", "-p", "codesigning", "build.keychain"});
  EXPECT_TRUE(find.valid_only);
  EXPECT_EQ(find.policy, "codesigning");
  EXPECT_FALSE(
      As<SecurityFindIdentityCommand>({"-q", "find-identity"}).valid_only);
  EXPECT_EQ(
      As<SecurityFindIdentityCommand>({"find-identity", "-s", "Me"}).subject,
      "Me");
}

TEST_F(SecurityOptionsTest, Cms) {
  const auto cms = As<SecurityDecodeCmsCommand>(
      {"cms", "-D", "-i", "p.mobileprovision", "-k", "kc"});
  EXPECT_EQ(cms.input_path, "p.mobileprovision");
  EXPECT_EQ(cms.output_path, "-");
  EXPECT_EQ(As<SecurityDecodeCmsCommand>({"cms", "-D", "-o", "x"}).output_path,
            "x");
  EXPECT_EQ(As<PrintedText>({"cms", "-S", "-N", "me"}).exit_code,
            ExitCode::kNo);
  EXPECT_EQ(As<PrintedText>({"cms", "-i", "x"}).exit_code, ExitCode::kUsage);
}

// As electron-builder, fastlane and CI recipes call them.
TEST_F(SecurityOptionsTest, KeychainsOfBuildScriptsNeedNothing) {
  for (const Words& words :
       {Words{"create-keychain", "-p", "secret", "b.keychain"},
        {"unlock-keychain", "-p", "secret", "b.keychain"},
        {"set-keychain-settings", "-lut", "21600", "b.keychain"},
        {"list-keychains", "-d", "user", "-s", "b.keychain"},
        {"list-keychains", "-d", "user"},
        {"default-keychain", "-s", "b.keychain"},
        {"import", "c.p12", "-k", "b.keychain", "-P", "secret", "-T",
         "/usr/bin/codesign"},
        {"set-key-partition-list", "-S", "apple-tool:,apple:", "-s", "-k",
         "secret", "b.keychain"},
        {"delete-keychain", "b.keychain"}}) {
    const auto printed = As<PrintedText>(words);
    EXPECT_EQ(printed.exit_code, ExitCode::kDone);
    EXPECT_EQ(printed.out, "");
    EXPECT_THAT(printed.err, HasSubstr("does nothing here"));
    EXPECT_THAT(printed.err, Not(HasSubstr("secret")));
  }
}

TEST_F(SecurityOptionsTest, WhatWouldReturnSomethingFails) {
  for (const char* command :
       {"find-certificate", "export", "dump-keychain", "dance"}) {
    const auto printed = As<PrintedText>({command, "-P", "secret"});
    EXPECT_EQ(printed.exit_code, ExitCode::kNo);
    EXPECT_THAT(printed.err, HasSubstr("is not possible here"));
    EXPECT_THAT(printed.err, Not(HasSubstr("secret")));
  }
  EXPECT_EQ(As<PrintedText>({}).exit_code, ExitCode::kUsage);
  EXPECT_EQ(As<PrintedText>({"-i"}).exit_code, ExitCode::kUsage);
}

TEST(ProgramNameTest, DecidesTheCommandLine) {
  const Environment none = [](const std::string&) {
    return std::optional<std::string>();
  };
  const auto name = [&](const char* program, const Words& words) {
    return ParseByName(program, words, none).name;
  };
  EXPECT_EQ(name("/opt/codeseal/codesign", {"-d", "a"}), "show");
  EXPECT_EQ(name("csreq", {"-r=always", "-t"}), "requirement compile");
  EXPECT_EQ(name("./security", {"find-identity"}), "security find-identity");
  EXPECT_EQ(name("/usr/bin/codeseal", {"strip", "a"}), "strip");
  EXPECT_EQ(name("codeseal-1.0", {"strip", "a"}), "strip");
  EXPECT_EQ(name("", {"strip", "a"}), "strip");
}

}  // namespace
}  // namespace codeseal::client
