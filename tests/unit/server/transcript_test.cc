#include "server/transcript.h"

#include "codesign/base/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::TempFolder;
using ::testing::SizeIs;

class TranscriptTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Transcript>> Open() const {
    return OpenTranscriptFile(folder_.Path("t.jsonl"));
  }
  // Two entries, written in two runs.
  void WriteTwo() const {
    for (const char* const entry : {R"({"step":1})", R"({"step":2})"}) {
      const auto transcript = Open();
      ASSERT_THAT(transcript, IsOk());
      ASSERT_THAT((*transcript)->Append(entry), IsOk());
    }
  }

  TempFolder folder_;
};

TEST_F(TranscriptTest, EachLineNamesTheOneBefore) {
  WriteTwo();
  const std::string first = R"({"step":1,"previous":""})";
  const std::string digest =
      HexEncode(ComputeDigest(DigestKind::kSha256, AsBytes(first)));
  EXPECT_EQ(folder_.Read("t.jsonl"),
            first + "\n" + R"({"step":2,"previous":")" + digest + "\"}\n");
  EXPECT_THAT((*Open())->entries(), SizeIs(2));
}

TEST_F(TranscriptTest, AChangedLineShows) {
  WriteTwo();
  const std::string good = folder_.Read("t.jsonl");
  std::string changed = good;
  changed.replace(changed.find("\"step\":1"), 8, "\"step\":7");
  const std::string without_first = good.substr(good.find('\n') + 1);
  for (const std::string& bad :
       {changed, without_first, good + "rubbish\n", good + "[]\n"}) {
    folder_.Write("t.jsonl", bad);
    EXPECT_THAT(Open(), HasReason(v1::REASON_CEREMONY)) << bad;
    EXPECT_THAT(ReadTranscript(folder_.Path("t.jsonl")),
                HasReason(v1::REASON_CEREMONY))
        << bad;
    EXPECT_EQ(folder_.Read("t.jsonl"), bad);
  }
}

// Nobody was told that it was written.
TEST_F(TranscriptTest, ATornLineIsCutOff) {
  WriteTwo();
  const std::string good = folder_.Read("t.jsonl");
  folder_.Write("t.jsonl", good + R"({"step":3,"prev)");
  const auto transcript = Open();
  ASSERT_THAT(transcript, IsOk());
  EXPECT_THAT((*transcript)->entries(), SizeIs(2));
  ASSERT_THAT((*transcript)->Append("{}"), IsOk());
  EXPECT_TRUE(folder_.Read("t.jsonl").starts_with(good + "{\"previous\":"));
}

TEST_F(TranscriptTest, OneCeremonyAtATime) {
  const auto transcript = Open();
  ASSERT_THAT(transcript, IsOk());
  EXPECT_THAT(Open(), HasMessage("another ceremony"));
}

}  // namespace
}  // namespace codeseal
