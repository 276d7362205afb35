#include "codesign/base/digest.h"

#include "gmock/gmock.h"

namespace codeseal {
namespace {

// FIPS 180-4 examples for "abc".
TEST(DigestTest, KnownAnswers) {
  const ByteView abc = AsBytes("abc");
  EXPECT_EQ(HexEncode(ComputeDigest(DigestKind::kSha1, abc)),
            "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(HexEncode(ComputeDigest(DigestKind::kSha256, abc)),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(HexEncode(ComputeDigest(DigestKind::kSha256Truncated, abc)),
            "ba7816bf8f01cfea414140de5dae2223b00361a3");
  EXPECT_EQ(ComputeDigest(DigestKind::kSha384, abc).size(), 48u);
  EXPECT_EQ(ComputeFullDigest(DigestKind::kSha256Truncated, abc).size(), 32u);
}

TEST(DigestTest, DigesterStartsOver) {
  Digester digester(DigestKind::kSha256);
  Bytes first(32);
  Bytes second(32);
  digester.Update(AsBytes("a"));
  digester.Digest(AsBytes("bc"), first);
  digester.Digest(AsBytes("abc"), second);
  EXPECT_EQ(first, second);
  EXPECT_EQ(first, ComputeDigest(DigestKind::kSha256, AsBytes("abc")));
}

TEST(DigestTest, CdHashIsCut) {
  EXPECT_EQ(HexEncode(ComputeCdHash(DigestKind::kSha256, AsBytes("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a3");
}

}  // namespace
}  // namespace codeseal
