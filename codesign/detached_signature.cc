#include "codesign/detached_signature.h"

#include <optional>
#include <utility>

#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/image/disk_image.h"
#include "codesign/macho/universal_file.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

// What tells a file of no known format from others: SHA-1 of all of it.
Bytes Identification(ByteView file) {
  return ComputeDigest(DigestKind::kSha1, file);
}

class DetachedStore : public SignatureStore {
 public:
  DetachedStore(const std::string& signature_path, ByteView file)
      : path_(signature_path),
        identification_(WrapBlob(kBlobWrapperMagic, Identification(file))) {
    absl::StatusOr<MappedFile> stored = MappedFile::Open(path_);
    if (stored.ok()) stored_ = *std::move(stored);
  }

  ByteView Stored() const override {
    return stored_.has_value() ? stored_->bytes() : ByteView();
  }

  absl::Status Stage(const SignatureParts& signature,
                     const TargetPath& /*target_path*/,
                     std::vector<StagedFile>& staged) const override {
    SignatureParts parts = signature;
    parts.blobs[kIdentificationSlot] = identification_;
    ASSIGN_OR_RETURN(StagedFile file, StagedFile::Create(path_, 0644));
    RETURN_IF_ERROR(WriteSuperBlob(parts, 0, file));
    staged.push_back(std::move(file));
    return absl::OkStatus();
  }

 private:
  const std::string path_;
  const Bytes identification_;  // blob
  std::optional<MappedFile> stored_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CodeObject>> OpenDetached(
    MappedFile file, const std::string& signature_path) {
  const ByteView bytes = file.bytes();
  if (LooksLikeMachO(bytes) || DiskImage::IsDiskImage(bytes)) {
    return WithSubject(
        MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PLAN,
                  v1::REASON_BAD_OPTION,
                  "--detached is for files that have no room for a signature; "
                  "sign this one in place, and take the signature out with "
                  "`codeseal detach`"),
        file.path());
  }
  auto store = std::make_unique<DetachedStore>(signature_path, bytes);
  return MakePlainCode(std::move(file), std::move(store));
}

absl::Status CheckDetached(ByteView signature, ByteView file) {
  const auto bad = [](const std::string& message) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_VERIFY,
                     v1::REASON_BAD_DETACHED_SIGNATURE, message);
  };
  const absl::StatusOr<SuperBlob> parsed =
      SuperBlob::Parse(signature, kEmbeddedSignatureMagic);
  if (!parsed.ok()) {
    return bad("it is no detached signature: " +
               std::string(Message(parsed.status())));
  }
  const std::optional<ByteView> blob = parsed->Find(kIdentificationSlot);
  const absl::StatusOr<ByteView> identification =
      UnwrapBlob(kBlobWrapperMagic, blob.value_or(ByteView()));
  if (!identification.ok()) {
    return bad("the detached signature does not say what it is for");
  }
  if (!Equal(*identification, Identification(file))) {
    return bad(
        "the detached signature is for another file, or the file was "
        "changed");
  }
  return absl::OkStatus();
}

}  // namespace codeseal
