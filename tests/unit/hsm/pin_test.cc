#include "hsm/pin.h"

#include <cstdlib>
#include <string>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::TempFolder;

std::string Text(const Pin& pin) {
  return std::string(reinterpret_cast<const char*>(pin.data()), pin.size());
}

TEST(PinTest, OneLineEndIsCut) {
  const TempFolder folder;
  const struct {
    const char* content;
    const char* pin;
  } cases[] = {{"1234", "1234"},
               {"1234\n", "1234"},
               {"1234\r\n", "1234"},
               {"1234\n\n", "1234\n"},
               {" 12 34 ", " 12 34 "}};
  for (const auto& each : cases) {
    const auto pin = Pin::Read("file:" + folder.Write("pin", each.content));
    ASSERT_THAT(pin, IsOk());
    EXPECT_EQ(Text(*pin), each.pin);
  }
}

TEST(PinTest, CredentialIsReadFromItsFolder) {
  const TempFolder folder;
  folder.Write("token-pin", "4711\n");
  ASSERT_EQ(setenv("CREDENTIALS_DIRECTORY", folder.path().c_str(), 1), 0);
  const auto pin = Pin::Read("credential:token-pin");
  ASSERT_THAT(pin, IsOk());
  EXPECT_EQ(Text(*pin), "4711");
  EXPECT_THAT(Pin::Read("credential:none"), HasReason(v1::REASON_PIN_SOURCE));
  unsetenv("CREDENTIALS_DIRECTORY");
  EXPECT_THAT(Pin::Read("credential:token-pin"),
              HasReason(v1::REASON_PIN_SOURCE));
}

TEST(PinTest, BadContentIsRefusedAndNotQuoted) {
  const TempFolder folder;
  const std::string long_pin(256, '7');
  for (const std::string& content :
       {std::string(), std::string("\n"), long_pin, std::string(10000, '7')}) {
    const auto pin = Pin::Read("file:" + folder.Write("pin", content));
    EXPECT_THAT(pin, HasReason(v1::REASON_PIN_SOURCE));
    EXPECT_THAT(pin, ::testing::Not(HasMessage("777")));
  }
  EXPECT_THAT(Pin::Read("file:" + folder.Write("pin", long_pin.substr(1))),
              IsOk());
  EXPECT_THAT(Pin::Read("file:" + folder.Path("none")),
              HasMessage("No such file"));
  EXPECT_THAT(Pin::Read("file:" + folder.path()),
              HasReason(v1::REASON_PIN_SOURCE));
}

TEST(PinTest, OnlyReferencesAreSources) {
  for (const char* source :
       {"1234", "", "file:", "credential:", "pin:1234", "credential:../x",
        "credential:..", "credential:a/b", "|/bin/cat"}) {
    EXPECT_THAT(Pin::CheckSource(source), HasReason(v1::REASON_PIN_SOURCE))
        << source;
    EXPECT_THAT(Pin::CheckSource(source), ::testing::Not(HasMessage("1234")));
  }
  EXPECT_THAT(Pin::CheckSource("file:/run/pin"), IsOk());
  EXPECT_THAT(Pin::CheckSource("credential:pin"), IsOk());
}

TEST(PinTest, MovedPinIsWhole) {
  const TempFolder folder;
  auto pin = Pin::Read("file:" + folder.Write("pin", "12345"));
  ASSERT_THAT(pin, IsOk());
  const Pin moved = *std::move(pin);
  EXPECT_EQ(Text(moved), "12345");
}

}  // namespace
}  // namespace codeseal
