// What lies in a log's folder. The first byte chooses what the rest is read as:
// 'p' a path, 't' a tile, 'b' a bundle. Oracles: what is accepted is written
// again as the same bytes; entries stay inside the bundle.

#include <cstdint>

#include "audit/tile.h"
#include "tests/fuzz/require.h"

namespace {

using codeseal::ByteView;
using codeseal::Require;
namespace audit = codeseal::audit;

int ReadBundle(ByteView bytes) {
  const auto whole = audit::ParseWholeEntries(bytes);
  const auto entries = audit::ParseBundle(bytes);
  if (!entries.ok()) return -1;
  Require(whole.size() == entries->size());
  codeseal::Bytes again;
  for (const ByteView entry : *entries) {
    codeseal::RequireInside(entry, bytes);
    audit::AppendToBundle(again, entry);
  }
  Require(codeseal::Equal(again, bytes));
  return 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return -1;
  const ByteView bytes(data + 1, size - 1);
  switch (data[0]) {
    case 'p': {
      const auto name = audit::ParseTilePath(codeseal::AsText(bytes));
      if (!name.has_value()) return -1;
      const std::string again =
          name->is_bundle
              ? audit::BundlePath(name->index, name->width)
              : audit::TilePath(name->level, name->index, name->width);
      Require(again == codeseal::AsText(bytes));
      return 0;
    }
    case 't': {
      const auto tile = audit::Tile::Parse(bytes);
      if (!tile.ok()) return -1;
      Require(codeseal::Equal(tile->Encode(), bytes));
      return 0;
    }
    case 'b':
      return ReadBundle(bytes);
    default:
      return -1;
  }
}
