#include "codesign/signature_archive.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/staged_file.h"
#include "codesign/base/utf8.h"
#include "codesign/bundle/property_list.h"
#include "codesign/code_object.h"
#include "codesign/embedded_signature.h"
#include "codesign/macho/universal_file.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;

constexpr char kArchiveFormat[] = "codeseal signatures";
constexpr int64_t kArchiveVersion = 1;
constexpr char kSignatureFolder[] = "_CodeSignature";
constexpr int64_t kMaxSignatureSize = int64_t{1} << 30;  // bytes

absl::Status BadArchive(const char* rule, std::string_view message) {
  return WithRule(MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PARSE,
                            v1::REASON_BAD_DETACHED_SIGNATURE, message),
                  rule);
}

absl::Status Modified(const std::string& path, std::string_view message) {
  return WithSubject(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                v1::REASON_CODE_MODIFIED, message),
      path);
}

// ---- Detach

bool IsInSignatureFolder(const fs::path& relative) {
  return relative.parent_path().filename() == kSignatureFolder;
}

// Up to the last byte that is not zero, but the whole SuperBlob: CMS may end in
// zeros.
ByteView WithoutPadding(ByteView stored, const EmbeddedSignature& signature) {
  const size_t least = signature.super_blob().raw().size();
  while (stored.size() > least && stored.back() == 0) {
    stored = stored.first(stored.size() - 1);
  }
  return stored;
}

bool LooksLikeMachO(ByteView bytes) {
  static constexpr std::array<std::array<uint8_t, 4>, 5> kMagics = {{
      {0xca, 0xfe, 0xba, 0xbe},
      {0xce, 0xfa, 0xed, 0xfe},
      {0xcf, 0xfa, 0xed, 0xfe},
      {0xfe, 0xed, 0xfa, 0xce},
      {0xfe, 0xed, 0xfa, 0xcf},
  }};
  return bytes.size() >= 4 &&
         std::ranges::any_of(kMagics, [&](const auto& magic) {
           return std::ranges::equal(magic, bytes.first(4));
         });
}

absl::StatusOr<PlistDict> DescribeFile(const fs::path& relative,
                                       ByteView content) {
  if (!IsUtf8(relative.native())) {
    return WithSubject(
        MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                  v1::REASON_RESOURCE_NAME_NOT_UTF8,
                  "the file's name is not UTF-8"),
        relative.native());
  }
  PlistDict entry;
  entry["path"].value = relative.generic_string();
  entry["sha256"].value = ComputeDigest(DigestKind::kSha256, content);
  return entry;
}

// nullopt for a Mach-O without a signature of its own.
absl::StatusOr<std::optional<PlistDict>> DescribeMachO(
    MappedFile file, const fs::path& relative) {
  ASSIGN_OR_RETURN(const std::unique_ptr<CodeObject> code,
                   OpenMachO(std::move(file)));
  if (!IsSigned(*code)) return std::nullopt;
  PlistArray slices;
  for (size_t i = 0; i < code->slice_count(); ++i) {
    const ByteView stored = code->StoredSignature(i);
    const auto signature = EmbeddedSignature::Parse(stored);
    if (!signature.ok()) {
      return WithSubject(signature.status(), SliceSubject(*code, i));
    }
    PlistDict slice;
    slice["architecture"].value = ArchitectureName(*code, i);
    slice["size"].value = static_cast<int64_t>(stored.size());
    slice["signature"].value = ToBytes(WithoutPadding(stored, *signature));
    slices.push_back({std::move(slice)});
  }
  ASSIGN_OR_RETURN(PlistDict entry,
                   DescribeFile(relative, code->file().bytes()));
  entry["slices"].value = std::move(slices);
  return entry;
}

absl::StatusOr<std::optional<PlistDict>> Describe(const std::string& path,
                                                  const fs::path& relative) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  if (IsInSignatureFolder(relative)) {
    ASSIGN_OR_RETURN(PlistDict entry, DescribeFile(relative, file.bytes()));
    entry["content"].value = ToBytes(file.bytes());
    return entry;
  }
  if (!relative.empty() && !LooksLikeMachO(file.bytes())) return std::nullopt;
  return DescribeMachO(std::move(file), relative);
}

// Every regular file below `folder`, relative to it.
absl::StatusOr<std::vector<fs::path>> ListFiles(const std::string& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end;
       !error && entry != end; entry.increment(error)) {
    if (entry->symlink_status(error).type() == fs::file_type::regular) {
      files.push_back(entry->path().lexically_relative(folder));
    }
  }
  if (error) return FileError(error.value(), v1::STAGE_PLAN, "read", folder);
  std::ranges::sort(files, {},
                    [](const fs::path& each) { return each.generic_string(); });
  return files;
}

// ---- Attach

struct ArchivedSlice {
  std::string architecture;
  uint64_t size = 0;
  Bytes signature;
};

struct ArchivedFile {
  std::string path;  // relative; empty for a single file
  Bytes sha256;
  std::vector<ArchivedSlice> slices;  // of a Mach-O, else:
  std::optional<Bytes> content;
};

// SA-3: a path must stay below the folder.
bool IsPlainPath(const std::string& path) {
  const fs::path parsed(path);
  return parsed.is_relative() && path.find('\0') == std::string::npos &&
         parsed.lexically_normal().native() == path &&
         std::ranges::none_of(parsed, [](const fs::path& part) {
           return part.empty() || part == "." || part == "..";
         });
}

absl::StatusOr<ArchivedSlice> ReadSlice(const PlistValue& value) {
  const auto* const dict = value.As<PlistDict>();
  const auto* const architecture =
      dict == nullptr ? nullptr
                      : FindInDict<std::string>(*dict, "architecture");
  const auto* const size =
      dict == nullptr ? nullptr : FindInDict<int64_t>(*dict, "size");
  const auto* const signature =
      dict == nullptr ? nullptr : FindInDict<Bytes>(*dict, "signature");
  if (architecture == nullptr || size == nullptr || signature == nullptr) {
    return BadArchive("SA-2", "a slice lacks architecture, size or signature");
  }
  if (*size < 0 || *size > kMaxSignatureSize ||
      static_cast<uint64_t>(*size) < signature->size()) {
    return BadArchive("SA-4", absl::StrFormat("the place of a signature of %d "
                                              "bytes has %d",
                                              signature->size(), *size));
  }
  return ArchivedSlice{*architecture, static_cast<uint64_t>(*size), *signature};
}

absl::StatusOr<ArchivedFile> ReadFile(const PlistValue& value) {
  const auto* const dict = value.As<PlistDict>();
  const auto* const path =
      dict == nullptr ? nullptr : FindInDict<std::string>(*dict, "path");
  const auto* const sha256 =
      dict == nullptr ? nullptr : FindInDict<Bytes>(*dict, "sha256");
  if (path == nullptr || sha256 == nullptr || sha256->size() != 32) {
    return BadArchive("SA-2", "a file lacks path or sha256");
  }
  if (!path->empty() && !IsPlainPath(*path)) {
    return BadArchive("SA-3", "the path " + *path + " leaves the folder");
  }
  ArchivedFile file{*path, *sha256, {}, std::nullopt};
  const auto* const slices = FindInDict<PlistArray>(*dict, "slices");
  const auto* const content = FindInDict<Bytes>(*dict, "content");
  if ((slices == nullptr) == (content == nullptr)) {
    return BadArchive("SA-2", "a file has either slices or content");
  }
  if (content != nullptr) {
    if (!IsInSignatureFolder(*path)) {  // nothing but signatures
      return BadArchive("SA-5", *path + " is not in a _CodeSignature folder");
    }
    if (ComputeDigest(DigestKind::kSha256, *content) != *sha256) {
      return BadArchive("SA-7", *path + " does not have its own sha256");
    }
    file.content = *content;
    return file;
  }
  for (const PlistValue& each : *slices) {
    ASSIGN_OR_RETURN(ArchivedSlice slice, ReadSlice(each));
    file.slices.push_back(std::move(slice));
  }
  return file;
}

absl::StatusOr<std::vector<ArchivedFile>> ReadArchive(ByteView archive) {
  const absl::StatusOr<PlistDict> dict = ParsePlistDict(archive);
  const std::string* const format =
      dict.ok() ? FindInDict<std::string>(*dict, "format") : nullptr;
  if (format == nullptr || *format != kArchiveFormat) {
    return BadArchive("SA-1", "it is not a file that `codeseal detach` wrote");
  }
  const auto* const version = FindInDict<int64_t>(*dict, "version");
  const auto* const files = FindInDict<PlistArray>(*dict, "files");
  if (version == nullptr || *version != kArchiveVersion) {
    return BadArchive("SA-1", "it was written by a newer version");
  }
  if (files == nullptr || files->empty()) {
    return BadArchive("SA-2", "it holds no signature");
  }
  std::vector<ArchivedFile> read;
  for (const PlistValue& each : *files) {
    ASSIGN_OR_RETURN(ArchivedFile file, ReadFile(each));
    read.push_back(std::move(file));
  }
  return read;
}

// SA-6: no part of the path is a symbolic link that could lead elsewhere.
absl::Status CheckNoSymlink(const std::string& root,
                            const std::string& relative) {
  fs::path path(root);
  for (const fs::path& part : fs::path(relative)) {
    path /= part;
    std::error_code error;
    if (fs::is_symlink(path, error)) {
      return WithRule(
          Modified(path.string(), "there is a symbolic link in its place"),
          "SA-6");
    }
  }
  return absl::OkStatus();
}

// The staged file as the archive knows it, or an error.
absl::Status CheckResult(const StagedFile& staged, const ArchivedFile& file,
                         const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile result,
                   MappedFile::Open(staged.staged_path()));
  if (ComputeDigest(DigestKind::kSha256, result.bytes()) == file.sha256) {
    return absl::OkStatus();
  }
  return Modified(path, "it is not the code that was signed");
}

// Writes each archived signature, and zeros behind it, over its whole place:
// what an older signature left there is not part of what was detached.
absl::Status FillPlaces(const ArchivedFile& file, StagedFile& staged) {
  ASSIGN_OR_RETURN(const MappedFile result,
                   MappedFile::Open(staged.staged_path()));
  ASSIGN_OR_RETURN(const UniversalFile universal,
                   UniversalFile::Parse(result.bytes()));
  for (size_t i = 0; i < file.slices.size(); ++i) {
    const UniversalFile::Slice& slice = universal.slices()[i];
    Bytes content = file.slices[i].signature;
    content.resize(slice.mach_o.Signature().size());
    RETURN_IF_ERROR(
        staged.Write(content, slice.offset + slice.mach_o.SigningLimit()));
  }
  return absl::OkStatus();
}

absl::StatusOr<StagedFile> StageMachO(const ArchivedFile& file,
                                      const std::string& path,
                                      CodesignGeneration generation) {
  ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const std::unique_ptr<CodeObject> code,
                   OpenMachO(std::move(mapped)));
  bool same_slices = code->slice_count() == file.slices.size();
  std::vector<uint64_t> sizes;
  std::vector<SignatureParts> parts;
  for (size_t i = 0; same_slices && i < file.slices.size(); ++i) {
    const ArchivedSlice& slice = file.slices[i];
    same_slices = ArchitectureName(*code, i) == slice.architecture;
    const absl::StatusOr<EmbeddedSignature> signature =
        EmbeddedSignature::Parse(slice.signature);
    if (!signature.ok()) return WithSubject(signature.status(), path);
    SignatureParts part;
    for (const SuperBlob::Entry& entry : signature->super_blob().entries()) {
      if (entry.slot != kCmsSlot) part.blobs[entry.slot] = entry.blob;
    }
    part.cms = signature->cms();
    sizes.push_back(slice.size);
    parts.push_back(std::move(part));
  }
  if (!same_slices) {
    return Modified(path, "it has other slices than the code that was signed");
  }
  SigningOptions options;
  options.generation = generation;
  RETURN_IF_ERROR(code->Reserve(sizes, options));
  std::vector<StagedFile> staged;
  RETURN_IF_ERROR(code->Stage(
      parts, [](const std::string& target) { return target; }, staged));
  RETURN_IF_ERROR(FillPlaces(file, staged.front()));
  RETURN_IF_ERROR(CheckResult(staged.front(), file, path));
  return std::move(staged.front());
}

// Where a signature's place begins depends on the codesign that made it.
absl::StatusOr<StagedFile> StageAnyMachO(const ArchivedFile& file,
                                         const std::string& path) {
  absl::StatusOr<StagedFile> staged =
      StageMachO(file, path, CodesignGeneration::kMacOs26);
  if (staged.ok() || GetReason(staged.status()) != v1::REASON_CODE_MODIFIED) {
    return staged;
  }
  absl::StatusOr<StagedFile> old =
      StageMachO(file, path, CodesignGeneration::kBeforeMacOs12);
  return old.ok() ? std::move(old) : std::move(staged);
}

absl::StatusOr<StagedFile> StageContent(const ArchivedFile& file,
                                        const std::string& path) {
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  if (error) return FileError(error.value(), v1::STAGE_WRITE, "make", path);
  ASSIGN_OR_RETURN(StagedFile staged, StagedFile::Create(path, 0644));
  RETURN_IF_ERROR(staged.Write(*file.content, 0));
  return staged;
}

}  // namespace

absl::StatusOr<std::string> DetachSignatures(const std::string& path) {
  std::error_code error;
  std::vector<fs::path> files = {""};
  if (fs::is_directory(path, error)) {
    ASSIGN_OR_RETURN(files, ListFiles(path));
  }
  PlistArray entries;
  for (const fs::path& relative : files) {
    const std::string each =
        relative.empty() ? path : (fs::path(path) / relative).string();
    ASSIGN_OR_RETURN(std::optional<PlistDict> entry, Describe(each, relative));
    if (entry.has_value()) entries.push_back({*std::move(entry)});
  }
  if (entries.empty()) {
    return WithSubject(
        MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                  v1::REASON_NOT_SIGNED, "there is no signature to detach"),
        path);
  }
  PlistDict archive;
  archive["format"].value = std::string(kArchiveFormat);
  archive["version"].value = kArchiveVersion;
  archive["files"].value = std::move(entries);
  return BuildXmlPlist(archive);
}

absl::StatusOr<size_t> AttachSignatures(ByteView archive,
                                        const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<ArchivedFile> files, ReadArchive(archive));
  std::error_code error;
  const bool is_folder = fs::is_directory(path, error);
  for (const ArchivedFile& file : files) {
    if (file.path.empty() == is_folder) {
      return Modified(path, is_folder ? "the signature is that of a single file"
                                      : "the signatures are those of a folder");
    }
    RETURN_IF_ERROR(CheckNoSymlink(path, file.path));
  }
  // Folders are made once nothing is left to be refused.
  std::vector<StagedFile> all;
  for (const bool is_content : {false, true}) {
    for (const ArchivedFile& file : files) {
      if (file.content.has_value() != is_content) continue;
      const std::string each =
          is_folder ? (fs::path(path) / file.path).string() : path;
      absl::StatusOr<StagedFile> staged =
          is_content ? StageContent(file, each) : StageAnyMachO(file, each);
      if (!staged.ok()) return WithSubject(staged.status(), each);
      all.push_back(*std::move(staged));
    }
  }
  const size_t count = all.size();
  RETURN_IF_ERROR(StagedFile::CommitAll(std::move(all)));
  return count;
}

}  // namespace codeseal
