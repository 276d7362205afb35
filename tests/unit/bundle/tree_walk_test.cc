#include "codesign/bundle/tree_walk.h"

#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "codesign/base/error.h"
#include "tests/support/made_tree.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::MadeTree;
using ::testing::ElementsAre;
using ::testing::Pair;

using Visited = std::vector<std::pair<std::string, NodeType>>;

Visited Walk(const std::string& root, const std::string& base,
             const std::string& skipped = "") {
  Visited visited;
  EXPECT_THAT(WalkTree(root, base,
                       [&](const TreeNode& node) -> absl::StatusOr<WalkStep> {
                         visited.emplace_back(node.path, node.type);
                         return node.path == skipped ? WalkStep::kSkip
                                                     : WalkStep::kContinue;
                       }),
              IsOk());
  return visited;
}

TEST(TreeWalkTest, VisitsInOrderOfNamesAndFollowsNoLink) {
  MadeTree tree;
  tree.File("b/inner", "12345");
  tree.File("a");
  tree.Link("c", "b");
  tree.Link("d", "nowhere");
  ASSERT_EQ(mkfifo(tree.Path("e").c_str(), 0600), 0);
  EXPECT_THAT(
      Walk(tree.Path(), tree.Path()),
      ElementsAre(Pair("a", NodeType::kFile), Pair("b", NodeType::kDirectory),
                  Pair("b/inner", NodeType::kFile),
                  Pair("c", NodeType::kSymlink), Pair("d", NodeType::kSymlink),
                  Pair("e", NodeType::kOther)));
}

TEST(TreeWalkTest, SaysWhatItFound) {
  MadeTree tree;
  tree.Executable("folder/file", "12345");
  bool found = false;
  EXPECT_THAT(WalkTree(tree.Path(), tree.Path(),
                       [&](const TreeNode& node) -> absl::StatusOr<WalkStep> {
                         if (node.type == NodeType::kFile) {
                           found = true;
                           EXPECT_EQ(node.name, "file");
                           EXPECT_EQ(node.absolute_path,
                                     tree.Path("folder/file"));
                           EXPECT_EQ(node.size, 5u);
                           EXPECT_EQ(node.mode & 0777, 0755u);
                         }
                         return WalkStep::kContinue;
                       }),
              IsOk());
  EXPECT_TRUE(found);
}

TEST(TreeWalkTest, SkipsWhatItIsToldTo) {
  MadeTree tree;
  tree.File("a/x");
  tree.File("b");
  EXPECT_THAT(
      Walk(tree.Path(), tree.Path(), "a"),
      ElementsAre(Pair("a", NodeType::kDirectory), Pair("b", NodeType::kFile)));
}

TEST(TreeWalkTest, NamesWhatLiesBesideTheBase) {
  MadeTree tree;
  tree.File("Contents/a");
  tree.File("Contents2");
  EXPECT_THAT(Walk(tree.Path(), tree.Path("Contents")),
              ElementsAre(Pair("../Contents", NodeType::kDirectory),
                          Pair("a", NodeType::kFile),
                          Pair("../Contents2", NodeType::kFile)));
}

TEST(TreeWalkTest, RootMayBeALink) {
  MadeTree tree;
  tree.File("a/x");
  tree.Link("b", "a");
  EXPECT_THAT(Walk(tree.Path("b"), tree.Path("b")),
              ElementsAre(Pair("x", NodeType::kFile)));
}

TEST(TreeWalkTest, UnreadableFolderIsSaidToBeSo) {
  MadeTree tree;
  tree.File("closed/x");
  tree.Mode("", 0755);
  tree.Mode("closed", 0);
  // Nothing is closed to the superuser.
  const bool is_superuser = geteuid() == 0;
  ASSERT_TRUE(!is_superuser || seteuid(65534) == 0);
  const Visited visited = Walk(tree.Path(), tree.Path());
  ASSERT_TRUE(!is_superuser || seteuid(0) == 0);
  tree.Mode("closed", 0755);
  EXPECT_THAT(visited, ElementsAre(Pair("closed", NodeType::kDirectory),
                                   Pair("closed", NodeType::kUnreadable)));
}

TEST(TreeWalkTest, VisitorEndsTheWalk) {
  MadeTree tree;
  tree.File("a");
  tree.File("b");
  int count = 0;
  EXPECT_THAT(WalkTree(tree.Path(), tree.Path(),
                       [&](const TreeNode&) -> absl::StatusOr<WalkStep> {
                         ++count;
                         return ParseError(v1::REASON_TRUNCATED, 0, "enough");
                       }),
              HasReason(v1::REASON_TRUNCATED));
  EXPECT_EQ(count, 1);
}

TEST(TreeWalkTest, RootMustBeAFolder) {
  MadeTree tree;
  tree.File("file");
  const auto visit = [](const TreeNode&) -> absl::StatusOr<WalkStep> {
    return WalkStep::kContinue;
  };
  EXPECT_THAT(WalkTree(tree.Path("none"), tree.Path("none"), visit),
              HasReason(v1::REASON_FILE_NOT_FOUND));
  EXPECT_FALSE(WalkTree(tree.Path("file"), tree.Path("file"), visit).ok());
}

}  // namespace
}  // namespace codeseal
