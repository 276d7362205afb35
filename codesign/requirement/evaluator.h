// Asks whether code satisfies a requirement.
//
//   RequirementExpression + what the code is -> [Evaluation]
//
// Spec: Security reqinterp.cpp.

#ifndef CODESEAL_CODESIGN_REQUIREMENT_EVALUATOR_H_
#define CODESEAL_CODESIGN_REQUIREMENT_EVALUATOR_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "codesign/base/digest.h"
#include "codesign/bundle/property_list.h"
#include "codesign/cms/certificate.h"
#include "codesign/requirement/expression.h"

namespace codeseal {

// What is known of the code. Borrows everything.
struct RequirementContext {
  std::string_view identifier;
  // macOS compares with the cdhash of the best CodeDirectory only.
  std::span<const CdHash> cdhashes;
  uint8_t platform = 0;  // of the CodeDirectory
  // Null when the code has none.
  const PlistDict* info = nullptr;
  const PlistDict* entitlements = nullptr;
  std::span<const Certificate>
      chain;  // leaf first, root last; empty for ad-hoc
  // What counts as "anchor apple generic"; tests have authorities of their own.
  bool (*is_apple_root)(const Certificate&) = &IsAppleRoot;
};

// kUnknown: only macOS, with its services and settings, could tell.
enum class Truth { kFalse, kTrue, kUnknown };

struct Evaluation {
  Truth truth = Truth::kFalse;
  // Texts of the terms that decided a verdict other than true.
  std::vector<std::string> failed;
  std::vector<std::string> undecided;  // "notarized", "anchor trusted", ...
  // What the code has instead, for each of `failed`: "it is 2ABCDE1234".
  std::vector<std::string> found;
};

Evaluation EvaluateRequirement(const RequirementExpression& expression,
                               const RequirementContext& context);

// Why a requirement is not satisfied, for people: each clause that failed, and
// what the code has instead. "certificate leaf[subject.OU] = A (it is B)".
std::string ExplainFailure(const Evaluation& evaluation);

// The evaluation as a Status: OK when true.
// Errors: FAILED_PRECONDITION STAGE_VERIFY REASON_REQUIREMENT_NOT_SATISFIED,
// which explains the clauses that failed or could not be decided; its rule is
// the first of them.
absl::Status CheckRequirement(const RequirementExpression& expression,
                              const RequirementContext& context);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_REQUIREMENT_EVALUATOR_H_
