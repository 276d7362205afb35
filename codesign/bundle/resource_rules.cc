#include "codesign/bundle/resource_rules.h"

#include <regex.h>

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "codesign/bundle/bundle_error.h"

namespace codeseal {
namespace {

constexpr char kNestedPlaces[] =
    "^(Frameworks|SharedFrameworks|PlugIns|Plug-ins|XPCServices|Helpers|MacOS|"
    "Library/(Automator|Spotlight|LoginItems))/";
constexpr char kInfoPlistPattern[] = "^Info\\.plist$";
constexpr char kPkgInfoPattern[] = "^PkgInfo$";
constexpr char kDsStorePattern[] = "^(.*/)?\\.DS_Store$";

enum RuleFlag { kPlain, kOmit, kOptional, kNested };

// As CoreFoundation keeps them, all weights are reals.
PlistValue Rule(double weight, RuleFlag flag = kPlain) {
  PlistDict rule;
  rule["weight"] = PlistValue{weight};
  if (flag == kOmit) rule["omit"] = PlistValue{true};
  if (flag == kOptional) rule["optional"] = PlistValue{true};
  if (flag == kNested) rule["nested"] = PlistValue{true};
  return PlistValue{std::move(rule)};
}

std::string LocversionPattern(const std::string& resources) {
  return "^" + resources + ".*\\.lproj/locversion.plist$";
}

// Localizations may be removed from a signed bundle, except the base one.
void AddLocalizationRules(const std::string& resources, PlistDict& rules) {
  rules["^" + resources + ".*\\.lproj/"] = Rule(1000, kOptional);
  rules["^" + resources + "Base\\.lproj/"] = Rule(1010);
  rules[LocversionPattern(resources)] = Rule(1100, kOmit);
}

PlistDict DefaultRules1(const std::string& resources) {
  PlistDict rules;
  rules["^version.plist$"] = PlistValue{true};
  rules[resources.empty() ? "^.*" : "^" + resources] = PlistValue{true};
  AddLocalizationRules(resources, rules);
  return rules;
}

PlistDict DefaultRules2(const std::string& resources) {
  PlistDict rules;
  rules["^.*"] = PlistValue{true};
  rules[".*\\.dSYM($|/)"] = Rule(11);
  rules[kDsStorePattern] = Rule(2000, kOmit);
  rules[kInfoPlistPattern] = Rule(20, kOmit);
  rules["^version\\.plist$"] = Rule(20);
  rules["^embedded\\.provisionprofile$"] = Rule(20);
  rules[kPkgInfoPattern] = Rule(20, kOmit);
  if (!resources.empty()) {
    rules["^[^/]+$"] = Rule(10, kNested);
    rules[kNestedPlaces] = Rule(10, kNested);
    rules["^" + resources] = Rule(20);
  }
  AddLocalizationRules(resources, rules);
  return rules;
}

PlistDict LegacyRules(const std::string& resources) {
  PlistDict rules;
  rules["^version.plist$"] = PlistValue{true};
  rules["^" + resources] = PlistValue{true};
  rules["^" + resources + ".*\\.lproj/"] = Rule(1000, kOptional);
  rules[LocversionPattern(resources)] = Rule(1100, kOmit);
  return rules;
}

absl::Status InvalidRule(std::string_view pattern, std::string_view detail) {
  return BundleError(v1::REASON_RESOURCE_RULES_INVALID, pattern, detail);
}

bool IsTrue(const PlistDict& dict, std::string_view key) {
  const bool* value = FindInDict<bool>(dict, key);
  return value != nullptr && *value;
}

absl::StatusOr<uint32_t> Weight(const std::string& pattern,
                                const PlistDict& rule) {
  double weight = 1;
  if (const double* real = FindInDict<double>(rule, "weight")) weight = *real;
  if (const int64_t* integer = FindInDict<int64_t>(rule, "weight")) {
    weight = static_cast<double>(*integer);
  }
  if (!(weight >= 0 && weight <= std::numeric_limits<uint32_t>::max())) {
    return InvalidRule(pattern, "a weight is out of range");
  }
  return static_cast<uint32_t>(weight);
}

absl::StatusOr<ResourceRule> ToRule(const std::string& pattern,
                                    const PlistValue& value) {
  if (const bool* included = value.As<bool>()) {
    return ResourceRule{.omit = !*included};
  }
  const auto* dict = value.As<PlistDict>();
  if (dict == nullptr) {
    return InvalidRule(pattern, "a rule is neither a boolean nor a dictionary");
  }
  ASSIGN_OR_RETURN(const uint32_t weight, Weight(pattern, *dict));
  return ResourceRule{.weight = weight,
                      .omit = IsTrue(*dict, "omit"),
                      .optional = IsTrue(*dict, "optional"),
                      .nested = IsTrue(*dict, "nested")};
}

// Of all patterns of one set of rules, bytes, as regcomp() expands them; it
// takes some hundred bytes of memory for each.
constexpr uint64_t kMaxExpandedSize = 32 * 1024;

// regcomp() expands repetitions in memory and recurses into groups; back
// references take exponential time. The result is what the pattern may become:
// each "+" writes once more what stands before it, with all repetitions in it.
absl::StatusOr<uint64_t> CheckPatternIsTame(const std::string& pattern) {
  constexpr size_t kMaxPatternSize = 1000;
  constexpr int kMaxGroupCount = 32;
  if (pattern.size() > kMaxPatternSize) {
    return InvalidRule(pattern.substr(0, 100), "a pattern is too long");
  }
  int group_count = 0;
  uint64_t expanded_size = pattern.size();
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\' && i + 1 < pattern.size()) {
      ++i;
      if (pattern[i] >= '1' && pattern[i] <= '9') {
        return InvalidRule(pattern, "back references are not supported");
      }
    } else if (pattern[i] == '{') {
      return InvalidRule(pattern, "repetition counts are not supported");
    } else if (pattern[i] == '(' && ++group_count > kMaxGroupCount) {
      return InvalidRule(pattern, "a pattern has too many groups");
    } else if (pattern[i] == '+' && expanded_size <= kMaxExpandedSize) {
      expanded_size *= 2;
    }
  }
  return expanded_size;
}

}  // namespace

ResourceRules DefaultResourceRules(ResourceRuleSet set,
                                   std::string_view resources_prefix) {
  const std::string resources(resources_prefix);
  ResourceRules result;
  switch (set) {
    case ResourceRuleSet::kDefault:
      result.rules = DefaultRules1(resources);
      result.rules2 = DefaultRules2(resources);
      break;
    case ResourceRuleSet::kLegacy:
      result.rules = LegacyRules(resources);
      break;
    case ResourceRuleSet::kOpaque:
      result.rules["^.*"] = PlistValue{true};
      result.rules[kInfoPlistPattern] = Rule(10, kOmit);
      break;
    case ResourceRuleSet::kInstaller:
      result.rules["^.*"] = PlistValue{true};
      result.rules["^" + resources + ".*\\.lproj/"] = Rule(1000, kOptional);
      result.rules["^.*/.*\\.pkg/"] = Rule(10000, kOmit);
      break;
  }
  return result;
}

absl::StatusOr<ResourceRules> ResourceRulesFromPlist(const PlistDict& dict) {
  const auto* rules = FindInDict<PlistDict>(dict, "rules");
  if (rules == nullptr) return InvalidRule("rules", "there are no rules");
  ResourceRules result = {.rules = *rules, .rules2 = std::nullopt};
  if (dict.contains("rules2")) {
    const auto* rules2 = FindInDict<PlistDict>(dict, "rules2");
    if (rules2 == nullptr) return InvalidRule("rules2", "not a dictionary");
    result.rules2 = *rules2;
  }
  return result;
}

PlistDict RulesOfVersion2(const ResourceRules& rules) {
  if (rules.rules2.has_value()) return *rules.rules2;
  PlistDict result = rules.rules;
  result.emplace(kNestedPlaces, Rule(0, kNested));
  return result;
}

struct ResourceMatcher::Pattern {
  Pattern() = default;
  ~Pattern() {
    if (is_compiled) regfree(&regex);
  }
  Pattern(const Pattern&) = delete;  // regex_t cannot be copied
  Pattern& operator=(const Pattern&) = delete;

  std::string text;
  regex_t regex{};
  bool is_compiled = false;
  ResourceRule rule;
};

absl::StatusOr<ResourceMatcher> ResourceMatcher::Create(
    const PlistDict& rules, std::span<const std::string> excluded_paths) {
  auto patterns = std::make_shared<Patterns>();
  uint64_t expanded_size = 0;
  for (const auto& [text, value] : rules) {
    auto pattern = std::make_unique<Pattern>();
    pattern->text = text;
    ASSIGN_OR_RETURN(pattern->rule, ToRule(text, value));
    ASSIGN_OR_RETURN(const uint64_t size, CheckPatternIsTame(text));
    expanded_size += size;
    if (expanded_size > kMaxExpandedSize) {
      return InvalidRule(text, "the patterns repeat, or are, too much");
    }
    if (regcomp(&pattern->regex, text.c_str(), REG_EXTENDED | REG_NOSUB) != 0) {
      return InvalidRule(text, "not a regular expression");
    }
    pattern->is_compiled = true;
    patterns->push_back(std::move(pattern));
  }
  std::sort(patterns->begin(), patterns->end(),
            [](const auto& a, const auto& b) {
              return a->rule.weight != b->rule.weight
                         ? a->rule.weight > b->rule.weight
                         : PlistKeyLess()(a->text, b->text);
            });
  ResourceMatcher matcher;
  matcher.patterns_ = std::move(patterns);
  return matcher.WithExcludedPaths(excluded_paths);
}

ResourceMatcher ResourceMatcher::WithExcludedPaths(
    std::span<const std::string> excluded_paths) const {
  ResourceMatcher matcher;
  matcher.patterns_ = patterns_;
  matcher.excluded_paths_ = {excluded_paths.begin(), excluded_paths.end()};
  return matcher;
}

const ResourceRule* ResourceMatcher::Find(const std::string& path) const {
  static constexpr ResourceRule kExcluded = {.excluded = true};
  if (excluded_paths_.contains(path)) return &kExcluded;
  for (const auto& pattern : *patterns_) {
    if (regexec(&pattern->regex, path.c_str(), 0, nullptr, 0) == 0) {
      return &pattern->rule;
    }
  }
  return nullptr;
}

absl::Status CheckRulesAreStrong(const PlistDict& rules, int version,
                                 std::string_view resources_prefix) {
  const std::string catch_all = version == 1 ? "^Resources/" : "^.*";
  const bool* covers_all = FindInDict<bool>(rules, catch_all);
  if (covers_all == nullptr || !*covers_all) {
    return BundleError(v1::REASON_WEAK_RESOURCE_RULES, catch_all,
                       "no rule covers everything");
  }
  const std::string allowed[] = {
      kDsStorePattern, kInfoPlistPattern, kPkgInfoPattern,
      LocversionPattern(std::string(resources_prefix))};
  for (const auto& [pattern, value] : rules) {
    ASSIGN_OR_RETURN(const ResourceRule rule, ToRule(pattern, value));
    if (rule.omit && std::find(std::begin(allowed), std::end(allowed),
                               pattern) == std::end(allowed)) {
      return BundleError(v1::REASON_WEAK_RESOURCE_RULES, pattern);
    }
  }
  return absl::OkStatus();
}

}  // namespace codeseal
