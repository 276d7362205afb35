// A disk image as code that can be signed.
//
//   path -> DiskImage -> [CodeObject] -> SigningPlan -> signed image
//
// Spec: Security, diskimagerep.cpp, DiskImageRep and its Writer.

#ifndef CODESEAL_CODESIGN_IMAGE_DISK_IMAGE_CODE_H_
#define CODESEAL_CODESIGN_IMAGE_DISK_IMAGE_CODE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/mapped_file.h"
#include "codesign/code_object.h"

namespace codeseal {

// The signature goes between the image's data and its trailer, which is written
// anew; a signature that is there is replaced whole. With a store it goes
// there, and the image stays as it is. Errors: those of DiskImage::Parse(),
// with the path as subject.
absl::StatusOr<std::unique_ptr<CodeObject>> OpenDiskImage(
    MappedFile file, std::unique_ptr<SignatureStore> store = nullptr);

// Errors: those; FAILED_PRECONDITION REASON_NOT_SIGNED; the file faults of
// StagedFile.
absl::Status StripDiskImage(const std::string& path);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_IMAGE_DISK_IMAGE_CODE_H_
