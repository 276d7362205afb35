#include "codesign/base/endian.h"

#include "gmock/gmock.h"

namespace codeseal {
namespace {

using ::testing::ElementsAre;

TEST(EndianReaderTest, ReadsBothOrders) {
  const Bytes bytes = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  EndianReader big(bytes, ByteOrder::kBig);
  EXPECT_EQ(big.U8(), 1);
  EXPECT_EQ(big.U16(), 0x0203);
  EXPECT_EQ(big.U32(), 0x04050607u);
  EXPECT_EQ(big.offset(), 7u);
  EndianReader little(bytes, ByteOrder::kLittle);
  EXPECT_EQ(little.U64(), 0x0807060504030201u);
  EXPECT_EQ(little.remaining_size(), 3u);
  EXPECT_TRUE(big.ok() && little.ok());
}

TEST(EndianReaderTest, StopsAtTheEndForGood) {
  const Bytes bytes = {1, 2, 3};
  BigEndianReader in(bytes);
  EXPECT_EQ(in.U16(), 0x0102);
  EXPECT_EQ(in.U32(), 0u);
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(in.U8(), 0);  // One byte is left, but the reader has failed.
  EXPECT_EQ(in.offset(), 2u);
  EXPECT_TRUE(in.Raw(1).empty());
}

TEST(BigEndianWriterTest, AppendsInOrder) {
  BigEndianWriter out;
  out.U8(1);
  out.U16(0x0203);
  out.U32(0x04050607);
  out.Zeros(1);
  out.Raw(Bytes{9});
  EXPECT_EQ(out.size(), 9u);
  EXPECT_THAT(std::move(out).Take(), ElementsAre(1, 2, 3, 4, 5, 6, 7, 0, 9));
}

TEST(StoreTest, OverwritesInPlace) {
  Bytes bytes(8, 0xff);
  StoreU32(bytes, 1, 0x01020304, ByteOrder::kLittle);
  EXPECT_THAT(bytes, ElementsAre(0xff, 4, 3, 2, 1, 0xff, 0xff, 0xff));
}

}  // namespace
}  // namespace codeseal
