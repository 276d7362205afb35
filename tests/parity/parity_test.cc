#include "codesign/embedded_signature.h"
#include "codesign/macho/universal_file.h"
#include "codesign/signing_plan.h"
#include "gtest/gtest.h"
#include "tests/parity/comparison.h"
#include "tests/support/corpus.h"
#include "tests/support/status_matchers.h"

namespace codeseal::parity {
namespace {

using ::codeseal::testing::IsOk;

std::string Name(const ::testing::TestParamInfo<const char*>& each) {
  return each.param;
}

// Code of Apple's codesign, from 2020 to macOS 26, with all that goes with it.
class IdenticalTest : public ::testing::TestWithParam<const char*> {};

TEST_P(IdenticalTest, EveryByteIsApples) {
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
  EXPECT_TRUE(comparison->IsIdentical()) << FormatText(*comparison);
}

INSTANTIATE_TEST_SUITE_P(Corpus, IdenticalTest,
                         ::testing::Values("D11", "D12", "D14", "D15", "D17",
                                           "D18", "D21", "D23", "D24", "D25",
                                           "D26", "D27", "D30", "D31", "D32",
                                           "D37", "D38", "D40", "D43", "D44",
                                           "D46"),
                         Name);

// Code whose bytes can't come out the same, and why.
struct Explained {
  const char* id;
  const char* reason;  // in the report
};

class ExplainedTest : public ::testing::TestWithParam<Explained> {};

TEST_P(ExplainedTest, DifferenceHasCheckedReason) {
  CODESEAL_CORPUS_ITEM(item, GetParam().id);
  const auto comparison = CompareWithApple(item.main_file);
  ASSERT_THAT(comparison, IsOk());
  EXPECT_FALSE(comparison->IsIdentical());
  EXPECT_TRUE(comparison->IsExplained()) << FormatText(*comparison);
  EXPECT_THAT(FormatText(*comparison), ::testing::HasSubstr(GetParam().reason));
}

INSTANTIATE_TEST_SUITE_P(
    Corpus, ExplainedTest,
    ::testing::Values(Explained{"D13", "in the form of macOS 11"},
                      Explained{"D16", "not made by Apple's codesign"},
                      Explained{"D20", "signed with different options"},
                      Explained{"D33", "changed after it had been signed"},
                      Explained{"D39", "leftover bytes"},
                      Explained{"D41", "leftover bytes"},
                      Explained{"D42", "leftover bytes"}),
    [](const auto& each) { return std::string(each.param.id); });

// What codesign called these when nobody gave it a name, on that machine.
struct Named {
  const char* id;
  CpuType host_cpu;
};

class IdentifierTest : public ::testing::TestWithParam<Named> {};

TEST_P(IdentifierTest, IsChosenAsAppleChoseIt) {
  CODESEAL_CORPUS_ITEM(item, GetParam().id);
  auto file = MappedFile::Open(item.main_file);
  ASSERT_THAT(file, IsOk());
  SigningOptions options;
  options.force = true;
  options.host_cpu = GetParam().host_cpu;
  const auto plan = SigningPlan::Create(*std::move(file), options, {});
  ASSERT_THAT(plan, IsOk());
  EXPECT_EQ(plan->identifier(),
            item.slices[0].signature->code_directories[0].identifier);
}

INSTANTIATE_TEST_SUITE_P(Corpus, IdentifierTest,
                         ::testing::Values(Named{"D11", CpuType::kArm64},
                                           Named{"D12", CpuType::kX86_64},
                                           Named{"D13", CpuType::kX86_64},
                                           Named{"D37", CpuType::kArm64}),
                         [](const auto& each) {
                           return std::string(each.param.id);
                         });

}  // namespace
}  // namespace codeseal::parity
