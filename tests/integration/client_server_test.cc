// codeseal and codeseald, two real processes over mutual TLS, the key in a real
// SoftHSM.

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/integration/client_fixture.h"
#include "tests/support/server_process.h"
#include "tests/support/test_pki.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class ClientServerTest : public ClientTest {
 protected:
  ClientServerTest() { tool_ = Write("tool", original_); }

  void StartServer(const std::string& config) {
    server_ = std::make_unique<ServerProcess>(world_.WriteConfig(config));
    // The certificate has names, no addresses.
    const std::string& address = server_->address();
    UseServer("localhost" + address.substr(address.rfind(':')));
  }
  void StartServer() { StartServer(world_.Config()); }

  // The connection, from the environment.
  void UseServer(const std::string& address) {
    environment_["CODESEAL_SERVER"] = address;
    environment_["CODESEAL_CA"] = world_.tls_ca();
    UseClient(world_.client());
  }
  void UseClient(const ClientFiles& client) {
    environment_["CODESEAL_CERT"] = client.certificate;
    environment_["CODESEAL_KEY"] = client.key;
  }

  SubprocessResult Sign(const std::string& identity) const {
    return Codeseal({"sign", "-s", identity, tool_});
  }

  // The fault's code and words, and a target that nobody touched.
  void ExpectRefused(const SubprocessResult& sign, int exit_code,
                     const std::string& why, const std::string& fix) const {
    EXPECT_EQ(sign.exit_code, exit_code) << sign.err;
    EXPECT_THAT(sign.err, Explains(tool_, why, fix));
    EXPECT_EQ(Read("tool"), original_);
    EXPECT_THAT(Names(), UnorderedElementsAre("tool"));
  }

  ServerWorld world_;
  std::unique_ptr<ServerProcess> server_;
  const Bytes original_ = UnsignedUniversal();
  std::string tool_;
};

TEST_F(ClientServerTest, SignsManyFilesAndOpensslAgrees) {
  StartServer();
  for (const char* identity : {"rsa", "ec"}) {
    const std::string other = Write("other", UnsignedUniversal(9000));
    const SubprocessResult sign = Codeseal(
        {"sign", "-f", "-s", identity, "-v", "-o", "runtime", tool_, other});
    EXPECT_EQ(sign.exit_code, 0) << sign.err;
    EXPECT_THAT(sign.out, HasSubstr(other + ": signed Mach-O universal"));
    const SubprocessResult verify =
        Codeseal({"verify", "--anchors", world_.code_ca(), tool_, other});
    EXPECT_EQ(verify.exit_code, 0) << verify.err;
    EXPECT_THAT(verify.out,
                HasSubstr(tool_ + ": satisfies its Designated Requirement\n"));

    const std::string prefix = folder_.Path("parts");
    ASSERT_EQ(Codeseal({"show", "-q", "-a", "all", "--extract-signature",
                        prefix, tool_})
                  .exit_code,
              0);
    for (const char* architecture : {"x86_64", "arm64"}) {
      const std::string stem = prefix + "." + architecture;
      const SubprocessResult openssl = RunProgram(
          {"openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in",
           stem + ".cms", "-content", stem + ".codedirectory", "-purpose",
           "any", "-CAfile", world_.code_ca(), "-out", "/dev/null"});
      EXPECT_EQ(openssl.exit_code, 0) << openssl.err;
    }
  }
}

TEST_F(ClientServerTest, ResultSaysWhoSignedUnderWhichRequest) {
  StartServer();
  const SubprocessResult sign = Codeseal({"sign", "-s", "ec", "--json", tool_});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  const nlohmann::json result =
      nlohmann::json::parse(sign.out)["results"].at(0);
  EXPECT_EQ(result["identity"]["name"], "ec");
  ASSERT_EQ(result["slices"].size(), 2u);
  for (const nlohmann::json& slice : result["slices"]) {
    EXPECT_EQ(slice["request_id"].get<std::string>().size(), 36u);
    EXPECT_EQ(slice["replayed"], false);
    EXPECT_TRUE(slice.contains("signing_time"));
    // The server's log knows the same id.
    EXPECT_THAT(server_->log(),
                HasSubstr(slice["request_id"].get<std::string>()));
  }
}

TEST_F(ClientServerTest, LargeCodeDirectoryGoesInChunks) {
  StartServer();
  // 200 MB of code have a CodeDirectory of 1.6 MB: more than one message. The
  // file is made by another process, since what this one once used would count
  // as the program's peak.
  const std::string path = folder_.Path("large");
  const pid_t pid = fork();
  if (pid == 0) {
    MachODescription slice;
    slice.architecture = kX86_64;
    slice.code_size = size_t{200} << 20;
    slice.header_room = 256;
    Write("large", BuildMachO(slice));
    _exit(0);
  }
  ASSERT_EQ(waitpid(pid, nullptr, 0), pid);
  const SubprocessResult sign = Codeseal({"sign", "-s", "ec", path});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_LT(sign.peak_memory, 64 * 1024) << "KiB: memory should stay flat";
  EXPECT_EQ(Codeseal({"verify", "-q", path}).exit_code, 0);
}

TEST_F(ClientServerTest, ListsAndShowsIdentities) {
  StartServer();
  const SubprocessResult list = Codeseal({"identities", "list"});
  EXPECT_EQ(list.exit_code, 0) << list.err;
  EXPECT_THAT(list.out, HasSubstr("\"rsa\""));
  EXPECT_THAT(list.out, HasSubstr("\"ec\""));
  const SubprocessResult show = Codeseal({"identities", "show", "ec"});
  EXPECT_EQ(show.exit_code, 0) << show.err;
  EXPECT_THAT(show.out, HasSubstr("Name=ec\n"));
  EXPECT_THAT(show.out, HasSubstr("Key=p256\n"));
  const SubprocessResult json =
      Codeseal({"identities", "show", "ec", "--json"});
  const std::string sha1 =
      nlohmann::json::parse(json.out)["results"][0]["sha1"];
  // Its SHA-1 is a name, too.
  EXPECT_EQ(Sign(sha1).exit_code, 0);
}

// The certificates of the tests last a day.
TEST_F(ClientServerTest, DoctorExaminesTheServersIdentities) {
  StartServer();
  const SubprocessResult doctor = Codeseal({"identities", "doctor"});
  EXPECT_EQ(doctor.exit_code, 0) << doctor.err;
  EXPECT_THAT(doctor.out, HasSubstr("warning: ec: The certificate expires "
                                    "soon. [expires-soon]\n  why    "));
  EXPECT_THAT(doctor.out, HasSubstr("the server: "));
  const SubprocessResult team =
      Codeseal({"identities", "doctor", "--team", "TEAMID1234"});
  EXPECT_EQ(team.exit_code, 1);
  EXPECT_THAT(team.out, HasSubstr("[wrong-team]"));
}

TEST_F(ClientServerTest, SettingsComeFromTheFileToo) {
  StartServer();
  std::filesystem::create_directories(folder_.Path(".config/codeseal"));
  folder_.Write(".config/codeseal/client.yaml",
                "server: " + environment_["CODESEAL_SERVER"] + "\nca: " +
                    world_.tls_ca() + "\ncert: " + world_.client().certificate +
                    "\nkey: " + world_.client().key + "\n");
  for (const char* name :
       {"CODESEAL_SERVER", "CODESEAL_CA", "CODESEAL_CERT", "CODESEAL_KEY"}) {
    environment_[name] = "";
  }
  const SubprocessResult sign = Sign("ec");
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
}

TEST_F(ClientServerTest, DryRunIsJudgedButNotSigned) {
  StartServer();
  const SubprocessResult sign = Codeseal({"sign", "-s", "ec", "-nv", tool_});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_THAT(sign.out, HasSubstr("would be signed"));
  EXPECT_EQ(Read("tool"), original_);
}

TEST_F(ClientServerTest, PolicyIsExplained) {
  const std::string chain = world_.AddKey("main", "09", KeyAlgorithm::kP256);
  StartServer(world_.Config(
      world_.TokensSection(),
      "identities:\n" +
          ServerWorld::Identity("strict", "main", "09", chain,
                                "    rules: {require_flags: [runtime]}\n")));
  const SubprocessResult refused = Sign("strict");
  ExpectRefused(refused, 1, "runtime", "change what the rule names");
  EXPECT_THAT(refused.err, HasSubstr("(quote this to the signing team)"));
  const SubprocessResult judged =
      Codeseal({"sign", "-s", "strict", "-n", tool_});
  EXPECT_EQ(judged.exit_code, 1) << "a dry run is judged as well";
  EXPECT_EQ(
      Codeseal({"sign", "-s", "strict", "-o", "runtime", tool_}).exit_code, 0);
}

TEST_F(ClientServerTest, ServerDown) {
  StartServer();
  server_->Stop();
  ExpectRefused(Sign("ec"), 4, "failed to connect", "check the address");
}

TEST_F(ClientServerTest, WrongCa) {
  StartServer();
  environment_["CODESEAL_CA"] = world_.code_ca();
  ExpectRefused(Sign("ec"), 1, "certificate verify failed", "--ca is the CA");
}

TEST_F(ClientServerTest, UnknownIdentity) {
  StartServer();
  ExpectRefused(Sign("nobody"), 1, "nobody", "identities list");
}

TEST_F(ClientServerTest, ExpiredClientCertificate) {
  StartServer();
  CertificateSpec spec;
  spec.common_name = "old";
  spec.uris = {ServerWorld::kClientUri};
  spec.extended_key_usage = {kClientAuth};
  spec.not_before = absl::Now() - absl::Hours(48);
  spec.not_after = absl::Now() - absl::Hours(1);
  UseClient(world_.AddClient("old", spec));
  ExpectRefused(Sign("ec"), 1, "client certificate expired", "renew");
}

TEST_F(ClientServerTest, ClientWithoutRights) {
  StartServer();
  CertificateSpec spec;
  spec.common_name = "stranger";
  spec.uris = {"spiffe://test/stranger"};
  spec.extended_key_usage = {kClientAuth};
  UseClient(world_.AddClient("stranger", spec));
  const SubprocessResult sign = Sign("ec");
  EXPECT_EQ(sign.exit_code, 1) << sign.err;
  EXPECT_THAT(sign.err, Explains(tool_, "", ""));
  EXPECT_EQ(Read("tool"), original_);
}

TEST_F(ClientServerTest, OneBadFileDoesNotStopTheOthers) {
  StartServer();
  const std::string broken = Write("broken", AsBytes("\xcf\xfa\xed\xfe"));
  const SubprocessResult sign =
      Codeseal({"sign", "-s", "ec", "-v", broken, tool_});
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.err, Explains(broken, "", ""));
  EXPECT_EQ(Codeseal({"verify", "-q", tool_}).exit_code, 0);
}

}  // namespace
}  // namespace codeseal::testing
