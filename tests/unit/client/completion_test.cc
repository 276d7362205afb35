#include "client/completion.h"

#include <array>
#include <cstdio>
#include <string>

#include "client/options.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal::client {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

// What bash offers for the words, in which the last is being typed.
std::string Complete(const std::string& words, int word_count) {
  const codeseal::testing::TempFolder folder;
  const std::string script =
      folder.Write("script", *CompletionScript(DescribeCommandLine(), "bash"));
  const std::string command =
      "bash -c '. " + script + "; COMP_WORDS=(" + words +
      "); COMP_CWORD=" + std::to_string(word_count - 1) +
      "; _codeseal; echo ${COMPREPLY[*]}'";
  std::string output;
  FILE* pipe = popen(command.c_str(), "r");
  std::array<char, 4096> buffer{};
  while (const size_t size = fread(buffer.data(), 1, buffer.size(), pipe)) {
    output.append(buffer.data(), size);
  }
  EXPECT_EQ(pclose(pipe), 0);
  return output;
}

TEST(CompletionTest, BashOffersCommandsAndOptions) {
  EXPECT_EQ(Complete("codeseal s", 2), "sign show strip\n");
  EXPECT_EQ(Complete("codeseal sign --pre", 3),
            "--prefix --preserve-metadata\n");
  EXPECT_EQ(Complete("codeseal requirement c", 3), "compile\n");
  EXPECT_EQ(Complete("codeseal requirement test --req", 4), "--requirement\n");
}

TEST(CompletionTest, OtherShellsGetAScript) {
  const absl::StatusOr<std::string> zsh =
      CompletionScript(DescribeCommandLine(), "zsh");
  ASSERT_THAT(zsh, IsOk());
  EXPECT_NE(zsh->find("bashcompinit"), std::string::npos);
  const absl::StatusOr<std::string> fish =
      CompletionScript(DescribeCommandLine(), "fish");
  ASSERT_THAT(fish, IsOk());
  EXPECT_NE(fish->find("-l entitlements -r -d"), std::string::npos);
  EXPECT_THAT(CompletionScript(DescribeCommandLine(), "tcsh"),
              HasReason(v1::REASON_USAGE));
}

}  // namespace
}  // namespace codeseal::client
