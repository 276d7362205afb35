// Failed checks of verification as findings, so that whoever judges code says
// every reason and not only the first.
//
//   VerificationReport -> [FindingsOfReport] -> Assess, Preflight

#ifndef CODESEAL_CODESIGN_ASSESS_FAILED_CHECKS_H_
#define CODESEAL_CODESIGN_ASSESS_FAILED_CHECKS_H_

#include <string_view>
#include <vector>

#include "codesign/assess/finding.h"
#include "codesign/verify/verifier.h"

namespace codeseal {

// One finding for each failed check of the report and of nested code, and one
// for each resource that was added, changed or is missing. Nested faults are
// told where they are, not again by the code around them. Requirements are left
// out: code need not satisfy itself to be distributed. `rule` and `message` go
// into each, but code without any signature has the rule "signed".
std::vector<Finding> FindingsOfReport(const VerificationReport& report,
                                      std::string_view rule,
                                      std::string_view message);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_ASSESS_FAILED_CHECKS_H_
