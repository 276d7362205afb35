#include "codesign/bundle_code.h"

#include <string>
#include <utility>
#include <vector>

#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/signature_folder.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

absl::Status StageFile(const std::string& path, ByteView content,
                       std::vector<StagedFile>& staged) {
  ASSIGN_OR_RETURN(StagedFile file, StagedFile::Create(path, 0644));
  RETURN_IF_ERROR(file.Write(content, 0));
  staged.push_back(std::move(file));
  return absl::OkStatus();
}

class DetachedFiles : public SignatureStore {
 public:
  explicit DetachedFiles(std::string folder) : folder_(std::move(folder)) {
    SignatureFolder stored = ReadSignatureFolder(folder_);
    stored_ = std::move(stored.signature);
    // What is no signature is there all the same: it takes -f to replace it.
    if (!stored.status.ok()) {
      stored_ = BuildSuperBlob(kEmbeddedSignatureMagic, {});
    }
  }

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
  Bytes stored_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CodeObject>> OpenBundleCode(
    const Bundle& bundle) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(bundle.main_file()));
  if (LooksLikeMachO(file.bytes())) return OpenMachO(std::move(file));
  return MakePlainCode(std::move(file), std::make_unique<DetachedFiles>(
                                            bundle.SignatureFolder()));
}

}  // namespace codeseal
