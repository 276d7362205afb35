// A disk image: the signature lies between what it covers and the trailer, and
// the trailers that signing writes read back.

#include "codesign/image/disk_image.h"
#include "tests/fuzz/require.h"

namespace codeseal {
namespace {

// The file after its signature was replaced by one of this size.
Bytes WithSignature(const DiskImage& image, size_t size) {
  Bytes file =
      ToBytes(image.raw().first(static_cast<size_t>(image.signing_limit())));
  file.resize(file.size() + size, 0x5a);
  Append(file, image.Trailer(size));
  return file;
}

int Check(ByteView bytes) {
  const absl::StatusOr<DiskImage> image = DiskImage::Parse(bytes);
  if (!image.ok()) return -1;
  Require(DiskImage::IsDiskImage(bytes));
  Require(image->signing_limit() <= bytes.size() - kDiskImageTrailerSize);
  RequireInside(image->signature(), bytes);
  Require(image->BlindedTrailer().size() == kDiskImageTrailerSize);
  (void)image->CheckStrictStructure();
  for (const size_t size : {size_t{0}, size_t{1}, size_t{100}}) {
    // An image without any data has no byte that a trailer could point to.
    if (image->signing_limit() == 0) continue;
    const Bytes file = WithSignature(*image, size);
    const absl::StatusOr<DiskImage> again = DiskImage::Parse(file);
    Require(again.ok());
    Require(again->signing_limit() == image->signing_limit());
    Require(again->signature().size() == size);
    Require(again->CheckStrictStructure().ok());
    Require(size == 0 || again->BlindedTrailer() == image->BlindedTrailer());
  }
  return 0;
}

}  // namespace
}  // namespace codeseal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return codeseal::Check({data, size});
}
