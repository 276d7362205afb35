// Timestamps as users ask for them: by both names of the program, through a
// server and with a token of their own.

#include <filesystem>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "hsm/token.h"
#include "tests/integration/client_fixture.h"
#include "tests/support/made_app.h"
#include "tests/support/made_tree.h"
#include "tests/support/server_process.h"
#include "tests/support/status_matchers.h"
#include "tests/support/timestamp_server.h"

namespace codeseal::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class ClientTimestampTest : public ClientTest {
 protected:
  // `mode` of the identity "ec"; empty: it has no authority.
  void StartServer(const std::string& mode) {
    const std::string timestamp =
        mode.empty() ? "" : "    timestamp: {tsa: test, mode: " + mode + "}\n";
    server_ = std::make_unique<ServerProcess>(world_.WriteConfig(world_.Config(
        world_.TokensSection(),
        "identities:\n" + ServerWorld::Identity("ec", "main", "02",
                                                "main-02.chain.pem", timestamp),
        "tsa:\n  test: {urls: [\"" + tsa_.url() +
            "\"], roots: " + roots_path() + ", attempts: 1}\n")));
    const std::string& address = server_->address();
    environment_["CODESEAL_SERVER"] =
        "localhost" + address.substr(address.rfind(':'));
    environment_["CODESEAL_CA"] = world_.tls_ca();
    environment_["CODESEAL_CERT"] = world_.client().certificate;
    environment_["CODESEAL_KEY"] = world_.client().key;
  }

  std::string roots_path() const {
    return folder_.Write("tsa-roots.pem", authority_.root().Pem());
  }

  SubprocessResult As(const std::string& name,
                      std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(),
                     std::string(CODESEAL_APPLE_NAMES) + "/" + name);
    return RunProgram(arguments, environment_);
  }
  void ExpectStamped(const std::string& path) const {
    EXPECT_THAT(
        Codeseal({"show", "-vv", path}).out,
        AllOf(HasSubstr("\nTimestamp="), Not(HasSubstr("Signed Time="))));
    const SubprocessResult verify =
        Codeseal({"verify", "--anchors", world_.code_ca(), "--json", path});
    EXPECT_EQ(verify.exit_code, 0) << verify.err;
    EXPECT_THAT(verify.out, HasSubstr("\"timestamp\""));
  }

  ServerWorld world_;
  TimestampAuthority authority_;
  TimestampServer tsa_{authority_};
  std::unique_ptr<ServerProcess> server_;
  const std::string tool_ = Write("tool", UnsignedUniversal());
};

TEST_F(ClientTimestampTest, TheIdentityDecides) {
  StartServer("required");
  const SubprocessResult sign = Codeseal({"sign", "-s", "ec", "--json", tool_});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_THAT(sign.out, HasSubstr("\"timestamp\""));
  ExpectStamped(tool_);
  EXPECT_EQ(tsa_.query_count(), 2) << "one for each slice";
  // No key without it.
  tsa_.SetFault(HttpFault::kStatus500);
  const Bytes before = Read("tool");
  const SubprocessResult down =
      Codeseal({"sign", "-f", "-s", "ec", "--timeout", "3", tool_});
  EXPECT_EQ(down.exit_code, 4);
  EXPECT_THAT(down.err, Explains(tool_, "gave no good token", "again later"));
  EXPECT_EQ(Read("tool"), before);
}

TEST_F(ClientTimestampTest, NoneIsRefusedWhereOneIsRequired) {
  StartServer("required");
  const SubprocessResult sign =
      Codeseal({"sign", "-s", "ec", "--timestamp=none", tool_});
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.err, Explains(tool_, "carry a timestamp", ""));
  EXPECT_THAT(sign.err, HasSubstr("timestamp-required"));
}

TEST_F(ClientTimestampTest, BothNamesAskForOne) {
  StartServer("none");
  ASSERT_EQ(Codeseal({"sign", "-s", "ec", tool_}).exit_code, 0);
  EXPECT_EQ(tsa_.query_count(), 0);
  SubprocessResult sign =
      Codeseal({"sign", "-f", "-s", "ec", "--timestamp", tool_});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  ExpectStamped(tool_);
  sign = As("codesign", {"-f", "-s", "ec", "--timestamp=none", tool_});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_THAT(As("codesign", {"-dvv", tool_}).err,
              AllOf(HasSubstr("Signed Time="), Not(HasSubstr("Timestamp="))));
  sign = As("codesign", {"-f", "-s", "ec", "--timestamp", tool_});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  ExpectStamped(tool_);
  EXPECT_THAT(As("codesign", {"-dvv", tool_}).err, HasSubstr("\nTimestamp="));
  sign = As("codesign", {"-f", "-s", "ec", "--timestamp=" + tsa_.url(), tool_});
  ASSERT_EQ(sign.exit_code, 0) << sign.err;
  ExpectStamped(tool_);
}

TEST_F(ClientTimestampTest, AnAddressThatTheServerDoesNotHaveIsNeverAsked) {
  StartServer("required");
  TimestampServer other(authority_);
  const SubprocessResult sign =
      Codeseal({"sign", "-s", "ec", "--timestamp=" + other.url(), tool_});
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.err, HasSubstr("timestamp-url"));
  EXPECT_EQ(other.query_count(), 0);
  EXPECT_EQ(tsa_.query_count(), 0);
}

TEST_F(ClientTimestampTest, AServerWithoutAnAuthoritySaysSo) {
  StartServer("");
  const SubprocessResult sign =
      Codeseal({"sign", "-s", "ec", "--timestamp", tool_});
  EXPECT_EQ(sign.exit_code, 1);
  EXPECT_THAT(sign.err, Explains(tool_, "no timestamp authority",
                                 "leave --timestamp out"));
  EXPECT_EQ(Codeseal({"sign", "-s", "ec", "--timestamp=none", tool_}).exit_code,
            0);
}

TEST_F(ClientTimestampTest, ATokenOnThisMachineIsStampedToo) {
  SoftHsm& hsm = world_.softhsm();
  const std::string uri = std::string("pkcs11:token=main;id=%02?module-path=") +
                          kSoftHsmModule + "&pin-source=file:" + hsm.pin_file();
  const std::string chain = world_.folder().Path("main-02.chain.pem");
  const Certificate leaf =
      Certificate::ParsePem(world_.folder().Read("main-02.chain.pem"))->front();
  const auto sign = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {
        "sign",    "-f",  "-s",      HexEncode(leaf.Sha1()),
        "--chain", chain, "--token", uri};
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.push_back(tool_);
    return Codeseal(arguments);
  };
  const SubprocessResult stamped =
      sign({"--timestamp=" + tsa_.url(), "--timestamp-roots", roots_path()});
  ASSERT_EQ(stamped.exit_code, 0) << stamped.err;
  ExpectStamped(tool_);
  // Somebody else's roots.
  const Bytes before = Read("tool");
  const SubprocessResult foreign = sign(
      {"--timestamp=" + tsa_.url(), "--timestamp-roots", world_.code_ca()});
  EXPECT_EQ(foreign.exit_code, 4);
  EXPECT_THAT(foreign.err, HasSubstr("not among the authority's roots"));
  EXPECT_EQ(Read("tool"), before);
}

// Issue "a whole app in one round trip": 200 libraries, and 11 nested items
// more; each has two slices. One after the other their timestamps would take
// seven minutes.
TEST_F(ClientTimestampTest, AnAppsTimestampsWaitSideBySide) {
  StartServer("required");
  MadeTree tree;
  MadeApp app(tree, "Demo.app", 200);
  const auto time_of_signing = [&] {
    const absl::Time begun_at = absl::Now();
    const SubprocessResult sign =
        Codeseal({"sign", "-f", "-s", "ec", "--deep", tree.Path("Demo.app")});
    EXPECT_EQ(sign.exit_code, 0) << sign.err;
    return absl::Now() - begun_at;
  };
  time_of_signing();  // warms up: nothing to replace, nothing cached
  const absl::Duration undelayed = time_of_signing();
  const int before = tsa_.query_count();
  tsa_.SetDelay(absl::Seconds(1));
  const absl::Duration delayed = time_of_signing();
  std::cout << "undelayed " << undelayed << ", with 1 s for each of "
            << tsa_.query_count() - before << " timestamps " << delayed
            << ", at most " << tsa_.most_at_once() << " at once\n";
  EXPECT_GT(tsa_.query_count() - before, 400);
  EXPECT_GT(delayed, absl::Seconds(1));
  EXPECT_LT(delayed - undelayed, absl::Seconds(3));
  EXPECT_EQ(Codeseal({"verify", "--deep", "--anchors", world_.code_ca(),
                      tree.Path("Demo.app")})
                .exit_code,
            0);
}

}  // namespace
}  // namespace codeseal::testing
