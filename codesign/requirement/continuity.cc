#include "codesign/requirement/continuity.h"

#include <optional>

#include "codesign/base/error.h"
#include "codesign/requirement/default_designated.h"
#include "codesign/requirement/evaluator.h"
#include "codesign/requirement/requirement.h"

namespace codeseal {
namespace {

// Any will do: both sides get the same one.
constexpr char kIdentifier[] = "x";

// "/* exists */" looks like a path to those who keep paths from callers.
std::string WithoutComments(std::string text) {
  constexpr std::string_view kComment = "/* exists */";
  for (size_t at; (at = text.find(kComment)) != text.npos;) {
    text.replace(at, kComment.size(), "exists");
  }
  return text;
}

}  // namespace

absl::Status CheckContinuity(std::span<const Certificate> before,
                             std::span<const Certificate> after,
                             bool (*is_apple_root)(const Certificate&)) {
  const std::optional<RequirementExpression> designated =
      BuildDefaultDesignated(kIdentifier, before, is_apple_root);
  if (!designated.has_value()) return absl::OkStatus();
  RequirementContext context;
  context.identifier = kIdentifier;
  context.chain = after;
  context.is_apple_root = is_apple_root;
  const Evaluation evaluation = EvaluateRequirement(*designated, context);
  if (evaluation.truth == Truth::kTrue) return absl::OkStatus();
  const std::vector<std::string>& clauses = evaluation.truth == Truth::kFalse
                                                ? evaluation.failed
                                                : evaluation.undecided;
  return WithRule(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_POLICY,
                v1::REASON_REQUIREMENT_CHANGES,
                "macOS would take code of this certificate for another "
                "program; the designated requirement so far has the clause " +
                    WithoutComments(ExplainFailure(evaluation))),
      clauses.empty() ? "" : WithoutComments(clauses.front()));
}

std::string DescribeDesignated(std::span<const Certificate> chain,
                               bool (*is_apple_root)(const Certificate&)) {
  const std::optional<RequirementExpression> designated =
      BuildDefaultDesignated(kIdentifier, chain, is_apple_root);
  // identifier x and (the rest)
  return designated.has_value()
             ? WithoutComments(DumpRequirement(designated->operands[1]))
             : "";
}

}  // namespace codeseal
