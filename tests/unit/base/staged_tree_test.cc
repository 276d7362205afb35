#include "codesign/base/staged_tree.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "codesign/base/bytes.h"
#include "tests/support/made_tree.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tree_snapshot.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::MadeTree;
using ::codeseal::testing::TakeSnapshot;
using ::codeseal::testing::TreeSnapshot;
using ::testing::ElementsAre;

class StagedTreeTest : public ::testing::Test {
 protected:
  StagedTreeTest() {
    made_.Executable("app/bin/tool", "old tool");
    made_.File("app/data", "data");
    made_.Mode("app/data", 0640);
    made_.Link("app/link", "data");
    made_.File("app/sig/old", "old");
    made_.Folder("app/empty");
    made_.Mode("app/empty", 0700);
    fs::last_write_time(app(), fs::file_time_type());
  }

  std::string app() const { return made_.Path("app"); }
  static ino_t Inode(const std::string& path) {
    struct stat info = {};
    EXPECT_EQ(lstat(path.c_str(), &info), 0) << path;
    return info.st_ino;
  }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(made_.Path())) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  static absl::Status Write(StagedTree& tree, const std::string& path,
                            const std::string& text) {
    ASSIGN_OR_RETURN(StagedFile file, StagedFile::Create(tree.Map(path), 0751));
    RETURN_IF_ERROR(file.Write(AsBytes(text), 0));
    return tree.Place(std::move(file));
  }
  // A changed file, a replaced folder, a new file.
  absl::Status Change(StagedTree& tree) const {
    RETURN_IF_ERROR(Write(tree, app() + "/bin/tool", "new tool"));
    RETURN_IF_ERROR(tree.ReplaceFolder(app() + "/sig"));
    RETURN_IF_ERROR(Write(tree, app() + "/sig/new", "new"));
    RETURN_IF_ERROR(tree.ReplaceFolder(app() + "/made"));
    return Write(tree, app() + "/made/file", "made");
  }
  void ExpectChanged() const {
    MadeTree wanted;
    wanted.Executable("app/bin/tool", "new tool");
    wanted.Mode("app/bin/tool", 0751);
    wanted.File("app/data", "data");
    wanted.Mode("app/data", 0640);
    wanted.Link("app/link", "data");
    wanted.File("app/sig/new", "new");
    wanted.Mode("app/sig/new", 0751);
    wanted.File("app/made/file", "made");
    wanted.Mode("app/made/file", 0751);
    wanted.Folder("app/empty");
    wanted.Mode("app/empty", 0700);
    EXPECT_EQ(TakeSnapshot(app()), TakeSnapshot(wanted.Path("app")));
    EXPECT_THAT(Names(), ElementsAre("app"));
  }

  MadeTree made_;
};

TEST_F(StagedTreeTest, ChangesTakeEffectAtOnceAndTheRestStaysTheSameFile) {
  const ino_t root = Inode(app());
  const ino_t data = Inode(app() + "/data");
  const TreeSnapshot before = TakeSnapshot(app());
  auto tree = StagedTree::Create(app());
  ASSERT_THAT(tree, IsOk());
  ASSERT_THAT(Change(*tree), IsOk());
  EXPECT_EQ(TakeSnapshot(app()), before);
  ASSERT_THAT(tree->Commit(), IsOk());
  ExpectChanged();
  EXPECT_EQ(Inode(app() + "/data"), data);
  EXPECT_NE(Inode(app()), root) << "the folders changed places";
  EXPECT_EQ(fs::last_write_time(app()), fs::file_time_type());
}

TEST_F(StagedTreeTest, WithoutCommitNothingRemains) {
  const TreeSnapshot before = TakeSnapshot(app());
  {
    auto tree = StagedTree::Create(app());
    ASSERT_THAT(tree, IsOk());
    ASSERT_THAT(Change(*tree), IsOk());
    EXPECT_EQ(Names().size(), 2u);
  }
  EXPECT_EQ(TakeSnapshot(app()), before);
  EXPECT_THAT(Names(), ElementsAre("app"));
}

TEST_F(StagedTreeTest, WhereFoldersCannotChangePlacesFilesDo) {
  const ino_t root = Inode(app());
  auto tree = StagedTree::Create(app());
  ASSERT_THAT(tree, IsOk());
  ASSERT_THAT(Change(*tree), IsOk());
  // Whoever works inside would be left behind in the old folder.
  const fs::path here = fs::current_path();
  fs::current_path(app() + "/bin");
  const absl::Status status = tree->Commit();
  fs::current_path(here);
  ASSERT_THAT(status, IsOk());
  // An empty folder that nothing was moved to stays.
  ExpectChanged();
  EXPECT_EQ(Inode(app()), root);
}

TEST_F(StagedTreeTest, LinkToTheFolderStays) {
  made_.Link("link", "app");
  auto tree = StagedTree::Create(made_.Path("link"));
  ASSERT_THAT(tree, IsOk());
  ASSERT_THAT(Write(*tree, made_.Path("link/data"), "new"), IsOk());
  EXPECT_EQ(tree->Unmap(tree->Map(made_.Path("link/data"))),
            made_.Path("link/data"));
  ASSERT_THAT(tree->Commit(), IsOk());
  EXPECT_TRUE(fs::is_symlink(made_.Path("link")));
  EXPECT_EQ(TakeSnapshot(app())["data"].substr(6), "new");
}

TEST_F(StagedTreeTest, NothingThatAnotherAddsMeanwhileIsLost) {
  auto tree = StagedTree::Create(app());
  ASSERT_THAT(tree, IsOk());
  ASSERT_THAT(Change(*tree), IsOk());
  made_.File("app/bin/other", "by somebody else");
  EXPECT_THAT(tree->Commit(), HasReason(v1::REASON_FILE_CHANGED));
  const TreeSnapshot after = TakeSnapshot(app());
  EXPECT_TRUE(after.contains("bin/other"));
  EXPECT_TRUE(after.contains("sig/old"));
  EXPECT_THAT(Names(), ElementsAre("app"));
}

TEST_F(StagedTreeTest, FilesOutsideAreNotPlaced) {
  made_.File("outside", "text");
  made_.Link("app/out", made_.Path("outside"));
  auto tree = StagedTree::Create(app());
  ASSERT_THAT(tree, IsOk());
  EXPECT_THAT(Write(*tree, app() + "/out", "new"),
              HasReason(v1::REASON_FILE_NOT_WRITABLE));
}

TEST_F(StagedTreeTest, MissingFolderIsNamed) {
  EXPECT_THAT(StagedTree::Create(made_.Path("none")),
              HasReason(v1::REASON_FILE_NOT_FOUND));
}

}  // namespace
}  // namespace codeseal
