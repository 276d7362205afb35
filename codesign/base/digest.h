// The digests of code signing, over OpenSSL's EVP.

#ifndef CODESEAL_CODESIGN_BASE_DIGEST_H_
#define CODESEAL_CODESIGN_BASE_DIGEST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "codesign/base/bytes.h"

namespace codeseal {

// Wire values of CS_CodeDirectory.hashType.
enum class DigestKind : uint8_t {
  kSha1 = 1,             // CS_HASHTYPE_SHA1
  kSha256 = 2,           // CS_HASHTYPE_SHA256
  kSha256Truncated = 3,  // CS_HASHTYPE_SHA256_TRUNCATED
  kSha384 = 4,           // CS_HASHTYPE_SHA384
};

// A cdhash is the digest of a CodeDirectory cut to this many bytes.
inline constexpr size_t kCdHashSize = 20;  // CS_CDHASH_LEN
using CdHash = std::array<uint8_t, kCdHashSize>;

// Bytes of one slot; 0 for an unknown wire value.
size_t DigestSize(DigestKind kind);

// Bytes before truncation: what the CMS hash-agility attribute holds.
size_t FullDigestSize(DigestKind kind);

// "sha1", "sha256", "sha256-truncated", "sha384"; "unknown" otherwise.
std::string_view DigestName(DigestKind kind);

// Computes digests one after another with one EVP context: cheaper than a
// context for each page. Not copyable; one thread at a time. `kind` must be
// known.
class Digester {
 public:
  explicit Digester(DigestKind kind);
  ~Digester();
  Digester(Digester&&) noexcept;
  Digester& operator=(Digester&&) noexcept;

  void Update(ByteView bytes);
  // Writes DigestSize(kind) bytes and starts over. `out` must have that size.
  void Finish(std::span<uint8_t> out);
  void Digest(ByteView bytes, std::span<uint8_t> out) {
    Update(bytes);
    Finish(out);
  }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// DigestSize(kind) bytes.
Bytes ComputeDigest(DigestKind kind, ByteView bytes);
// FullDigestSize(kind) bytes.
Bytes ComputeFullDigest(DigestKind kind, ByteView bytes);
// The cdhash of a CodeDirectory whose hashType is `kind`.
CdHash ComputeCdHash(DigestKind kind, ByteView code_directory);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BASE_DIGEST_H_
