// The designated requirement that codesign gives code whose author asked for
// none: what later versions of it must satisfy to count as the same program.
//
//   identifier + certificate chain -> [RequirementExpression] -> slot 2
//
// Spec: Security drmaker.cpp.

#ifndef CODESEAL_CODESIGN_REQUIREMENT_DEFAULT_DESIGNATED_H_
#define CODESEAL_CODESIGN_REQUIREMENT_DEFAULT_DESIGNATED_H_

#include <optional>
#include <span>
#include <string_view>

#include "codesign/base/digest.h"
#include "codesign/cms/certificate.h"
#include "codesign/requirement/expression.h"

namespace codeseal {

// `chain` is leaf first, self-signed root last. Nothing for an empty chain:
// ad-hoc code stores no designated requirement. Does not check the chain.
// `is_apple_root` is for tests, whose roots are their own.
std::optional<RequirementExpression> BuildDefaultDesignated(
    std::string_view identifier, std::span<const Certificate> chain,
    bool (*is_apple_root)(const Certificate&) = &IsAppleRoot);

// What ad-hoc code is taken to require of itself: one of its own cdhashes.
// Nothing for none.
std::optional<RequirementExpression> BuildImplicitDesignated(
    std::span<const CdHash> cdhashes);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_REQUIREMENT_DEFAULT_DESIGNATED_H_
