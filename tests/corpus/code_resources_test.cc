// Seals of real bundles, made again from the files: what Apple's codesign wrote
// must come out byte for byte. Only the inputs are learned from the stored
// seal: its generation and its digests.

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "codesign/base/mapped_file.h"
#include "codesign/bundle/bundle.h"
#include "codesign/bundle/resource_seal.h"
#include "gtest/gtest.h"
#include "tests/support/corpus_bundle.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<NestedCode> NoNestedCode(const std::string& path,
                                        const std::string&) {
  return MakeError(absl::StatusCode::kNotFound, v1::STAGE_PLAN,
                   v1::REASON_UNSIGNED_NESTED_CODE,
                   "no bundle of the corpus has nested code: " + path);
}

// Digests of the CodeDirectories, for a seal that has no files.
std::vector<DigestKind> KnownDigests(const CorpusItem& item) {
  const CorpusSignature* signature = nullptr;
  if (item.detached_signature.has_value()) {
    signature = &*item.detached_signature;
  }
  for (const CorpusSlice& slice : item.slices) {
    if (slice.signature.has_value()) signature = &*slice.signature;
  }
  std::vector<DigestKind> digests;
  if (signature == nullptr) return digests;
  for (const auto& directory : signature->code_directories) {
    digests.push_back(directory.digest == "sha1" ? DigestKind::kSha1
                                                 : DigestKind::kSha256);
  }
  return digests;
}

struct Comparison {
  int version = 0;
  std::vector<DigestKind> digests;
  size_t rule_count = 0;
  size_t file_count = 0;
  size_t lacking_count = 0;  // sealed, but not in the package
  size_t added_count = 0;    // in the package, but not sealed
  bool is_identical = false;
  bool is_explained = false;  // identical but for lacking and added files
};

template <typename Files>
void Explain(const std::string& base, const Files& stored, Files& made,
             Comparison& comparison) {
  for (const auto& [path, resource] : stored) {
    if (made.contains(path) || fs::exists(fs::path(base) / path)) continue;
    made[path] = resource;
    ++comparison.lacking_count;
  }
  for (auto it = made.begin(); it != made.end();) {
    const bool is_added = !stored.contains(it->first);
    if (is_added) ++comparison.added_count;
    it = is_added ? made.erase(it) : std::next(it);
  }
}

absl::StatusOr<Comparison> MakeAgain(const std::string& path,
                                     const CorpusItem& item) {
  ASSIGN_OR_RETURN(const Bundle bundle, Bundle::Open(path));
  ASSIGN_OR_RETURN(const MappedFile stored_file,
                   MappedFile::Open(bundle.CodeResourcesPath()));
  ASSIGN_OR_RETURN(const ResourceSeal stored,
                   ParseCodeResources(stored_file.bytes()));
  Comparison comparison;
  comparison.version = stored.version();
  comparison.digests = stored.Digests();
  if (comparison.digests.empty()) comparison.digests = KnownDigests(item);

  SealOptions options;
  options.digests = comparison.digests;
  options.writes_version1 = stored.files.has_value();
  options.writes_version2 = stored.files2.has_value();
  ASSIGN_OR_RETURN(const ResourceRules rules,
                   bundle.LoadResourceRules(stored.version() == 1
                                                ? ResourceRuleSet::kLegacy
                                                : ResourceRuleSet::kDefault));
  ASSIGN_OR_RETURN(ResourceSeal made,
                   SealResources(bundle, rules, options, NoNestedCode));
  comparison.rule_count =
      stored.rules.rules2.value_or(stored.rules.rules).size();
  comparison.file_count =
      stored.version() == 2 ? stored.files2->size() : stored.files->size();
  const auto is_same = [&] {
    return Equal(BuildCodeResources(made), stored_file.bytes());
  };
  comparison.is_identical = is_same();
  if (made.files2.has_value()) {
    Explain(bundle.resource_base(), *stored.files2, *made.files2, comparison);
  }
  if (made.files.has_value()) {
    Comparison of_version1;
    Explain(bundle.resource_base(), *stored.files, *made.files,
            stored.version() == 1 ? comparison : of_version1);
  }
  comparison.is_explained = is_same();
  return comparison;
}

std::string DigestNames(const std::vector<DigestKind>& digests) {
  std::string names;
  for (const DigestKind kind : digests) {
    if (!names.empty()) names += "+";
    names += DigestName(kind);
  }
  return names;
}

void PrintRow(const std::string& id, const Comparison& row,
              const std::string& name) {
  std::string verdict = "identical";
  if (!row.is_identical) {
    verdict = row.is_explained
                  ? "identical but for " + std::to_string(row.lacking_count) +
                        " removed, " + std::to_string(row.added_count) +
                        " added"
                  : "DIFFERENT";
  }
  std::printf("  %-4s v%d %-12s rules %2zu files %3zu  %-40s %s\n", id.c_str(),
              row.version, DigestNames(row.digests).c_str(), row.rule_count,
              row.file_count, verdict.c_str(), name.c_str());
}

bool HasSeal(const CorpusItem& item) {
  return item.is_bundle && IsFetched(item) &&
         (fs::exists(item.path + "/_CodeSignature/CodeResources") ||
          fs::exists(item.path + "/Contents/_CodeSignature/CodeResources") ||
          fs::exists(item.path + "/Versions/A/_CodeSignature/CodeResources"));
}

class CodeResourcesTest : public ::testing::TestWithParam<CorpusItem> {};

TEST_P(CodeResourcesTest, ComesOutIdentical) {
  const CorpusItem& item = GetParam();
  CODESEAL_NEED_CORPUS_ITEM(item);
  const CorpusBundle item_bundle(item);
  const absl::StatusOr<Comparison> comparison =
      MakeAgain(item_bundle.path(), item);
  ASSERT_THAT(comparison, IsOk());
  PrintRow(item.id, *comparison, fs::path(item.path).filename().string());
  EXPECT_TRUE(comparison->is_explained);
  // A broken bundle differs in what is known to be wrong with it.
  EXPECT_EQ(comparison->is_identical, item.expected != "broken");
  if (item.id == "D42") {
    EXPECT_EQ(comparison->lacking_count, 64u);
    EXPECT_EQ(comparison->added_count, 0u);
  }
  if (item.id == "D46") {
    EXPECT_EQ(comparison->lacking_count, 0u);
    EXPECT_EQ(comparison->added_count, 1u);
  }
}

TEST_P(CodeResourcesTest, ComparisonWithTheDiskAgreesWithTheVerdict) {
  const CorpusItem& item = GetParam();
  CODESEAL_NEED_CORPUS_ITEM(item);
  const CorpusBundle item_bundle(item);
  const absl::StatusOr<Bundle> bundle = Bundle::Open(item_bundle.path());
  ASSERT_THAT(bundle, IsOk());
  EXPECT_THAT(bundle->CheckStrict(), IsOk());
  const absl::StatusOr<ResourceSeal> seal = LoadCodeResources(*bundle);
  ASSERT_THAT(seal, IsOk());
  const auto problems = CompareResources(
      *bundle, *seal, {.digests = seal->Digests()},
      [](const std::string&, const NestedCode&) { return absl::OkStatus(); });
  ASSERT_THAT(problems, IsOk());
  const size_t expected_count = item.id == "D42"   ? 64
                                : item.id == "D46" ? 1
                                                   : 0;
  EXPECT_EQ(problems->size(), expected_count);
  for (const ResourceProblem& problem : *problems) {
    EXPECT_EQ(problem.change, item.id == "D42" ? ResourceChange::kMissing
                                               : ResourceChange::kAdded)
        << problem.path;
  }
}

std::vector<CorpusItem> Bundles() {
  std::vector<CorpusItem> bundles;
  for (const char* id :
       {"D14", "D27", "D28", "D29", "D30", "D31", "D34", "D35", "D36", "D38",
        "D39", "D40", "D41", "D42", "D43", "D44", "D46"}) {
    bundles.push_back(FindCorpusItem(id));
  }
  return bundles;
}

INSTANTIATE_TEST_SUITE_P(Corpus, CodeResourcesTest,
                         ::testing::ValuesIn(Bundles()), CorpusTestName);

TEST(CodeResourcesCorpusTest, NoSignedBundleIsLeftOut) {
  const std::vector<CorpusItem> listed = Bundles();
  for (const CorpusItem& item : Corpus()) {
    if (!HasSeal(item)) continue;
    EXPECT_TRUE(
        std::any_of(listed.begin(), listed.end(),
                    [&](const CorpusItem& each) { return each.id == item.id; }))
        << item.id;
  }
}

// Bundles inside the items, which are items of nobody's.
TEST(CodeResourcesCorpusTest, InnerBundlesComeOutIdentical) {
  size_t count = 0;
  for (const CorpusItem& item : Bundles()) {
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
      const absl::StatusOr<Comparison> comparison =
          MakeAgain(path.string(), item);
      ASSERT_THAT(comparison, IsOk()) << path;
      PrintRow("", *comparison, path.filename().string());
      EXPECT_TRUE(comparison->is_explained) << path;
      EXPECT_EQ(comparison->added_count, 0u) << path;
      ++count;
    }
  }
  if (count == 0) GTEST_SKIP() << "no item was fetched";
  EXPECT_GT(count, 10u);
}

}  // namespace
}  // namespace codeseal::testing
