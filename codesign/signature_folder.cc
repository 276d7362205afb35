#include "codesign/signature_folder.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "codesign/bundle/bundle.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

// Their files are what is sealed, not a blob with a header.
constexpr uint32_t kSideSlots[] = {kTopDirectorySlot, kRepSpecificSlot};

// The blob's own length is the whole file, so that nothing hides behind it.
absl::Status CheckFillsFile(ByteView file, const std::string& path) {
  BigEndianReader in(file);
  in.U32();  // magic
  const uint32_t size = in.U32();
  if (in.ok() && size == file.size()) return absl::OkStatus();
  return WithSubject(
      MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PARSE,
                v1::REASON_MALFORMED_SIGNATURE,
                "the file of the signature does not hold one whole blob"),
      path);
}

}  // namespace

std::vector<uint32_t> SeparateSlots() {
  std::vector<uint32_t> slots = {kCodeDirectorySlot, kRequirementsSlot,
                                 kEntitlementsSlot, kEntitlementsDerSlot};
  for (uint32_t slot = kLaunchConstraintSelfSlot;
       slot <= kLibraryConstraintSlot; ++slot) {
    slots.push_back(slot);
  }
  for (uint32_t slot = kAlternateCodeDirectorySlot;
       slot < kAlternateCodeDirectoryEndSlot; ++slot) {
    slots.push_back(slot);
  }
  slots.push_back(kCmsSlot);
  return slots;
}

SignatureFolder ReadSignatureFolder(const std::string& folder) {
  SignatureFolder read;
  std::vector<uint32_t> slots = SeparateSlots();
  slots.insert(slots.end(), std::begin(kSideSlots), std::end(kSideSlots));
  std::sort(slots.begin(), slots.end());
  std::map<uint32_t, Bytes> blobs;
  for (const uint32_t slot : slots) {
    const std::string name = DetachedFileName(slot);
    const std::string path = folder + "/" + name;
    const bool is_side_file =
        std::count(std::begin(kSideSlots), std::end(kSideSlots), slot) != 0;
    absl::StatusOr<MappedFile> file = MappedFile::Open(path);
    if (absl::IsNotFound(file.status())) continue;
    read.status = file.status();
    // Alone of all blobs the CMS has no header there.
    if (read.status.ok() && !is_side_file && slot != kCmsSlot) {
      read.status = CheckFillsFile(file->bytes(), path);
    }
    if (!read.status.ok()) return read;
    read.names.push_back(name);
    if (is_side_file) {
      read.side_files.emplace(slot, *std::move(file));
    } else {
      blobs[slot] = slot == kCmsSlot
                        ? WrapBlob(kBlobWrapperMagic, file->bytes())
                        : ToBytes(file->bytes());
    }
  }
  if (blobs.contains(kCodeDirectorySlot)) {
    read.signature = BuildSuperBlob(kEmbeddedSignatureMagic, blobs);
  }
  return read;
}

}  // namespace codeseal
