#include "gtest/gtest.h"
#include "tests/parity/comparison.h"
#include "tests/support/corpus.h"
#include "tests/support/status_matchers.h"

namespace codeseal::parity {
namespace {

using ::codeseal::testing::IsOk;

class ParityTest : public ::testing::TestWithParam<const char*> {};

TEST_P(ParityTest, EveryByteIsApples) {
  CODESEAL_CORPUS_ITEM(item, GetParam());
  const auto comparison = CompareWithApple(item.main_file);
  ASSERT_THAT(comparison, IsOk());
  EXPECT_EQ(comparison->slices.size(), item.slices.size());
  for (const SliceComparison& slice : comparison->slices) {
    EXPECT_GE(slice.components.size(), 4u);
    for (const Component& component : slice.components) {
      EXPECT_TRUE(component.identical) << component.name;
    }
  }
  EXPECT_EQ(comparison->whole_file_identical, true) << FormatText(*comparison);
}

INSTANTIATE_TEST_SUITE_P(Corpus, ParityTest,
                         ::testing::Values("D17", "D18", "D21", "D24", "D25"),
                         [](const auto& each) {
                           return std::string(each.param);
                         });

}  // namespace
}  // namespace codeseal::parity
