// A matcher for the rule that an error names.

#ifndef CODESEAL_TESTS_SUPPORT_RULE_MATCHER_H_
#define CODESEAL_TESTS_SUPPORT_RULE_MATCHER_H_

#include <string>

#include "tests/support/status_matchers.h"

namespace codeseal::testing {

MATCHER_P(HasRule, rule, std::string("names rule ") + rule) {
  *result_listener << Describe(GetStatus(arg));
  const std::optional<ErrorDetail> detail = GetErrorDetail(GetStatus(arg));
  return detail.has_value() && detail->rule() == rule;
}

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_RULE_MATCHER_H_
