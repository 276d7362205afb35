#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "codesign/base/mapped_file.h"
#include "codesign/base/staged_file.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

class FileTest : public ::testing::Test {
 protected:
  FileTest() {
    std::string name = (fs::temp_directory_path() / "codeseal-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~FileTest() override { fs::remove_all(folder_); }

  std::string Path(const char* name) { return (folder_ / name).string(); }
  static void Write(const std::string& path, const std::string& text) {
    std::ofstream(path) << text;
  }
  static std::string Read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  size_t FileCount() {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_),
                                             fs::directory_iterator()));
  }

  fs::path folder_;
};

TEST_F(FileTest, MapsAndReleases) {
  Write(Path("a"), std::string(100000, 'x'));
  const auto file = MappedFile::Open(Path("a"));
  ASSERT_THAT(file, IsOk());
  EXPECT_EQ(file->bytes().size(), 100000u);
  file->Release(0, 100000);
  EXPECT_EQ(file->bytes()[99999], 'x');
}

TEST_F(FileTest, RefusesWhatIsNoFile) {
  EXPECT_THAT(MappedFile::Open(Path("none")),
              HasReason(v1::REASON_FILE_NOT_FOUND));
  EXPECT_THAT(MappedFile::Open(folder_.string()),
              HasReason(v1::REASON_FILE_NOT_READABLE));
  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  EXPECT_THAT(MappedFile::Open(Path("fifo")),
              HasReason(v1::REASON_FILE_NOT_READABLE));
}

TEST_F(FileTest, EmptyFileIsEmpty) {
  Write(Path("a"), "");
  const auto file = MappedFile::Open(Path("a"));
  ASSERT_THAT(file, IsOk());
  EXPECT_TRUE(file->bytes().empty());
}

TEST_F(FileTest, CommitReplacesAndKeepsMode) {
  Write(Path("a"), "old");
  auto staged = StagedFile::Create(Path("a"), 0751);
  ASSERT_THAT(staged, IsOk());
  ASSERT_THAT(staged->Write(AsBytes("newer"), 0), IsOk());
  ASSERT_THAT(staged->Resize(3), IsOk());
  EXPECT_EQ(Read(Path("a")), "old");
  ASSERT_THAT(staged->Commit(), IsOk());
  EXPECT_EQ(Read(Path("a")), "new");
  EXPECT_EQ(fs::status(Path("a")).permissions(), fs::perms(0751));
  EXPECT_EQ(FileCount(), 1u);
}

TEST_F(FileTest, WithoutCommitNothingRemains) {
  Write(Path("a"), "old");
  {
    auto staged = StagedFile::Create(Path("a"), 0600);
    ASSERT_THAT(staged, IsOk());
    ASSERT_THAT(staged->Write(AsBytes("new"), 0), IsOk());
    EXPECT_EQ(FileCount(), 2u);
  }
  EXPECT_EQ(Read(Path("a")), "old");
  EXPECT_EQ(FileCount(), 1u);
}

TEST_F(FileTest, LinkStaysAndItsTargetIsReplaced) {
  Write(Path("a"), "old");
  fs::create_symlink("a", Path("link"));
  auto staged = StagedFile::Create(Path("link"), 0600);
  ASSERT_THAT(staged, IsOk());
  ASSERT_THAT(staged->Write(AsBytes("new"), 0), IsOk());
  ASSERT_THAT(staged->Commit(), IsOk());
  EXPECT_TRUE(fs::is_symlink(Path("link")));
  EXPECT_EQ(Read(Path("a")), "new");
}

TEST_F(FileTest, CopiesPartOfAnotherFile) {
  Write(Path("a"), "0123456789");
  const auto file = MappedFile::Open(Path("a"));
  ASSERT_THAT(file, IsOk());
  auto staged = StagedFile::Create(Path("b"), 0600);
  ASSERT_THAT(staged, IsOk());
  ASSERT_THAT(staged->CopyFrom(file->fd(), 2, 5, 1), IsOk());
  EXPECT_THAT(staged->CopyFrom(file->fd(), 8, 5, 0),
              HasReason(v1::REASON_FILE_CHANGED));
  ASSERT_THAT(staged->Write(AsBytes("X"), 0), IsOk());
  ASSERT_THAT(staged->Commit(), IsOk());
  EXPECT_EQ(Read(Path("b")).substr(2), "3456");
}

TEST_F(FileTest, MissingFolderIsNamed) {
  EXPECT_THAT(StagedFile::Create(Path("none/b"), 0600),
              HasReason(v1::REASON_FILE_NOT_FOUND));
}

}  // namespace
}  // namespace codeseal
