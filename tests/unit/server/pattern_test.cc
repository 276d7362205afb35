#include "server/pattern.h"

#include <string>

#include "gtest/gtest.h"

namespace codeseal {
namespace {

TEST(PatternTest, WithoutStarsMatchesOnlyItself) {
  EXPECT_TRUE(MatchesPattern("com.example.app", "com.example.app"));
  EXPECT_FALSE(MatchesPattern("com.example.app", "com.example.app2"));
  EXPECT_FALSE(MatchesPattern("com.example.app", "com.example.ap"));
  EXPECT_FALSE(MatchesPattern("com.example.app", "com.exampleXapp"));
  EXPECT_FALSE(MatchesPattern("com.example.app", "COM.example.app"));
  EXPECT_FALSE(MatchesPattern("", "a"));
}

TEST(PatternTest, StarNeedsAtLeastOneCharacter) {
  EXPECT_TRUE(MatchesPattern("com.example.*", "com.example.a"));
  EXPECT_TRUE(MatchesPattern("com.example.*", "com.example.a.b"));
  EXPECT_FALSE(MatchesPattern("com.example.*", "com.example."));
  EXPECT_FALSE(MatchesPattern("com.example.*", "com.example"));
  EXPECT_FALSE(MatchesPattern("com.example.*", "com.examples.a"));
}

TEST(PatternTest, StarStopsAtTheSeparator) {
  EXPECT_TRUE(MatchesPattern("spiffe://x/ci/*", "spiffe://x/ci/a", '/'));
  EXPECT_FALSE(MatchesPattern("spiffe://x/ci/*", "spiffe://x/ci/a/b", '/'));
  EXPECT_TRUE(MatchesPattern("spiffe://x/ci/**", "spiffe://x/ci/a/b", '/'));
  EXPECT_FALSE(MatchesPattern("*.example.com", "a.b.example.com", '.'));
  EXPECT_TRUE(MatchesPattern("*.example.com", "a.example.com", '.'));
}

TEST(PatternTest, ManyStarsTakeNoExponentialTime) {
  std::string pattern;
  for (int i = 0; i < 200; ++i) pattern += "a*";
  EXPECT_FALSE(MatchesPattern(pattern + "b", std::string(2000, 'a')));
}

}  // namespace
}  // namespace codeseal
