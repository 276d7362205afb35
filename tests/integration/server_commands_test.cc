// codeseald's commands beside serve, as an administrator types them.

#include <string>

#include "codesign/cms/certificate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/server_process.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"

namespace codeseal {
namespace {

using ::codeseal::testing::RunProgram;
using ::codeseal::testing::ServerProgram;
using ::codeseal::testing::ServerWorld;
using ::codeseal::testing::SoftHsm;
using ::codeseal::testing::SubprocessResult;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class ServerCommandsTest : public ::testing::Test {
 protected:
  static SubprocessResult Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), ServerProgram());
    return RunProgram(arguments);
  }
  std::string Uri(const std::string& key = "") const {
    return "pkcs11:token=main" + key +
           "?module-path=" + testing::kSoftHsmModule +
           "&pin-source=file:" + pin_file_;
  }

  ServerWorld world_;
  const std::string pin_file_ = world_.softhsm().pin_file();
};

TEST_F(ServerCommandsTest, CheckConfigSaysEverythingAtOnce) {
  const std::string path = world_.WriteConfig(world_.Config());
  const SubprocessResult good = Run({"check-config", path});
  EXPECT_EQ(good.exit_code, 0) << good.err;
  EXPECT_THAT(good.out, HasSubstr("ok"));

  std::string text = world_.Config();
  text.replace(text.find("pin_source"), 10, "pin_sauce");
  text.replace(text.find("server.key"), 10, "gone.key");
  world_.WriteConfig(text);
  const SubprocessResult bad = Run({"check-config", path});
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_THAT(bad.err, HasSubstr("codeseald.yaml:3: tls.key: cannot read"));
  EXPECT_THAT(bad.err, HasSubstr("did you mean pin_source?"));
  EXPECT_EQ(bad.out, "");
  const SubprocessResult served = Run({"serve", "--config", path});
  EXPECT_EQ(served.exit_code, 2);
  EXPECT_THAT(served.err, HasSubstr("did you mean pin_source?"));
  EXPECT_EQ(served.out, "");
}

TEST_F(ServerCommandsTest, CheckConfigReadsTheFilesToo) {
  world_.folder().Write("main-01.chain.pem", "no certificate");
  const SubprocessResult bad =
      Run({"check-config", world_.WriteConfig(world_.Config())});
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_THAT(bad.err, HasSubstr("main-01.chain.pem"));
}

TEST_F(ServerCommandsTest, AServerKeyOfAnotherCertificateDoesNotStart) {
  std::string text = world_.Config();
  text.replace(text.find("server.key"), 10, "client.key");
  const std::string path = world_.WriteConfig(text);
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"serve", "--config", path},
        std::vector<std::string>{"check-config", path}}) {
    const SubprocessResult bad = Run(command);
    EXPECT_EQ(bad.exit_code, 2);
    EXPECT_THAT(bad.err, HasSubstr("client.key"));
    EXPECT_THAT(bad.err, HasSubstr("belongs to another certificate"));
  }
}

TEST_F(ServerCommandsTest, WrongUseIsExplained) {
  EXPECT_EQ(Run({}).exit_code, 2);
  EXPECT_EQ(Run({"dance"}).exit_code, 2);
  EXPECT_EQ(Run({"serve"}).exit_code, 2);
  EXPECT_EQ(Run({"--version"}).exit_code, 0);
  EXPECT_EQ(Run({"--help"}).exit_code, 0);
  EXPECT_EQ(Run({"token", "list"}).exit_code, 2);
  const SubprocessResult no_key =
      Run({"key", "csr", "--token-uri", Uri(), "--subject", "CN=x"});
  EXPECT_EQ(no_key.exit_code, 2);
  EXPECT_THAT(no_key.err, HasSubstr("name the key"));
  const SubprocessResult pin = Run(
      {"token", "list", "--token-uri", "pkcs11:token=main?pin-value=271828"});
  EXPECT_EQ(pin.exit_code, 2);
  EXPECT_THAT(pin.err, Not(HasSubstr("271828")));
}

TEST_F(ServerCommandsTest, AKeyGetsItsCertificate) {
  const std::string uri = Uri(";id=%07;object=fresh");
  const SubprocessResult generated =
      Run({"key", "generate", "--token-uri", uri, "--algorithm", "p256"});
  EXPECT_EQ(generated.exit_code, 0) << generated.err;
  EXPECT_THAT(generated.out, StartsWith("-----BEGIN PUBLIC KEY-----\n"));
  const SubprocessResult again =
      Run({"key", "generate", "--token-uri", uri, "--algorithm", "p256"});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_EQ(again.out, "");

  const std::string csr = world_.folder().Path("fresh.csr");
  const SubprocessResult requested =
      Run({"key", "csr", "--token-uri", uri, "--subject", "CN=fresh,O=codeseal",
           "--out", csr});
  EXPECT_EQ(requested.exit_code, 0) << requested.err;
  EXPECT_EQ(requested.out, "");
  const SubprocessResult verified =
      RunProgram({"openssl", "req", "-verify", "-noout", "-subject", "-pubkey",
                  "-in", csr});
  EXPECT_EQ(verified.exit_code, 0) << verified.err;
  EXPECT_THAT(verified.out, HasSubstr("CN = fresh"));
  EXPECT_THAT(verified.out, HasSubstr(generated.out));

  const std::string pem = world_.folder().Write("public.pem", generated.out);
  const SubprocessResult der =
      RunProgram({"openssl", "pkey", "-pubin", "-in", pem, "-outform", "DER"});
  const std::string chain = world_.WriteChain("fresh", AsBytes(der.out));
  const SubprocessResult imported =
      Run({"key", "import-certificate", "--token-uri", uri, "--certificate",
           chain});
  EXPECT_EQ(imported.exit_code, 0) << imported.err;
  const SubprocessResult other =
      Run({"key", "import-certificate", "--token-uri", uri, "--certificate",
           world_.folder().Path("main-01.chain.pem")});
  EXPECT_EQ(other.exit_code, 1);

  const SubprocessResult listed = Run({"token", "list", "--token-uri", uri});
  EXPECT_EQ(listed.exit_code, 0) << listed.err;
  EXPECT_THAT(
      listed.out,
      HasSubstr("key          id=07 p256 'fresh': sensitive always-sensitive "
                "never-extractable local sign\n"));
  EXPECT_THAT(listed.out,
              HasSubstr("certificate  id=07 'codeseal test signer fresh'"));
}

TEST_F(ServerCommandsTest, TokensAreListedForPrograms) {
  const SubprocessResult listed =
      Run({"token", "list", "--json", "--config",
           world_.WriteConfig(world_.Config()), "--token", "main"});
  ASSERT_EQ(listed.exit_code, 0) << listed.err;
  const auto json = nlohmann::json::parse(listed.out);
  EXPECT_EQ(json["label"], "main");
  ASSERT_EQ(json["keys"].size(), 2u);
  for (const auto& key : json["keys"]) {
    EXPECT_TRUE(key["id"] == "01" || key["id"] == "02");
    EXPECT_THAT(key["attributes"].dump(), HasSubstr("\"never-extractable\""));
  }
}

TEST_F(ServerCommandsTest, ProbeSignsWithEveryIdentitysKey) {
  const std::string path = world_.WriteConfig(world_.Config());
  const SubprocessResult good = Run({"token", "probe", "--config", path});
  EXPECT_EQ(good.exit_code, 0) << good.err;
  EXPECT_THAT(good.out, HasSubstr("rsa v1 on token main: signs"));
  EXPECT_THAT(good.out, HasSubstr("ec v1 on token main: signs"));

  std::string text = world_.Config();
  text.replace(text.find("main-02.chain.pem"), 17, "main-01.chain.pem");
  const SubprocessResult bad =
      Run({"token", "probe", "--json", "--config", world_.WriteConfig(text)});
  EXPECT_EQ(bad.exit_code, 1);
  const auto json = nlohmann::json::parse(bad.out);
  ASSERT_EQ(json.size(), 2u);
  EXPECT_EQ(json[0]["ok"], true);
  EXPECT_EQ(json[1]["reason"], "REASON_KEY_MISMATCH");
  EXPECT_THAT(bad.err, HasSubstr("  fix    "));

  const SubprocessResult one =
      Run({"token", "probe", "--token-uri", Uri(";id=%01")});
  EXPECT_EQ(one.exit_code, 0) << one.err;
  const SubprocessResult none =
      Run({"token", "probe", "--token-uri", Uri(), "--id", "99"});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.err, HasSubstr("codeseald token list"));
}

}  // namespace
}  // namespace codeseal
