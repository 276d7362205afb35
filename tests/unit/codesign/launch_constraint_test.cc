#include "codesign/launch_constraint.h"

#include <string>
#include <vector>

#include "codesign/entitlements.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::testing::HasSubstr;

std::string Plist(const std::string& body) {
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist "
         "version=\"1.0\"><dict>" +
         body + "</dict></plist>\n";
}

absl::StatusOr<Bytes> Build(const std::string& body) {
  return BuildLaunchConstraint(AsBytes(Plist(body)));
}

// Laid out by hand from the description of the format.
TEST(LaunchConstraintTest, BytesOfTheSmallestConstraint) {
  const std::string expected =
      "fade818100000052"        // magic, length
      "7048020101b043"          // version 1, dictionary
      "30090c0463636174020100"  // ccat 0
      "30090c04636f6d70020101"  // comp 1
      "30200c0472657173b018"    // reqs
      "30160c0f7465616d2d6964656e7469666965720c03414243"
      "30090c0476657273020101";  // vers 1
  const auto blob = Build("<key>team-identifier</key><string>ABC</string>");
  ASSERT_THAT(blob, IsOk());
  EXPECT_EQ(HexEncode(*blob), expected);
  const auto facts = ParseLaunchConstraint(*blob);
  ASSERT_THAT(facts, IsOk());
  EXPECT_EQ(*FindInDict<std::string>(*facts, "team-identifier"), "ABC");
  // A finished blob is taken as it is.
  EXPECT_EQ(*BuildLaunchConstraint(*blob), *blob);
}

TEST(LaunchConstraintTest, WhatTheManualShows) {
  for (const char* body :
       {"<key>$or</key><dict><key>team-identifier</key><string>8XCUU22SN2"
        "</string><key>validation-category</key><integer>1</integer></dict>",
        "<key>entitlements</key><dict><key>$query</key><array><array>"
        "<integer>1</integer><string>com.apple.security.device.camera</string>"
        "</array><array><integer>5</integer><true/></array></array></dict>",
        "<key>signing-identifier</key><dict><key>$in</key><array>"
        "<string>a</string><string>b</string></array></dict>",
        "<key>cdhash</key><dict><key>$in</key><array>"
        "<data>AAAAAAAAAAAAAAAAAAAAAAAAAAA=</data></array></dict>",
        "<key>$and-array</key><array><array><string>$or</string><dict>"
        "<key>is-init-proc</key><true/></dict></array><array>"
        "<string>$optional</string><dict><key>on-system-volume</key><true/>"
        "</dict></array></array>",
        "<key>$optional</key><dict><key>is-sip-protected</key><true/></dict>",
        "<key>launch-type</key><dict><key>$lte</key><integer>2</integer>"
        "</dict>",
        "<key>fact-of-tomorrow</key><integer>7</integer>"}) {
    EXPECT_THAT(Build(body), IsOk()) << body;
  }
}

TEST(LaunchConstraintTest, TextThatIsNoUtf8IsRefused) {
  EXPECT_THAT(Build("<key>team-identifier</key><string>&#xd800;</string>"),
              HasReason(v1::REASON_BAD_PLIST));
}

struct WrongConstraint {
  const char* body;
  const char* rule;
  const char* message;
};

class WrongConstraintTest : public ::testing::TestWithParam<WrongConstraint> {};

TEST_P(WrongConstraintTest, IsRefused) {
  const auto blob = Build(GetParam().body);
  ASSERT_THAT(blob, HasReason(v1::REASON_BAD_PLIST));
  EXPECT_EQ(GetErrorDetail(blob.status())->rule(), GetParam().rule);
  EXPECT_THAT(std::string(Message(blob.status())),
              HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongConstraintTest,
    ::testing::Values(
        WrongConstraint{"", "LC-1", "without facts"},
        WrongConstraint{"<key>$or</key><dict/>", "LC-1", "without facts"},
        WrongConstraint{"<key>$nor</key><dict/>", "LC-3", "no operator"},
        WrongConstraint{"<key>$in</key><array/>", "LC-3", "no operator"},
        WrongConstraint{"<key>$or</key><array/>", "LC-3", "dictionary of"},
        WrongConstraint{"<key>$optional</key><dict><key>a</key><true/>"
                        "<key>b</key><true/></dict>",
                        "LC-3", "one entry"},
        WrongConstraint{"<key>team-identifier</key><true/>", "LC-4", "string"},
        WrongConstraint{"<key>team-identifier</key><string></string>", "LC-4",
                        "not empty"},
        WrongConstraint{"<key>is-init-proc</key><integer>1</integer>", "LC-4",
                        "boolean"},
        WrongConstraint{"<key>validation-category</key><integer>7</integer>",
                        "LC-4", "1 to 6, or 10"},
        WrongConstraint{"<key>launch-type</key><string>1</string>", "LC-4",
                        "integer"},
        WrongConstraint{"<key>cdhash</key><data>AAAA</data>", "LC-4",
                        "20 bytes"},
        WrongConstraint{"<key>entitlements</key><true/>", "LC-4", "$query"},
        WrongConstraint{"<key>x</key><real>1.5</real>", "LC-4", "the value is"},
        WrongConstraint{"<key>x</key><array/>", "LC-4", "the value is"},
        WrongConstraint{"<key>entitlements</key><dict><key>$query</key>"
                        "<array/></dict>",
                        "LC-5", "array of operations"},
        WrongConstraint{"<key>entitlements</key><dict><key>$query</key><array>"
                        "<array><integer>12</integer><string>a</string></array>"
                        "</array></dict>",
                        "LC-5", "1 to 11"},
        WrongConstraint{"<key>entitlements</key><dict><key>$query</key><array>"
                        "<array><integer>5</integer><string>a</string></array>"
                        "</array></dict>",
                        "LC-5", "operation 5"},
        WrongConstraint{"<key>$or-array</key><dict/>", "LC-6", "pairs"},
        WrongConstraint{"<key>$or-array</key><array><array><string>$in"
                        "</string><dict><key>a</key><true/></dict></array>"
                        "</array>",
                        "LC-6", "pairs"},
        WrongConstraint{"<key>x</key><dict/>", "LC-7", "is empty"},
        WrongConstraint{"<key>x</key><dict><key>$or</key><true/></dict>",
                        "LC-7", "no operator"},
        WrongConstraint{"<key>x</key><dict><key>$in</key><array/></dict>",
                        "LC-7", "not empty"},
        WrongConstraint{"<key>x</key><dict><key>$in</key><array><string>a"
                        "</string><integer>1</integer></array></dict>",
                        "LC-7", "one type"},
        WrongConstraint{"<key>team-identifier</key><dict><key>$in</key><array>"
                        "<integer>1</integer></array></dict>",
                        "LC-4", "string"},
        WrongConstraint{"<key>x</key><dict><key>$lt</key><string>1</string>"
                        "</dict>",
                        "LC-7", "integer"},
        WrongConstraint{"<key>x</key><dict><key>$query</key><array/></dict>",
                        "LC-7", "entitlements only"}));

TEST(LaunchConstraintTest, NestingHasAnEnd) {
  std::string body = "<key>a</key><true/>";
  for (int i = 0; i < 20; ++i) {
    body = "<key>$and</key><dict>" + body + "</dict>";
  }
  const auto blob = Build(body);
  ASSERT_THAT(blob, HasReason(v1::REASON_BAD_PLIST));
  EXPECT_EQ(GetErrorDetail(blob.status())->rule(), "LC-2");
}

TEST(LaunchConstraintTest, NotAConstraintAtAll) {
  EXPECT_THAT(BuildLaunchConstraint(AsBytes("hello")),
              HasReason(v1::REASON_BAD_PLIST));
  // A blob without facts: its dictionary is empty.
  const Bytes empty = {0xfa, 0xde, 0x81, 0x81, 0,    0,    0,   15,
                       0x70, 0x05, 0x02, 0x01, 0x01, 0xb0, 0x00};
  const auto facts = ParseLaunchConstraint(empty);
  ASSERT_THAT(facts, HasReason(v1::REASON_BAD_PLIST));
  EXPECT_EQ(GetErrorDetail(facts.status())->rule(), "LC-8");
  Bytes cut = *Build("<key>a</key><true/>");
  cut.pop_back();
  EXPECT_FALSE(BuildLaunchConstraint(cut).ok());
}

}  // namespace
}  // namespace codeseal
