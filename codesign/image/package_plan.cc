#include "codesign/image/package_plan.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_format.h"
#include "codesign/base/error.h"
#include "codesign/cms/digest_signature.h"
#include "codesign/image/flat_package.h"
#include "codesign/image/package_info.h"

namespace codeseal {

// A new table of contents and what goes before and behind it.
struct NewPackageTable {
  Bytes header;
  Bytes stored;
  uint64_t size = 0;  // inflated, bytes
  DigestKind checksum_kind = DigestKind::kSha1;
  Bytes checksum;
};

namespace {

// Room for the CMS: the certificates, the rest of the message, a token of a
// timestamp authority; in whole units. A package that productsign signed with
// three certificates of 3732 bytes has 9216 bytes, as this comes to; Apple's
// own formula is not known.
constexpr uint64_t kCmsRestSize = 1024;
constexpr uint64_t kTimestampSize = 4096;
constexpr uint64_t kCmsUnit = 1024;

absl::Status PlanError(Reason reason, const std::string& message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                   reason, message);
}

uint64_t ReservedCmsSize(std::span<const Certificate> chain) {
  uint64_t size = kCmsRestSize + kTimestampSize;
  for (const Certificate& each : chain) size += each.der().size();
  return (size + kCmsUnit - 1) / kCmsUnit * kCmsUnit;
}

// What tells whether a file was changed after it had been read.
bool HasChanged(const MappedFile& file, const struct stat& before) {
  struct stat now = {};
  return fstat(file.fd(), &now) != 0 || now.st_size != before.st_size ||
         now.st_mtim.tv_sec != before.st_mtim.tv_sec ||
         now.st_mtim.tv_nsec != before.st_mtim.tv_nsec;
}

NewPackageTable MakeTable(const FlatPackage& package, DigestKind kind,
                          std::span<const NewPackageSignature> signatures) {
  NewPackageTable table;
  const std::string xml = package.table().WithSignatures(
      kind, signatures, package.content_offset());
  table.size = xml.size();
  table.stored = Deflate(AsBytes(xml));
  table.checksum_kind = kind;
  table.checksum = ComputeDigest(kind, table.stored);
  table.header = BuildPackageHeader(kind, table.stored.size(), table.size);
  return table;
}

// Header, table, checksum, signatures of `reserved_size` bytes in all, content.
absl::StatusOr<StagedFile> WritePackage(const MappedFile& file,
                                        const FlatPackage& package,
                                        const NewPackageTable& table,
                                        std::span<const ByteView> signatures,
                                        uint64_t reserved_size,
                                        const std::string& path) {
  ASSIGN_OR_RETURN(StagedFile staged, StagedFile::Create(path, file.mode()));
  uint64_t offset = 0;
  const auto write = [&](ByteView bytes) {
    const absl::Status status = staged.Write(bytes, offset);
    offset += bytes.size();
    return status;
  };
  RETURN_IF_ERROR(write(table.header));
  RETURN_IF_ERROR(write(table.stored));
  RETURN_IF_ERROR(write(table.checksum));
  const uint64_t content_offset = offset + reserved_size;
  for (const ByteView signature : signatures) {
    RETURN_IF_ERROR(write(signature));
  }
  const ByteView content = package.content();
  // What is not written in between is zero.
  RETURN_IF_ERROR(staged.Resize(content_offset + content.size()));
  RETURN_IF_ERROR(staged.CopyFrom(
      file.fd(), static_cast<uint64_t>(content.data() - file.bytes().data()),
      content.size(), content_offset));
  return staged;
}

}  // namespace

struct PackagePlan::Impl {
  explicit Impl(MappedFile mapped) : file(std::move(mapped)) {}

  absl::Status Plan(const PackageSigningOptions& options,
                    std::span<const Certificate> chain);
  absl::Status ReadMembers();

  MappedFile file;
  struct stat state = {};
  std::optional<FlatPackage> package;  // borrows from `file`
  std::vector<PackageMember> members;
  std::vector<std::string> identifiers;
  NewPackageTable table;
  uint64_t rsa_size = 0;  // bytes of the heap
  uint64_t cms_size = 0;  // bytes of the heap
};

absl::Status PackagePlan::Impl::ReadMembers() {
  for (const PackageFile& each : package->table().files()) {
    if (!each.content.has_value() || !DescribesPackage(each.path)) continue;
    const ByteView stored = package->At(each.content->place);
    ASSIGN_OR_RETURN(const Bytes xml,
                     UnpackFile(each, stored, kMaxPackageInfoSize));
    ASSIGN_OR_RETURN(const std::vector<std::string> found,
                     ReadPackageIdentifiers(each.path, xml));
    for (const std::string& identifier : found) {
      if (std::find(identifiers.begin(), identifiers.end(), identifier) ==
          identifiers.end()) {
        identifiers.push_back(identifier);
      }
    }
    members.push_back({each.path, stored});
  }
  return absl::OkStatus();
}

absl::Status PackagePlan::Impl::Plan(const PackageSigningOptions& options,
                                     std::span<const Certificate> chain) {
  fstat(file.fd(), &state);
  ASSIGN_OR_RETURN(package, FlatPackage::Parse(file.bytes()));
  if (!package->table().signatures().empty() && !options.force) {
    return PlanError(v1::REASON_ALREADY_SIGNED,
                     file.path() + " is already signed");
  }
  RETURN_IF_ERROR(package->CheckChecksum());
  RETURN_IF_ERROR(package->CheckFiles());
  RETURN_IF_ERROR(ReadMembers());

  if (chain.empty()) {
    return PlanError(v1::REASON_BAD_OPTION,
                     "installer packages have no ad-hoc signatures");
  }
  if (!chain.front().IsSuitableForPackageSigning()) {
    return PlanError(v1::REASON_NOT_INSTALLER_CERTIFICATE,
                     "the certificate of " + chain.front().CommonName() +
                         " is not for signing installer packages");
  }
  rsa_size = RsaSignatureSize(chain.front());
  if (rsa_size == 0) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PLAN,
                     v1::REASON_KEY_UNSUPPORTED,
                     "installer packages are signed with RSA keys only");
  }
  const DigestKind kind =
      options.digest.value_or(package->table().checksum_kind());
  if (kind != DigestKind::kSha1 && kind != DigestKind::kSha256) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PLAN,
                     v1::REASON_UNSUPPORTED_DIGEST,
                     "the checksum of a package is SHA-1 or SHA-256");
  }
  cms_size = options.reserved_cms_size.value_or(
      static_cast<uint32_t>(ReservedCmsSize(chain)));
  std::vector<NewPackageSignature> signatures = {
      {PackageSignatureKind::kRsa, rsa_size, {}},
      {PackageSignatureKind::kCms, cms_size, {}}};
  for (NewPackageSignature& each : signatures) {
    for (const Certificate& certificate : chain) {
      each.certificates.push_back(ToBytes(certificate.der()));
    }
  }
  table = MakeTable(*package, kind, signatures);
  return absl::OkStatus();
}

absl::StatusOr<PackagePlan> PackagePlan::Create(
    MappedFile file, const PackageSigningOptions& options,
    std::span<const Certificate> chain) {
  auto impl = std::make_unique<Impl>(std::move(file));
  if (const absl::Status status = impl->Plan(options, chain); !status.ok()) {
    return WithSubject(status, impl->file.path());
  }
  return PackagePlan(std::move(impl));
}

PackagePlan::PackagePlan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PackagePlan::PackagePlan(PackagePlan&&) noexcept = default;
PackagePlan& PackagePlan::operator=(PackagePlan&&) noexcept = default;
PackagePlan::~PackagePlan() = default;

const std::string& PackagePlan::path() const { return impl_->file.path(); }

bool PackagePlan::replaces_signature() const {
  return !impl_->package->table().signatures().empty();
}

const std::vector<std::string>& PackagePlan::identifiers() const {
  return impl_->identifiers;
}

ByteView PackagePlan::stored_table() const { return impl_->table.stored; }

uint64_t PackagePlan::table_size() const { return impl_->table.size; }

std::span<const PackageMember> PackagePlan::members() const {
  return impl_->members;
}

DigestKind PackagePlan::checksum_kind() const {
  return impl_->table.checksum_kind;
}

const Bytes& PackagePlan::checksum() const { return impl_->table.checksum; }

absl::StatusOr<StagedFile> PackagePlan::Stage(const std::string& path,
                                              ByteView rsa,
                                              ByteView cms) const {
  if (rsa.size() != impl_->rsa_size || cms.size() > impl_->cms_size) {
    return WithSubject(
        PlanError(v1::REASON_SIGNATURE_TOO_LARGE,
                  absl::StrFormat("signatures of %d and %d bytes do not fit "
                                  "the %d and %d reserved",
                                  rsa.size(), cms.size(), impl_->rsa_size,
                                  impl_->cms_size)),
        impl_->file.path());
  }
  const ByteView signatures[] = {rsa, cms};
  ASSIGN_OR_RETURN(
      StagedFile staged,
      WritePackage(impl_->file, *impl_->package, impl_->table, signatures,
                   impl_->rsa_size + impl_->cms_size, path));
  if (HasChanged(impl_->file, impl_->state)) {
    return WithSubject(
        MakeError(absl::StatusCode::kAborted, v1::STAGE_WRITE,
                  v1::REASON_FILE_CHANGED,
                  impl_->file.path() + " was changed while it was signed"),
        impl_->file.path());
  }
  return staged;
}

absl::Status StripPackage(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  const absl::StatusOr<FlatPackage> package = FlatPackage::Parse(file.bytes());
  if (!package.ok()) return WithSubject(package.status(), path);
  if (package->table().signatures().empty()) {
    return WithSubject(
        PlanError(v1::REASON_NOT_SIGNED, path + " is not signed"), path);
  }
  const NewPackageTable table =
      MakeTable(*package, package->table().checksum_kind(), {});
  ASSIGN_OR_RETURN(StagedFile staged,
                   WritePackage(file, *package, table, {}, 0, path));
  return staged.Commit();
}

}  // namespace codeseal
