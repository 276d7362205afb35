#include "audit/tile.h"

#include <algorithm>
#include <cassert>

#include "absl/strings/str_format.h"
#include "audit/text.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"

namespace codeseal::audit {
namespace {

constexpr std::string_view kTilePrefix = "tile/";
constexpr std::string_view kEntriesLevel = "entries";
constexpr int kMaxLevel = 63;

// 1234067 is "x001/x234/067".
std::string IndexPath(uint64_t index) {
  std::string path = absl::StrFormat("%03d", index % 1000);
  for (index /= 1000; index != 0; index /= 1000) {
    path = absl::StrFormat("x%03d/", index % 1000) + path;
  }
  return path;
}

std::string PathOf(const std::string& level, uint64_t index, size_t width) {
  std::string path = std::string(kTilePrefix) + level + "/" + IndexPath(index);
  if (width != kTileWidth) path += ".p/" + std::to_string(width);
  return path;
}

// Up to the next '/', which is taken away as well.
std::string_view TakePart(std::string_view& path) {
  const size_t size = path.find('/');
  const std::string_view part = path.substr(0, size);
  path.remove_prefix(size == std::string_view::npos ? path.size() : size + 1);
  return part;
}

// One entry at the front, which is taken away; nullopt when it is not whole.
std::optional<ByteView> TakeEntry(ByteView& bundle) {
  BigEndianReader in(bundle);
  const size_t size = in.U16();
  const ByteView entry = in.Raw(size);
  if (!in.ok() || size == 0) return std::nullopt;
  bundle = bundle.subspan(in.offset());
  return entry;
}

absl::Status BadTile(uint64_t offset, std::string_view message) {
  return ParseError(v1::REASON_BAD_AUDIT_LOG, offset, message);
}

}  // namespace

absl::StatusOr<Tile> Tile::Parse(ByteView bytes) {
  if (bytes.empty() || bytes.size() % kTreeHashSize != 0 ||  // TL-1
      bytes.size() / kTreeHashSize > kTileWidth) {
    return BadTile(0,
                   absl::StrFormat("a tile has 1 to 256 hashes, not %d bytes",
                                   bytes.size()));
  }
  Tile tile;
  for (size_t at = 0; at < bytes.size(); at += kTreeHashSize) {
    TreeHash hash;
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), kTreeHashSize,
                hash.begin());
    tile.Append(hash);
  }
  return tile;
}

void Tile::Append(const TreeHash& hash) {
  assert(!is_full());
  layers_[0].push_back(hash);
  for (size_t height = 0; layers_[height].size() % 2 == 0; ++height) {
    const std::vector<TreeHash>& layer = layers_[height];
    layers_[height + 1].push_back(
        HashChildren(layer[layer.size() - 2], layer.back()));
    if (height + 1 == kTileHeight) break;
  }
}

const TreeHash* Tile::Find(int height, size_t index) const {
  if (height < 0 || height > kTileHeight) return nullptr;
  const std::vector<TreeHash>& layer = layers_[static_cast<size_t>(height)];
  return index < layer.size() ? &layer[index] : nullptr;
}

Bytes Tile::Encode() const {
  Bytes bytes;
  bytes.reserve(width() * kTreeHashSize);
  for (const TreeHash& hash : layers_[0]) codeseal::Append(bytes, hash);
  return bytes;
}

std::string TilePath(int level, uint64_t index, size_t width) {
  return PathOf(std::to_string(level), index, width);
}

std::string BundlePath(uint64_t index, size_t width) {
  return PathOf(std::string(kEntriesLevel), index, width);
}

std::optional<TileName> ParseTilePath(std::string_view path) {
  TileName name;
  std::string_view rest = path;
  if (!rest.starts_with(kTilePrefix)) return std::nullopt;
  rest.remove_prefix(kTilePrefix.size());
  const std::string_view level = TakePart(rest);
  name.is_bundle = level == kEntriesLevel;
  if (!name.is_bundle) {
    const std::optional<uint64_t> number = ParseDecimal(level);
    if (!number.has_value() || *number > kMaxLevel) return std::nullopt;
    name.level = static_cast<int>(*number);
  }
  // Whatever follows is the index if it is how we would write it.
  constexpr size_t kMaxPathSize = 64;
  if (path.size() > kMaxPathSize) return std::nullopt;
  while (!rest.empty()) {
    std::string_view part = TakePart(rest);
    if (part.ends_with(".p")) {
      part.remove_suffix(2);
      const std::optional<uint64_t> width = ParseDecimal(rest);
      if (!width.has_value() || *width == 0 || *width >= kTileWidth) {
        return std::nullopt;
      }
      name.width = *width;
      rest = {};
    }
    if (part.starts_with('x')) part.remove_prefix(1);
    if (part.size() != 3) return std::nullopt;
    while (part.size() > 1 && part.front() == '0') part.remove_prefix(1);
    const std::optional<uint64_t> digits = ParseDecimal(part);
    if (!digits.has_value() || name.index > kMaxTreeSize / 1000) {
      return std::nullopt;
    }
    name.index = name.index * 1000 + *digits;
  }
  const std::string written =
      name.is_bundle ? BundlePath(name.index, name.width)
                     : TilePath(name.level, name.index, name.width);
  if (written != path) return std::nullopt;
  return name;
}

void AppendToBundle(Bytes& bundle, ByteView entry) {
  assert(!entry.empty() && entry.size() <= kMaxEntrySize);
  bundle.push_back(static_cast<uint8_t>(entry.size() >> 8));
  bundle.push_back(static_cast<uint8_t>(entry.size() & 0xff));
  Append(bundle, entry);
}

absl::StatusOr<std::vector<ByteView>> ParseBundle(ByteView bundle) {
  std::vector<ByteView> entries;
  ByteView rest = bundle;
  while (!rest.empty()) {
    const size_t offset = bundle.size() - rest.size();
    const std::optional<ByteView> entry = TakeEntry(rest);
    if (!entry.has_value()) {  // TL-2
      return BadTile(offset, "an entry is empty or cut short");
    }
    if (entries.size() == kTileWidth) {  // TL-3
      return BadTile(offset, "a bundle has more than 256 entries");
    }
    entries.push_back(*entry);
  }
  if (entries.empty()) return BadTile(0, "a bundle is empty");  // TL-4
  return entries;
}

std::vector<ByteView> ParseWholeEntries(ByteView bundle) {
  std::vector<ByteView> entries;
  while (entries.size() < kTileWidth) {
    const std::optional<ByteView> entry = TakeEntry(bundle);
    if (!entry.has_value()) break;
    entries.push_back(*entry);
  }
  return entries;
}

}  // namespace codeseal::audit
