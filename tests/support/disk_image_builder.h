// Small disk images: data, a property list, the trailer. Laid out by hand, so
// that our own code is never the oracle.

#ifndef CODESEAL_TESTS_SUPPORT_DISK_IMAGE_BUILDER_H_
#define CODESEAL_TESTS_SUPPORT_DISK_IMAGE_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "codesign/base/bytes.h"

namespace codeseal::testing {

// Fields of the trailer, bytes from its start.
inline constexpr size_t kKolyVersion = 4;
inline constexpr size_t kKolyHeaderSize = 8;
inline constexpr size_t kKolyDataOffset = 24;
inline constexpr size_t kKolyDataSize = 32;
inline constexpr size_t kKolyResourceSize = 48;
inline constexpr size_t kKolySegmentNumber = 56;
inline constexpr size_t kKolySegmentCount = 60;
inline constexpr size_t kKolyPlistOffset = 216;
inline constexpr size_t kKolyPlistSize = 224;
inline constexpr size_t kKolySignatureOffset = 296;
inline constexpr size_t kKolySignatureSize = 304;
inline constexpr size_t kKolySize = 512;

inline void PutBigEndian(std::string& text, size_t offset, uint64_t value,
                         size_t size) {
  for (size_t i = 0; i < size; ++i) {
    text[offset + i] = static_cast<char>(value >> (8 * (size - 1 - i)) & 0xff);
  }
}

// An image of `data_size` bytes of data.
inline std::string MakeDiskImage(size_t data_size = 5000) {
  std::string data(data_size, '\0');
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = static_cast<char>(i * 7 % 251);
  }
  const std::string plist = "<plist version=\"1.0\"><dict/></plist>\n";
  std::string trailer(kKolySize, '\0');
  trailer.replace(0, 4, "koly");
  PutBigEndian(trailer, kKolyVersion, 4, 4);
  PutBigEndian(trailer, kKolyHeaderSize, 512, 4);
  PutBigEndian(trailer, 12, 1, 4);  // flags: flattened
  PutBigEndian(trailer, kKolyDataSize, data.size(), 8);
  PutBigEndian(trailer, kKolySegmentNumber, 1, 4);
  PutBigEndian(trailer, kKolySegmentCount, 1, 4);
  trailer.replace(64, 16, "segment-id-of-16");
  PutBigEndian(trailer, 80, 2, 4);   // CRC-32
  PutBigEndian(trailer, 84, 32, 4);  // bits
  PutBigEndian(trailer, kKolyPlistOffset, data.size(), 8);
  PutBigEndian(trailer, kKolyPlistSize, plist.size(), 8);
  PutBigEndian(trailer, 488, 1, 4);                          // imageVariant
  PutBigEndian(trailer, 492, (data.size() + 511) / 512, 8);  // sectorCount
  return data + plist + trailer;
}

// Overwrites a field of the trailer.
inline std::string WithKolyField(std::string image, size_t field,
                                 uint64_t value, size_t size) {
  PutBigEndian(image, image.size() - kKolySize + field, value, size);
  return image;
}

// The image with `signature` between plist and trailer.
inline std::string WithSignatureInImage(const std::string& image,
                                        std::string_view signature) {
  const size_t limit = image.size() - kKolySize;
  std::string with =
      image.substr(0, limit) + std::string(signature) + image.substr(limit);
  with = WithKolyField(std::move(with), kKolySignatureOffset, limit, 8);
  return WithKolyField(std::move(with), kKolySignatureSize, signature.size(),
                       8);
}

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_DISK_IMAGE_BUILDER_H_
