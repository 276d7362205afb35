#include "tests/support/corpus.h"

#include <cstdlib>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"

namespace codeseal::testing {
namespace {

using ::testing::EndsWith;

TEST(CorpusTest, ReadsTheFactsOfAnItem) {
  const CorpusItem& item = FindCorpusItem("D17");
  EXPECT_THAT(item.path,
              EndsWith("x/term-size@2.2.1/package/vendor/macos/term-size"));
  EXPECT_EQ(item.main_file, item.path);
  EXPECT_EQ(item.expected, "intact");
  ASSERT_EQ(item.slices.size(), 1u);
  const CorpusSlice& slice = item.slices[0];
  EXPECT_EQ(slice.arch, "x86_64");
  EXPECT_EQ(slice.signature_offset, 8768u);
  ASSERT_TRUE(slice.signature.has_value());
  ASSERT_EQ(slice.signature->code_directories.size(), 1u);
  const CorpusCodeDirectory& directory = slice.signature->code_directories[0];
  EXPECT_EQ(directory.version, 0x20500u);
  EXPECT_EQ(directory.team, "HX7739G8FX");
  EXPECT_EQ(directory.cdhash, "d23c15bad729b9bfcb58113d6806e6fd220e17be");
  ASSERT_TRUE(slice.signature->cms.has_value());
  EXPECT_EQ(slice.signature->cms->timestamp_at, "2020-01-30T10:29:23Z");
}

TEST(CorpusTest, NestedArchivesAndBundlesHaveAPlace) {
  const CorpusItem& item = FindCorpusItem("D29");
  EXPECT_THAT(item.path,
              EndsWith("fuse-shared-library-darwin@1.1.3/package/osxfuse/"
                       "osxfuse.fs.tgz.x/Contents/Extensions/10.5/"
                       "osxfuse.kext"));
  EXPECT_EQ(item.main_file, item.path + "/Contents/MacOS/osxfuse");
  EXPECT_TRUE(item.detached_signature.has_value());
}

TEST(CorpusTest, IdsAreUnique) {
  std::set<std::string> ids;
  for (const CorpusItem& item : Corpus()) ids.insert(item.id);
  EXPECT_EQ(ids.size(), Corpus().size());
  EXPECT_GE(ids.size(), 49u);
}

TEST(CorpusTest, MissingItemFailsOnlyWhenRequired) {
  CorpusItem missing;
  missing.id = "D00";
  missing.main_file = "/nonexistent";
  EXPECT_FALSE(IsFetched(missing));
  const auto need = [](const CorpusItem& item) {
    CODESEAL_NEED_CORPUS_ITEM(item);
  };

  const char* before = std::getenv("CODESEAL_REQUIRE_CORPUS");
  const std::string saved = before == nullptr ? "" : before;
  ::setenv("CODESEAL_REQUIRE_CORPUS", "1", 1);
  {
    ::testing::TestPartResultArray results;
    ::testing::ScopedFakeTestPartResultReporter reporter(&results);
    need(missing);
    ASSERT_EQ(results.size(), 1);
    EXPECT_TRUE(results.GetTestPartResult(0).fatally_failed());
  }
  ::unsetenv("CODESEAL_REQUIRE_CORPUS");
  {
    ::testing::TestPartResultArray results;
    ::testing::ScopedFakeTestPartResultReporter reporter(&results);
    need(missing);
    ASSERT_EQ(results.size(), 1);
    EXPECT_TRUE(results.GetTestPartResult(0).skipped());
  }
  if (before != nullptr) {
    ::setenv("CODESEAL_REQUIRE_CORPUS", saved.c_str(), 1);
  }
}

}  // namespace
}  // namespace codeseal::testing
