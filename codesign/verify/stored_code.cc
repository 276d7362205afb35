#include "codesign/verify/stored_code.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <system_error>
#include <utility>

#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/detached_signature.h"
#include "codesign/signature_attributes.h"
#include "codesign/signature_folder.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

// What Apple's tools take for code; MH_OBJECT is a file like any other.
bool IsCode(MachOFileType type) {
  switch (type) {
    case MachOFileType::kExecute:
    case MachOFileType::kPreload:
    case MachOFileType::kDylib:
    case MachOFileType::kDylinker:
    case MachOFileType::kBundle:
    case MachOFileType::kKextBundle:
      return true;
    case MachOFileType::kObject:
      return false;
  }
  return false;
}

bool IsDirectory(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

}  // namespace

absl::StatusOr<StoredCode> StoredCode::Open(const std::string& path,
                                            std::string_view version) {
  std::string folder = path;
  if (!IsDirectory(path)) {
    const std::optional<std::string> found = FindBundleOfExecutable(path);
    if (!found.has_value()) {
      ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
      StoredCode code(path, std::move(file));
      RETURN_IF_ERROR(code.ReadMainFile());
      return code;
    }
    folder = *found;
  }
  ASSIGN_OR_RETURN(Bundle bundle, Bundle::Open(folder, version));
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(bundle.main_file()));
  StoredCode code(path, std::move(file));
  code.bundle_ = std::move(bundle);
  RETURN_IF_ERROR(code.ReadSideFiles());
  RETURN_IF_ERROR(code.ReadMainFile());
  return code;
}

absl::Status StoredCode::ReadMainFile() {
  const ByteView bytes = main_file_.bytes();
  if (LooksLikeMachO(bytes)) {
    absl::StatusOr<UniversalFile> universal = UniversalFile::Parse(bytes);
    if (universal.ok() &&
        IsCode(universal->slices().front().mach_o.file_type())) {
      universal_ = *std::move(universal);
    } else if (!universal.ok() &&
               GetReason(universal.status()) != v1::REASON_NOT_MACH_O) {
      return WithSubject(universal.status(), main_file_.path());
    }
    // Static libraries and object files are files like any other.
  }
  if (universal_.has_value()) {
    for (const size_t index : universal_->AppleOrder()) {
      const UniversalFile::Slice& slice = universal_->slices()[index];
      CodePart& part = parts_.emplace_back();
      part.architecture = slice.mach_o.architecture().Name();
      part.offset = slice.offset;
      part.code = slice.mach_o.raw().first(
          static_cast<size_t>(slice.mach_o.SigningLimit()));
      part.signature = slice.mach_o.Signature();
      part.mach_o = &slice.mach_o;
    }
    return absl::OkStatus();
  }
  if (!bundle_.has_value() && DiskImage::IsDiskImage(bytes)) {
    return ReadDiskImage();
  }
  CodePart& part = parts_.emplace_back();
  part.code = bytes;
  if (bundle_.has_value()) {
    ReadSignatureFolder(part);
    return absl::OkStatus();
  }
  absl::StatusOr<Bytes> signature = ReadSignatureAttributes(main_file_);
  part.signature_status = signature.status();
  if (signature.ok()) {
    assembled_signature_ = *std::move(signature);
    part.signature = assembled_signature_;
  }
  return absl::OkStatus();
}

absl::Status StoredCode::UseDetached(ByteView signature) {
  is_detached_ = true;
  assembled_signature_ = ToBytes(signature);
  for (CodePart& part : parts_) {
    part.signature = assembled_signature_;
    part.signature_status = absl::OkStatus();
    if (part.mach_o != nullptr) {
      ASSIGN_OR_RETURN(part.signature,
                       FindDetached(assembled_signature_, *part.mach_o));
      continue;
    }
    RETURN_IF_ERROR(CheckDetached(
        assembled_signature_,
        disk_image_.has_value() ? disk_image_->Identification()
                                : ComputeDigest(DigestKind::kSha1, part.code)));
  }
  if (bundle_.has_value()) {
    detached_seal_ = FindDetachedSeal(assembled_signature_);
  }
  return absl::OkStatus();
}

absl::Status StoredCode::ReadDiskImage() {
  const absl::StatusOr<DiskImage> image = DiskImage::Parse(main_file_.bytes());
  if (!image.ok()) return WithSubject(image.status(), main_file_.path());
  disk_image_ = *image;
  disk_image_trailer_ = image->BlindedTrailer();
  CodePart& part = parts_.emplace_back();
  part.code =
      main_file_.bytes().first(static_cast<size_t>(image->signing_limit()));
  part.signature = image->signature();
  return absl::OkStatus();
}

absl::Status StoredCode::ReadSideFiles() {
  if (bundle_->info_plist_path().has_value()) {
    ASSIGN_OR_RETURN(MappedFile file,
                     MappedFile::Open(*bundle_->info_plist_path()));
    side_files_.emplace(kInfoPlistSlot, std::move(file));
  }
  absl::StatusOr<MappedFile> seal =
      MappedFile::Open(bundle_->CodeResourcesPath());
  if (seal.ok()) {
    side_files_.emplace(kCodeResourcesSlot, *std::move(seal));
    signature_files_.push_back(DetachedFileName(kCodeResourcesSlot));
  } else if (!absl::IsNotFound(seal.status())) {
    return seal.status();
  }
  return absl::OkStatus();
}

void StoredCode::ReadSignatureFolder(CodePart& part) {
  SignatureFolder folder =
      codeseal::ReadSignatureFolder(bundle_->SignatureFolder());
  signature_files_.insert(signature_files_.end(), folder.names.begin(),
                          folder.names.end());
  side_files_.merge(folder.side_files);
  part.signature_status = folder.status;
  assembled_signature_ = std::move(folder.signature);
  part.signature = assembled_signature_;
}

const CodePart& StoredCode::NativePart() const {
  if (!universal_.has_value()) return parts_.front();
  const UniversalFile::Slice& native = universal_->NativeSlice(CpuType::kArm64);
  return *std::find_if(parts_.begin(), parts_.end(), [&](const CodePart& part) {
    return part.mach_o == &native.mach_o;
  });
}

std::string StoredCode::Format() const {
  const std::string of_file = universal_.has_value()    ? universal_->Format()
                              : disk_image_.has_value() ? "disk image"
                                                        : "generic";
  if (!bundle_.has_value()) return of_file;
  return bundle_->main_file_kind() == MainFileKind::kExecutable
             ? bundle_->FormatPrefix() + of_file
             : bundle_->FormatPrefix();
}

std::optional<ByteView> StoredCode::SideFile(const CodePart& part,
                                             uint32_t slot) const {
  if (slot == kCodeResourcesSlot && detached_seal_.has_value()) {
    return detached_seal_;
  }
  const auto file = side_files_.find(slot);
  if (file != side_files_.end()) return file->second.bytes();
  if (slot == kRepSpecificSlot && disk_image_.has_value()) {
    return disk_image_trailer_;
  }
  // A bundle's Info.plist takes the place of the executable's own.
  if (slot == kInfoPlistSlot && !bundle_.has_value() &&
      part.mach_o != nullptr) {
    return part.mach_o->info_plist();
  }
  return std::nullopt;
}

std::vector<std::string> StoredCode::ModifiedFiles() const {
  std::vector<std::string> files = {main_file_.path()};
  for (const std::string& name : signature_files_) {
    files.push_back(bundle_->SignatureFolder() + "/" + name);
  }
  for (std::string& file : files) {
    std::error_code error;
    const std::filesystem::path canonical =
        std::filesystem::canonical(file, error);
    if (!error) file = canonical.string();
  }
  return files;
}

std::string StoredCode::Subject(const CodePart& part) const {
  const std::string& path = main_file_.path();
  return part.architecture.empty() ? path
                                   : path + " (" + part.architecture + ")";
}

// A bundle's ticket is a file where old bundles had a link to their seal.
bool StoredCode::HasTicket() const {
  if (bundle_.has_value()) {
    const absl::StatusOr<MappedFile> file =
        MappedFile::Open(bundle_->resource_base() + "/CodeResources");
    return file.ok() && AsText(file->bytes()).starts_with("s8ch");
  }
  return std::any_of(parts_.begin(), parts_.end(), [](const CodePart& part) {
    const absl::StatusOr<SuperBlob> signature =
        SuperBlob::Parse(part.signature, kEmbeddedSignatureMagic);
    return signature.ok() && signature->Find(kTicketSlot).has_value();
  });
}

absl::Status StoredCode::CheckStrictStructure() const {
  if (universal_.has_value()) return universal_->CheckStrictStructure();
  if (disk_image_.has_value()) return disk_image_->CheckStrictStructure();
  return absl::OkStatus();
}

std::optional<uint64_t> StoredCode::FileOffset(ByteView bytes) const {
  const ByteView file = main_file_.bytes();
  const std::less<const uint8_t*> before;
  if (bytes.data() == nullptr || before(bytes.data(), file.data()) ||
      !before(bytes.data(), file.data() + file.size())) {
    return std::nullopt;
  }
  return static_cast<uint64_t>(bytes.data() - file.data());
}

}  // namespace codeseal
