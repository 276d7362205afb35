#include "server/policy.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "codesign/base/error.h"
#include "server/pattern.h"

namespace codeseal {
namespace {

struct Violation {
  std::string rule;
  std::string message;
};
using Violations = std::vector<Violation>;

bool MatchesAny(const std::vector<std::string>& patterns,
                std::string_view text) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) {
                       return MatchesPattern(pattern, text);
                     });
}

void CheckTeam(std::string_view team, const PolicyInput& input,
               Violations& violations) {
  const std::string& want =
      input.rules.team.empty() ? input.team : input.rules.team;
  if (team == want) return;
  violations.push_back({"team", "the team identifier is " + Quoted(team) +
                                    "; the identity's is " + Quoted(want)});
}

// The values that a pattern is held against: an array's elements, each for
// itself. A dictionary has no text; only a pattern of its key fits it.
std::vector<std::string> TextsOf(const PlistValue& value) {
  if (const auto* const array = value.As<PlistArray>()) {
    std::vector<std::string> texts;
    for (const PlistValue& each : *array) {
      const std::vector<std::string> inner = TextsOf(each);
      texts.insert(texts.end(), inner.begin(), inner.end());
    }
    return texts;
  }
  if (const bool* const boolean = value.As<bool>()) {
    return {*boolean ? "true" : "false"};
  }
  if (const auto* const number = value.As<int64_t>()) {
    return {std::to_string(*number)};
  }
  if (const auto* const text = value.As<std::string>()) return {*text};
  return {""};  // no pattern fits it
}

// "KEY" or "KEY=VALUE", both patterns. An entitlement's key has no '='.
bool EntitlementFits(const std::string& pattern, const std::string& key,
                     const std::string* value) {
  const size_t equals = pattern.find('=');
  if (equals == std::string::npos) return MatchesPattern(pattern, key);
  return value != nullptr && MatchesPattern(pattern.substr(0, equals), key) &&
         MatchesPattern(pattern.substr(equals + 1), *value);
}

bool AnyEntitlementFits(const std::vector<std::string>& patterns,
                        const std::string& key, const std::string* value) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) {
                       return EntitlementFits(pattern, key, value);
                     });
}

void CheckEntitlements(const PlistDict& entitlements, const PolicyInput& input,
                       Violations& violations) {
  const std::vector<std::string>& deny = input.rules.entitlements_deny;
  const std::vector<std::string>& allow = input.rules.entitlements_allow;
  for (const auto& [key, value] : entitlements) {
    const bool* const boolean = value.As<bool>();
    if (boolean != nullptr && !*boolean) continue;  // grants nothing
    const std::vector<std::string> texts = TextsOf(value);
    if (AnyEntitlementFits(deny, key, nullptr)) {
      violations.push_back(
          {"entitlements_deny", "entitlement " + key + " is denied"});
    }
    const bool key_is_allowed =
        allow.empty() || AnyEntitlementFits(allow, key, nullptr);
    if (!key_is_allowed && texts.empty()) {
      violations.push_back(
          {"entitlements_allow", "entitlement " + key + " is not allowed"});
    }
    for (const std::string& text : texts) {
      if (!AnyEntitlementFits(deny, key, nullptr) &&
          AnyEntitlementFits(deny, key, &text)) {
        violations.push_back(
            {"entitlements_deny",
             "entitlement " + key + " is denied with " + Quoted(text)});
      }
      if (!key_is_allowed && !AnyEntitlementFits(allow, key, &text)) {
        violations.push_back(
            {"entitlements_allow",
             "entitlement " + key + " is not allowed with " + Quoted(text)});
      }
    }
  }
}

// Weakest first.
int Strength(DigestKind kind) {
  switch (kind) {
    case DigestKind::kSha1:
      return 1;
    case DigestKind::kSha256Truncated:
      return 2;
    case DigestKind::kSha256:
      return 3;
    case DigestKind::kSha384:
      return 4;
  }
  return 0;
}

void CheckMinDigest(const CheckedRequest& request, const PolicyInput& input,
                    Violations& violations) {
  const auto best = std::max_element(
      request.code_directories.begin(), request.code_directories.end(),
      [](const CodeDirectory& a, const CodeDirectory& b) {
        return Strength(a.digest_kind()) < Strength(b.digest_kind());
      });
  if (Strength(best->digest_kind()) >= Strength(input.rules.min_digest)) return;
  violations.push_back(
      {"min_digest", "the best digest is " +
                         std::string(DigestName(best->digest_kind())) +
                         "; the identity wants at least " +
                         std::string(DigestName(input.rules.min_digest))});
}

void CheckCode(const CheckedRequest& request, const PolicyInput& input,
               Violations& violations) {
  // All CodeDirectories agree in all of this but the digest (SR-5).
  const CodeDirectory& code = request.code_directories.front();
  const IdentityRules& rules = input.rules;
  CheckTeam(code.team_identifier(), input, violations);
  if (!rules.identifiers.empty() &&
      !MatchesAny(rules.identifiers, code.identifier())) {
    violations.push_back(
        {"identifiers", "the identifier " + Quoted(code.identifier()) +
                            " fits no pattern of the identity"});
  }
  if (const uint32_t missing = rules.require_flags & ~code.flags();
      missing != 0) {
    violations.push_back(
        {"require_flags", "the code is signed without flags " +
                              FormatCodeDirectoryFlags(missing)});
  }
  if (const uint32_t wrong = rules.forbid_flags & code.flags(); wrong != 0) {
    violations.push_back({"forbid_flags", "the code is signed with flags " +
                                              FormatCodeDirectoryFlags(wrong)});
  }
  if (request.entitlements.has_value()) {
    CheckEntitlements(*request.entitlements, input, violations);
  }
  CheckMinDigest(request, input, violations);
}

void CheckPackage(const CheckedPackage& package, const PolicyInput& input,
                  Violations& violations) {
  if (!input.rules.allow_packages) {
    violations.push_back(
        {"packages", "the identity signs code, not installer packages"});
  }
  if (input.rules.identifiers.empty()) return;
  for (const std::string& identifier : package.identifiers) {
    if (!MatchesAny(input.rules.identifiers, identifier)) {
      violations.push_back(
          {"identifiers", "the package identifier " + Quoted(identifier) +
                              " fits no pattern of the identity"});
    }
  }
}

}  // namespace

absl::Status CheckPolicy(const CheckedRequest& request,
                         const PolicyInput& input) {
  Violations violations;
  if (request.package.has_value()) {
    CheckPackage(*request.package, input, violations);
  } else if (!request.code_directories.empty()) {
    CheckCode(request, input, violations);
  } else if (!input.rules.allow_digest_only) {
    violations.push_back(
        {"digest_only",
         "the identity signs CodeDirectories, not digests alone"});
  }
  if (request.signing_time.has_value() &&
      absl::AbsDuration(*request.signing_time - input.now) >
          kMaxClockDifference) {
    violations.push_back(
        {"signing_time",
         "the signing time " +
             absl::FormatTime(*request.signing_time, absl::UTCTimeZone()) +
             " is not about now"});
  }
  if (violations.empty()) return absl::OkStatus();
  std::string message = violations.front().message;
  if (violations.size() > 1) {
    message = std::to_string(violations.size()) + " rules are broken:";
    for (const Violation& each : violations) {
      message += "\n" + input.identity + "/" + each.rule + ": " + each.message;
    }
  }
  return WithRule(
      MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                v1::REASON_POLICY_VIOLATION, message),
      input.identity + "/" + violations.front().rule);
}

}  // namespace codeseal
