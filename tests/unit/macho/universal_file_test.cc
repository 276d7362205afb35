#include "codesign/macho/universal_file.h"

#include "codesign/base/error.h"
#include "tests/support/mach_o_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildMachO;
using ::codeseal::testing::BuildUniversal;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::kArm64;
using ::codeseal::testing::kArm64e;
using ::codeseal::testing::kX86_64;
using ::codeseal::testing::UniversalDescription;
using ::testing::ElementsAre;

UniversalDescription ThreeSlices() {
  UniversalDescription description;
  for (const Architecture& architecture : {kArm64, kArm64e, kX86_64}) {
    description.slices.push_back(
        {architecture, BuildMachO({.architecture = architecture})});
  }
  return description;
}

TEST(UniversalFileTest, ThinFileIsOneSlice) {
  const Bytes file = BuildMachO();
  const auto universal = UniversalFile::Parse(file);
  ASSERT_THAT(universal, IsOk());
  EXPECT_FALSE(universal->is_universal());
  EXPECT_EQ(universal->slices().size(), 1u);
  EXPECT_EQ(universal->Format(), "Mach-O thin (arm64)");
  EXPECT_THAT(universal->CheckStrictStructure(), IsOk());
}

class UniversalOrderTest : public ::testing::TestWithParam<ByteOrder> {};

TEST_P(UniversalOrderTest, ReadsSlicesInOrderOfFileAndOfApple) {
  UniversalDescription description = ThreeSlices();
  description.byte_order = GetParam();
  const Bytes file = BuildUniversal(description);
  const auto universal = UniversalFile::Parse(file);
  ASSERT_THAT(universal, IsOk());
  ASSERT_EQ(universal->slices().size(), 3u);
  EXPECT_EQ(universal->slices()[0].offset, 0x1000u);
  EXPECT_EQ(universal->slices()[0].architecture, kArm64);
  EXPECT_THAT(universal->AppleOrder(), ElementsAre(2, 1, 0));
  EXPECT_EQ(universal->Format(), "Mach-O universal (x86_64 arm64e arm64)");
  EXPECT_EQ(universal->NativeSlice(CpuType::kX86_64).architecture, kX86_64);
  EXPECT_EQ(universal->NativeSlice(CpuType::kPpc).architecture, kX86_64);
  EXPECT_THAT(universal->CheckStrictStructure(), IsOk());
}

INSTANTIATE_TEST_SUITE_P(Orders, UniversalOrderTest,
                         ::testing::Values(ByteOrder::kBig, ByteOrder::kLittle),
                         [](const auto& each) {
                           return each.param == ByteOrder::kBig ? "Big"
                                                                : "Little";
                         });

TEST(UniversalFileTest, FindsHiddenArm64Entry) {
  UniversalDescription description = ThreeSlices();
  std::swap(description.slices[0], description.slices[2]);
  description.hide_last = true;
  const Bytes file = BuildUniversal(description);
  const auto universal = UniversalFile::Parse(file);
  ASSERT_THAT(universal, IsOk());
  EXPECT_EQ(universal->slices().size(), 3u);
  EXPECT_EQ(universal->stored_slice_count(), 2u);
}

TEST(UniversalFileTest, HiddenEntryOfAnotherCpuIsIgnored) {
  UniversalDescription description = ThreeSlices();
  description.hide_last = true;  // x86_64
  const Bytes file = BuildUniversal(description);
  const auto universal = UniversalFile::Parse(file);
  ASSERT_THAT(universal, IsOk());
  EXPECT_EQ(universal->slices().size(), 2u);
}

TEST(UniversalFileTest, RejectsEveryTruncation) {
  const Bytes file = BuildUniversal(ThreeSlices());
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(UniversalFile::Parse(ByteView(file).first(size)).ok()) << size;
  }
}

TEST(UniversalFileTest, SurvivesLargestNumberInEveryField) {
  const Bytes good = BuildUniversal(ThreeSlices());
  for (size_t at = 0; at < 68; at += 4) {
    Bytes file = good;
    StoreU32(file, at, UINT32_MAX, ByteOrder::kBig);
    const auto universal = UniversalFile::Parse(file);
    // Subtypes may be anything.
    EXPECT_EQ(universal.ok(), at == 12 || at == 32 || at == 52) << at;
  }
}

// Entry i begins at 8 + 20 * i: cputype, cpusubtype, offset, size, align.
// "MO-4" of "MO4_CommandTooLong".
std::string RuleOf(const std::string& name) {
  const std::string id = name.substr(0, name.find('_'));
  return id.substr(0, 2) + "-" + id.substr(2);
}

struct RuleCase {
  const char* rule;
  size_t offset;
  uint32_t value;
  Reason reason;
};

class UniversalRuleTest : public ::testing::TestWithParam<RuleCase> {};

TEST_P(UniversalRuleTest, OneBadFieldIsReportedByReason) {
  Bytes file = BuildUniversal(ThreeSlices());
  StoreU32(file, GetParam().offset, GetParam().value, ByteOrder::kBig);
  const auto result = UniversalFile::Parse(file);
  ASSERT_THAT(result, HasReason(GetParam().reason));
  EXPECT_EQ(GetErrorDetail(result.status())->rule(), RuleOf(GetParam().rule));
}

INSTANTIATE_TEST_SUITE_P(
    Rules, UniversalRuleTest,
    ::testing::Values(
        RuleCase{"UF1_Fat64", 0, 0xcafebabf, v1::REASON_BAD_FAT_HEADER},
        RuleCase{"UF2_NoSlice", 4, 0, v1::REASON_BAD_FAT_HEADER},
        RuleCase{"UF2_101Slices", 4, 101, v1::REASON_BAD_FAT_HEADER},
        RuleCase{"UF3_SliceOffset", 16, 0x100000, v1::REASON_TRUNCATED},
        RuleCase{"UF3_SliceSize", 20, 0x100000, v1::REASON_TRUNCATED},
        RuleCase{"UF4_Align", 24, 32, v1::REASON_BAD_FAT_HEADER},
        RuleCase{"UF5_InFatHeader", 16, 67, v1::REASON_OVERLAPPING_RANGES},
        RuleCase{"UF6_Overlap", 36, 0x1001, v1::REASON_OVERLAPPING_RANGES},
        RuleCase{"UF7_TwoAlike", 32, 0, v1::REASON_BAD_FAT_HEADER},
        RuleCase{"UF8_OtherCpu", 8, 18, v1::REASON_BAD_FAT_HEADER},
        RuleCase{"MO1_SliceIsNoMachO", 0x1000, 0, v1::REASON_NOT_MACH_O}),
    [](const auto& each) { return std::string(each.param.rule); });

TEST(UniversalFileTest, FaultInSliceIsNamedAndPlacedInFile) {
  Bytes file = BuildUniversal(ThreeSlices());
  StoreU32(file, 0x2000 + 16, 5000, ByteOrder::kLittle);  // ncmds of arm64e
  const auto universal = UniversalFile::Parse(file);
  ASSERT_THAT(universal, HasReason(v1::REASON_BAD_LOAD_COMMAND));
  const auto detail = GetErrorDetail(universal.status());
  EXPECT_EQ(detail->subject(), "arm64e");
  EXPECT_EQ(detail->byte_offset(), 0x2010u);
}

TEST(UniversalFileTest, StrictStructureRefusesBytesBetweenAndBehindSlices) {
  const Bytes good = BuildUniversal(ThreeSlices());
  Bytes between = good;
  between[0x1fff] = 1;
  EXPECT_THAT(UniversalFile::Parse(between)->CheckStrictStructure(),
              HasReason(v1::REASON_UNEXPECTED_DATA));
  Bytes before = good;
  before[0xfff] = 1;
  EXPECT_THAT(UniversalFile::Parse(before)->CheckStrictStructure(),
              HasReason(v1::REASON_UNEXPECTED_DATA));
  Bytes behind = good;
  behind.push_back(0);
  EXPECT_THAT(UniversalFile::Parse(behind)->CheckStrictStructure(),
              HasReason(v1::REASON_UNEXPECTED_DATA));
}

TEST(UniversalFileTest, StrictStructureRefusesWideGap) {
  Bytes file = BuildUniversal(ThreeSlices());
  StoreU32(file, 8 + 20 + 16, 4, ByteOrder::kBig);  // align of the second
  EXPECT_THAT(UniversalFile::Parse(file)->CheckStrictStructure(),
              HasReason(v1::REASON_UNEXPECTED_DATA));
}

TEST(UniversalFileTest, LooksLikeMachOIsTrueForBrokenOnes) {
  EXPECT_TRUE(LooksLikeMachO(Bytes{0xca, 0xfe, 0xba, 0xbf}));
  EXPECT_TRUE(LooksLikeMachO(Bytes{0xcf, 0xfa, 0xed, 0xfe}));
  EXPECT_FALSE(LooksLikeMachO(Bytes{0xcf, 0xfa, 0xed}));
  EXPECT_FALSE(LooksLikeMachO(ToBytes("#!/bin/sh\n")));
}

}  // namespace
}  // namespace codeseal
