// Every corpus item is what its facts say: a changed or half unpacked cache
// must not look like a fault of the code under test.

#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/base/mapped_file.h"
#include "gtest/gtest.h"
#include "tests/support/corpus.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {
namespace {

class CorpusFilesTest : public ::testing::TestWithParam<CorpusItem> {};

TEST_P(CorpusFilesTest, DigestIsTheKnownOne) {
  CODESEAL_NEED_CORPUS_ITEM(GetParam());
  const auto file = MappedFile::Open(GetParam().main_file);
  ASSERT_THAT(file, IsOk());
  EXPECT_EQ(HexEncode(ComputeDigest(DigestKind::kSha256, file->bytes())),
            GetParam().sha256);
}

INSTANTIATE_TEST_SUITE_P(Corpus, CorpusFilesTest, ::testing::ValuesIn(Corpus()),
                         CorpusTestName);

}  // namespace
}  // namespace codeseal::testing
