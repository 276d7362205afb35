// Seals of real bundles, made again from the files: what Apple's codesign wrote
// must come out byte for byte.

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "codesign/bundle/bundle.h"
#include "gtest/gtest.h"
#include "tests/parity/seal_comparison.h"
#include "tests/support/corpus_bundle.h"
#include "tests/support/status_matchers.h"

namespace codeseal::parity {
namespace {

namespace fs = std::filesystem;
using ::codeseal::testing::Corpus;
using ::codeseal::testing::CorpusBundle;
using ::codeseal::testing::CorpusItem;
using ::codeseal::testing::IsFetched;
using ::codeseal::testing::IsOk;

void PrintRow(const std::string& id, const SealComparison& row) {
  std::string digests;
  for (const DigestKind kind : row.digests) {
    digests += (digests.empty() ? "" : "+") + std::string(DigestName(kind));
  }
  std::string verdict = "identical";
  if (!row.is_explained) {
    verdict = "DIFFERENT";
  } else if (!row.is_identical) {
    verdict = "identical but for " + std::to_string(row.removed.size()) +
              " removed, " + std::to_string(row.added.size()) + " added";
  }
  std::printf("  %-4s v%d %-12s rules %2zu files %3zu  %-40s %s\n", id.c_str(),
              row.version, digests.c_str(), row.rule_count, row.file_count,
              verdict.c_str(), fs::path(row.path).filename().c_str());
}

// Every item that is a bundle with a seal.
std::vector<CorpusItem> SealedItems() {
  std::vector<CorpusItem> items;
  for (const char* id :
       {"D14", "D27", "D28", "D29", "D30", "D31", "D34", "D35", "D36", "D38",
        "D39", "D40", "D41", "D42", "D43", "D44", "D46"}) {
    items.push_back(testing::FindCorpusItem(id));
  }
  return items;
}

TEST(SealParityTest, EverySealComesOutIdentical) {
  size_t count = 0;
  for (const CorpusItem& item : SealedItems()) {
    SCOPED_TRACE(item.id);
    if (!IsFetched(item)) {
      std::printf("  %-4s was not fetched\n", item.id.c_str());
      EXPECT_FALSE(testing::IsCorpusRequired());
      continue;
    }
    ++count;
    const CorpusBundle bundle(item);
    const auto comparison = CompareSealWithApple(bundle.path());
    ASSERT_THAT(comparison, IsOk());
    PrintRow(item.id, *comparison);
    EXPECT_TRUE(comparison->is_explained) << FormatText(*comparison);
    // What is wrong with a broken bundle is all that differs.
    EXPECT_EQ(comparison->is_identical, item.expected != "broken");
    EXPECT_EQ(comparison->removed.size(), item.id == "D42" ? 64u : 0u);
    EXPECT_EQ(comparison->added.size(), item.id == "D46" ? 1u : 0u);
  }
  if (count == 0) GTEST_SKIP() << "no item was fetched";
}

TEST(SealParityTest, NoSignedBundleIsLeftOut) {
  const std::vector<CorpusItem> listed = SealedItems();
  for (const CorpusItem& item : Corpus()) {
    if (!item.is_bundle || !IsFetched(item)) continue;
    const CorpusBundle bundle(item);
    if (CompareSealWithApple(bundle.path()).ok()) {
      EXPECT_TRUE(std::any_of(
          listed.begin(), listed.end(),
          [&](const CorpusItem& each) { return each.id == item.id; }))
          << item.id;
    }
  }
}

// Bundles inside the items, which are items of nobody's.
TEST(SealParityTest, InnerSealsComeOutIdentical) {
  size_t count = 0;
  for (const CorpusItem& item : SealedItems()) {
    if (!IsFetched(item)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(item.path)) {
      if (entry.path().filename() != "_CodeSignature") continue;
      fs::path path = entry.path().parent_path();
      if (path.filename() == "Contents") path = path.parent_path();
      if (path.parent_path().filename() == "Versions" ||
          path == fs::path(item.path) ||
          !HasBundleExtension(path.filename().string())) {
        continue;
      }
      const auto comparison = CompareSealWithApple(path.string());
      ASSERT_THAT(comparison, IsOk()) << path;
      PrintRow("", *comparison);
      EXPECT_TRUE(comparison->is_explained) << FormatText(*comparison);
      EXPECT_TRUE(comparison->added.empty()) << FormatText(*comparison);
      ++count;
    }
  }
  if (count == 0) GTEST_SKIP() << "no item was fetched";
  EXPECT_GT(count, 10u);
}

// A bundle of ours stands in for one that was changed after it was signed.
TEST(SealParityTest, WhatDiffersIsNamed) {
  CODESEAL_CORPUS_ITEM(item, "D27");
  const testing::TempFolder folder;
  const std::string copy = folder.Path("Copy.app");
  fs::copy(item.path, copy, fs::copy_options::recursive);
  std::string changed;
  for (const auto& entry :
       fs::directory_iterator(copy + "/Contents/Resources")) {
    if (entry.is_regular_file()) changed = entry.path().string();
  }
  ASSERT_FALSE(changed.empty());
  std::ofstream(changed, std::ios::app) << "x";
  const auto comparison = CompareSealWithApple(copy);
  ASSERT_THAT(comparison, IsOk());
  EXPECT_FALSE(comparison->is_identical);
  EXPECT_FALSE(comparison->is_explained);
  EXPECT_FALSE(comparison->first_difference.empty());
}

}  // namespace
}  // namespace codeseal::parity
