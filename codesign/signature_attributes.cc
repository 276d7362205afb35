#include "codesign/signature_attributes.h"

#include <sys/xattr.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "codesign/bundle/bundle.h"
#include "codesign/signature_folder.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

constexpr std::string_view kPrefix = "user.com.apple.cs.";
constexpr size_t kMaxAttributeSize = 65536;      // XATTR_SIZE_MAX
constexpr size_t kMaxAttributeListSize = 65536;  // XATTR_LIST_MAX

std::string AttributeName(uint32_t slot) {
  return std::string(kPrefix) + DetachedFileName(slot);
}

std::optional<Bytes> GetAttribute(int fd, const std::string& name) {
  Bytes value(kMaxAttributeSize);
  const ssize_t size = fgetxattr(fd, name.c_str(), value.data(), value.size());
  if (size < 0) return std::nullopt;
  value.resize(static_cast<size_t>(size));
  return value;
}

absl::Status SetAttribute(int fd, const std::string& name, ByteView value,
                          const std::string& path) {
  if (fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) == 0) {
    return absl::OkStatus();
  }
  const int error = errno;
  const bool is_full = error == ENOSPC || error == E2BIG || error == ERANGE;
  return WithSubject(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_WRITE,
                v1::REASON_NO_EXTENDED_ATTRIBUTES,
                is_full ? absl::StrFormat("the file system has no room for an "
                                          "extended attribute of %d bytes (%s)",
                                          value.size(), name)
                        : absl::StrFormat("the extended attribute %s cannot be "
                                          "written: %s",
                                          name, std::strerror(error))),
      path);
}

std::vector<std::string> ListAttributes(int fd) {
  std::string list(kMaxAttributeListSize, '\0');
  const ssize_t size = flistxattr(fd, list.data(), list.size());
  if (size <= 0) return {};
  list.resize(static_cast<size_t>(size));
  std::vector<std::string> names;
  for (size_t begin = 0; begin < list.size();) {
    const size_t end = std::min(list.find('\0', begin), list.size());
    names.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

// A copy with all attributes but the signature's.
absl::StatusOr<StagedFile> CopyUnsigned(const MappedFile& file,
                                        const std::string& path) {
  ASSIGN_OR_RETURN(StagedFile copy, StagedFile::Create(path, file.mode()));
  RETURN_IF_ERROR(copy.CopyFrom(file.fd(), 0, file.bytes().size(), 0));
  for (const std::string& name : ListAttributes(file.fd())) {
    if (name.starts_with(kPrefix)) continue;
    const std::optional<Bytes> value = GetAttribute(file.fd(), name);
    if (!value.has_value()) continue;
    const absl::Status status =
        SetAttribute(copy.fd(), name, *value, file.path());
    // Those of the system are for the system to set.
    if (!status.ok() && name.starts_with("user.")) return status;
  }
  return copy;
}

bool HasSignature(int fd) {
  for (const std::string& name : ListAttributes(fd)) {
    if (name.starts_with(kPrefix)) return true;
  }
  return false;
}

class AttributeStore : public SignatureStore {
 public:
  explicit AttributeStore(MappedFile file) : file_(std::move(file)) {
    absl::StatusOr<Bytes> stored = ReadSignatureAttributes(file_);
    if (stored.ok()) stored_ = *std::move(stored);
    // What is no signature is there all the same: it takes -f to replace it.
    if (stored_.empty() && HasSignature(file_.fd())) {
      stored_ = BuildSuperBlob(kEmbeddedSignatureMagic, {});
    }
  }

  ByteView Stored() const override { return stored_; }

  absl::Status Stage(const SignatureParts& signature,
                     const TargetPath& target_path,
                     std::vector<StagedFile>& staged) const override {
    const std::string path = target_path(file_.path());
    ASSIGN_OR_RETURN(StagedFile copy, CopyUnsigned(file_, path));
    for (const auto& [slot, blob] : signature.blobs) {
      RETURN_IF_ERROR(
          SetAttribute(copy.fd(), AttributeName(slot), blob, file_.path()));
    }
    // Alone of all it is stored without a header.
    RETURN_IF_ERROR(SetAttribute(copy.fd(), AttributeName(kCmsSlot),
                                 signature.cms, file_.path()));
    staged.push_back(std::move(copy));
    return absl::OkStatus();
  }

 private:
  const MappedFile file_;
  Bytes stored_;
};

}  // namespace

absl::StatusOr<Bytes> ReadSignatureAttributes(const MappedFile& file) {
  std::map<uint32_t, Bytes> blobs;
  for (const uint32_t slot : SeparateSlots()) {
    std::optional<Bytes> value = GetAttribute(file.fd(), AttributeName(slot));
    if (!value.has_value()) continue;
    if (slot == kCmsSlot) {
      blobs[slot] = WrapBlob(kBlobWrapperMagic, *value);
      continue;
    }
    BigEndianReader in(*value);
    in.U32();  // magic
    const uint32_t size = in.U32();
    if (!in.ok() || size != value->size()) {
      return WithSubject(
          MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PARSE,
                    v1::REASON_MALFORMED_SIGNATURE,
                    "the extended attribute " + AttributeName(slot) +
                        " does not hold one whole blob"),
          file.path());
    }
    blobs[slot] = *std::move(value);
  }
  if (!blobs.contains(kCodeDirectorySlot)) return Bytes();
  return BuildSuperBlob(kEmbeddedSignatureMagic, blobs);
}

absl::StatusOr<std::unique_ptr<SignatureStore>> OpenSignatureAttributes(
    const std::string& path) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  return std::make_unique<AttributeStore>(std::move(file));
}

absl::Status StripSignatureAttributes(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (!HasSignature(file.fd())) {
    return WithSubject(
        MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                  v1::REASON_NOT_SIGNED, path + " is not signed"),
        path);
  }
  ASSIGN_OR_RETURN(StagedFile copy, CopyUnsigned(file, path));
  return copy.Commit();
}

}  // namespace codeseal
