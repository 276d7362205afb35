#include "hsm/pin_hold.h"

#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::TempFolder;
using State = PinHold::State;

class PinHoldTest : public ::testing::Test {
 protected:
  Pin MakePin(const char* text) {
    return *Pin::Read("file:" + folder_.Write("pin", text));
  }
  PinHold Open(const char* token = "Vendor HSM 1") {
    auto hold = PinHold::Open(state_, token);
    EXPECT_THAT(hold, IsOk());
    return *std::move(hold);
  }
  // Everything that was written, names included.
  std::string Written() const {
    std::string all;
    for (const auto& each : std::filesystem::directory_iterator(state_)) {
      std::ifstream file(each.path());
      std::ostringstream text;
      text << each.path().filename() << " " << file.rdbuf() << "\n";
      all += text.str();
    }
    return all;
  }

  TempFolder folder_;
  const std::string state_ = folder_.Path("state");
};

TEST_F(PinHoldTest, RefusedPinIsRememberedAsASaltedHash) {
  EXPECT_EQ(Open().state(), State::kNone);
  ASSERT_THAT(Open().StoreRefused(MakePin("11112222")), IsOk());
  const PinHold hold = Open();
  EXPECT_EQ(hold.state(), State::kRefused);
  EXPECT_EQ(hold.since().size(), 20u) << hold.since();
  EXPECT_TRUE(hold.IsRefusedPin(MakePin("11112222")));
  EXPECT_FALSE(hold.IsRefusedPin(MakePin("11112223")));
  const std::string first = Written();
  EXPECT_EQ(first.find("11112222"), std::string::npos);
  struct stat folder{};
  ASSERT_EQ(stat(state_.c_str(), &folder), 0);
  EXPECT_EQ(folder.st_mode & 0777, 0700u);
}

TEST_F(PinHoldTest, SamePinHasAnotherHashEachTime) {
  ASSERT_THAT(Open().StoreRefused(MakePin("1234")), IsOk());
  const std::string first = Written();
  ASSERT_THAT(Open().StoreRefused(MakePin("1234")), IsOk());
  EXPECT_NE(Written().substr(Written().find("Z ")),
            first.substr(first.find("Z ")));
}

TEST_F(PinHoldTest, LoginThatDidNotEndIsSeen) {
  ASSERT_THAT(Open().StoreLoginBegun(), IsOk());
  EXPECT_EQ(Open().state(), State::kLoginBegun);
  ASSERT_THAT(Open().Clear(), IsOk());
  EXPECT_EQ(Open().state(), State::kNone);
  EXPECT_THAT(Open().Clear(), IsOk());
}

TEST_F(PinHoldTest, TokensAreKeptApart) {
  ASSERT_THAT(Open("Vendor HSM 1").StoreRefused(MakePin("1234")), IsOk());
  EXPECT_EQ(Open("Vendor HSM 2").state(), State::kNone);
  EXPECT_EQ(Open("../../etc/x").state(), State::kNone);
  ASSERT_THAT(Open("../../etc/x").StoreLoginBegun(), IsOk());
  EXPECT_EQ(Open("../../etc/x").state(), State::kLoginBegun);
  EXPECT_EQ(Open("Vendor HSM 1").state(), State::kRefused);
}

TEST_F(PinHoldTest, DamagedFileHolds) {
  ASSERT_THAT(Open().StoreRefused(MakePin("1234")), IsOk());
  for (const auto& each : std::filesystem::directory_iterator(state_)) {
    if (each.path().extension() == ".lock") continue;
    for (const char* text : {"", "x", "refused", "login-begu", "\xff"}) {
      std::ofstream(each.path()) << text;
      EXPECT_EQ(Open().state(), State::kRefused) << text;
      EXPECT_FALSE(Open().IsRefusedPin(MakePin("1234")));
    }
  }
}

// What can't be remembered must not be tried.
TEST_F(PinHoldTest, FolderThatCannotBeUsedIsAnError) {
  folder_.Write("state", "a file");
  EXPECT_THAT(PinHold::Open(state_, "t"), HasReason(v1::REASON_PIN_HOLD));
  EXPECT_THAT(PinHold::Open(folder_.Path("no/such/folder"), "t"),
              HasReason(v1::REASON_PIN_HOLD));
}

// Two processes never try the same token at once.
TEST_F(PinHoldTest, SecondOneWaitsForTheFirst) {
  std::optional<PinHold> first(Open());
  std::atomic<bool> opened = false;
  std::thread second([&] {
    const PinHold hold = Open();
    EXPECT_EQ(hold.state(), State::kRefused) << "sees what the first has done";
    opened = true;
  });
  const PinHold other = Open("another token");
  ASSERT_THAT(first->StoreRefused(MakePin("1234")), IsOk());
  EXPECT_FALSE(opened);
  first.reset();
  second.join();
}

}  // namespace
}  // namespace codeseal
