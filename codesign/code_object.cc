#include "codesign/code_object.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/host_requirement.h"
#include "codesign/requirement/default_designated.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

// The page that codesign_allocate rounded __LINKEDIT to.
uint64_t LinkeditAlignment(const MachO& mach_o, CodesignGeneration generation) {
  if (generation != CodesignGeneration::kBeforeMacOs12) {
    return kLinkeditAlignment;
  }
  switch (mach_o.architecture().cpu_type) {
    case CpuType::kArm64:
    case CpuType::kArm64_32:
      return 16384;
    case CpuType::kArm:
    case CpuType::kI386:
    case CpuType::kX86_64:
    case CpuType::kPpc:
    case CpuType::kPpc64:
      break;
  }
  return 4096;
}

// How universal files are aligned, as LayOutFile() takes it: codesign_allocate
// went by the page of each CPU.
std::vector<uint32_t> SliceAlignments(const UniversalFile& universal,
                                      CodesignGeneration generation) {
  std::vector<uint32_t> align_log2;
  if (generation != CodesignGeneration::kBeforeMacOs12) return align_log2;
  for (const UniversalFile::Slice& slice : universal.slices()) {
    align_log2.push_back(
        LinkeditAlignment(slice.mach_o, generation) == 16384 ? 14 : 12);
  }
  return align_log2;
}

// The path as subject; a fault inside one slice has its architecture already.
absl::Status WithPath(const absl::Status& status, const std::string& path) {
  std::optional<ErrorDetail> detail = GetErrorDetail(status);
  if (!detail.has_value() || detail->subject().empty()) {
    return WithSubject(status, path);
  }
  detail->set_subject(path + " (" + detail->subject() + ")");
  return WithErrorDetail(status, *detail);
}

class MachOCode : public CodeObject {
 public:
  explicit MachOCode(MappedFile file) : file_(std::move(file)) {}

  absl::Status Parse() {
    absl::StatusOr<UniversalFile> universal =
        UniversalFile::Parse(file_.bytes());
    if (!universal.ok()) return WithPath(universal.status(), path());
    universal_ = *std::move(universal);
    return absl::OkStatus();
  }

  const MappedFile& file() const override { return file_; }
  const UniversalFile* universal() const override { return &*universal_; }
  std::string Format() const override { return universal_->Format(); }

  Bytes Identification(CpuType host_cpu) const override {
    return universal_->NativeSlice(host_cpu).mach_o.Identification();
  }

  absl::Status CheckStrictStructure() const override {
    const absl::Status strict = universal_->CheckStrictStructure();
    return strict.ok() ? strict : WithPath(strict, path());
  }

  bool HasSignature(size_t slice) const override {
    return universal_->slices()[slice].mach_o.signature_command().has_value();
  }
  ByteView StoredSignature(size_t slice) const override {
    return universal_->slices()[slice].mach_o.Signature();
  }

  absl::Status Reserve(std::span<const uint64_t> sizes,
                       const SigningOptions& options) override {
    std::vector<SliceLayout> layouts;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const MachO& mach_o = universal_->slices()[i].mach_o;
      absl::StatusOr<SliceLayout> layout = ReserveSignature(
          mach_o, sizes[i], LinkeditAlignment(mach_o, options.generation));
      if (!layout.ok()) {
        return WithSubject(layout.status(), SliceSubject(*this, i));
      }
      layouts.push_back(*std::move(layout));
    }
    absl::StatusOr<FileLayout> layout =
        LayOutFile(*universal_, std::move(layouts),
                   SliceAlignments(*universal_, options.generation));
    if (!layout.ok()) return WithSubject(layout.status(), path());
    layout_ = *std::move(layout);
    return absl::OkStatus();
  }

  const SliceLayout& Layout(size_t slice) const override {
    return layout_.slices[slice].layout;
  }

  absl::Status Stage(std::span<const SignatureParts> signatures,
                     const TargetPath& target_path,
                     std::vector<StagedFile>& staged) const override {
    ASSIGN_OR_RETURN(StagedFile output,
                     StagedFile::Create(target_path(path()), file_.mode()));
    RETURN_IF_ERROR(WriteLayout(layout_, file_.fd(), output));
    for (size_t i = 0; i < signatures.size(); ++i) {
      RETURN_IF_ERROR(WriteSignature(i, signatures[i], output));
    }
    staged.push_back(std::move(output));
    return absl::OkStatus();
  }

 private:
  absl::Status WriteSignature(size_t index, const SignatureParts& parts,
                              StagedFile& output) const {
    const FileLayout::Slice& place = layout_.slices[index];
    const uint64_t size = parts.SuperBlobSize();
    const uint64_t room = place.layout.signature_size();
    if (size > room) {
      return WithSubject(
          MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                    v1::REASON_SIGNATURE_TOO_LARGE,
                    absl::StrFormat("the signature has %d bytes, %d more than "
                                    "were reserved for it",
                                    size, size - room)),
          SliceSubject(*this, index));
    }
    const uint64_t start = place.offset + place.layout.signature_offset();
    RETURN_IF_ERROR(WriteSuperBlob(parts, start, output));

    // What a longer signature leaves behind it.
    const UniversalFile::Slice& original = universal_->slices()[index];
    const uint64_t left_end = std::min<uint64_t>(
        original.mach_o.Signature().size(), place.layout.signature_size());
    if (left_end <= size) return absl::OkStatus();
    return output.CopyFrom(
        file_.fd(), original.offset + original.mach_o.SigningLimit() + size,
        left_end - size, start + size);
  }

  MappedFile file_;
  std::optional<UniversalFile> universal_;  // borrows from `file_`
  FileLayout layout_;
};

class PlainCode : public CodeObject {
 public:
  PlainCode(MappedFile file, std::unique_ptr<SignatureStore> store)
      : file_(std::move(file)),
        store_(std::move(store)),
        layout_(SliceLayout::Unchanged(file_.bytes(), file_.bytes().size())) {}

  const MappedFile& file() const override { return file_; }
  std::string Format() const override { return "generic"; }
  RequirementSet DefaultRequirements() const override {
    return HostRequirement(file_.bytes());
  }
  bool KeepsSeal() const override { return store_->KeepsSeal(); }
  ByteView StoredSignature(size_t) const override { return store_->Stored(); }

  absl::Status Reserve(std::span<const uint64_t>,
                       const SigningOptions&) override {
    return absl::OkStatus();  // The store takes any size.
  }
  const SliceLayout& Layout(size_t) const override { return layout_; }

  absl::Status Stage(std::span<const SignatureParts> signatures,
                     const TargetPath& target_path,
                     std::vector<StagedFile>& staged) const override {
    return store_->Stage(signatures.front(), target_path, staged);
  }

 private:
  MappedFile file_;
  std::unique_ptr<SignatureStore> store_;
  SliceLayout layout_;
};

std::map<uint32_t, size_t> BlobSizes(const SignatureParts& parts) {
  std::map<uint32_t, size_t> sizes;
  for (const auto& [slot, blob] : parts.blobs) sizes[slot] = blob.size();
  sizes[kCmsSlot] = kBlobHeaderSize + parts.cms.size();
  return sizes;
}

}  // namespace

uint64_t SignatureParts::SuperBlobSize() const {
  const std::map<uint32_t, size_t> sizes = BlobSizes(*this);
  uint64_t size = BuildSuperBlobIndex(kEmbeddedSignatureMagic, sizes).size();
  for (const auto& [slot, blob_size] : sizes) size += blob_size;
  return size;
}

absl::Status WriteSuperBlob(const SignatureParts& parts, uint64_t offset,
                            StagedFile& file) {
  const Bytes index =
      BuildSuperBlobIndex(kEmbeddedSignatureMagic, BlobSizes(parts));
  const Bytes cms_blob = WrapBlob(kBlobWrapperMagic, parts.cms);
  std::map<uint32_t, ByteView> blobs = parts.blobs;
  blobs[kCmsSlot] = cms_blob;
  RETURN_IF_ERROR(file.Write(index, offset));
  offset += index.size();
  for (const auto& [slot, blob] : blobs) {
    RETURN_IF_ERROR(file.Write(blob, offset));
    offset += blob.size();
  }
  return absl::OkStatus();
}

size_t CodeObject::slice_count() const {
  return universal() == nullptr ? 1 : universal()->slices().size();
}

Bytes CodeObject::Identification(CpuType) const {
  return ComputeDigest(DigestKind::kSha1, file().bytes());
}

absl::StatusOr<std::unique_ptr<CodeObject>> OpenMachO(MappedFile file) {
  auto code = std::make_unique<MachOCode>(std::move(file));
  RETURN_IF_ERROR(code->Parse());
  return code;
}

std::unique_ptr<CodeObject> MakePlainCode(
    MappedFile file, std::unique_ptr<SignatureStore> store) {
  return std::make_unique<PlainCode>(std::move(file), std::move(store));
}

std::optional<EmbeddedSignature> ReadOldSignature(const CodeObject& code,
                                                  size_t slice) {
  absl::StatusOr<EmbeddedSignature> old =
      EmbeddedSignature::Parse(code.StoredSignature(slice));
  if (!old.ok() || old->is_linker_signed()) return std::nullopt;
  return *std::move(old);
}

bool IsSigned(const CodeObject& code) {
  for (size_t i = 0; i < code.slice_count(); ++i) {
    if (!code.HasSignature(i)) continue;
    const auto old = EmbeddedSignature::Parse(code.StoredSignature(i));
    if (!old.ok() || !old->is_linker_signed()) return true;
  }
  return false;
}

size_t NativeSliceIndex(const CodeObject& code, CpuType host_cpu) {
  const UniversalFile* universal = code.universal();
  if (universal == nullptr) return 0;
  return static_cast<size_t>(&universal->NativeSlice(host_cpu) -
                             universal->slices().data());
}

std::string DesignatedRequirementText(const std::optional<Bytes>& designated,
                                      std::span<const CdHash> cdhashes) {
  std::optional<RequirementExpression> expression;
  if (designated.has_value()) {
    auto parsed = ParseRequirement(*designated);
    if (parsed.ok()) expression = *std::move(parsed);
  } else {
    expression = BuildImplicitDesignated(cdhashes);
  }
  return expression.has_value() ? DumpRequirement(*expression) : "";
}

// Spec: Security, StaticCode.cpp, designatedRequirement and
//       defaultDesignatedRequirement.
absl::StatusOr<CodeIdentity> ReadIdentity(const CodeObject& code,
                                          CpuType host_cpu) {
  const size_t native = NativeSliceIndex(code, host_cpu);
  if (code.StoredSignature(native).empty()) {
    return WithSubject(
        MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                  v1::REASON_NOT_SIGNED, code.path() + " is not signed"),
        code.path());
  }
  absl::StatusOr<EmbeddedSignature> signature =
      EmbeddedSignature::Parse(code.StoredSignature(native));
  if (!signature.ok()) {
    return WithSubject(signature.status(), SliceSubject(code, native));
  }
  CodeIdentity identity;
  identity.cdhash = signature->best().cdhash();
  std::optional<Bytes> designated;
  if (const auto blob = signature->Find(kRequirementsSlot)) {
    ASSIGN_OR_RETURN(RequirementSet set, ParseRequirementSet(*blob));
    const auto it = set.find(kDesignatedRequirement);
    if (it != set.end()) designated = std::move(it->second);
  }
  if (!designated.has_value() && !signature->is_ad_hoc()) {
    const absl::StatusOr<CmsSignature> cms = ParseAppleCms(signature->cms());
    if (!cms.ok()) return WithSubject(cms.status(), code.path());
    ASSIGN_OR_RETURN(const std::vector<Certificate> chain,
                     BuildChain(cms->signer, cms->certificates));
    const auto expression =
        BuildDefaultDesignated(signature->primary().identifier(), chain);
    if (expression.has_value()) designated = BuildRequirement(*expression);
  }
  std::vector<CdHash> cdhashes;
  const auto add = [&](const EmbeddedSignature& each) {
    for (const CodeDirectory& directory : each.code_directories()) {
      cdhashes.push_back(directory.cdhash());
    }
  };
  add(*signature);
  for (size_t i = 0; i < code.slice_count(); ++i) {
    if (i == native) continue;
    const auto other = EmbeddedSignature::Parse(code.StoredSignature(i));
    if (other.ok()) add(*other);
  }
  identity.designated_requirement =
      DesignatedRequirementText(designated, cdhashes);
  return identity;
}

std::string ArchitectureName(const CodeObject& code, size_t slice) {
  const UniversalFile* universal = code.universal();
  if (universal == nullptr) return "";
  return universal->slices()[slice].mach_o.architecture().Name();
}

std::string SliceSubject(const CodeObject& code, size_t slice) {
  if (code.universal() == nullptr) return code.path();
  return code.path() + " (" +
         code.universal()->slices()[slice].architecture.Name() + ")";
}

}  // namespace codeseal
