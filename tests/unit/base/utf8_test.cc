#include "codesign/base/utf8.h"

#include "codesign/base/error.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

constexpr const char* kGood[] = {"",
                                 "plain",
                                 "\xc2\x80",
                                 "\xdf\xbf",
                                 "\xe0\xa0\x80",
                                 "\xed\x9f\xbf",
                                 "\xee\x80\x80",
                                 "\xef\xbf\xbf",
                                 "\xf0\x90\x80\x80",
                                 "\xf4\x8f\xbf\xbf"};
constexpr const char* kBad[] = {"\x80",              // no lead
                                "\xff",              // never used
                                "\xc3",              // cut short
                                "\xe2\x82",          // cut short
                                "\xc3(",             // no continuation
                                "\xc0\xaf",          // overlong
                                "\xe0\x9f\xbf",      // overlong
                                "\xf0\x8f\xbf\xbf",  // overlong
                                "\xed\xa0\x80",      // surrogate
                                "\xf4\x90\x80\x80",  // beyond U+10FFFF
                                "\xf5\x80\x80\x80"};

TEST(Utf8Test, TellsGoodFromBad) {
  for (const char* text : kGood) EXPECT_TRUE(IsUtf8(text)) << text;
  for (const char* text : kBad) EXPECT_FALSE(IsUtf8(text)) << text;
}

TEST(Utf8Test, FindsTheFirstBadByte) {
  for (const char* text : kGood) EXPECT_EQ(FindInvalidUtf8(text), std::nullopt);
  for (const char* text : kBad) {
    EXPECT_EQ(FindInvalidUtf8(text), size_t{0});
    EXPECT_EQ(FindInvalidUtf8("a\xc3\xa9" + std::string(text)), size_t{3});
  }
}

TEST(Utf8Test, EscapesBadBytesAlone) {
  for (const char* text : kGood) EXPECT_EQ(EscapeInvalidUtf8(text), text);
  for (const char* text : kBad) EXPECT_TRUE(IsUtf8(EscapeInvalidUtf8(text)));
  EXPECT_EQ(EscapeInvalidUtf8("a\xff\xc3\xa9\xc3"), "a\\xff\xc3\xa9\\xc3");
}

// A detail that is not UTF-8 could not be read back.
TEST(Utf8Test, ErrorsSurviveNamesOfAnyBytes) {
  const absl::Status status =
      WithRule(FileError(2, v1::STAGE_PARSE, "open", "x\xff"), "\xfe");
  EXPECT_THAT(status, testing::HasReason(v1::REASON_FILE_NOT_FOUND));
  EXPECT_EQ(GetErrorDetail(status)->subject(), "x\\xff");
  EXPECT_EQ(GetErrorDetail(status)->rule(), "\\xfe");
  EXPECT_TRUE(IsUtf8(Message(status)));
}

}  // namespace
}  // namespace codeseal
