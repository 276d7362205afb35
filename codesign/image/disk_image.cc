#include "codesign/image/disk_image.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_format.h"
#include "codesign/base/digest.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"

namespace codeseal {
namespace {

constexpr std::string_view kDiskImageMagic = "koly";
constexpr uint32_t kDiskImageVersion = 4;
constexpr size_t kCodeSignOffsetField = 296;  // bytes into the trailer
constexpr size_t kCodeSignLengthField = 304;  // bytes into the trailer

// Encrypted images begin with the first, or (version 1) end with the second.
constexpr std::string_view kEncryptedMagic = "encrcdsa";
constexpr std::string_view kEncryptedTrailerMagic = "cdsaencr";

constexpr std::string_view kAppleText =
    "disk image format unrecognized, invalid, or unsuitable";

absl::Status BadDiskImage(std::string_view rule, uint64_t byte_offset,
                          const std::string& message) {
  return WithRule(ParseError(v1::REASON_BAD_DISK_IMAGE, byte_offset,
                             std::string(kAppleText) + ": " + message),
                  rule);
}

absl::Status Unsupported(std::string_view rule, const std::string& message) {
  return WithRule(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                v1::REASON_UNSUPPORTED_DISK_IMAGE, message),
      rule);
}

bool IsEncrypted(ByteView file) {
  const std::string_view text = AsText(file);
  return text.starts_with(kEncryptedMagic) ||
         text.ends_with(kEncryptedTrailerMagic);
}

bool HasTrailer(ByteView file) {
  return file.size() >= kDiskImageTrailerSize &&
         AsText(file.last(kDiskImageTrailerSize)).starts_with(kDiskImageMagic);
}

}  // namespace

bool DiskImage::IsDiskImage(ByteView file) {
  return HasTrailer(file) || IsEncrypted(file);
}

absl::StatusOr<DiskImage> DiskImage::Parse(ByteView file) {
  if (!HasTrailer(file)) {
    if (IsEncrypted(file)) {  // DI-1
      return Unsupported("DI-1", "the disk image is encrypted");
    }
    return BadDiskImage("DI-2", 0,
                        "there is no UDIF trailer at the file's end");  // DI-2
  }
  DiskImage image;
  image.raw_ = file;
  image.trailer_ = file.last(kDiskImageTrailerSize);
  const uint64_t trailer_offset = file.size() - kDiskImageTrailerSize;

  // Layout, in wire order.
  BigEndianReader in(image.trailer_);
  in.Skip(4);  // magic
  const uint32_t version = in.U32();
  const uint32_t header_size = in.U32();
  in.U32();  // flags
  in.U64();  // runningDataForkOffset
  const uint64_t data_offset = in.U64();
  const uint64_t data_size = in.U64();
  const uint64_t resource_offset = in.U64();
  const uint64_t resource_size = in.U64();
  const uint32_t segment_number = in.U32();
  const uint32_t segment_count = in.U32();
  in.Skip(16);   // segmentID
  in.Skip(136);  // dataChecksum: type, size, 128 bytes
  const uint64_t plist_offset = in.U64();
  const uint64_t plist_size = in.U64();
  in.Skip(64);  // reserved
  const uint64_t signature_offset = in.U64();
  const uint64_t signature_size = in.U64();

  if (version != kDiskImageVersion) {  // DI-3
    return BadDiskImage("DI-3", trailer_offset + 4,
                        absl::StrFormat("the trailer has version %d, want %d",
                                        version, kDiskImageVersion));
  }
  if (header_size != kDiskImageTrailerSize) {  // DI-4
    return BadDiskImage(
        "DI-4", trailer_offset + 8,
        absl::StrFormat("the trailer calls itself %d bytes long, want "
                        "%d",
                        header_size, kDiskImageTrailerSize));
  }
  if (segment_number > 1 || segment_count > 1) {  // DI-5
    return Unsupported(
        "DI-5", absl::StrFormat("this is part %d of %d of a disk image in "
                                "several files",
                                segment_number, segment_count));
  }

  // Without a signature, everything before the trailer is data.
  image.signing_limit_ = trailer_offset;
  if (signature_offset != 0) {
    if (signature_offset > trailer_offset ||
        signature_size > trailer_offset - signature_offset) {  // DI-6
      return BadDiskImage(
          "DI-6", trailer_offset + kCodeSignOffsetField,
          absl::StrFormat("a signature of %d bytes at byte %d does not "
                          "fit before the trailer at byte %d",
                          signature_size, signature_offset, trailer_offset));
    }
    image.signing_limit_ = signature_offset;
    image.signature_ = file.subspan(signature_offset, signature_size);
  } else if (signature_size != 0) {  // DI-7
    return BadDiskImage(
        "DI-7", trailer_offset + kCodeSignLengthField,
        absl::StrFormat("there is a signature of %d bytes, but not "
                        "where",
                        signature_size));
  }

  // Nothing that makes up the image may lie outside what a signature covers.
  struct Range {
    std::string_view name;
    size_t field_offset;
    uint64_t offset;
    uint64_t size;
  };
  for (const Range& range :
       {Range{"data fork", 24, data_offset, data_size},
        Range{"resource fork", 40, resource_offset, resource_size},
        Range{"property list", 216, plist_offset, plist_size}}) {
    if (range.size == 0) continue;
    if (range.offset > image.signing_limit_ ||
        range.size > image.signing_limit_ - range.offset) {  // DI-8
      return BadDiskImage(
          "DI-8", trailer_offset + range.field_offset,
          absl::StrFormat("the %s of %d bytes at byte %d does not end "
                          "before byte %d",
                          std::string(range.name), range.size, range.offset,
                          image.signing_limit_));
    }
  }
  if (plist_size == 0 && resource_size == 0) {  // DI-9
    return BadDiskImage(
        "DI-9", trailer_offset + 224,
        "the image has neither property list nor resource fork");
  }
  return image;
}

Bytes DiskImage::BlindedTrailer() const {
  Bytes trailer = ToBytes(trailer_);
  StoreU64(trailer, kCodeSignOffsetField, signing_limit_, ByteOrder::kBig);
  StoreU64(trailer, kCodeSignLengthField, 0, ByteOrder::kBig);
  return trailer;
}

Bytes DiskImage::Trailer(uint64_t signature_size) const {
  Bytes trailer = ToBytes(trailer_);
  StoreU64(trailer, kCodeSignOffsetField,
           signature_size == 0 ? 0 : signing_limit_, ByteOrder::kBig);
  StoreU64(trailer, kCodeSignLengthField, signature_size, ByteOrder::kBig);
  return trailer;
}

Bytes DiskImage::Identification() const {
  Bytes trailer = ToBytes(trailer_);
  StoreU64(trailer, kCodeSignLengthField, 0, ByteOrder::kBig);
  return ComputeDigest(DigestKind::kSha1, trailer);
}

absl::Status DiskImage::CheckStrictStructure() const {
  const uint64_t trailer_offset = raw_.size() - kDiskImageTrailerSize;
  const uint64_t room = trailer_offset - signing_limit_;
  if (signature_.size() == room) return absl::OkStatus();
  return BadDiskImage(
      "DI-10", signing_limit_ + signature_.size(),  // DI-10
      absl::StrFormat("%d bytes lie between the signature and the "
                      "trailer",
                      room - signature_.size()));
}

}  // namespace codeseal
