#include "codesign/bundle/resource_rules.h"

#include "codesign/base/error.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::testing::AllOf;

ResourceMatcher MatcherOf(const PlistDict& rules,
                          const std::vector<std::string>& exclusions = {}) {
  auto matcher = ResourceMatcher::Create(rules, exclusions);
  EXPECT_THAT(matcher, IsOk());
  return *std::move(matcher);
}

PlistDict Default2(std::string_view prefix) {
  return *DefaultResourceRules(ResourceRuleSet::kDefault, prefix).rules2;
}
PlistDict Default1(std::string_view prefix) {
  return DefaultResourceRules(ResourceRuleSet::kDefault, prefix).rules;
}

// "omit", "nested", "optional" or "sealed"; "" when no rule matches.
std::string Verdict(const ResourceMatcher& matcher, const std::string& path) {
  const ResourceRule* rule = matcher.Find(path);
  if (rule == nullptr) return "";
  if (rule->excluded) return "excluded";
  if (rule->omit) return "omit";
  if (rule->nested) return "nested";
  return rule->optional ? "optional" : "sealed";
}

struct PathCase {
  const char* path;
  const char* verdict;
};

TEST(ResourceRulesTest, Version2WithResources) {
  const ResourceMatcher matcher = MatcherOf(Default2("Resources/"));
  for (const PathCase& each : std::vector<PathCase>{
           {"Info.plist", "omit"},
           {"PkgInfo", "omit"},
           {"version.plist", "sealed"},
           {"embedded.provisionprofile", "sealed"},
           {"helper", "nested"},
           {"Other/file", "sealed"},
           {"MacOS/tool", "nested"},
           {"MacOS/deep/tool", "nested"},
           {"Frameworks/A.framework", "nested"},
           {"SharedFrameworks/A.framework", "nested"},
           {"PlugIns/A.appex", "nested"},
           {"Plug-ins/A.plugin", "nested"},
           {"XPCServices/A.xpc", "nested"},
           {"Helpers/a", "nested"},
           {"Library/LoginItems/A.app", "nested"},
           {"Library/Automator/A.action", "nested"},
           {"Library/Spotlight/A.mdimporter", "nested"},
           {"Library/Other/A.app", "sealed"},
           {"MacOS/tool.dSYM", "sealed"},
           {"MacOS/tool.dSYM/Contents/x", "sealed"},
           {"MacOS/.DS_Store", "omit"},
           {".DS_Store", "omit"},
           {"Resources/a.DS_Store", "sealed"},
           {"Resources/Info.plist", "sealed"},
           {"Resources/A.framework", "sealed"},
           {"Resources/en.lproj/a.strings", "optional"},
           {"Resources/sub/en.lproj/a.strings", "optional"},
           {"Resources/Base.lproj/a.nib", "sealed"},
           {"Resources/en.lproj/locversion.plist", "omit"},
           {"Resources/Base.lproj/locversion.plist", "omit"},
           {"en.lproj/a", "sealed"},
       }) {
    EXPECT_EQ(Verdict(matcher, each.path), each.verdict) << each.path;
  }
}

TEST(ResourceRulesTest, Version1WithResources) {
  const ResourceMatcher matcher = MatcherOf(Default1("Resources/"));
  for (const PathCase& each : std::vector<PathCase>{
           {"Info.plist", ""},
           {"MacOS/tool", ""},
           {"version.plist", "sealed"},
           {"Resources/a", "sealed"},
           {"Resources/en.lproj/a", "optional"},
           {"Resources/Base.lproj/a", "sealed"},
           {"Resources/en.lproj/locversion.plist", "omit"},
       }) {
    EXPECT_EQ(Verdict(matcher, each.path), each.verdict) << each.path;
  }
}

TEST(ResourceRulesTest, FlatBundlesHaveNoNestedCode) {
  const ResourceMatcher matcher2 = MatcherOf(Default2(""));
  for (const PathCase& each : std::vector<PathCase>{
           {"Info.plist", "omit"},
           {"PkgInfo", "omit"},
           {"a.png", "sealed"},
           {"Frameworks/A.framework", "sealed"},
           {"Frameworks/A.framework/A", "sealed"},
           {"Frameworks/A.framework/Info.plist", "sealed"},
           {"en.lproj/a", "optional"},
           {"Base.lproj/a", "sealed"},
           {"en.lproj/locversion.plist", "omit"},
           {"sub/.DS_Store", "omit"},
       }) {
    EXPECT_EQ(Verdict(matcher2, each.path), each.verdict) << each.path;
  }
  const ResourceMatcher matcher1 = MatcherOf(Default1(""));
  EXPECT_EQ(Verdict(matcher1, "Info.plist"), "sealed");
  EXPECT_EQ(Verdict(matcher1, "en.lproj/a"), "optional");
}

TEST(ResourceRulesTest, DefaultSetsHaveApplesRules) {
  EXPECT_EQ(Default2("Resources/").size(), 13u);
  EXPECT_EQ(Default2("").size(), 10u);
  EXPECT_EQ(Default1("Resources/").size(), 5u);
  EXPECT_EQ(Default1("").size(), 5u);
  // Weights are reals: CodeResources has <real>20</real>.
  const PlistDict rules = Default2("Resources/");
  const auto* rule = FindInDict<PlistDict>(rules, "^Resources/");
  ASSERT_NE(rule, nullptr);
  ASSERT_NE(FindInDict<double>(*rule, "weight"), nullptr);
  EXPECT_EQ(*FindInDict<double>(*rule, "weight"), 20.0);
}

TEST(ResourceRulesTest, LegacyRulesKnowNoBaseLocalization) {
  const ResourceRules legacy =
      DefaultResourceRules(ResourceRuleSet::kLegacy, "Resources/");
  EXPECT_EQ(legacy.rules.size(), 4u);
  EXPECT_FALSE(legacy.rules2.has_value());
  EXPECT_EQ(Verdict(MatcherOf(legacy.rules), "Resources/Base.lproj/a"),
            "optional");
}

TEST(ResourceRulesTest, OpaqueRulesSealEverything) {
  const ResourceRules rules =
      DefaultResourceRules(ResourceRuleSet::kOpaque, "Resources/");
  EXPECT_FALSE(rules.rules2.has_value());
  const ResourceMatcher matcher = MatcherOf(RulesOfVersion2(rules));
  EXPECT_EQ(Verdict(matcher, "Frameworks/A.framework"), "sealed");
  EXPECT_EQ(Verdict(matcher, "Info.plist"), "omit");
}

TEST(ResourceRulesTest, InstallerRulesOmitPackagesInside) {
  const ResourceRules rules =
      DefaultResourceRules(ResourceRuleSet::kInstaller, "Resources/");
  const ResourceMatcher matcher = MatcherOf(rules.rules);
  EXPECT_EQ(Verdict(matcher, "Packages/a.pkg/Contents/x"), "omit");
  EXPECT_EQ(Verdict(matcher, "Resources/en.lproj/a"), "optional");
  EXPECT_EQ(Verdict(matcher, "Archive.bom"), "sealed");
}

TEST(ResourceRulesTest, CustomRulesGetNestedPlacesBehindAllOthers) {
  PlistDict dict;
  dict["rules"] = PlistValue{PlistDict{{"^Frameworks/own", PlistValue{true}}}};
  const auto rules = ResourceRulesFromPlist(dict);
  ASSERT_THAT(rules, IsOk());
  const PlistDict rules2 = RulesOfVersion2(*rules);
  EXPECT_EQ(rules2.size(), 2u);
  const ResourceMatcher matcher = MatcherOf(rules2);
  EXPECT_EQ(Verdict(matcher, "Frameworks/A.framework"), "nested");
  EXPECT_EQ(Verdict(matcher, "Frameworks/own"), "sealed");
}

TEST(ResourceRulesTest, CustomRules2AreTakenAsTheyAre) {
  PlistDict dict;
  dict["rules"] = PlistValue{PlistDict()};
  dict["rules2"] = PlistValue{PlistDict{{"^a", PlistValue{false}}}};
  const auto rules = ResourceRulesFromPlist(dict);
  ASSERT_THAT(rules, IsOk());
  EXPECT_EQ(Verdict(MatcherOf(RulesOfVersion2(*rules)), "abc"), "omit");
}

TEST(ResourceRulesTest, RefusesWhatAreNoRules) {
  PlistDict dict;
  EXPECT_THAT(ResourceRulesFromPlist(dict),
              HasReason(v1::REASON_RESOURCE_RULES_INVALID));
  dict["rules"] = PlistValue{PlistArray()};
  EXPECT_THAT(ResourceRulesFromPlist(dict),
              HasReason(v1::REASON_RESOURCE_RULES_INVALID));
  dict["rules"] = PlistValue{PlistDict()};
  EXPECT_THAT(ResourceRulesFromPlist(dict), IsOk());
  dict["rules2"] = PlistValue{true};
  EXPECT_THAT(ResourceRulesFromPlist(dict),
              HasReason(v1::REASON_RESOURCE_RULES_INVALID));
}

PlistValue Weighted(PlistValue weight) {
  return PlistValue{PlistDict{{"weight", std::move(weight)}}};
}

TEST(ResourceMatcherTest, HeaviestRuleWins) {
  PlistDict omit = {{"weight", PlistValue{int64_t{5}}},
                    {"omit", PlistValue{true}}};
  const ResourceMatcher matcher =
      MatcherOf({{"^", PlistValue{true}},
                 {"^a", PlistValue{std::move(omit)}},
                 {"^ab", Weighted(PlistValue{4.0})},
                 {"^abc", Weighted(PlistValue{6.0})}});
  EXPECT_EQ(Verdict(matcher, "x"), "sealed");
  EXPECT_EQ(Verdict(matcher, "a"), "omit");
  EXPECT_EQ(Verdict(matcher, "ab"), "omit");
  EXPECT_EQ(Verdict(matcher, "abc"), "sealed");
}

TEST(ResourceMatcherTest, ExclusionBeatsEveryWeight) {
  const ResourceMatcher matcher =
      MatcherOf({{"^", Weighted(PlistValue{4e9})}}, {"main"});
  EXPECT_EQ(Verdict(matcher, "main"), "excluded");
  EXPECT_EQ(Verdict(matcher, "main2"), "sealed");
  EXPECT_FALSE(matcher.Find("main")->is_sealed());
}

TEST(ResourceMatcherTest, UnanchoredPatternMatchesInside) {
  const ResourceMatcher matcher = MatcherOf({{"b+", PlistValue{true}}});
  EXPECT_EQ(Verdict(matcher, "abbc"), "sealed");
  EXPECT_EQ(Verdict(matcher, "ac"), "");
}

TEST(ResourceMatcherTest, RefusesRulesThatAreNone) {
  const auto create = [](const std::string& pattern, PlistValue value) {
    return ResourceMatcher::Create({{pattern, std::move(value)}}, {});
  };
  const auto is_invalid = HasReason(v1::REASON_RESOURCE_RULES_INVALID);
  EXPECT_THAT(create("(", PlistValue{true}), is_invalid);
  EXPECT_THAT(create("^", PlistValue{std::string("yes")}), is_invalid);
  EXPECT_THAT(create("^", Weighted(PlistValue{-1.0})), is_invalid);
  EXPECT_THAT(create("^", Weighted(PlistValue{1e10})), is_invalid);
  EXPECT_THAT(create("^", Weighted(PlistValue{int64_t{-1}})), is_invalid);
  EXPECT_THAT(create("^", Weighted(PlistValue{20.0})), IsOk());
}

// With the C library these would take gigabytes, or for ever.
TEST(ResourceMatcherTest, RefusesHostilePatterns) {
  const auto create = [](const std::string& pattern) {
    return ResourceMatcher::Create({{pattern, PlistValue{true}}}, {});
  };
  const auto is_invalid = HasReason(v1::REASON_RESOURCE_RULES_INVALID);
  EXPECT_THAT(create("(((a{255}){255}){255})"), is_invalid);
  EXPECT_THAT(create("(a)\\1"), is_invalid);
  EXPECT_THAT(create(std::string(1001, 'a')), is_invalid);
  EXPECT_THAT(create(std::string(1000, 'a')), IsOk());
  EXPECT_THAT(create(std::string(33, '(') + std::string(33, ')')), is_invalid);
  EXPECT_THAT(create("^a\\{b\\\\c\\(d"), IsOk());
  const auto repeats = AllOf(is_invalid, HasMessage("repeat"));
  EXPECT_THAT(create("a" + std::string(100, '+')), repeats);
  EXPECT_THAT(create("((((((((((((a+)+)+)+)+)+)+)+)+)+)+)+)+"), repeats);
  EXPECT_THAT(create("^[^/]+/[^/]+/[^/]+/[^/]+/[^/]+/[^/]+$"), IsOk());
}

TEST(ResourceMatcherTest, RefusesPatternsThatAreTooMuchTogether) {
  const auto rules_of = [](size_t count) {
    PlistDict rules;
    for (size_t i = 0; i < count; ++i) {
      rules[std::to_string(i) + std::string(500, 'a')] = PlistValue{true};
    }
    return rules;
  };
  EXPECT_THAT(ResourceMatcher::Create(rules_of(60), {}), IsOk());
  EXPECT_THAT(ResourceMatcher::Create(rules_of(70), {}),
              AllOf(HasReason(v1::REASON_RESOURCE_RULES_INVALID),
                    HasMessage("too much")));
}

TEST(ResourceMatcherTest, SameRulesServeAnotherBundle) {
  const ResourceMatcher first = MatcherOf({{"^", PlistValue{true}}}, {"a.b"});
  const ResourceMatcher second =
      first.WithExcludedPaths(std::vector<std::string>{"c"});
  EXPECT_EQ(Verdict(first, "a.b"), "excluded");
  EXPECT_EQ(Verdict(first, "axb"), "sealed");
  EXPECT_EQ(Verdict(first, "c"), "sealed");
  EXPECT_EQ(Verdict(second, "a.b"), "sealed");
  EXPECT_EQ(Verdict(second, "c"), "excluded");
}

TEST(ResourceMatcherTest, SmallerPatternWinsATie) {
  const ResourceMatcher matcher =
      MatcherOf({{"^b", PlistValue{false}}, {"b$", PlistValue{true}}});
  EXPECT_EQ(Verdict(matcher, "b"), "omit");
}

TEST(ResourceRulesTest, ApplesRulesAreStrong) {
  EXPECT_THAT(CheckRulesAreStrong(Default2("Resources/"), 2, "Resources/"),
              IsOk());
  EXPECT_THAT(CheckRulesAreStrong(Default2(""), 2, ""), IsOk());
  EXPECT_THAT(CheckRulesAreStrong(Default1("Resources/"), 1, "Resources/"),
              IsOk());
}

TEST(ResourceRulesTest, GapsAreWeak) {
  const auto is_weak = HasReason(v1::REASON_WEAK_RESOURCE_RULES);
  PlistDict rules = Default2("Resources/");
  rules.erase("^.*");
  EXPECT_THAT(CheckRulesAreStrong(rules, 2, "Resources/"), is_weak);
  rules["^.*"] = Weighted(PlistValue{1.0});  // not `true`
  EXPECT_THAT(CheckRulesAreStrong(rules, 2, "Resources/"), is_weak);
  rules = Default2("Resources/");
  rules["^Secret/"] = PlistValue{false};
  EXPECT_THAT(CheckRulesAreStrong(rules, 2, "Resources/"), is_weak);
  rules["^Secret/"] = PlistValue{PlistDict{{"omit", PlistValue{true}}}};
  EXPECT_THAT(CheckRulesAreStrong(rules, 2, "Resources/"), is_weak);
}

}  // namespace
}  // namespace codeseal
