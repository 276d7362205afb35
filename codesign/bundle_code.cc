#include "codesign/bundle_code.h"

#include <map>
#include <utility>
#include <vector>

#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

// Slots whose blobs are files of their own. CodeResources is the seal's.
std::vector<uint32_t> DetachedSlots() {
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
  return slots;
}

absl::Status StageFile(const std::string& path, ByteView content,
                       std::vector<StagedFile>& staged) {
  ASSIGN_OR_RETURN(StagedFile file, StagedFile::Create(path, 0644));
  RETURN_IF_ERROR(file.Write(content, 0));
  staged.push_back(std::move(file));
  return absl::OkStatus();
}

class DetachedFiles : public SignatureStore {
 public:
  explicit DetachedFiles(std::string folder)
      : folder_(std::move(folder)), stored_(LoadDetachedSignature(folder_)) {}

  ByteView Stored() const override { return stored_; }

  absl::Status Stage(const SignatureParts& signature,
                     const TargetPath& target_path,
                     std::vector<StagedFile>& staged) const override {
    for (const auto& [slot, blob] : signature.blobs) {
      RETURN_IF_ERROR(StageFile(
          target_path(folder_ + "/" + DetachedFileName(slot)), blob, staged));
    }
    // Alone of all it is stored without a header.
    return StageFile(target_path(folder_ + "/" + DetachedFileName(kCmsSlot)),
                     signature.cms, staged);
  }

 private:
  const std::string folder_;
  const Bytes stored_;
};

}  // namespace

Bytes LoadDetachedSignature(const std::string& signature_folder) {
  std::map<uint32_t, Bytes> blobs;
  const auto load = [&](uint32_t slot) -> std::optional<Bytes> {
    const auto file =
        MappedFile::Open(signature_folder + "/" + DetachedFileName(slot));
    if (!file.ok()) return std::nullopt;
    return ToBytes(file->bytes());
  };
  for (const uint32_t slot : DetachedSlots()) {
    if (auto blob = load(slot)) blobs[slot] = *std::move(blob);
  }
  if (!blobs.contains(kCodeDirectorySlot)) return {};
  if (const auto cms = load(kCmsSlot)) {
    blobs[kCmsSlot] = WrapBlob(kBlobWrapperMagic, *cms);
  }
  return BuildSuperBlob(kEmbeddedSignatureMagic, blobs);
}

absl::StatusOr<std::unique_ptr<CodeObject>> OpenBundleCode(
    const Bundle& bundle) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(bundle.main_file()));
  if (LooksLikeMachO(file.bytes())) return OpenMachO(std::move(file));
  return MakePlainCode(std::move(file), std::make_unique<DetachedFiles>(
                                            bundle.SignatureFolder()));
}

}  // namespace codeseal
