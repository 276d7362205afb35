#include "server/policy.h"

#include <algorithm>

#include "codesign/base/error.h"
#include "server/pattern.h"

namespace codeseal {
namespace {

absl::Status Deny(const PolicyInput& input, std::string_view rule,
                  const std::string& message) {
  return WithRule(
      MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                v1::REASON_POLICY_VIOLATION, message),
      input.identity + "/" + std::string(rule));
}

std::string Quoted(std::string_view text) {
  return "'" + std::string(text) + "'";
}

bool MatchesAny(const std::vector<std::string>& patterns,
                std::string_view text) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) {
                       return MatchesPattern(pattern, text);
                     });
}

absl::Status CheckTeam(std::string_view team, const PolicyInput& input) {
  const std::string& want =
      input.rules.team.empty() ? input.team : input.rules.team;
  if (team == want) return absl::OkStatus();
  return Deny(input, "team",
              "the team identifier is " + Quoted(team) +
                  "; the identity's is " + Quoted(want));
}

absl::Status CheckEntitlements(const PlistDict& entitlements,
                               const PolicyInput& input) {
  for (const auto& [key, value] : entitlements) {
    const bool* const boolean = value.As<bool>();
    const bool grants_nothing = boolean != nullptr && !*boolean;
    if (!grants_nothing && MatchesAny(input.rules.entitlements_deny, key)) {
      return Deny(input, "entitlements_deny",
                  "entitlement " + key + " is denied");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckCode(const CheckedRequest& request,
                       const PolicyInput& input) {
  // All CodeDirectories agree in all of this (SR-5).
  const CodeDirectory& code = request.code_directories.front();
  const IdentityRules& rules = input.rules;
  RETURN_IF_ERROR(CheckTeam(code.team_identifier(), input));
  if (!rules.identifiers.empty() &&
      !MatchesAny(rules.identifiers, code.identifier())) {
    return Deny(input, "identifiers",
                "the identifier " + Quoted(code.identifier()) +
                    " fits no pattern of the identity");
  }
  if (const uint32_t missing = rules.require_flags & ~code.flags();
      missing != 0) {
    return Deny(input, "require_flags",
                "the code is signed without flags " +
                    FormatCodeDirectoryFlags(missing));
  }
  if (request.entitlements.has_value()) {
    return CheckEntitlements(*request.entitlements, input);
  }
  return absl::OkStatus();
}

absl::Status CheckPackage(const CheckedPackage& package,
                          const PolicyInput& input) {
  if (!input.rules.allow_packages) {
    return Deny(input, "packages",
                "the identity signs code, not installer packages");
  }
  if (input.rules.identifiers.empty()) return absl::OkStatus();
  for (const std::string& identifier : package.identifiers) {
    if (!MatchesAny(input.rules.identifiers, identifier)) {
      return Deny(input, "identifiers",
                  "the package identifier " + Quoted(identifier) +
                      " fits no pattern of the identity");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckPolicy(const CheckedRequest& request,
                         const PolicyInput& input) {
  if (request.package.has_value()) {
    RETURN_IF_ERROR(CheckPackage(*request.package, input));
  } else if (!request.code_directories.empty()) {
    RETURN_IF_ERROR(CheckCode(request, input));
  } else if (!input.rules.allow_digest_only) {
    return Deny(input, "digest_only",
                "the identity signs CodeDirectories, not digests alone");
  }
  if (request.signing_time.has_value() &&
      absl::AbsDuration(*request.signing_time - input.now) >
          kMaxClockDifference) {
    return Deny(
        input, "signing_time",
        "the signing time " +
            absl::FormatTime(*request.signing_time, absl::UTCTimeZone()) +
            " is not about now");
  }
  return absl::OkStatus();
}

}  // namespace codeseal
