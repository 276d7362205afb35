// The pieces in which a log lies on disk. A tile is up to 256 neighbouring
// hashes of the tree; a bundle is up to 256 neighbouring entries. A full one
// never changes again.
//
//   entry -> [bundle] and its leaf hash -> [tile] -> tile above -> ... -> root
//
// Spec: c2sp.org/tlog-tiles.

#ifndef CODESEAL_AUDIT_TILE_H_
#define CODESEAL_AUDIT_TILE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "audit/merkle.h"
#include "codesign/base/bytes.h"

namespace codeseal::audit {

inline constexpr int kTileHeight = 8;
inline constexpr size_t kTileWidth = 256;
// The length of an entry is a uint16.
inline constexpr size_t kMaxEntrySize = 65535;
inline constexpr size_t kMaxBundleSize = kTileWidth * (kMaxEntrySize + 2);

// Up to 256 hashes of one level, and all the hashes of complete subtrees that
// follow from them. Copyable; thread-compatible.
class Tile {
 public:
  // Whole hashes, 1 to 256 of them.
  // Errors: INVALID_ARGUMENT REASON_BAD_AUDIT_LOG.
  static absl::StatusOr<Tile> Parse(ByteView bytes);

  // The tile must not be full.
  void Append(const TreeHash& hash);

  size_t width() const { return layers_[0].size(); }
  bool is_full() const { return width() == kTileWidth; }
  // Of a full tile.
  const TreeHash& root() const { return layers_[kTileHeight].front(); }
  // The hash of a complete subtree of this height over the tile's own hashes;
  // nullptr when the tile does not hold all of them.
  const TreeHash* Find(int height, size_t index) const;
  Bytes Encode() const;

 private:
  std::array<std::vector<TreeHash>, kTileHeight + 1> layers_;
};

// "tile/0/x001/x234/067"; "tile/0/000.p/17" when width is not 256.
std::string TilePath(int level, uint64_t index, size_t width = kTileWidth);
// The same below "tile/entries/".
std::string BundlePath(uint64_t index, size_t width = kTileWidth);

struct TileName {
  bool is_bundle = false;
  int level = 0;  // of a tile
  uint64_t index = 0;
  size_t width = kTileWidth;

  friend bool operator==(const TileName&, const TileName&) = default;
};
// What TilePath() and BundlePath() make, and nothing else.
std::optional<TileName> ParseTilePath(std::string_view path);

// `entry` has 1 to kMaxEntrySize bytes.
void AppendToBundle(Bytes& bundle, ByteView entry);

// The entries of a bundle, borrowed from it; 1 to 256, none of them empty.
// Errors: INVALID_ARGUMENT REASON_BAD_AUDIT_LOG with the offset.
absl::StatusOr<std::vector<ByteView>> ParseBundle(ByteView bundle);

// The same for a file whose writer may have been stopped: every whole entry,
// at most 256, and nothing from the first broken one on.
std::vector<ByteView> ParseWholeEntries(ByteView bundle);

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_TILE_H_
