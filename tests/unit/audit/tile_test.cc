#include "audit/tile.h"

#include "audit/log_folder.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/audit/log_fixture.h"

namespace codeseal::audit {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

TEST(TileTest, PathsAreThoseOfTheSpecification) {
  EXPECT_EQ(TilePath(0, 1234067), "tile/0/x001/x234/067");
  EXPECT_EQ(TilePath(2, 0, 1), "tile/2/000.p/1");
  EXPECT_EQ(TilePath(0, 273, 112), "tile/0/273.p/112");
  EXPECT_EQ(BundlePath(999), "tile/entries/999");
  EXPECT_EQ(BundlePath(1000, 3), "tile/entries/x001/000.p/3");
}

TEST(TileTest, PathsAreReadBack) {
  for (const uint64_t index : {0u, 7u, 255u, 999u, 1000u, 1234067u}) {
    for (const size_t width : {1u, 17u, 255u, 256u}) {
      EXPECT_EQ(*ParseTilePath(TilePath(3, index, width)),
                (TileName{false, 3, index, width}));
      EXPECT_EQ(*ParseTilePath(BundlePath(index, width)),
                (TileName{true, 0, index, width}));
    }
  }
  for (const char* bad : {"",
                          "tile",
                          "tile/0",
                          "tile/0/",
                          "tile/0/0",
                          "tile/0/0000",
                          "tile/00/000",
                          "tile/64/000",
                          "tile/-1/000",
                          "tile/0/x000/001",
                          "tile/0/001/002",
                          "tile/0/x001/x234/067.p/256",
                          "tile/0/000.p/0",
                          "tile/0/000.p/01",
                          "tile/0/000.p",
                          "tile/0/000.p/1/2",
                          "tile/0/abc",
                          "tile/0/000/",
                          "/tile/0/000",
                          "tile/0/x123/x123/x123/x123/x123/x123"
                          "/x123/123",
                          "tile/entry/000",
                          "checkpoint"}) {
    EXPECT_FALSE(ParseTilePath(bad).has_value()) << bad;
  }
}

TEST(TileTest, HoldsTheHashesAboveItsOwn) {
  std::vector<Bytes> entries;
  Tile tile;
  for (uint64_t i = 0; i < kTileWidth; ++i) {
    EXPECT_EQ(tile.Find(0, i), nullptr);
    entries.push_back(TestEntry(i));
    tile.Append(HashLeaf(entries.back()));
    EXPECT_EQ(tile.width(), i + 1);
  }
  ASSERT_TRUE(tile.is_full());
  EXPECT_EQ(tile.root(), NaiveRoot(entries, 0, kTileWidth));
  for (int height = 0; height <= kTileHeight; ++height) {
    const size_t span = size_t{1} << height;
    for (size_t i = 0; i < kTileWidth / span; ++i) {
      ASSERT_NE(tile.Find(height, i), nullptr);
      EXPECT_EQ(*tile.Find(height, i),
                NaiveRoot(entries, i * span, (i + 1) * span));
    }
    EXPECT_EQ(tile.Find(height, kTileWidth / span), nullptr);
  }
  EXPECT_EQ(tile.Find(-1, 0), nullptr);
  EXPECT_EQ(tile.Find(9, 0), nullptr);
  const Bytes bytes = tile.Encode();
  EXPECT_EQ(bytes.size(), kTileWidth * kTreeHashSize);
  EXPECT_EQ(Tile::Parse(bytes)->root(), tile.root());
}

TEST(TileTest, RuleTL1_WholeHashesOnly) {
  EXPECT_THAT(Tile::Parse(Bytes(32)), IsOk());
  EXPECT_THAT(Tile::Parse(Bytes(8192)), IsOk());
  for (const size_t size : {0u, 31u, 33u, 8193u, 8224u}) {
    EXPECT_THAT(Tile::Parse(Bytes(size)), HasReason(v1::REASON_BAD_AUDIT_LOG));
  }
}

TEST(TileTest, BundlesAreReadBack) {
  Bytes bundle;
  std::vector<Bytes> entries;
  for (size_t i = 0; i < kTileWidth; ++i) {
    entries.push_back(Bytes(1 + i * 7, static_cast<uint8_t>(i)));
    AppendToBundle(bundle, entries.back());
    const auto parsed = ParseBundle(bundle);
    ASSERT_THAT(parsed, IsOk());
    ASSERT_EQ(parsed->size(), i + 1);
    EXPECT_TRUE(Equal(parsed->back(), entries.back()));
  }
  EXPECT_EQ(ParseWholeEntries(bundle).size(), kTileWidth);
}

TEST(TileTest, RuleTL2_EntriesAreWhole) {
  Bytes bundle;
  AppendToBundle(bundle, Bytes(5, 1));
  const size_t first_size = bundle.size();
  AppendToBundle(bundle, Bytes(300, 2));
  for (size_t size = 1; size < bundle.size(); ++size) {
    const ByteView cut = ByteView(bundle).first(size);
    EXPECT_EQ(ParseBundle(cut).ok(), size == first_size) << size;
    EXPECT_EQ(ParseWholeEntries(cut).size(), size < first_size ? 0u : 1u);
  }
  bundle.insert(bundle.end(), 2, 0);  // an empty entry
  EXPECT_THAT(ParseBundle(bundle), HasReason(v1::REASON_BAD_AUDIT_LOG));
  EXPECT_EQ(ParseWholeEntries(bundle).size(), 2u);
}

TEST(TileTest, RuleTL3_AtMost256Entries) {
  Bytes bundle;
  for (size_t i = 0; i <= kTileWidth; ++i) AppendToBundle(bundle, Bytes{1});
  EXPECT_THAT(ParseBundle(bundle), HasReason(v1::REASON_BAD_AUDIT_LOG));
  EXPECT_EQ(ParseWholeEntries(bundle).size(), kTileWidth);
}

TEST(TileTest, RuleTL4_NoEmptyBundle) {
  EXPECT_THAT(ParseBundle({}), HasReason(v1::REASON_BAD_AUDIT_LOG));
}

// Three levels of tiles against a tree that is folded from the left.
TEST(LogTreeTest, AgreesWithANaiveTreeAtEverySize) {
  testing::TempFolder folder;
  const auto opened = LogFolder::Open(folder.path());
  ASSERT_THAT(opened, IsOk());
  LogTree tree(*opened);
  constexpr uint64_t kSize = 66'000;
  std::vector<TreeHash> complete;  // of the set bits of the size, highest first
  for (uint64_t size = 1; size <= kSize; ++size) {
    const TreeHash leaf = HashLeaf(AsBytes(std::to_string(size)));
    tree.Append(leaf);
    TreeHash hash = leaf;
    for (uint64_t bits = size - 1; (bits & 1) == 1; bits >>= 1) {
      hash = HashChildren(complete.back(), hash);
      complete.pop_back();
    }
    complete.push_back(hash);
    if (tree.is_bundle_full()) {
      for (const LogTree::FullTile& each : tree.TakeFullTiles()) {
        const std::string name = TilePath(each.level, each.index);
        std::filesystem::create_directories(
            std::filesystem::path(folder.Path(name)).parent_path());
        folder.Write(name, AsText(each.tile.Encode()));
      }
    }
    if (size % 997 != 0 && size % 256 > 1 && size != kSize) continue;
    TreeHash root = complete.back();
    for (size_t i = complete.size() - 1; i > 0; --i) {
      root = HashChildren(complete[i - 1], root);
    }
    const auto head = tree.Head();
    ASSERT_THAT(head, IsOk());
    ASSERT_EQ(*head, (TreeHead{size, root}));
  }
  const TreeHead head = *tree.Head();
  for (const uint64_t index : {0u, 1u, 255u, 256u, 65'535u, 65'536u, 65'999u}) {
    const auto proof = BuildInclusionProof(tree, index, kSize);
    ASSERT_THAT(proof, IsOk());
    EXPECT_THAT(CheckInclusion(HashLeaf(AsBytes(std::to_string(index + 1))),
                               index, head, *proof),
                IsOk());
  }
  for (const uint64_t old_size : {1u, 256u, 40'000u, 65'536u, 65'537u}) {
    const auto proof = BuildConsistencyProof(tree, old_size, kSize);
    ASSERT_THAT(proof, IsOk());
    EXPECT_THAT(CheckConsistency({old_size, *ComputeRoot(tree, old_size)}, head,
                                 *proof),
                IsOk());
  }
  // A tree that is loaded from the tiles is the same.
  std::vector<Bytes> growing;
  for (uint64_t i = kSize / kTileWidth * kTileWidth; i < kSize; ++i) {
    growing.push_back(ToBytes(std::to_string(i + 1)));
  }
  const std::vector<ByteView> views(growing.begin(), growing.end());
  const auto loaded = LogTree::Load(*opened, kSize / kTileWidth, views);
  ASSERT_THAT(loaded, IsOk());
  EXPECT_EQ(*loaded->Head(), head);
  EXPECT_THAT(tree.Subtree(0, kSize), HasReason(v1::REASON_AUDIT_NOT_FOUND));
}

}  // namespace
}  // namespace codeseal::audit
