// A disk image of the Universal Disk Image Format (.dmg): data, a property list
// that maps it, and a trailer of 512 bytes that says where they are. A
// signature lies between them and the trailer.
//
//   file -> [DiskImage] -> signing limit, trailer -> SigningPlan -> signed file
//
// Spec: the "koly" trailer (UDIFResourceFile); Security, diskimagerep.cpp.
//       Rules DI-*.

#ifndef CODESEAL_CODESIGN_IMAGE_DISK_IMAGE_H_
#define CODESEAL_CODESIGN_IMAGE_DISK_IMAGE_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"

namespace codeseal {

inline constexpr size_t kDiskImageTrailerSize = 512;  // bytes

// Immutable, copyable, thread-compatible. Borrows from the bytes given to
// Parse().
class DiskImage {
 public:
  // Whether the file is a disk image, perhaps one that Parse() refuses: it has
  // a trailer, or is encrypted.
  static bool IsDiskImage(ByteView file);

  // Reads the trailer and checks every range that it names. The data, the
  // property list and all checksums are not looked at: a signature covers them
  // as bytes.
  //
  // Errors: INVALID_ARGUMENT REASON_BAD_DISK_IMAGE with the rule broken, also
  // for a file without trailer; FAILED_PRECONDITION
  // REASON_UNSUPPORTED_DISK_IMAGE for encrypted and segmented images.
  static absl::StatusOr<DiskImage> Parse(ByteView file);
  static absl::StatusOr<DiskImage> Parse(const Bytes&&) = delete;

  // Bytes from the file's start that a signature covers; it begins there.
  uint64_t signing_limit() const { return signing_limit_; }

  // The SuperBlob that the trailer points to, as many bytes as it says; empty
  // for an image that is not signed.
  ByteView signature() const { return signature_; }

  // What special slot -6 seals: the trailer of a file signed at
  // signing_limit(), with the length of the signature left out, so that a
  // ticket can be added later.
  Bytes BlindedTrailer() const;

  // The trailer of the file with a signature of this size; 0 for none.
  Bytes Trailer(uint64_t signature_size) const;

  // What tells the image from others of its name: SHA-1 of the trailer as it
  // is, without the length of the signature.
  Bytes Identification() const;

  // Apple's strict rule: nothing but the signature lies between the data and
  // the trailer.
  // Errors: INVALID_ARGUMENT REASON_BAD_DISK_IMAGE.
  absl::Status CheckStrictStructure() const;

  ByteView raw() const { return raw_; }

 private:
  DiskImage() = default;

  ByteView raw_;
  ByteView trailer_;
  ByteView signature_;
  uint64_t signing_limit_ = 0;  // bytes
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_IMAGE_DISK_IMAGE_H_
