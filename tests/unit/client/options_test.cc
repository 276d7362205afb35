#include "client/options.h"

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "gtest/gtest.h"

namespace codeseal::client {
namespace {

Invocation Parse(std::vector<std::string> arguments,
                 std::map<std::string, std::string> environment = {}) {
  return ParseCommandLine(
      arguments, [&](const std::string& name) -> std::optional<std::string> {
        const auto found = environment.find(name);
        if (found == environment.end()) return std::nullopt;
        return found->second;
      });
}

TEST(OptionsTest, SignTakesApplesSpellings) {
  const Invocation invocation = Parse({"sign",
                                       "-s",
                                       "release",
                                       "-f",
                                       "-v",
                                       "-i",
                                       "com.example.tool",
                                       "--prefix",
                                       "com.example.",
                                       "-o",
                                       "runtime,kill",
                                       "--entitlements",
                                       "e.plist",
                                       "-r",
                                       "=designated => always",
                                       "--timestamp=none",
                                       "--preserve-metadata=identifier,flags",
                                       "--digest-algorithm",
                                       "sha1,sha256",
                                       "--page-size",
                                       "none",
                                       "--runtime-version",
                                       "13.3.1",
                                       "--signature-size",
                                       "20000",
                                       "--force-library-entitlements",
                                       "-n",
                                       "a",
                                       "b"});
  EXPECT_EQ(invocation.name, "sign");
  EXPECT_EQ(invocation.output.verbosity, 1);
  const auto* sign = std::get_if<SignCommand>(&invocation.command);
  ASSERT_NE(sign, nullptr);
  EXPECT_EQ(sign->identity, "release");
  EXPECT_TRUE(sign->force);
  EXPECT_TRUE(sign->dry_run);
  EXPECT_TRUE(sign->force_library_entitlements);
  EXPECT_EQ(sign->identifier, "com.example.tool");
  EXPECT_EQ(sign->identifier_prefix, "com.example.");
  EXPECT_EQ(sign->flags, "runtime,kill");
  EXPECT_EQ(sign->entitlements_path, "e.plist");
  EXPECT_EQ(sign->requirement, "=designated => always");
  EXPECT_EQ(sign->timestamp, "none");
  EXPECT_EQ(sign->preserve_metadata, "identifier,flags");
  EXPECT_EQ(sign->digest_algorithms, "sha1,sha256");
  EXPECT_EQ(sign->page_size, "none");
  EXPECT_EQ(sign->runtime_version, "13.3.1");
  EXPECT_EQ(sign->signature_size, 20000u);
  EXPECT_EQ(sign->paths, (std::vector<std::string>{"a", "b"}));
}

TEST(OptionsTest, SingleDashIsTheAdHocIdentity) {
  const Invocation invocation = Parse({"sign", "-s", "-", "tool"});
  const auto* sign = std::get_if<SignCommand>(&invocation.command);
  ASSERT_NE(sign, nullptr);
  EXPECT_EQ(sign->identity, "-");
  EXPECT_EQ(sign->paths, std::vector<std::string>{"tool"});
}

TEST(OptionsTest, BareTimestampDoesNotSwallowThePath) {
  const Invocation invocation =
      Parse({"sign", "-s", "release", "--timestamp", "tool"});
  const auto* sign = std::get_if<SignCommand>(&invocation.command);
  ASSERT_NE(sign, nullptr);
  EXPECT_EQ(sign->timestamp, "default");
  EXPECT_EQ(sign->paths, std::vector<std::string>{"tool"});
}

TEST(OptionsTest, IdentityComesFromTheEnvironmentUnlessGiven) {
  const std::map<std::string, std::string> environment = {
      {"CODESEAL_IDENTITY", "from-environment"}};
  EXPECT_EQ(std::get<SignCommand>(Parse({"sign", "tool"}, environment).command)
                .identity,
            "from-environment");
  EXPECT_EQ(std::get<SignCommand>(
                Parse({"sign", "-s", "given", "tool"}, environment).command)
                .identity,
            "given");
}

TEST(OptionsTest, EveryCommandIsReached) {
  using Words = std::vector<std::string>;
  EXPECT_TRUE(
      std::holds_alternative<VerifyCommand>(Parse({"verify", "tool"}).command));
  EXPECT_TRUE(
      std::holds_alternative<ShowCommand>(Parse({"show", "tool"}).command));
  EXPECT_TRUE(
      std::holds_alternative<StripCommand>(Parse({"strip", "tool"}).command));
  EXPECT_TRUE(std::holds_alternative<IdentitiesListCommand>(
      Parse({"identities", "list", "--server", "h:1"}).command));
  EXPECT_TRUE(std::holds_alternative<RequirementCompileCommand>(
      Parse({"requirement", "compile", "=always"}).command));
  EXPECT_TRUE(std::holds_alternative<RequirementDumpCommand>(
      Parse({"requirement", "dump", "f"}).command));
  const Invocation test =
      Parse({"requirement", "test", "-R", "=always", "a", "b"});
  EXPECT_EQ(test.name, "requirement test");
  EXPECT_EQ(std::get<RequirementTestCommand>(test.command).paths,
            (Words{"a", "b"}));
  const Invocation show = Parse({"identities", "show", "n", "--pem", "--json",
                                 "--timeout", "1.5", "--token", "pkcs11:"});
  const auto& identity = std::get<IdentitiesShowCommand>(show.command);
  EXPECT_EQ(show.name, "identities show");
  EXPECT_TRUE(show.output.json);
  EXPECT_TRUE(identity.pem);
  EXPECT_EQ(identity.name, "n");
  EXPECT_EQ(identity.signer.token_uri, "pkcs11:");
  EXPECT_EQ(identity.signer.timeout, absl::Milliseconds(1500));
}

TEST(OptionsTest, VerbosityIsMoreMinusLess) {
  EXPECT_EQ(Parse({"show", "-vvv", "tool"}).output.verbosity, 3);
  EXPECT_EQ(Parse({"show", "-q", "tool"}).output.verbosity, -1);
}

class WrongCommandLineTest
    : public ::testing::TestWithParam<std::vector<std::string>> {};

TEST_P(WrongCommandLineTest, IsExplained) {
  const Invocation invocation = Parse(GetParam());
  const auto* printed = std::get_if<PrintedText>(&invocation.command);
  ASSERT_NE(printed, nullptr);
  EXPECT_EQ(printed->exit_code, ExitCode::kUsage);
  EXPECT_EQ(printed->out, "");
  EXPECT_NE(printed->err.find("  why    "), std::string::npos);
  EXPECT_NE(printed->err.find("  fix    see `codeseal"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongCommandLineTest,
    ::testing::Values(
        std::vector<std::string>{}, std::vector<std::string>{"sing", "tool"},
        std::vector<std::string>{"sign", "--no-such", "tool"},
        std::vector<std::string>{"sign", "-s", "release"},
        std::vector<std::string>{"verify"},
        std::vector<std::string>{"identities"},
        std::vector<std::string>{"requirement", "test", "tool"},
        std::vector<std::string>{"sign", "--signature-size", "-1", "tool"},
        std::vector<std::string>{"identities", "list", "--timeout", "0"}));

TEST(OptionsTest, TokenComesFromTheEnvironmentUnlessOneIsNamed) {
  const Environment environment =
      [](const std::string& name) -> std::optional<std::string> {
    if (name == "CODESEAL_TOKEN") return "pkcs11:token=t";
    if (name == "CODESEAL_CHAIN") return "chain.pem";
    return std::nullopt;
  };
  const auto signer = [&](const std::vector<std::string>& words) {
    return std::get<SignCommand>(ParseCommandLine(words, environment).command)
        .signer;
  };
  EXPECT_EQ(signer({"sign", "a"}).token_uri, "pkcs11:token=t");
  EXPECT_EQ(signer({"sign", "a"}).chain_path, "chain.pem");
  EXPECT_EQ(signer({"sign", "--chain", "b.pem", "a"}).chain_path, "b.pem");
  EXPECT_EQ(signer({"sign", "--server", "s:1", "a"}).token_uri, "");
  EXPECT_EQ(signer({"sign", "--token", "pkcs11:", "a"}).token_uri, "pkcs11:");
  EXPECT_EQ(signer({"sign", "--token", "pkcs11:", "a"}).chain_path, "");
}

TEST(OptionsTest, HelpAndVersionAreNoFaults) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--help"},
        std::vector<std::string>{"--version"},
        std::vector<std::string>{"sign", "--help"}}) {
    const Invocation invocation = Parse(words);
    const auto* printed = std::get_if<PrintedText>(&invocation.command);
    ASSERT_NE(printed, nullptr);
    EXPECT_EQ(printed->exit_code, ExitCode::kDone);
    EXPECT_EQ(printed->err, "");
  }
  EXPECT_TRUE(std::get<PrintedText>(Parse({"--version"}).command)
                  .out.starts_with("codeseal 0."));
  EXPECT_NE(std::get<PrintedText>(Parse({"sign", "--help"}).command)
                .out.find("--preserve-metadata"),
            std::string::npos);
}

}  // namespace
}  // namespace codeseal::client
