#include "codesign/signing_plan.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "codesign/base/staged_file.h"
#include "codesign/code_directory.h"
#include "codesign/embedded_signature.h"
#include "codesign/entitlements.h"
#include "codesign/info_plist.h"
#include "codesign/macho/layout.h"
#include "codesign/macho/universal_file.h"
#include "codesign/page_hasher.h"
#include "codesign/requirement/default_designated.h"
#include "codesign/requirement/requirement.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

constexpr uint32_t kSmallPage = 4096;
constexpr uint32_t kLargePage = 16384;
constexpr size_t kMaxTeamIdentifierSize = 100;
constexpr size_t kSuperBlobHeaderSize = 12;  // magic, length, count
constexpr size_t kIndexEntrySize = 8;

absl::Status PlanError(v1::Reason reason, const std::string& message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                   reason, message);
}

absl::Status BadOption(v1::Reason reason, const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PLAN, reason,
                   message);
}

// The signature of a slice that is to be replaced; nullopt when there is none,
// when nothing can be read from it, and when the linker made it. Borrows.
std::optional<EmbeddedSignature> ReadOldSignature(const MachO& mach_o) {
  absl::StatusOr<EmbeddedSignature> old =
      EmbeddedSignature::Parse(mach_o.Signature());
  if (!old.ok() || old->is_linker_signed()) return std::nullopt;
  return *std::move(old);
}

// Whether -f is needed: there is a signature, also a broken one, that is not
// the linker's.
bool IsSigned(const MachO& mach_o) {
  if (!mach_o.signature_command().has_value()) return false;
  const auto old = EmbeddedSignature::Parse(mach_o.Signature());
  return !old.ok() || !old->is_linker_signed();
}

// Spec: Security, machorep.cpp, MachORep::pageSize.
uint32_t DefaultPageSize(const MachO& mach_o, CodesignGeneration generation) {
  if (generation != CodesignGeneration::kMacOs26) return kSmallPage;
  const CpuType cpu = mach_o.architecture().cpu_type;
  const bool is_arm64 = cpu == CpuType::kArm64 || cpu == CpuType::kArm64_32;
  const bool is_tv_os = mach_o.version().has_value() &&
                        mach_o.version()->platform == Platform::kTvOs;
  return is_arm64 && !is_tv_os ? kLargePage : kSmallPage;
}

// The page that codesign_allocate rounded __LINKEDIT to.
uint64_t LinkeditAlignment(const MachO& mach_o, CodesignGeneration generation) {
  if (generation != CodesignGeneration::kBeforeMacOs12) {
    return kLinkeditAlignment;
  }
  switch (mach_o.architecture().cpu_type) {
    case CpuType::kArm64:
    case CpuType::kArm64_32:
      return kLargePage;
    case CpuType::kArm:
    case CpuType::kI386:
    case CpuType::kX86_64:
    case CpuType::kPpc:
    case CpuType::kPpc64:
      break;
  }
  return kSmallPage;
}

// How universal files are aligned, as LayOutFile() takes it: codesign_allocate
// went by the page of each CPU.
std::vector<uint32_t> SliceAlignments(const UniversalFile& universal,
                                      CodesignGeneration generation) {
  std::vector<uint32_t> align_log2;
  if (generation != CodesignGeneration::kBeforeMacOs12) return align_log2;
  for (const UniversalFile::Slice& slice : universal.slices()) {
    const uint64_t page = LinkeditAlignment(slice.mach_o, generation);
    align_log2.push_back(page == kLargePage ? 14 : 12);
  }
  return align_log2;
}

// Whether systems that the code runs on may know SHA-1 only.
// Spec: Security, machorep.cpp, MachORep::prepareForSigning, before and in
//       macOS 26.
bool NeedsSha1(const MachO& mach_o, CodesignGeneration generation) {
  const bool is_newest = generation == CodesignGeneration::kMacOs26;
  if (!mach_o.version().has_value()) return !is_newest;
  const uint32_t minimum = mach_o.version()->minimum_os;
  switch (mach_o.version()->platform) {
    case Platform::kMacOs:
      return minimum < 0x0a0b04;  // 10.11.4
    case Platform::kIos:
    case Platform::kTvOs:
      return minimum < 0x0b0000;  // 11.0
    case Platform::kWatchOs:
      return !is_newest || minimum < 0x0c0000;  // 12.0
  }
  return false;
}

// Only macOS 26 looks further than the slice of the machine that signs.
bool NeedsSha1(const UniversalFile& universal, const SigningOptions& options) {
  if (options.generation != CodesignGeneration::kMacOs26) {
    return NeedsSha1(universal.NativeSlice(options.host_cpu).mach_o,
                     options.generation);
  }
  const auto slices = universal.slices();
  return std::any_of(slices.begin(), slices.end(), [&](const auto& slice) {
    return NeedsSha1(slice.mach_o, options.generation);
  });
}

absl::Status CheckTeamIdentifier(std::string_view team) {
  const bool is_alphanumeric =
      std::all_of(team.begin(), team.end(), [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
               (c >= 'a' && c <= 'z');
      });
  if (team.size() > kMaxTeamIdentifierSize || !is_alphanumeric) {
    return BadOption(
        v1::REASON_BAD_TEAM_IDENTIFIER,
        absl::StrFormat("\"%s\" is not a team identifier: 1 to %d "
                        "letters and digits",
                        std::string(team), kMaxTeamIdentifierSize));
  }
  return absl::OkStatus();
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

// What is decided once for the whole file.
struct Choices {
  std::string identifier;
  std::string team_identifier;
  uint32_t flags = 0;
  std::vector<DigestKind> digests;        // ascending hashType
  std::optional<Bytes> entitlements;      // blob
  std::optional<Bytes> entitlements_der;  // blob
  uint64_t entitlement_exec_flags = 0;
  Bytes requirements;  // blob
  std::map<uint32_t, Bytes> constraints;
  std::optional<ByteView> info_plist;
};

// Makes the choices for one file.
class Chooser {
 public:
  Chooser(const std::string& path, const UniversalFile& universal,
          const SigningOptions& options, std::span<const Certificate> chain)
      : path_(path),
        universal_(universal),
        native_(universal.NativeSlice(options.host_cpu).mach_o),
        options_(options),
        chain_(chain) {
    if (options.preserve_metadata != 0) old_ = ReadOldSignature(native_);
  }

  absl::StatusOr<Choices> Choose() {
    Choices choices;
    choices.info_plist = options_.info_plist.has_value()
                             ? std::optional<ByteView>(*options_.info_plist)
                             : native_.info_plist();
    InfoPlist info_plist;
    if (choices.info_plist.has_value()) {
      ASSIGN_OR_RETURN(info_plist, ParseInfoPlist(*choices.info_plist));
    }
    RETURN_IF_ERROR(ChooseIdentifier(info_plist, choices));
    RETURN_IF_ERROR(ChooseTeamIdentifier(choices));
    RETURN_IF_ERROR(ChooseFlags(info_plist, choices));
    RETURN_IF_ERROR(ChooseDigests(choices));
    RETURN_IF_ERROR(ChooseEntitlements(choices));
    RETURN_IF_ERROR(ChooseRequirements(choices));
    RETURN_IF_ERROR(ChooseConstraints(choices));
    return choices;
  }

 private:
  bool is_ad_hoc() const { return chain_.empty(); }

  // The old signature, when `what` of it shall be preserved.
  const EmbeddedSignature* Preserved(PreserveMetadata what) const {
    const bool wanted = (options_.preserve_metadata & what) != 0;
    return wanted && old_.has_value() ? &*old_ : nullptr;
  }

  absl::Status ChooseIdentifier(const InfoPlist& info_plist,
                                Choices& choices) const {
    std::string& identifier = choices.identifier;
    if (options_.identifier.has_value()) {
      identifier = *options_.identifier;
    } else if (const EmbeddedSignature* old = Preserved(kPreserveIdentifier)) {
      identifier = std::string(old->primary().identifier());
    } else {
      const bool has_own = info_plist.identifier.has_value();
      identifier = has_own
                       ? *info_plist.identifier
                       : info_plist.name.value_or(CanonicalIdentifier(path_));
      if (identifier.find('.') == std::string::npos) {
        identifier = options_.identifier_prefix + identifier;
      }
      // Programs of one name are told apart by what the linker gave them.
      if (identifier.find('.') == std::string::npos && !has_own &&
          is_ad_hoc()) {
        identifier += "-" + HexEncode(native_.Identification());
      }
    }
    if (identifier.empty() || identifier.find('\0') != std::string::npos) {
      return BadOption(v1::REASON_BAD_IDENTIFIER,
                       "the identifier is empty or holds a NUL");
    }
    return absl::OkStatus();
  }

  absl::Status ChooseTeamIdentifier(Choices& choices) const {
    if (options_.team_identifier.has_value()) {
      if (!options_.team_identifier->empty()) {
        RETURN_IF_ERROR(CheckTeamIdentifier(*options_.team_identifier));
      }
      choices.team_identifier = *options_.team_identifier;
    } else if (const EmbeddedSignature* old =
                   Preserved(kPreserveTeamIdentifier)) {
      choices.team_identifier = std::string(old->primary().team_identifier());
    } else {
      choices.team_identifier = TeamIdentifier(chain_).value_or("");
    }
    return absl::OkStatus();
  }

  absl::Status ChooseFlags(const InfoPlist& info_plist,
                           Choices& choices) const {
    if (options_.flags.has_value()) {
      choices.flags = *options_.flags;
    } else if (info_plist.flags.has_value()) {
      choices.flags = *info_plist.flags;
    } else if (const EmbeddedSignature* old = Preserved(kPreserveFlags)) {
      choices.flags = old->primary().flags() & ~kAdHocFlag;
    } else if (const EmbeddedSignature* with_runtime =
                   Preserved(kPreserveRuntime)) {
      choices.flags = with_runtime->primary().flags() & kRuntimeFlag;
    }
    if (is_ad_hoc()) {
      choices.flags |= kAdHocFlag;
    } else if ((choices.flags & kAdHocFlag) != 0) {
      return BadOption(v1::REASON_BAD_OPTION,
                       "the flag adhoc cannot go with an identity");
    }
    return absl::OkStatus();
  }

  absl::Status ChooseDigests(Choices& choices) const {
    std::vector<DigestKind>& digests = choices.digests;
    if (!options_.digests.empty()) {
      digests = options_.digests;
    } else if (const EmbeddedSignature* old =
                   Preserved(kPreserveDigestAlgorithm)) {
      for (const CodeDirectory& directory : old->code_directories()) {
        digests.push_back(directory.digest_kind());
      }
    } else {
      if (NeedsSha1(universal_, options_)) {
        digests.push_back(DigestKind::kSha1);
      }
      digests.push_back(DigestKind::kSha256);
    }
    std::sort(digests.begin(), digests.end());
    digests.erase(std::unique(digests.begin(), digests.end()), digests.end());
    for (const DigestKind kind : digests) {
      if (DigestSize(kind) == 0) {
        return BadOption(
            v1::REASON_UNSUPPORTED_DIGEST,
            absl::StrFormat("digest %d is not known", static_cast<int>(kind)));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ChooseEntitlements(Choices& choices) const {
    if (options_.entitlements.has_value()) {
      ASSIGN_OR_RETURN(choices.entitlements,
                       BuildEntitlements(*options_.entitlements));
    } else if (const EmbeddedSignature* old =
                   Preserved(kPreserveEntitlements)) {
      if (const auto blob = old->Find(kEntitlementsSlot)) {
        choices.entitlements = ToBytes(*blob);
      }
    }
    if (!choices.entitlements.has_value()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const PlistDict entitlements,
                     ParseEntitlements(*choices.entitlements));
    choices.entitlement_exec_flags = ExecSegmentFlags(entitlements);
    if (options_.generation != CodesignGeneration::kBeforeMacOs12) {
      ASSIGN_OR_RETURN(choices.entitlements_der,
                       BuildEntitlementsDer(entitlements));
    }
    return absl::OkStatus();
  }

  absl::Status ChooseRequirements(Choices& choices) const {
    RequirementSet set;
    if (options_.requirements.has_value()) {
      ASSIGN_OR_RETURN(set, ParseRequirementSet(*options_.requirements));
    } else if (const EmbeddedSignature* old =
                   Preserved(kPreserveRequirements)) {
      if (const auto blob = old->Find(kRequirementsSlot)) {
        ASSIGN_OR_RETURN(set, ParseRequirementSet(*blob));
      }
    }
    if (set.count(kDesignatedRequirement) == 0) {
      if (const auto designated =
              BuildDefaultDesignated(choices.identifier, chain_)) {
        set[kDesignatedRequirement] = BuildRequirement(*designated);
      }
    }
    choices.requirements = BuildRequirementSet(set);
    return absl::OkStatus();
  }

  absl::Status ChooseConstraints(Choices& choices) const {
    choices.constraints = options_.constraints;
    for (const auto& [slot, blob] : choices.constraints) {
      if (slot < kLaunchConstraintSelfSlot || slot > kLibraryConstraintSlot) {
        return BadOption(v1::REASON_BAD_OPTION,
                         SlotName(slot) + " holds no constraint");
      }
      RETURN_IF_ERROR(UnwrapBlob(kLaunchConstraintMagic, blob).status());
    }
    const auto preserve = [&](PreserveMetadata what, uint32_t slot) {
      const EmbeddedSignature* old = Preserved(what);
      if (old == nullptr) return;
      if (const auto blob = old->Find(slot)) {
        choices.constraints.emplace(slot, ToBytes(*blob));
      }
    };
    preserve(kPreserveLaunchConstraints, kLaunchConstraintSelfSlot);
    preserve(kPreserveLaunchConstraints, kLaunchConstraintParentSlot);
    preserve(kPreserveLaunchConstraints, kLaunchConstraintResponsibleSlot);
    preserve(kPreserveLibraryConstraints, kLibraryConstraintSlot);
    return absl::OkStatus();
  }

  const std::string& path_;
  const UniversalFile& universal_;
  const MachO& native_;
  const SigningOptions& options_;
  std::span<const Certificate> chain_;
  std::optional<EmbeddedSignature> old_;
};

// Plans one slice: what is sealed, how much room that takes, the
// CodeDirectories over the slice with that room.
class SlicePlanner {
 public:
  SlicePlanner(const MachO& mach_o, const SigningOptions& options,
               const Choices& choices)
      : mach_o_(mach_o), options_(options), choices_(choices) {}

  absl::StatusOr<std::pair<SlicePlan, SliceLayout>> Plan(
      const ReleasePages& release) {
    plan_.architecture = mach_o_.architecture().Name();
    plan_.digests = choices_.digests;
    if ((choices_.flags & kLibraryValidationFlag) != 0 &&
        mach_o_.architecture().cpu_type == CpuType::kI386) {
      return PlanError(v1::REASON_LIBRARY_VALIDATION_I386,
                       "the library-validation flag cannot be used for i386");
    }
    ChooseBlobs();
    std::vector<CodeDirectoryFields> fields;
    for (const DigestKind kind : choices_.digests) {
      fields.push_back(Fields(kind));
    }
    ASSIGN_OR_RETURN(
        SliceLayout layout,
        ReserveSignature(mach_o_, ReservedSize(fields),
                         LinkeditAlignment(mach_o_, options_.generation)));
    RETURN_IF_ERROR(BuildCodeDirectories(fields, layout, release));
    return std::pair(std::move(plan_), std::move(layout));
  }

 private:
  void ChooseBlobs() {
    std::map<uint32_t, Bytes>& blobs = plan_.blobs;
    blobs = choices_.constraints;
    blobs[kRequirementsSlot] = choices_.requirements;
    if (mach_o_.is_main_executable() || options_.force_library_entitlements) {
      if (choices_.entitlements.has_value()) {
        blobs[kEntitlementsSlot] = *choices_.entitlements;
      }
      if (choices_.entitlements_der.has_value()) {
        blobs[kEntitlementsDerSlot] = *choices_.entitlements_der;
      }
    }
  }

  // Everything but the pages and where they end.
  CodeDirectoryFields Fields(DigestKind kind) const {
    CodeDirectoryFields fields;
    fields.identifier = choices_.identifier;
    fields.team_identifier = choices_.team_identifier;
    fields.flags = choices_.flags;
    fields.digest_kind = kind;
    fields.page_size = options_.page_size.value_or(
        DefaultPageSize(mach_o_, options_.generation));
    fields.code_limit = mach_o_.SigningLimit();
    fields.exec_segment = FindExecSegment();
    fields.runtime_version = RuntimeVersion(kind);
    fields.pre_encrypt =
        options_.pre_encrypt_hashes || !OldPreEncryptSlots(kind).empty();
    for (const auto& [slot, blob] : plan_.blobs) {
      fields.special_slots[slot] = ComputeDigest(kind, blob);
    }
    if (choices_.info_plist.has_value()) {
      fields.special_slots[kInfoPlistSlot] =
          ComputeDigest(kind, *choices_.info_plist);
    }
    if (options_.code_resources.has_value()) {
      fields.special_slots[kCodeResourcesSlot] =
          ComputeDigest(kind, *options_.code_resources);
    }
    return fields;
  }

  // Spec: Security, machorep.cpp, MachORep::execSegBase and needsExecSeg.
  ExecSegment FindExecSegment() const {
    ExecSegment exec;
    const MachO::Segment* text = mach_o_.FindSegment("__TEXT");
    const bool is_wanted =
        mach_o_.version().has_value() &&
        options_.generation != CodesignGeneration::kBeforeMacOs12;
    if (text != nullptr && is_wanted) {
      exec.offset = text->file_offset;
      exec.size = text->file_size;
    }
    if (mach_o_.is_main_executable()) exec.flags |= kExecSegmentMainBinary;
    if (plan_.blobs.count(kEntitlementsSlot) != 0) {
      exec.flags |= choices_.entitlement_exec_flags;
    }
    return exec;
  }

  uint32_t RuntimeVersion(DigestKind kind) const {
    if ((choices_.flags & kRuntimeFlag) == 0) return 0;
    if (options_.runtime_version.has_value()) return *options_.runtime_version;
    if (const CodeDirectory* old = OldDirectory(kPreserveRuntime, kind)) {
      return old->runtime_version();
    }
    return mach_o_.version().has_value() ? mach_o_.version()->sdk : 0;
  }

  // The slice's own old CodeDirectory of that digest, when `what` of it shall
  // be preserved.
  const CodeDirectory* OldDirectory(PreserveMetadata what,
                                    DigestKind kind) const {
    if ((options_.preserve_metadata & what) == 0 || !old_.has_value()) {
      return nullptr;
    }
    for (const CodeDirectory& directory : old_->code_directories()) {
      if (directory.digest_kind() == kind) return &directory;
    }
    return nullptr;
  }

  ByteView OldPreEncryptSlots(DigestKind kind) const {
    const CodeDirectory* old = OldDirectory(kPreservePreEncryptHashes, kind);
    return old != nullptr ? old->pre_encrypt_slots() : ByteView();
  }

  // Spec: Security, signer.cpp, the estimate passed to the allocator: all
  // blobs, an index with one entry more than they have, and each CodeDirectory
  // as if it had the longest header.
  uint64_t ReservedSize(std::span<const CodeDirectoryFields> fields) const {
    uint64_t size = kSuperBlobHeaderSize +
                    kIndexEntrySize * (plan_.blobs.size() + fields.size() + 1) +
                    options_.reserved_cms_size;
    for (const auto& [slot, blob] : plan_.blobs) size += blob.size();
    for (const CodeDirectoryFields& each : fields) size += each.ReservedSize();
    return size;
  }

  absl::Status BuildCodeDirectories(std::vector<CodeDirectoryFields>& fields,
                                    const SliceLayout& layout,
                                    const ReleasePages& release) {
    std::vector<CodeDirectoryBuilder> builders;
    for (CodeDirectoryFields& each : fields) {
      each.code_limit = layout.signature_offset();
      ASSIGN_OR_RETURN(CodeDirectoryBuilder builder,
                       CodeDirectoryBuilder::Create(each));
      builders.push_back(std::move(builder));
    }
    std::vector<PageDigests> digests;
    for (size_t i = 0; i < fields.size(); ++i) {
      digests.push_back({fields[i].digest_kind, builders[i].code_slots()});
    }
    HashPages(layout, fields.front().page_size, digests, release);
    for (size_t i = 0; i < fields.size(); ++i) {
      const std::span<uint8_t> to = builders[i].pre_encrypt_slots();
      const ByteView old = OldPreEncryptSlots(fields[i].digest_kind);
      // Digests of other pages than these would be of no use.
      const ByteView from =
          old.size() == to.size() ? old : ByteView(builders[i].code_slots());
      if (!to.empty()) std::copy(from.begin(), from.end(), to.begin());
      plan_.code_directories.push_back(std::move(builders[i]).Build());
      plan_.cdhashes.push_back(
          ComputeCdHash(fields[i].digest_kind, plan_.code_directories.back()));
    }
    return absl::OkStatus();
  }

  const MachO& mach_o_;
  const SigningOptions& options_;
  const Choices& choices_;
  std::optional<EmbeddedSignature> old_ = ReadOldSignature(mach_o_);
  SlicePlan plan_;
};

// The slot of CodeDirectory `index`, primary first.
uint32_t CodeDirectorySlotAt(size_t index) {
  return index == 0
             ? uint32_t{kCodeDirectorySlot}
             : kAlternateCodeDirectorySlot + static_cast<uint32_t>(index - 1);
}

// What tells whether a file was changed after it had been read.
struct FileState {
  off_t size = 0;
  timespec modified_at = {};

  static FileState Of(int fd) {
    struct stat info = {};
    fstat(fd, &info);
    return {.size = info.st_size, .modified_at = info.st_mtim};
  }
  bool operator==(const FileState& other) const {
    return size == other.size &&
           modified_at.tv_sec == other.modified_at.tv_sec &&
           modified_at.tv_nsec == other.modified_at.tv_nsec;
  }
};

}  // namespace

struct SigningPlan::Impl {
  explicit Impl(MappedFile mapped) : file(std::move(mapped)) {}

  absl::Status WriteSignature(size_t index, ByteView cms,
                              StagedFile& staged) const;

  MappedFile file;
  FileState state;
  std::optional<UniversalFile> universal;  // borrows from `file`
  std::string identifier;
  bool is_ad_hoc = false;
  bool replaces_signature = false;
  std::vector<SlicePlan> slices;
  FileLayout layout;
};

absl::StatusOr<SigningPlan> SigningPlan::Create(
    MappedFile file, const SigningOptions& options,
    std::span<const Certificate> chain) {
  auto impl = std::make_unique<Impl>(std::move(file));
  const std::string& path = impl->file.path();
  // The slice's name, when there are several.
  const auto subject = [&](const std::string& architecture) {
    return path + " (" + architecture + ")";
  };
  impl->state = FileState::Of(impl->file.fd());
  impl->is_ad_hoc = chain.empty();

  absl::StatusOr<UniversalFile> universal =
      UniversalFile::Parse(impl->file.bytes());
  if (!universal.ok()) return WithPath(universal.status(), path);
  impl->universal = *std::move(universal);
  if (options.strict) {
    const absl::Status strict = impl->universal->CheckStrictStructure();
    if (!strict.ok()) return WithPath(strict, path);
  }
  for (const UniversalFile::Slice& slice : impl->universal->slices()) {
    impl->replaces_signature |= IsSigned(slice.mach_o);
  }
  if (impl->replaces_signature && !options.force) {
    return WithSubject(
        PlanError(v1::REASON_ALREADY_SIGNED, path + " is already signed"),
        path);
  }

  absl::StatusOr<Choices> choices =
      Chooser(path, *impl->universal, options, chain).Choose();
  if (!choices.ok()) return WithSubject(choices.status(), path);
  impl->identifier = choices->identifier;

  std::vector<SliceLayout> layouts;
  for (const UniversalFile::Slice& slice : impl->universal->slices()) {
    const ReleasePages release = [&](uint64_t offset, uint64_t size) {
      impl->file.Release(slice.offset + offset, size);
    };
    auto planned = SlicePlanner(slice.mach_o, options, *choices).Plan(release);
    if (!planned.ok()) {
      return WithSubject(planned.status(), subject(slice.architecture.Name()));
    }
    impl->slices.push_back(std::move(planned->first));
    layouts.push_back(std::move(planned->second));
  }
  absl::StatusOr<FileLayout> layout =
      LayOutFile(*impl->universal, std::move(layouts),
                 SliceAlignments(*impl->universal, options.generation));
  if (!layout.ok()) return WithSubject(layout.status(), path);
  impl->layout = *std::move(layout);
  return SigningPlan(std::move(impl));
}

SigningPlan::SigningPlan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SigningPlan::SigningPlan(SigningPlan&&) noexcept = default;
SigningPlan& SigningPlan::operator=(SigningPlan&&) noexcept = default;
SigningPlan::~SigningPlan() = default;

std::span<const SlicePlan> SigningPlan::slices() const { return impl_->slices; }

const std::string& SigningPlan::identifier() const { return impl_->identifier; }

bool SigningPlan::replaces_signature() const {
  return impl_->replaces_signature;
}

uint64_t SigningPlan::reserved_size(size_t slice) const {
  return impl_->layout.slices[slice].layout.signature_size();
}

std::string SigningPlan::Format() const { return impl_->universal->Format(); }

// The SuperBlob is written blob by blob: joining them first would copy
// CodeDirectories of many megabytes.
absl::Status SigningPlan::Impl::WriteSignature(size_t index, ByteView cms,
                                               StagedFile& staged) const {
  const SlicePlan& plan = slices[index];
  const FileLayout::Slice& place = layout.slices[index];
  const Bytes cms_blob = WrapBlob(kBlobWrapperMagic, cms);
  std::map<uint32_t, ByteView> blobs(plan.blobs.begin(), plan.blobs.end());
  for (size_t i = 0; i < plan.code_directories.size(); ++i) {
    blobs[CodeDirectorySlotAt(i)] = plan.code_directories[i];
  }
  blobs[kCmsSlot] = cms_blob;

  std::map<uint32_t, size_t> sizes;
  for (const auto& [slot, blob] : blobs) sizes[slot] = blob.size();
  const Bytes index_bytes = BuildSuperBlobIndex(kEmbeddedSignatureMagic, sizes);
  uint64_t size = index_bytes.size();
  for (const auto& [slot, blob_size] : sizes) size += blob_size;
  const uint64_t room = place.layout.signature_size();
  if (size > room) {
    return WithSubject(
        PlanError(v1::REASON_SIGNATURE_TOO_LARGE,
                  absl::StrFormat("the signature has %d bytes, %d more than "
                                  "were reserved for it",
                                  size, size - room)),
        file.path() + " (" + plan.architecture + ")");
  }

  const uint64_t start = place.offset + place.layout.signature_offset();
  uint64_t at = start;
  RETURN_IF_ERROR(staged.Write(index_bytes, at));
  at += index_bytes.size();
  for (const auto& [slot, blob] : blobs) {
    RETURN_IF_ERROR(staged.Write(blob, at));
    at += blob.size();
  }

  // What a longer signature leaves behind it.
  const UniversalFile::Slice& original = universal->slices()[index];
  const uint64_t old_size = original.mach_o.Signature().size();
  const uint64_t left_end = std::min(old_size, room);
  if (left_end <= size) return absl::OkStatus();
  return staged.CopyFrom(
      file.fd(), original.offset + original.mach_o.SigningLimit() + size,
      left_end - size, start + size);
}

absl::Status SigningPlan::WriteSigned(const std::string& path,
                                      std::span<const Bytes> cms) const {
  const bool has_cms = !cms.empty() && std::none_of(cms.begin(), cms.end(),
                                                    [](const Bytes& each) {
                                                      return each.empty();
                                                    });
  if (has_cms == impl_->is_ad_hoc ||
      (has_cms && cms.size() != impl_->slices.size())) {
    return MakeError(absl::StatusCode::kInternal, v1::STAGE_WRITE,
                     v1::REASON_INTERNAL,
                     absl::StrFormat("%d CMS signatures for %d slices",
                                     cms.size(), impl_->slices.size()));
  }
  ASSIGN_OR_RETURN(StagedFile staged,
                   StagedFile::Create(path, impl_->file.mode()));
  RETURN_IF_ERROR(WriteLayout(impl_->layout, impl_->file.fd(), staged));
  for (size_t i = 0; i < impl_->slices.size(); ++i) {
    RETURN_IF_ERROR(impl_->WriteSignature(
        i, has_cms ? ByteView(cms[i]) : ByteView(), staged));
  }
  if (!(FileState::Of(impl_->file.fd()) == impl_->state)) {
    return WithSubject(
        MakeError(absl::StatusCode::kAborted, v1::STAGE_WRITE,
                  v1::REASON_FILE_CHANGED,
                  impl_->file.path() + " was changed while it was signed"),
        impl_->file.path());
  }
  return staged.Commit();
}

absl::Status StripSignature(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  absl::StatusOr<UniversalFile> universal = UniversalFile::Parse(file.bytes());
  if (!universal.ok()) return WithPath(universal.status(), path);
  std::vector<SliceLayout> layouts;
  bool is_signed = false;
  for (const UniversalFile::Slice& slice : universal->slices()) {
    if (!slice.mach_o.signature_command().has_value()) {
      layouts.push_back(
          SliceLayout::Unchanged(slice.mach_o, slice.mach_o.raw().size()));
      continue;
    }
    is_signed = true;
    absl::StatusOr<SliceLayout> layout = RemoveSignature(slice.mach_o);
    if (!layout.ok()) {
      return WithSubject(layout.status(),
                         path + " (" + slice.architecture.Name() + ")");
    }
    layouts.push_back(*std::move(layout));
  }
  if (!is_signed) {
    return WithSubject(
        PlanError(v1::REASON_NOT_SIGNED, path + " is not signed"), path);
  }
  ASSIGN_OR_RETURN(const FileLayout layout,
                   LayOutFile(*universal, std::move(layouts)));
  ASSIGN_OR_RETURN(StagedFile staged, StagedFile::Create(path, file.mode()));
  RETURN_IF_ERROR(WriteLayout(layout, file.fd(), staged));
  return staged.Commit();
}

std::string CanonicalIdentifier(std::string_view path) {
  constexpr std::string_view kDigits = "0123456789";
  constexpr std::string_view kVersion = "0123456789.";
  std::string_view name = path.substr(path.rfind('/') + 1);
  const size_t dot = name.rfind('.');
  if (dot != std::string_view::npos && dot + 1 < name.size() &&
      kDigits.find(name[dot + 1]) == std::string_view::npos) {
    name = name.substr(0, dot);
  }
  // A name that begins like a version stays as it is.
  if (name.empty() || kVersion.find(name[0]) != std::string_view::npos) {
    return std::string(name);
  }
  size_t end = name.find_last_not_of(kVersion) + 1;
  if (end < name.size() && name[end] == '.') ++end;
  while (end < name.size() &&
         kDigits.find(name[end]) != std::string_view::npos) {
    ++end;
  }
  return std::string(name.substr(0, end));
}

}  // namespace codeseal
