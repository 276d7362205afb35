// Resource rules say which files of a bundle its seal covers, which of them
// may be missing, and where code is nested. A rule is a regular expression
// over the path with a weight; the heaviest match decides.
//
//   bundle shape, Info.plist -> [ResourceRules] -> ResourceMatcher -> seal
//
// Spec: Security, bundlediskrep.cpp (defaultResourceRules, adjustResources)
//       and resources.cpp.

#ifndef CODESEAL_CODESIGN_BUNDLE_RESOURCE_RULES_H_
#define CODESEAL_CODESIGN_BUNDLE_RESOURCE_RULES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/bundle/property_list.h"

namespace codeseal {

// The two dictionaries of rules exactly as a seal stores them: pattern to
// `true`, `false` or {weight, omit, optional, nested}.
struct ResourceRules {
  PlistDict rules;                  // of version 1, which knows no nested code
  std::optional<PlistDict> rules2;  // of version 2; see RulesOfVersion2()

  bool operator==(const ResourceRules&) const = default;
};

enum class ResourceRuleSet {
  kDefault,
  kLegacy,     // --legacy-signing: version 1 of before 2013
  kOpaque,     // --full-metal-jacket: everything is a resource
  kInstaller,  // old installer packages that are bundles
};

// Apple's rules. `resources_prefix` is Bundle::resources_prefix(): "Resources/"
// or, in a flat bundle, "".
ResourceRules DefaultResourceRules(ResourceRuleSet set,
                                   std::string_view resources_prefix);

// Rules from a plist: a file of custom rules, or an existing CodeResources.
// Errors: INVALID_ARGUMENT REASON_RESOURCE_RULES_INVALID.
absl::StatusOr<ResourceRules> ResourceRulesFromPlist(const PlistDict& dict);

// rules2; when there are none, the rules of version 1 and, behind all of them,
// the places of nested code.
PlistDict RulesOfVersion2(const ResourceRules& rules);

// What is said about one path.
struct ResourceRule {
  uint32_t weight = 1;
  bool omit = false;
  bool optional = false;
  bool nested = false;
  // Part of the signature, or the main executable: it beats every rule, and
  // nothing below it is looked at.
  bool excluded = false;

  bool is_sealed() const { return !omit && !excluded; }
};

// Copies share the compiled patterns. Immutable; safe to use from several
// threads at once.
class ResourceMatcher {
 public:
  // `excluded_paths` beat every rule. Of rules with equal weight the one with
  // the smaller pattern wins (Apple leaves the choice to chance). Patterns may
  // come from hostile files, so those that can make the matcher explode are
  // refused: longer than 1000 bytes, more than 32 groups, repetition counts,
  // back references; and more than 32 KiB of patterns in all, where each "+"
  // doubles what its pattern counts.
  //
  // Errors: INVALID_ARGUMENT REASON_RESOURCE_RULES_INVALID.
  static absl::StatusOr<ResourceMatcher> Create(
      const PlistDict& rules, std::span<const std::string> excluded_paths);

  // The same rules for another bundle: compiling them takes a while.
  ResourceMatcher WithExcludedPaths(
      std::span<const std::string> excluded_paths) const;

  // nullptr when nothing matches: the path is not sealed. `path` is relative
  // to the resource base. The result lives as long as the matcher.
  const ResourceRule* Find(const std::string& path) const;

 private:
  struct Pattern;
  using Patterns = std::vector<std::unique_ptr<Pattern>>;

  ResourceMatcher() = default;

  std::shared_ptr<const Patterns> patterns_;  // heaviest first
  std::set<std::string> excluded_paths_;
};

// Strict verification: a seal must cover everything but what Apple's own rules
// omit. `version` is 1 or 2, that of `rules`.
// Errors: FAILED_PRECONDITION REASON_WEAK_RESOURCE_RULES; the subject is the
// pattern.
absl::Status CheckRulesAreStrong(const PlistDict& rules, int version,
                                 std::string_view resources_prefix);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BUNDLE_RESOURCE_RULES_H_
