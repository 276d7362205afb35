// Hundreds of requirements, each as text, as Apple's tools print it, and as
// bytes: requirement_strings/PROVENANCE.md says where they come from.

#include <fstream>
#include <string>
#include <vector>

#include "codesign/requirement/compiler.h"
#include "codesign/requirement/requirement.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::IsOk;

std::string Unescape(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      result += text[i];
      continue;
    }
    const char escaped = text[++i];
    result += escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped;
  }
  return result;
}

struct RequirementString {
  std::string text;
  std::string printed;
  std::string blob;  // hexadecimal
};

std::vector<RequirementString> ReadStrings() {
  std::ifstream file(CODESEAL_GOLDEN_FOLDER "/requirement_strings/strings.txt");
  std::vector<RequirementString> strings;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("# text")) continue;
    const size_t first = line.find('\t');
    const size_t second = line.find('\t', first + 1);
    strings.push_back({Unescape(line.substr(0, first)),
                       Unescape(line.substr(first + 1, second - first - 1)),
                       line.substr(second + 1)});
  }
  return strings;
}

TEST(RequirementStringsTest, CompilePrintAndCompileAgain) {
  const std::vector<RequirementString> strings = ReadStrings();
  EXPECT_GE(strings.size(), 300u);
  for (const RequirementString& each : strings) {
    SCOPED_TRACE(each.text);
    const auto blob = CompileRequirementBlob(each.text);
    ASSERT_THAT(blob, IsOk());
    EXPECT_EQ(HexEncode(*blob), each.blob);
    const auto printed = DumpRequirementBlob(*blob);
    ASSERT_THAT(printed, IsOk());
    EXPECT_EQ(*printed, each.printed);
    const auto again = CompileRequirementBlob(*printed);
    ASSERT_THAT(again, IsOk());
    EXPECT_EQ(HexEncode(*again), each.blob);
  }
}

}  // namespace
}  // namespace codeseal
