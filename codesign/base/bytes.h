// The two words for bytes: a view borrows, Bytes owns.

#ifndef CODESEAL_CODESIGN_BASE_BYTES_H_
#define CODESEAL_CODESIGN_BASE_BYTES_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace codeseal {

using Bytes = std::vector<uint8_t>;
using ByteView = std::span<const uint8_t>;

// Protobuf, files and OpenSSL call bytes `char`; these keep the casts in one
// place. All results but ToBytes() and ToString() borrow.
inline ByteView AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view AsText(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline Bytes ToBytes(ByteView bytes) { return {bytes.begin(), bytes.end()}; }
inline Bytes ToBytes(std::string_view text) { return ToBytes(AsBytes(text)); }
inline std::string ToString(ByteView bytes) {
  return std::string(AsText(bytes));
}

inline void Append(Bytes& to, ByteView bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}

bool Equal(ByteView a, ByteView b);

// Lower-case hexadecimal, as Apple's tools print digests.
std::string HexEncode(ByteView bytes);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BASE_BYTES_H_
