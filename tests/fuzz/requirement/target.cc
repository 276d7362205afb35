// Requirements: a blob (or set) when the input starts with its magic, text
// otherwise. Bytes and text must survive the way there and back.

#include "codesign/requirement/compiler.h"
#include "codesign/requirement/evaluator.h"
#include "codesign/requirement/requirement.h"
#include "tests/fuzz/require.h"

namespace codeseal {
namespace {

// Nesting that precedence does not need is lost, and some bytes share a text:
// after one round nothing may change any more.
void CheckText(const std::string& text) {
  const auto expression = CompileRequirement(text);
  if (!expression.ok()) return;
  const std::string second = DumpRequirement(*expression);
  const auto again = CompileRequirement(second);
  if (!again.ok()) return;  // "0x..." is a value, but no identifier
  Require(DumpRequirement(*again) == second);
}

void CheckExpression(const RequirementExpression& expression) {
  Require(RequirementDepth(expression) <= kMaxRequirementDepth);
  const Bytes built = BuildRequirement(expression);
  const auto again = ParseRequirement(built);
  Require(again.ok());
  Require(*again == expression);
  const Evaluation evaluation = EvaluateRequirement(expression, {});
  Require(evaluation.truth != Truth::kUnknown || !evaluation.undecided.empty());
  CheckText(DumpRequirement(expression));
}

bool CheckBlob(ByteView blob) {
  if (const auto expression = ParseRequirement(blob); expression.ok()) {
    CheckExpression(*expression);
    return true;
  }
  const auto set = ParseRequirementSet(blob);
  if (!set.ok()) return false;
  const Bytes built = BuildRequirementSet(*set);
  const auto again = ParseRequirementSet(built);
  Require(again.ok() && *again == *set);
  Require(DumpRequirementBlob(built).ok());
  for (const auto& [type, requirement] : *set) {
    CheckExpression(*ParseRequirement(requirement));
  }
  return true;
}

}  // namespace
}  // namespace codeseal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace codeseal;
  const ByteView bytes(data, size);
  if (size > 0 && data[0] == 0xfa) return CheckBlob(bytes) ? 0 : -1;
  const auto blob = CompileRequirementBlob(AsText(bytes));
  if (!blob.ok()) return -1;
  Require(CheckBlob(*blob));  // what compiles must parse
  return 0;
}
