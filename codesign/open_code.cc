#include "codesign/open_code.h"

#include <utility>

#include "codesign/base/error.h"
#include "codesign/image/disk_image.h"
#include "codesign/image/disk_image_code.h"
#include "codesign/signature_attributes.h"

namespace codeseal {

absl::StatusOr<std::unique_ptr<CodeObject>> OpenCode(MappedFile file) {
  if (file.bytes().empty()) {
    // Nobody means to sign that: a build went wrong.
    return WithSubject(ParseError(v1::REASON_TRUNCATED, 0, "the file is empty"),
                       file.path());
  }
  if (DiskImage::IsDiskImage(file.bytes())) {
    return OpenDiskImage(std::move(file));
  }
  if (LooksLikeMachO(file.bytes())) return OpenMachO(std::move(file));
  ASSIGN_OR_RETURN(std::unique_ptr<SignatureStore> store,
                   OpenSignatureAttributes(file.path()));
  return MakePlainCode(std::move(file), std::move(store));
}

}  // namespace codeseal
