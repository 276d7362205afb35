// An authority of one's own and self-signed identities, whole: made by
// codeseald on a real SoftHSM, used by codeseal to sign, judged by codeseal and
// by openssl.

#include <filesystem>
#include <string>
#include <vector>

#include "codesign/cms/certificate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/client_fixture.h"
#include "tests/support/server_process.h"

namespace codeseal::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class OwnAuthorityTest : public ClientTest {
 protected:
  OwnAuthorityTest() {
    hsm_.AddToken("ca");
    hsm_.AddToken("release");
    tool_ = Write("tool", UnsignedUniversal());
  }

  static SubprocessResult Codeseald(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), ServerProgram());
    return RunProgram(arguments);
  }

  std::string Uri(const std::string& token, const std::string& key) const {
    return "pkcs11:token=" + token + (key.empty() ? "" : ";object=" + key) +
           "?module-path=" + kSoftHsmModule +
           "&pin-source=file:" + hsm_.pin_file();
  }

  SubprocessResult Init(const std::string& subject,
                        std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"ca",          "init",
                                          "--dir",       folder_.Path("ca"),
                                          "--token-uri", Uri("ca", "root"),
                                          "--subject",   subject};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Codeseald(arguments);
  }
  SubprocessResult Issue(std::vector<std::string> more) const {
    std::vector<std::string> arguments = {"ca",          "issue",
                                          "--dir",       folder_.Path("ca"),
                                          "--token-uri", Uri("ca", "root")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Codeseald(arguments);
  }
  void GenerateKey(const std::string& token, const std::string& key) const {
    const SubprocessResult generated =
        Codeseald({"key", "generate", "--token-uri", Uri(token, key), "--id",
                   "07", "--algorithm", "p256"});
    ASSERT_EQ(generated.exit_code, 0) << generated.err;
  }

  // Signs the tool and holds it against `root`.
  void SignAndVerify(const std::string& identity, const std::string& chain,
                     const std::string& root) const {
    std::vector<std::string> arguments = {"sign", "-s", identity, "--token",
                                          Uri("release", "")};
    if (!chain.empty()) arguments.insert(arguments.end(), {"--chain", chain});
    arguments.push_back(tool_);
    const SubprocessResult sign = Codeseal(arguments);
    ASSERT_EQ(sign.exit_code, 0) << sign.err;
    const SubprocessResult verify =
        Codeseal({"verify", "--anchors", root, tool_});
    EXPECT_EQ(verify.exit_code, 0) << verify.err;
    EXPECT_THAT(verify.out,
                HasSubstr(tool_ + ": satisfies its Designated Requirement\n"));
  }
  std::string Requirements() const {
    return Codeseal({"show", "-r", "-", tool_}).out;
  }
  static Certificate First(const std::string& pem) {
    return Certificate::ParsePem(pem)->front();
  }

  SoftHsm hsm_;
  std::string tool_;
};

TEST_F(OwnAuthorityTest, LeafOfAKeySignsAndTheRequirementNamesTheRoot) {
  const SubprocessResult init = Init("CN=Example Root,O=Example");
  ASSERT_EQ(init.exit_code, 0) << init.err;
  const std::string root = folder_.Path("ca/root.pem");
  EXPECT_EQ(init.out, folder_.Read("ca/root.pem"));
  GenerateKey("release", "release");
  const std::string chain = folder_.Path("chain.pem");
  const SubprocessResult issued =
      Issue({"--leaf-uri", Uri("release", "release"), "--subject",
             "CN=Example Release,O=Example", "--out", chain});
  ASSERT_EQ(issued.exit_code, 0) << issued.err;

  // Other programs' view of it.
  const std::string leaf = First(folder_.Read("chain.pem")).Pem();
  const std::string leaf_path = folder_.Write("leaf.pem", leaf);
  const SubprocessResult text =
      RunProgram({"openssl", "x509", "-in", leaf_path, "-noout", "-text"});
  EXPECT_THAT(text.out, AllOf(HasSubstr("X509v3 Extended Key Usage: critical\n"
                                        "                Code Signing\n"),
                              HasSubstr("X509v3 Key Usage: critical\n"
                                        "                Digital Signature\n"),
                              HasSubstr("X509v3 Basic Constraints: critical\n"
                                        "                CA:FALSE\n")));
  const SubprocessResult checked = RunProgram(
      {"openssl", "verify", "-x509_strict", "-CAfile", root, leaf_path});
  EXPECT_EQ(checked.exit_code, 0) << checked.out << checked.err;

  // The leaf is on its token: only the root comes from a file. Both have the
  // organisation, so the requirement names the root.
  SignAndVerify("release", root, root);
  EXPECT_EQ(Requirements(),
            "designated => identifier tool and certificate root = H\"" +
                HexEncode(First(init.out).Sha1()) + "\"\n");

  const SubprocessResult list =
      Codeseald({"ca", "list", "--dir", folder_.Path("ca")});
  EXPECT_EQ(list.exit_code, 0) << list.err;
  EXPECT_THAT(list.out, AllOf(HasSubstr(HexEncode(First(leaf).SerialNumber())),
                              HasSubstr(HexEncode(First(leaf).Sha1())),
                              HasSubstr("'Example Release'")));
  const SubprocessResult json =
      Codeseald({"ca", "list", "--json", "--dir", folder_.Path("ca")});
  EXPECT_EQ(nlohmann::json::parse(json.out).at(0)["expired"], false);
}

TEST_F(OwnAuthorityTest, LeafOfARequestWithoutOrganisation) {
  ASSERT_EQ(Init("CN=Example Root").exit_code, 0);
  GenerateKey("release", "release");
  const std::string csr = folder_.Path("csr.pem");
  ASSERT_EQ(Codeseald({"key", "csr", "--token-uri", Uri("release", "release"),
                       "--subject", "CN=Example Release", "--out", csr})
                .exit_code,
            0);
  const std::string chain = folder_.Path("chain.pem");
  const SubprocessResult issued = Issue({"--csr", csr, "--out", chain});
  ASSERT_EQ(issued.exit_code, 0) << issued.err;
  ASSERT_EQ(Codeseald({"key", "import-certificate", "--token-uri",
                       Uri("release", "release"), "--certificate", chain})
                .exit_code,
            0);
  SignAndVerify("release", chain, folder_.Path("ca/root.pem"));
  EXPECT_EQ(Requirements(),
            "designated => identifier tool and certificate leaf = H\"" +
                HexEncode(First(folder_.Read("chain.pem")).Sha1()) + "\"\n");
}

TEST_F(OwnAuthorityTest, SelfSignedIdentitySigns) {
  GenerateKey("release", "mine");
  const std::string pem = folder_.Path("mine.pem");
  const SubprocessResult made = Codeseald(
      {"key", "self-sign", "--token-uri", Uri("release", "mine"), "--subject",
       "CN=Mine,O=Example", "--days", "10", "--out", pem});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const Certificate certificate = First(folder_.Read("mine.pem"));
  EXPECT_TRUE(certificate.IsSuitableForCodeSigning());
  EXPECT_LT(certificate.not_after(), absl::Now() + absl::Hours(241));
  SignAndVerify("mine", "", pem);
  EXPECT_EQ(Requirements(),
            "designated => identifier tool and certificate root = H\"" +
                HexEncode(certificate.Sha1()) + "\"\n");
}

TEST_F(OwnAuthorityTest, AnAuthorityHasOneRoot) {
  ASSERT_EQ(Init("CN=Root").exit_code, 0);
  const std::string root = folder_.Read("ca/root.pem");
  const SubprocessResult again = Init("CN=Root");
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_THAT(again.err, HasSubstr("is there already"));
  EXPECT_EQ(again.out, "");
  EXPECT_EQ(folder_.Read("ca/root.pem"), root);

  // Interrupted after the key: the rest can be made up for.
  std::filesystem::remove(folder_.Path("ca/root.pem"));
  EXPECT_EQ(Init("CN=Root").exit_code, 1);
  EXPECT_EQ(Init("CN=Root", {"--use-existing-key"}).exit_code, 0);
}

TEST_F(OwnAuthorityTest, RefusalsLeaveNoTrace) {
  ASSERT_EQ(Init("CN=Root", {"--days", "30"}).exit_code, 0);
  GenerateKey("release", "release");
  const auto refused = [&](std::vector<std::string> more, int exit_code,
                           const std::string& why) {
    const SubprocessResult issue = Issue(std::move(more));
    EXPECT_EQ(issue.exit_code, exit_code) << issue.err;
    EXPECT_THAT(issue.err, HasSubstr(why));
    EXPECT_EQ(issue.out, "");
    EXPECT_TRUE(std::filesystem::is_empty(folder_.Path("ca/issued")));
  };
  const std::string uri = Uri("release", "release");
  refused({}, 2, "say whom to certify");
  refused({"--leaf-uri", uri}, 2, "needs a --subject");
  refused({"--leaf-uri", uri, "--subject", "CN=a"}, 2, "outlive");
  refused({"--leaf-uri", uri, "--subject", "CN=Root", "--days", "9"}, 2,
          "itself");
  refused({"--leaf-label", "root", "--subject", "CN=a", "--days", "9"}, 2,
          "itself");
  refused({"--leaf-uri", uri, "--subject", "O=a", "--days", "9"}, 2, "no CN");
  refused({"--leaf-label", "gone", "--subject", "CN=a"}, 1, "gone");
  refused({"--csr", folder_.Path("ca/root.pem"), "--days", "9"}, 2,
          "no certificate request");
  refused({"--csr", folder_.Path("none"), "--days", "9"}, 1, "none");
}

}  // namespace
}  // namespace codeseal::testing
