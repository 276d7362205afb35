// Fixed-width integers of either byte order, read from and written to bytes.
// Signature blobs are big-endian; Mach-O fields have their slice's own order.

#ifndef CODESEAL_CODESIGN_BASE_ENDIAN_H_
#define CODESEAL_CODESIGN_BASE_ENDIAN_H_

#include <cstddef>
#include <cstdint>

#include "codesign/base/bytes.h"

namespace codeseal {

enum class ByteOrder { kBig, kLittle };

// Reads forward through a view. A read past the end returns 0, moves nothing
// and makes ok() false for good, so that a parser may read a whole header and
// check once. Thread-compatible; borrows the view.
class EndianReader {
 public:
  EndianReader(ByteView bytes, ByteOrder order)
      : bytes_(bytes), order_(order) {}

  uint8_t U8() { return static_cast<uint8_t>(Take(1)); }
  uint16_t U16() { return static_cast<uint16_t>(Take(2)); }
  uint32_t U32() { return static_cast<uint32_t>(Take(4)); }
  uint64_t U64() { return Take(8); }

  // The next `size` bytes; empty, and ok() false, when there are fewer.
  ByteView Raw(size_t size);
  void Skip(size_t size) { Raw(size); }

  bool ok() const { return ok_; }
  size_t offset() const { return offset_; }  // bytes from the view's start
  size_t remaining_size() const { return bytes_.size() - offset_; }

 private:
  uint64_t Take(size_t size);

  ByteView bytes_;
  ByteOrder order_;
  size_t offset_ = 0;
  bool ok_ = true;
};

class BigEndianReader : public EndianReader {
 public:
  explicit BigEndianReader(ByteView bytes)
      : EndianReader(bytes, ByteOrder::kBig) {}
};

// Appends big-endian integers and bytes to owned bytes.
class BigEndianWriter {
 public:
  void U8(uint8_t value) { Put(value, 1); }
  void U16(uint16_t value) { Put(value, 2); }
  void U32(uint32_t value) { Put(value, 4); }
  void U64(uint64_t value) { Put(value, 8); }
  void Raw(ByteView bytes) { Append(bytes_, bytes); }
  void Zeros(size_t size) { bytes_.resize(bytes_.size() + size); }

  size_t size() const { return bytes_.size(); }
  Bytes Take() && { return std::move(bytes_); }

 private:
  void Put(uint64_t value, size_t size);

  Bytes bytes_;
};

// Overwrites 4 or 8 bytes at `offset`, which must lie inside `bytes`.
void StoreU32(std::span<uint8_t> bytes, size_t offset, uint32_t value,
              ByteOrder order);
void StoreU64(std::span<uint8_t> bytes, size_t offset, uint64_t value,
              ByteOrder order);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BASE_ENDIAN_H_
