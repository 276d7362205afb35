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

absl::Status PlanError(v1::Reason reason, const std::string& message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_PLAN,
                   reason, message);
}

absl::Status BadOption(v1::Reason reason, const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PLAN, reason,
                   message);
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
bool NeedsSha1(const CodeObject& code, const SigningOptions& options) {
  if (code.universal() == nullptr) return false;
  const UniversalFile& universal = *code.universal();
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
  // The designated one of them; nullopt for ad-hoc code without.
  std::optional<Bytes> designated;  // blob
  std::map<uint32_t, Bytes> constraints;
  std::optional<ByteView> info_plist;
};

// Makes the choices for one file.
class Chooser {
 public:
  Chooser(const CodeObject& code, const SigningOptions& options,
          std::span<const Certificate> chain)
      : code_(code), options_(options), chain_(chain) {
    if (options.preserve_metadata != 0) {
      old_ = ReadOldSignature(code, NativeSliceIndex(code, options.host_cpu));
    }
  }

  absl::StatusOr<Choices> Choose() {
    Choices choices;
    if (options_.info_plist.has_value()) {
      choices.info_plist = *options_.info_plist;
    } else if (code_.universal() != nullptr && options_.bundle_path.empty()) {
      choices.info_plist =
          code_.universal()->NativeSlice(options_.host_cpu).mach_o.info_plist();
    }
    InfoPlist info_plist;
    if (choices.info_plist.has_value()) {
      ASSIGN_OR_RETURN(info_plist, ParseInfoPlist(*choices.info_plist));
    }
    RETURN_IF_ERROR(ChooseIdentifier(info_plist, choices));
    RETURN_IF_ERROR(ChooseTeamIdentifier(choices));
    RETURN_IF_ERROR(ChooseFlags(info_plist, choices));
    ASSIGN_OR_RETURN(choices.digests, ChooseDigests());
    RETURN_IF_ERROR(ChooseEntitlements(choices));
    RETURN_IF_ERROR(ChooseRequirements(choices));
    RETURN_IF_ERROR(ChooseConstraints(choices));
    return choices;
  }

  absl::StatusOr<std::vector<DigestKind>> ChooseDigests() const {
    std::vector<DigestKind> digests;
    if (!options_.digests.empty()) {
      digests = options_.digests;
    } else if (const EmbeddedSignature* old =
                   Preserved(kPreserveDigestAlgorithm)) {
      for (const CodeDirectory& directory : old->code_directories()) {
        digests.push_back(directory.digest_kind());
      }
    } else {
      if (NeedsSha1(code_, options_)) digests.push_back(DigestKind::kSha1);
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
    return digests;
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
      identifier =
          has_own ? *info_plist.identifier
                  : info_plist.name.value_or(CanonicalIdentifier(
                        options_.bundle_path.empty() ? code_.path()
                                                     : options_.bundle_path));
      if (identifier.find('.') == std::string::npos) {
        identifier = options_.identifier_prefix + identifier;
      }
      // Programs of one name are told apart by what the linker gave them.
      if (identifier.find('.') == std::string::npos && !has_own &&
          is_ad_hoc()) {
        identifier += "-" + HexEncode(code_.Identification(options_.host_cpu));
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
    RequirementSet set = code_.DefaultRequirements();
    RequirementSet own;
    if (options_.requirements.has_value()) {
      ASSIGN_OR_RETURN(own, ParseRequirementSet(*options_.requirements));
    } else if (options_.requirements_for) {
      ASSIGN_OR_RETURN(const Bytes blob,
                       options_.requirements_for(choices.identifier));
      ASSIGN_OR_RETURN(own, ParseRequirementSet(blob));
    } else if (const EmbeddedSignature* old =
                   Preserved(kPreserveRequirements)) {
      if (const auto blob = old->Find(kRequirementsSlot)) {
        ASSIGN_OR_RETURN(own, ParseRequirementSet(*blob));
      }
    }
    for (auto& [type, blob] : own) set[type] = std::move(blob);
    if (set.count(kDesignatedRequirement) == 0) {
      if (const auto designated =
              BuildDefaultDesignated(choices.identifier, chain_)) {
        set[kDesignatedRequirement] = BuildRequirement(*designated);
      }
    }
    if (const auto it = set.find(kDesignatedRequirement); it != set.end()) {
      choices.designated = it->second;
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

  const CodeObject& code_;
  const SigningOptions& options_;
  std::span<const Certificate> chain_;
  std::optional<EmbeddedSignature> old_;
};

// Plans one slice: what is sealed, how much room that takes; then the
// CodeDirectories over the slice with that room.
class SlicePlanner {
 public:
  SlicePlanner(const CodeObject& code, size_t index,
               const SigningOptions& options, const Choices& choices)
      : code_(code),
        index_(index),
        mach_o_(code.universal() == nullptr
                    ? nullptr
                    : &code.universal()->slices()[index].mach_o),
        options_(options),
        choices_(choices),
        old_(ReadOldSignature(code, index)) {}

  // Bytes that the signature will need at most.
  absl::StatusOr<uint64_t> ChooseContents() {
    plan_.architecture = ArchitectureName(code_, index_);
    plan_.digests = choices_.digests;
    if ((choices_.flags & kLibraryValidationFlag) != 0 && mach_o_ != nullptr &&
        mach_o_->architecture().cpu_type == CpuType::kI386) {
      return PlanError(v1::REASON_LIBRARY_VALIDATION_I386,
                       "the library-validation flag cannot be used for i386");
    }
    ChooseBlobs();
    for (const DigestKind kind : choices_.digests) {
      fields_.push_back(Fields(kind));
    }
    return ReservedSize();
  }

  // After CodeObject::Reserve().
  absl::StatusOr<SlicePlan> Plan(const OnCodeHashed& on_hashed) && {
    const SliceLayout& layout = code_.Layout(index_);
    const std::map<uint32_t, Bytes> sealed = code_.SealedContent();
    std::vector<CodeDirectoryBuilder> builders;
    for (CodeDirectoryFields& each : fields_) {
      each.code_limit = layout.signature_offset();
      for (const auto& [slot, content] : sealed) {
        each.special_slots[slot] = ComputeDigest(each.digest_kind, content);
      }
      ASSIGN_OR_RETURN(CodeDirectoryBuilder builder,
                       CodeDirectoryBuilder::Create(each));
      builders.push_back(std::move(builder));
    }
    std::vector<PageDigests> digests;
    for (size_t i = 0; i < fields_.size(); ++i) {
      digests.push_back({fields_[i].digest_kind, builders[i].code_slots()});
    }
    const uint64_t start =
        mach_o_ == nullptr ? 0 : code_.universal()->slices()[index_].offset;
    HashPages(layout, fields_.front().page_size, digests,
              [&](uint64_t offset, uint64_t size) {
                code_.file().Release(start + offset, size);
                if (on_hashed) on_hashed(size);
              });
    for (size_t i = 0; i < fields_.size(); ++i) {
      const std::span<uint8_t> to = builders[i].pre_encrypt_slots();
      const ByteView old = OldPreEncryptSlots(fields_[i].digest_kind);
      // Digests of other pages than these would be of no use.
      const ByteView from =
          old.size() == to.size() ? old : ByteView(builders[i].code_slots());
      if (!to.empty()) std::copy(from.begin(), from.end(), to.begin());
      plan_.code_directories.push_back(std::move(builders[i]).Build());
      plan_.cdhashes.push_back(
          ComputeCdHash(fields_[i].digest_kind, plan_.code_directories.back()));
    }
    return std::move(plan_);
  }

 private:
  void ChooseBlobs() {
    std::map<uint32_t, Bytes>& blobs = plan_.blobs;
    blobs = choices_.constraints;
    blobs[kRequirementsSlot] = choices_.requirements;
    // Libraries get theirs from the program that loads them.
    const bool may_have_entitlements = mach_o_ == nullptr ||
                                       mach_o_->is_main_executable() ||
                                       options_.force_library_entitlements;
    if (may_have_entitlements) {
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
        mach_o_ == nullptr ? 0
                           : DefaultPageSize(*mach_o_, options_.generation));
    // Of the code as it is: what Apple estimates the room with.
    fields.code_limit = mach_o_ == nullptr ? code_.file().bytes().size()
                                           : mach_o_->SigningLimit();
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
    if (mach_o_ == nullptr) return exec;
    const MachO::Segment* text = mach_o_->FindSegment("__TEXT");
    const bool is_wanted =
        mach_o_->version().has_value() &&
        options_.generation != CodesignGeneration::kBeforeMacOs12;
    if (text != nullptr && is_wanted) {
      exec.offset = text->file_offset;
      exec.size = text->file_size;
    }
    if (mach_o_->is_main_executable()) exec.flags |= kExecSegmentMainBinary;
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
    const bool has_sdk = mach_o_ != nullptr && mach_o_->version().has_value();
    return has_sdk ? mach_o_->version()->sdk : 0;
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
  uint64_t ReservedSize() const {
    uint64_t size =
        kSuperBlobHeaderSize +
        kSuperBlobEntrySize * (plan_.blobs.size() + fields_.size() + 1) +
        options_.reserved_cms_size;
    for (const auto& [slot, blob] : plan_.blobs) size += blob.size();
    for (const CodeDirectoryFields& each : fields_) size += each.ReservedSize();
    return size;
  }

  const CodeObject& code_;
  const size_t index_;
  const MachO* const mach_o_;
  const SigningOptions& options_;
  const Choices& choices_;
  std::optional<EmbeddedSignature> old_;
  std::vector<CodeDirectoryFields> fields_;  // one for each digest
  SlicePlan plan_;
};

// The slot of CodeDirectory `index`, primary first.
uint32_t CodeDirectorySlotAt(size_t index) {
  return index == 0
             ? uint32_t{kCodeDirectorySlot}
             : kAlternateCodeDirectorySlot + static_cast<uint32_t>(index - 1);
}

}  // namespace

struct SigningPlan::Impl {
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

  // What is stored of slice `index`.
  SignatureParts Parts(size_t index, ByteView cms) const;
  void IdentifyForSeal(const Choices& choices, CpuType host_cpu);

  std::unique_ptr<CodeObject> code;
  FileState state;
  std::string identifier;
  bool is_ad_hoc = false;
  bool replaces_signature = false;
  std::vector<SlicePlan> slices;
  Bytes seal;  // blob; empty unless the signature keeps it
  CodeIdentity identity;
};

absl::StatusOr<SigningPlan> SigningPlan::Create(
    std::unique_ptr<CodeObject> code, const SigningOptions& options,
    std::span<const Certificate> chain, const OnCodeHashed& on_hashed) {
  auto impl = std::make_unique<Impl>();
  impl->code = std::move(code);
  CodeObject& object = *impl->code;
  const std::string& path = object.path();
  impl->state = Impl::FileState::Of(object.file().fd());
  impl->is_ad_hoc = chain.empty();
  if (options.strict) RETURN_IF_ERROR(object.CheckStrictStructure());
  impl->replaces_signature = IsSigned(object);
  if (impl->replaces_signature && !options.force) {
    return WithSubject(
        PlanError(v1::REASON_ALREADY_SIGNED, path + " is already signed"),
        path);
  }
  absl::StatusOr<Choices> choices = Chooser(object, options, chain).Choose();
  if (!choices.ok()) return WithSubject(choices.status(), path);
  impl->identifier = choices->identifier;

  std::vector<SlicePlanner> planners;
  std::vector<uint64_t> sizes;
  for (size_t i = 0; i < object.slice_count(); ++i) {
    planners.emplace_back(object, i, options, *choices);
    absl::StatusOr<uint64_t> size = planners.back().ChooseContents();
    if (!size.ok()) {
      return WithSubject(size.status(), SliceSubject(object, i));
    }
    sizes.push_back(*size);
  }
  RETURN_IF_ERROR(object.Reserve(sizes, options));
  for (size_t i = 0; i < planners.size(); ++i) {
    absl::StatusOr<SlicePlan> slice = std::move(planners[i]).Plan(on_hashed);
    if (!slice.ok()) {
      return WithSubject(slice.status(), SliceSubject(object, i));
    }
    impl->slices.push_back(*std::move(slice));
  }
  if (object.KeepsSeal() && options.code_resources.has_value()) {
    impl->seal = WrapBlob(kBlobWrapperMagic, *options.code_resources);
  }
  impl->IdentifyForSeal(*choices, options.host_cpu);
  return SigningPlan(std::move(impl));
}

absl::StatusOr<SigningPlan> SigningPlan::Create(
    MappedFile file, const SigningOptions& options,
    std::span<const Certificate> chain) {
  ASSIGN_OR_RETURN(std::unique_ptr<CodeObject> code,
                   OpenMachO(std::move(file)));
  return Create(std::move(code), options, chain);
}

absl::StatusOr<std::vector<DigestKind>> SigningPlan::ChooseDigests(
    const CodeObject& code, const SigningOptions& options) {
  return Chooser(code, options, {}).ChooseDigests();
}

SigningPlan::SigningPlan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SigningPlan::SigningPlan(SigningPlan&&) noexcept = default;
SigningPlan& SigningPlan::operator=(SigningPlan&&) noexcept = default;
SigningPlan::~SigningPlan() = default;

const std::string& SigningPlan::path() const { return impl_->code->path(); }

std::span<const SlicePlan> SigningPlan::slices() const { return impl_->slices; }

const std::string& SigningPlan::identifier() const { return impl_->identifier; }

bool SigningPlan::replaces_signature() const {
  return impl_->replaces_signature;
}

uint64_t SigningPlan::reserved_size(size_t slice) const {
  return impl_->code->Layout(slice).signature_size();
}

std::string SigningPlan::Format() const { return impl_->code->Format(); }

const CodeIdentity& SigningPlan::code_identity() const {
  return impl_->identity;
}

void SigningPlan::Impl::IdentifyForSeal(const Choices& choices,
                                        CpuType host_cpu) {
  const size_t native = NativeSliceIndex(*code, host_cpu);
  const SlicePlan& slice = slices[native];
  const auto best = std::find(slice.digests.begin(), slice.digests.end(),
                              BestDigest(slice.digests));
  identity.cdhash =
      slice.cdhashes[static_cast<size_t>(best - slice.digests.begin())];
  std::vector<CdHash> cdhashes = slice.cdhashes;
  for (size_t i = 0; i < slices.size(); ++i) {
    if (i == native) continue;
    cdhashes.insert(cdhashes.end(), slices[i].cdhashes.begin(),
                    slices[i].cdhashes.end());
  }
  identity.designated_requirement =
      DesignatedRequirementText(choices.designated, cdhashes);
}

SignatureParts SigningPlan::Impl::Parts(size_t index, ByteView cms) const {
  const SlicePlan& plan = slices[index];
  SignatureParts parts;
  parts.blobs = {plan.blobs.begin(), plan.blobs.end()};
  for (size_t i = 0; i < plan.code_directories.size(); ++i) {
    parts.blobs[CodeDirectorySlotAt(i)] = plan.code_directories[i];
  }
  if (!seal.empty()) parts.blobs[kCodeResourcesSlot] = seal;
  parts.cms = cms;
  return parts;
}

absl::StatusOr<std::vector<StagedFile>> SigningPlan::Stage(
    std::span<const Bytes> cms, const TargetPath& target_path) const {
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
  const CodeObject& code = *impl_->code;
  std::vector<SignatureParts> signatures;
  for (size_t i = 0; i < impl_->slices.size(); ++i) {
    signatures.push_back(
        impl_->Parts(i, has_cms ? ByteView(cms[i]) : ByteView()));
  }
  std::vector<StagedFile> staged;
  RETURN_IF_ERROR(code.Stage(signatures, target_path, staged));
  if (!(Impl::FileState::Of(code.file().fd()) == impl_->state)) {
    return WithSubject(MakeError(absl::StatusCode::kAborted, v1::STAGE_WRITE,
                                 v1::REASON_FILE_CHANGED,
                                 path() + " was changed while it was signed"),
                       path());
  }
  return staged;
}

absl::Status SigningPlan::WriteSigned(const std::string& path,
                                      std::span<const Bytes> cms) const {
  ASSIGN_OR_RETURN(std::vector<StagedFile> staged,
                   Stage(cms, [&](const std::string& original) {
                     return original == impl_->code->path() ? path : original;
                   }));
  return StagedFile::CommitAll(std::move(staged));
}

absl::Status StripSignature(const std::string& path) {
  ASSIGN_OR_RETURN(StagedFile staged, StageStripped(path, path));
  return staged.Commit();
}

absl::StatusOr<StagedFile> StageStripped(const std::string& path,
                                         const std::string& target_path) {
  ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const std::unique_ptr<CodeObject> code,
                   OpenMachO(std::move(mapped)));
  const MappedFile& file = code->file();
  const UniversalFile* universal = code->universal();
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
  ASSIGN_OR_RETURN(StagedFile staged,
                   StagedFile::Create(target_path, file.mode()));
  RETURN_IF_ERROR(WriteLayout(layout, file.fd(), staged));
  return staged;
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
