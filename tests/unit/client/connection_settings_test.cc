#include "client/connection_settings.h"

#include <map>
#include <string>

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal::client {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::testing::AllOf;

class ConnectionSettingsTest : public ::testing::Test {
 protected:
  void WriteFile(const std::string& text) {
    folder_.Write("client.yaml", text);
  }

  absl::StatusOr<ConnectionSettings> Resolve(const ConnectionFlags& flags) {
    return ResolveConnection(
        flags,
        [this](const std::string& name) -> std::optional<std::string> {
          const auto found = environment_.find(name);
          if (found == environment_.end()) return std::nullopt;
          return found->second;
        },
        path_);
  }

  codeseal::testing::TempFolder folder_;
  const std::string path_ = folder_.Path("client.yaml");
  std::map<std::string, std::string> environment_;
};

TEST_F(ConnectionSettingsTest, OptionBeatsEnvironmentBeatsFile) {
  WriteFile("server: file:1\nca: /file/ca\ncert: /file/cert\nkey: /file/key\n");
  environment_ = {{"CODESEAL_SERVER", "env:1"}, {"CODESEAL_CA", "/env/ca"}};
  const auto settings = Resolve({"flag:1", "", "", ""});
  ASSERT_THAT(settings, IsOk());
  EXPECT_EQ(settings->server, "flag:1");
  EXPECT_EQ(settings->ca, "/env/ca");
  EXPECT_EQ(settings->cert, "/file/cert");
  EXPECT_EQ(settings->key, "/file/key");
}

TEST_F(ConnectionSettingsTest, PathsOfTheFileCountFromItsFolder) {
  WriteFile("server: h:1\nca: ca.pem\ncert: tls/c.pem\nkey: /abs/k.pem\n");
  const auto settings = Resolve({});
  ASSERT_THAT(settings, IsOk());
  EXPECT_EQ(settings->ca, folder_.Path("ca.pem"));
  EXPECT_EQ(settings->cert, folder_.Path("tls/c.pem"));
  EXPECT_EQ(settings->key, "/abs/k.pem");
  EXPECT_EQ(settings->server, "h:1");
}

TEST_F(ConnectionSettingsTest, EverythingMissingIsNamedAtOnce) {
  environment_ = {{"CODESEAL_CA", "/env/ca"}};
  const auto settings = Resolve({});
  EXPECT_THAT(settings, HasReason(v1::REASON_USAGE));
  EXPECT_THAT(settings,
              AllOf(HasMessage("--server (or CODESEAL_SERVER), --cert (or "
                               "CODESEAL_CERT), --key (or CODESEAL_KEY)"),
                    HasMessage(path_), HasMessage("--token URI")));
}

TEST_F(ConnectionSettingsTest, BadFileIsNamedWithItsLine) {
  WriteFile("server: h:1\nsevrer: h:2\n");
  EXPECT_THAT(Resolve({}), AllOf(HasReason(v1::REASON_BAD_CONFIG),
                                 HasMessage(path_ + ":2: unknown key sevrer")));
  WriteFile("server: h:1\nserver: h:2\n");
  EXPECT_THAT(Resolve({}), HasMessage(path_ + ":2: server is given twice"));
  WriteFile("server: [h]\n");
  EXPECT_THAT(Resolve({}), HasMessage(path_ + ":1: server wants one text"));
  WriteFile("server: [h\n");
  EXPECT_THAT(Resolve({}), HasReason(v1::REASON_BAD_CONFIG));
  WriteFile("- h\n");
  EXPECT_THAT(Resolve({}), HasReason(v1::REASON_BAD_CONFIG));
}

TEST_F(ConnectionSettingsTest, FileIsNotReadWhenNothingIsMissing) {
  WriteFile("not: [valid\n");
  EXPECT_THAT(Resolve({"h:1", "/ca", "/cert", "/key"}), IsOk());
}

TEST(DefaultSettingsPathTest, FollowsTheXdgRules) {
  std::map<std::string, std::string> environment = {{"HOME", "/h"}};
  const auto lookup =
      [&](const std::string& name) -> std::optional<std::string> {
    const auto found = environment.find(name);
    if (found == environment.end()) return std::nullopt;
    return found->second;
  };
  EXPECT_EQ(DefaultSettingsPath(lookup), "/h/.config/codeseal/client.yaml");
  environment["XDG_CONFIG_HOME"] = "/x";
  EXPECT_EQ(DefaultSettingsPath(lookup), "/x/codeseal/client.yaml");
  environment.clear();
  EXPECT_EQ(DefaultSettingsPath(lookup), "");
}

}  // namespace
}  // namespace codeseal::client
