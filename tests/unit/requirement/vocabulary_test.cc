#include "codesign/requirement/vocabulary.h"

#include "gtest/gtest.h"

namespace codeseal {
namespace {

TEST(OidTest, TextToBytesAndBack) {
  for (const auto& [text, hex] :
       {std::pair{"1.2.840.113635.100.6.1.13", "2a864886f7636406010d"},
        std::pair{"0.39", "27"}, std::pair{"2.999.3", "883703"},
        std::pair{"1.2.0", "2a00"},
        std::pair{"1.2.18446744073709551615", "2a81ffffffffffffffff7f"}}) {
    EXPECT_EQ(HexEncode(*OidFromText(text)), hex);
    EXPECT_EQ(OidToText(*OidFromText(text)), text);
  }
}

TEST(OidTest, RefusesWhatIsNoOid) {
  for (const char* text : {"", "1", "1.", ".1", "1..2", "3.1", "1.40", "1.2.",
                           "1.2.x", "1.2.18446744073709551616", "-1.2"}) {
    EXPECT_FALSE(OidFromText(text).has_value()) << text;
  }
}

TEST(OidTest, DumpsBrokenOidsToo) {
  EXPECT_EQ(OidToText({}), "");
  const Bytes cut_short = {0x2a, 0x86};
  EXPECT_EQ(OidToText(cut_short), "1.2.6");
}

TEST(VocabularyTest, TypesHaveNames) {
  EXPECT_EQ(RequirementTypeName(3), "designated");
  EXPECT_FALSE(RequirementTypeName(6).has_value());
  EXPECT_EQ(RequirementTypeFromName("plugin"), 5u);
  EXPECT_FALSE(RequirementTypeFromName("invalid").has_value());
}

}  // namespace
}  // namespace codeseal
