// Verdicts on, and descriptions of, code that other programs signed.

#include <fstream>
#include <nlohmann/json.hpp>

#include "codesign/verify/description.h"
#include "codesign/verify/verifier.h"
#include "gmock/gmock.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::IsOk;

class VerifyGoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(VerifyGoldenTest, IsValidAndReadAsExpected) {
  const std::string folder =
      std::string(CODESEAL_GOLDEN_FOLDER "/") + GetParam();
  std::ifstream stream(folder + "/expected.json");
  const nlohmann::json expected = nlohmann::json::parse(stream);
  const absl::StatusOr<StoredCode> code = StoredCode::Open(folder + "/input");
  ASSERT_THAT(code, IsOk());

  const VerificationReport report = Verify(*code, {});
  EXPECT_THAT(report.Validity(), IsOk());
  EXPECT_THAT(report.DesignatedRequirement(), IsOk());
  EXPECT_TRUE(report.slices.front().ad_hoc);
  EXPECT_EQ(nlohmann::json(HexEncode(report.slices.front().cdhash)),
            expected["cdhash"]);

  const CodeDescription description = Describe(*code);
  EXPECT_EQ(nlohmann::json(description.format), expected["format"]);
  const SliceDescription& slice = description.slices.front();
  EXPECT_EQ(nlohmann::json(slice.identifier), expected["identifier"]);
  EXPECT_EQ(nlohmann::json(slice.version), expected["version"]);
  EXPECT_EQ(nlohmann::json(slice.flags), expected["flags"]);
  EXPECT_EQ(nlohmann::json(slice.special_slot_count),
            expected["special_slot_count"]);
  EXPECT_EQ(nlohmann::json(slice.code_slot_count), expected["code_slot_count"]);
  EXPECT_EQ(nlohmann::json(slice.page_size), expected["page_size"]);
}

INSTANTIATE_TEST_SUITE_P(Golden, VerifyGoldenTest,
                         ::testing::Values("linker_signed_arm64"),
                         [](const auto& each) {
                           return std::string(each.param);
                         });

}  // namespace
}  // namespace codeseal
