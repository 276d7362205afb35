// What Gatekeeper's rules say of real code, and what the notary's would.

#include "tests/support/corpus.h"

#include <string>
#include <vector>

#include "codesign/assess/assessment.h"
#include "codesign/assess/preflight.h"
#include "gmock/gmock.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CorpusItem;
using ::codeseal::testing::FindCorpusItem;
using ::codeseal::testing::IsOk;

struct Known {
  const char* id;
  AssessmentType type;
  bool accepted;
  const char* source;
};

void PrintTo(const Known& known, std::ostream* out) { *out << known.id; }

class CorpusAssessmentTest : public ::testing::TestWithParam<Known> {};

TEST_P(CorpusAssessmentTest, SourceIsApples) {
  const CorpusItem& item = FindCorpusItem(GetParam().id);
  CODESEAL_NEED_CORPUS_ITEM(item);
  const absl::StatusOr<Assessment> assessment =
      Assess(item.path, {.type = GetParam().type});
  ASSERT_THAT(assessment, IsOk());
  EXPECT_EQ(assessment->accepted, GetParam().accepted);
  EXPECT_EQ(AssessmentSourceName(assessment->source), GetParam().source);
}

INSTANTIATE_TEST_SUITE_P(
    Corpus, CorpusAssessmentTest,
    ::testing::Values(
        // Timestamped since June 2019, and no ticket is with them.
        Known{"D17", AssessmentType::kOpen, false, "Unnotarized Developer ID"},
        Known{"D21", AssessmentType::kOpen, false, "Unnotarized Developer ID"},
        Known{"D31", AssessmentType::kExecute, false,
              "Unnotarized Developer ID"},
        Known{"D27", AssessmentType::kExecute, false,
              "obsolete resource envelope"},
        Known{"D41", AssessmentType::kOpen, true, "Apple System"},
        Known{"D33", AssessmentType::kExecute, false, ""},  // broken
        Known{"D05", AssessmentType::kExecute, false, "no usable signature"},
        Known{"D01", AssessmentType::kExecute, false, "no usable signature"}),
    [](const auto& each) {
      return std::string(each.param.id) +
             (each.param.type == AssessmentType::kOpen ? "Open" : "Execute");
    });

// Their makers prepare them for the notary: no rule may be an error for them.
TEST(CorpusPreflightTest, ToolsMadeForTheNotaryHaveNoErrors) {
  for (const char* id : {"D21", "D24", "D25"}) {
    const CorpusItem& item = FindCorpusItem(id);
    CODESEAL_NEED_CORPUS_ITEM(item);
    const absl::StatusOr<PreflightReport> report = Preflight(item.path, {});
    ASSERT_THAT(report, IsOk());
    for (const Finding& finding : report->findings) {
      EXPECT_NE(finding.severity, Severity::kError)
          << id << " " << finding.rule << " " << finding.detail;
    }
    EXPECT_EQ(report->ticket.size(), item.slices.size());
  }
}

}  // namespace
}  // namespace codeseal
