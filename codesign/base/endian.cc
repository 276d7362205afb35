#include "codesign/base/endian.h"

#include <cassert>

namespace codeseal {
namespace {

// The shift that byte `index` of a `size`-byte integer has in its value.
unsigned Shift(size_t index, size_t size, ByteOrder order) {
  return static_cast<unsigned>(
      8 * (order == ByteOrder::kBig ? size - 1 - index : index));
}

void Store(std::span<uint8_t> bytes, size_t offset, uint64_t value, size_t size,
           ByteOrder order) {
  assert(offset <= bytes.size() && size <= bytes.size() - offset);
  for (size_t i = 0; i < size; ++i) {
    bytes[offset + i] = static_cast<uint8_t>(value >> Shift(i, size, order));
  }
}

}  // namespace

uint64_t EndianReader::Take(size_t size) {
  const ByteView raw = Raw(size);
  uint64_t value = 0;
  for (size_t i = 0; i < raw.size(); ++i) {
    value |= uint64_t{raw[i]} << Shift(i, size, order_);
  }
  return value;
}

ByteView EndianReader::Raw(size_t size) {
  if (!ok_ || size > bytes_.size() - offset_) {
    ok_ = false;
    return {};
  }
  const ByteView raw = bytes_.subspan(offset_, size);
  offset_ += size;
  return raw;
}

void BigEndianWriter::Put(uint64_t value, size_t size) {
  bytes_.resize(bytes_.size() + size);
  Store(bytes_, bytes_.size() - size, value, size, ByteOrder::kBig);
}

void StoreU32(std::span<uint8_t> bytes, size_t offset, uint32_t value,
              ByteOrder order) {
  Store(bytes, offset, value, 4, order);
}

void StoreU64(std::span<uint8_t> bytes, size_t offset, uint64_t value,
              ByteOrder order) {
  Store(bytes, offset, value, 8, order);
}

}  // namespace codeseal
