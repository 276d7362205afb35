#include "codesign/image/disk_image_code.h"

#include <utility>

#include "codesign/base/error.h"
#include "codesign/image/disk_image.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

class DiskImageCode : public CodeObject {
 public:
  // `image` borrows from `file`; `store` may be null.
  DiskImageCode(MappedFile file, DiskImage image,
                std::unique_ptr<SignatureStore> store)
      : file_(std::move(file)),
        image_(std::move(image)),
        store_(std::move(store)),
        layout_(SliceLayout::Unchanged(file_.bytes(), image_.signing_limit())) {
  }

  const MappedFile& file() const override { return file_; }
  std::string Format() const override { return "disk image"; }
  Bytes Identification(CpuType) const override {
    return image_.Identification();
  }
  std::map<uint32_t, Bytes> SealedContent() const override {
    return {{kRepSpecificSlot, image_.BlindedTrailer()}};
  }
  absl::Status CheckStrictStructure() const override {
    return WithSubject(image_.CheckStrictStructure(), path());
  }
  ByteView StoredSignature(size_t) const override {
    return store_ == nullptr ? image_.signature() : store_->Stored();
  }

  absl::Status Reserve(std::span<const uint64_t>,
                       const SigningOptions&) override {
    return absl::OkStatus();  // The trailer moves as far as it must.
  }
  const SliceLayout& Layout(size_t) const override { return layout_; }

  absl::Status Stage(std::span<const SignatureParts> signatures,
                     const TargetPath& target_path,
                     std::vector<StagedFile>& staged) const override {
    const SignatureParts& parts = signatures.front();
    if (store_ != nullptr) return store_->Stage(parts, target_path, staged);
    const uint64_t limit = image_.signing_limit();
    const uint64_t size = parts.SuperBlobSize();
    ASSIGN_OR_RETURN(StagedFile output,
                     StagedFile::Create(target_path(path()), file_.mode()));
    RETURN_IF_ERROR(output.CopyFrom(file_.fd(), 0, limit, 0));
    RETURN_IF_ERROR(WriteSuperBlob(parts, limit, output));
    RETURN_IF_ERROR(output.Write(image_.Trailer(size), limit + size));
    staged.push_back(std::move(output));
    return absl::OkStatus();
  }

 private:
  MappedFile file_;
  DiskImage image_;
  std::unique_ptr<SignatureStore> store_;
  SliceLayout layout_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CodeObject>> OpenDiskImage(
    MappedFile file, std::unique_ptr<SignatureStore> store) {
  absl::StatusOr<DiskImage> image = DiskImage::Parse(file.bytes());
  if (!image.ok()) return WithSubject(image.status(), file.path());
  // Moving a MappedFile leaves its bytes where they are.
  return std::make_unique<DiskImageCode>(std::move(file), *std::move(image),
                                         std::move(store));
}

absl::Status StripDiskImage(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  const absl::StatusOr<DiskImage> image = DiskImage::Parse(file.bytes());
  if (!image.ok()) return WithSubject(image.status(), path);
  if (image->signature().empty()) {
    return WithSubject(
        MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                  v1::REASON_NOT_SIGNED, path + " is not signed"),
        path);
  }
  ASSIGN_OR_RETURN(StagedFile staged, StagedFile::Create(path, file.mode()));
  RETURN_IF_ERROR(staged.CopyFrom(file.fd(), 0, image->signing_limit(), 0));
  RETURN_IF_ERROR(staged.Write(image->Trailer(0), image->signing_limit()));
  return staged.Commit();
}

}  // namespace codeseal
