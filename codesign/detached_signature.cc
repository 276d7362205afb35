#include "codesign/detached_signature.h"

#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/image/disk_image.h"
#include "codesign/image/disk_image_code.h"
#include "codesign/macho/universal_file.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

// In the SuperBlob of all slices, the key of what they share; no CPU has this
// type.
constexpr uint32_t kSharedKey = 0;

absl::Status BadDetached(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_VERIFY,
                   v1::REASON_BAD_DETACHED_SIGNATURE, message);
}

absl::Status NotDetached(const absl::Status& status) {
  return BadDetached("it is no detached signature: " +
                     std::string(Message(status)));
}

// That the SuperBlob names the code that it is for.
absl::Status CheckIdentification(const SuperBlob& signature,
                                 ByteView identification) {
  const std::optional<ByteView> blob = signature.Find(kIdentificationSlot);
  const absl::StatusOr<ByteView> stored =
      UnwrapBlob(kBlobWrapperMagic, blob.value_or(ByteView()));
  if (!stored.ok()) {
    return BadDetached("the detached signature does not say what it is for");
  }
  if (!Equal(*stored, identification)) {
    return BadDetached(
        "the detached signature is for another file, or the file was changed");
  }
  return absl::OkStatus();
}

// As MappedFile::Open(), but nullopt when it can't be read: there is no
// signature yet.
std::optional<MappedFile> OpenStored(const std::string& path) {
  absl::StatusOr<MappedFile> stored = MappedFile::Open(path);
  if (!stored.ok()) return std::nullopt;
  return *std::move(stored);
}

uint32_t CpuTypeKey(const MachO& mach_o) {
  return static_cast<uint32_t>(mach_o.architecture().cpu_type);
}

class DetachedStore : public SignatureStore {
 public:
  DetachedStore(const std::string& signature_path, ByteView identification)
      : path_(signature_path),
        identification_(WrapBlob(kBlobWrapperMagic, identification)),
        stored_(OpenStored(path_)) {}

  bool KeepsSeal() const override { return true; }

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
  const std::optional<MappedFile> stored_;
};

// A Mach-O that stays as it is; a signature in it counts for nothing.
class DetachedMachO : public CodeObject {
 public:
  DetachedMachO(MappedFile file, const std::string& signature_path)
      : file_(std::move(file)),
        signature_path_(signature_path),
        stored_(OpenStored(signature_path)) {}

  absl::Status Parse() {
    ASSIGN_OR_RETURN(universal_, UniversalFile::Parse(file_.bytes()));
    std::set<uint32_t> keys;
    for (const UniversalFile::Slice& slice : universal_->slices()) {
      const MachO& mach_o = slice.mach_o;
      layouts_.push_back(SliceLayout::Unchanged(mach_o, mach_o.SigningLimit()));
      if (keys.insert(CpuTypeKey(mach_o)).second) continue;
      return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PLAN,
                       v1::REASON_BAD_OPTION,
                       "a detached signature has one place for each CPU type, "
                       "and more than one slice has that of " +
                           mach_o.architecture().Name() +
                           "; sign this file in place");
    }
    return absl::OkStatus();
  }

  const MappedFile& file() const override { return file_; }
  const UniversalFile* universal() const override { return &*universal_; }
  std::string Format() const override { return universal_->Format(); }
  Bytes Identification(CpuType host_cpu) const override {
    return universal_->NativeSlice(host_cpu).mach_o.Identification();
  }
  absl::Status CheckStrictStructure() const override {
    return WithSubject(universal_->CheckStrictStructure(), path());
  }

  bool KeepsSeal() const override { return true; }
  ByteView StoredSignature(size_t slice) const override {
    if (!stored_.has_value()) return {};
    const auto found = FindDetached(stored_->bytes(), MachOOf(slice));
    // What is for other code, or no signature at all, still is in the way.
    return found.ok() ? *found : stored_->bytes();
  }

  absl::Status Reserve(std::span<const uint64_t>,
                       const SigningOptions&) override {
    return absl::OkStatus();  // The file takes any size.
  }
  const SliceLayout& Layout(size_t slice) const override {
    return layouts_[slice];
  }

  absl::Status Stage(std::span<const SignatureParts> signatures,
                     const TargetPath& /*target_path*/,
                     std::vector<StagedFile>& staged) const override {
    std::map<uint32_t, Bytes> identifications;
    std::map<uint32_t, SignatureParts> parts;
    std::map<uint32_t, size_t> sizes;
    std::map<uint32_t, Bytes> shared_blobs;
    for (size_t i = 0; i < signatures.size(); ++i) {
      const uint32_t key = CpuTypeKey(MachOOf(i));
      Bytes& identification = identifications[key];
      identification = WrapBlob(kBlobWrapperMagic, MachOOf(i).Identification());
      parts[key] = signatures[i];
      parts[key].blobs[kIdentificationSlot] = identification;
      if (const auto seal = parts[key].blobs.extract(kCodeResourcesSlot)) {
        shared_blobs[kCodeResourcesSlot] = ToBytes(seal.mapped());
      }
      sizes[key] = static_cast<size_t>(parts[key].SuperBlobSize());
    }
    const Bytes shared = BuildSuperBlob(kEmbeddedSignatureMagic, shared_blobs);
    sizes[kSharedKey] = shared.size();
    ASSIGN_OR_RETURN(StagedFile file,
                     StagedFile::Create(signature_path_, 0644));
    const Bytes index = BuildSuperBlobIndex(kDetachedSignatureMagic, sizes);
    RETURN_IF_ERROR(file.Write(index, 0));
    RETURN_IF_ERROR(file.Write(shared, index.size()));
    uint64_t offset = index.size() + shared.size();
    for (const auto& [key, each] : parts) {
      RETURN_IF_ERROR(WriteSuperBlob(each, offset, file));
      offset += sizes[key];
    }
    staged.push_back(std::move(file));
    return absl::OkStatus();
  }

 private:
  const MachO& MachOOf(size_t slice) const {
    return universal_->slices()[slice].mach_o;
  }

  const MappedFile file_;
  const std::string signature_path_;
  const std::optional<MappedFile> stored_;
  std::optional<UniversalFile> universal_;  // borrows from `file_`
  std::vector<SliceLayout> layouts_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CodeObject>> OpenDetached(
    MappedFile file, bool in_bundle, const std::string& signature_path) {
  const ByteView bytes = file.bytes();
  if (LooksLikeMachO(bytes)) {
    auto code =
        std::make_unique<DetachedMachO>(std::move(file), signature_path);
    if (const absl::Status status = code->Parse(); !status.ok()) {
      return WithSubject(status, code->path());
    }
    return code;
  }
  if (!in_bundle && DiskImage::IsDiskImage(bytes)) {
    const absl::StatusOr<DiskImage> image = DiskImage::Parse(bytes);
    if (!image.ok()) return WithSubject(image.status(), file.path());
    return OpenDiskImage(std::move(file),
                         std::make_unique<DetachedStore>(
                             signature_path, image->Identification()));
  }
  auto store = std::make_unique<DetachedStore>(
      signature_path, ComputeDigest(DigestKind::kSha1, bytes));
  return MakePlainCode(std::move(file), std::move(store));
}

absl::Status CheckDetached(ByteView signature, ByteView identification) {
  const absl::StatusOr<SuperBlob> parsed =
      SuperBlob::Parse(signature, kEmbeddedSignatureMagic);
  if (!parsed.ok()) return NotDetached(parsed.status());
  return CheckIdentification(*parsed, identification);
}

absl::StatusOr<ByteView> FindDetached(ByteView signature, const MachO& mach_o) {
  const absl::StatusOr<SuperBlob> all =
      SuperBlob::Parse(signature, kDetachedSignatureMagic);
  if (!all.ok()) return NotDetached(all.status());
  const std::optional<ByteView> found = all->Find(CpuTypeKey(mach_o));
  if (!found.has_value()) {
    return BadDetached("the detached signature has nothing for " +
                       mach_o.architecture().Name());
  }
  const absl::StatusOr<SuperBlob> slice =
      SuperBlob::Parse(*found, kEmbeddedSignatureMagic);
  if (!slice.ok()) return NotDetached(slice.status());
  RETURN_IF_ERROR(CheckIdentification(*slice, mach_o.Identification()));
  return *found;
}

std::optional<ByteView> FindDetachedSeal(ByteView signature) {
  const absl::StatusOr<SuperBlob> all =
      SuperBlob::Parse(signature, kDetachedSignatureMagic);
  const absl::StatusOr<SuperBlob> sealing = SuperBlob::Parse(
      all.ok() ? all->Find(kSharedKey).value_or(ByteView()) : signature,
      kEmbeddedSignatureMagic);
  if (!sealing.ok()) return std::nullopt;
  const std::optional<ByteView> blob = sealing->Find(kCodeResourcesSlot);
  if (!blob.has_value()) return std::nullopt;
  const absl::StatusOr<ByteView> seal = UnwrapBlob(kBlobWrapperMagic, *blob);
  if (!seal.ok()) return std::nullopt;
  return *seal;
}

}  // namespace codeseal
