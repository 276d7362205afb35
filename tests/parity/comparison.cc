#include "tests/parity/comparison.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/embedded_signature.h"
#include "codesign/entitlements.h"
#include "codesign/macho/layout.h"
#include "codesign/macho/universal_file.h"
#include "codesign/requirement/default_designated.h"
#include "codesign/requirement/requirement.h"
#include "codesign/signing_plan.h"

namespace codeseal::parity {
namespace {

namespace fs = std::filesystem;

// A folder that goes with its object.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name =
        (fs::temp_directory_path() / "codeseal-parity-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~ScratchFolder() { fs::remove_all(path_); }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  std::string File(const fs::path& name) const {
    return (path_ / name).string();
  }

 private:
  fs::path path_;
};

// --- What is learned from an existing signature ------------------------------

struct Learned {
  SigningOptions options;
  std::vector<Certificate> chain;  // empty for ad-hoc
  Bytes cms;                       // empty for ad-hoc
  std::string identifier;
  std::vector<DigestKind> digests;
  uint32_t page_size = 0;
  bool is_macos_26_page = false;  // a page that only macOS 26 writes
  bool is_before_macos_12 = false;
  bool has_explicit_requirements = false;
  bool has_explicit_team = false;
  bool has_explicit_runtime = false;
  // Why this can't be Apple's codesign; empty when it can.
  std::string foreign;
};

absl::StatusOr<std::vector<Certificate>> LearnChain(
    const EmbeddedSignature& signature) {
  if (signature.cms().empty()) return std::vector<Certificate>();
  ASSIGN_OR_RETURN(const CmsSignature cms, ParseAppleCms(signature.cms()));
  return BuildChain(cms.signer, cms.certificates);
}

// The requirement set that codesign makes when nobody asks for one.
Bytes DefaultRequirements(std::string_view identifier,
                          std::span<const Certificate> chain) {
  RequirementSet set;
  if (const auto designated = BuildDefaultDesignated(identifier, chain)) {
    set[kDesignatedRequirement] = BuildRequirement(*designated);
  }
  return BuildRequirementSet(set);
}

// The file that special slot `slot` seals, among `candidates` beside `path`;
// nullopt when there is none with that digest.
std::optional<Bytes> FindSealedFile(
    const CodeDirectory& directory, uint32_t slot, const fs::path& path,
    std::initializer_list<const char*> candidates) {
  if (!directory.SealsSpecialSlot(slot)) return std::nullopt;
  for (const char* candidate : candidates) {
    std::ifstream file(path.parent_path() / candidate, std::ios::binary);
    if (!file) continue;
    Bytes content =
        ToBytes(std::string(std::istreambuf_iterator<char>(file), {}));
    if (CheckSpecialSlot(directory, slot, content).ok()) return content;
  }
  return std::nullopt;
}

// `path` is where the code was found: its bundle's files are around it.
absl::StatusOr<Learned> Learn(const MachO& mach_o, const fs::path& path) {
  if (!mach_o.signature_command().has_value()) {
    return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                     v1::REASON_NOT_SIGNED, "not signed at all");
  }
  ASSIGN_OR_RETURN(const EmbeddedSignature signature,
                   EmbeddedSignature::Parse(mach_o.Signature()));
  if (signature.is_linker_signed()) {
    return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                     v1::REASON_NOT_SIGNED, "signed by its linker only");
  }
  Learned learned;
  SigningOptions& options = learned.options;
  ASSIGN_OR_RETURN(learned.chain, LearnChain(signature));
  learned.cms = ToBytes(signature.cms());

  const CodeDirectory& primary = signature.primary();
  learned.identifier = std::string(primary.identifier());
  options.flags = primary.flags();
  if (learned.chain.empty()) *options.flags &= ~kAdHocFlag;
  for (const CodeDirectory& directory : signature.code_directories()) {
    learned.digests.push_back(directory.digest_kind());
  }
  const std::string team(primary.team_identifier());
  learned.has_explicit_team =
      team != TeamIdentifier(learned.chain).value_or("");
  if (learned.has_explicit_team) options.team_identifier = team;

  if (const auto blob = signature.Find(kRequirementsSlot)) {
    learned.has_explicit_requirements =
        !Equal(*blob, DefaultRequirements(learned.identifier, learned.chain));
    if (learned.has_explicit_requirements) {
      options.requirements = ToBytes(*blob);
    }
  }
  if (const auto blob = signature.Find(kEntitlementsSlot)) {
    options.entitlements = ToBytes(*blob);
    options.force_library_entitlements = !mach_o.is_main_executable();
  }
  for (uint32_t slot = kLaunchConstraintSelfSlot;
       slot <= kLibraryConstraintSlot; ++slot) {
    if (const auto blob = signature.Find(slot)) {
      options.constraints[slot] = ToBytes(*blob);
    }
  }
  options.info_plist =
      FindSealedFile(primary, kInfoPlistSlot, path,
                     {"Info.plist", "../Info.plist", "Resources/Info.plist"});
  options.code_resources = FindSealedFile(
      primary, kCodeResourcesSlot, path,
      {"_CodeSignature/CodeResources", "../_CodeSignature/CodeResources"});
  options.pre_encrypt_hashes = !primary.pre_encrypt_slots().empty();

  const uint32_t sdk = mach_o.version().has_value() ? mach_o.version()->sdk : 0;
  learned.has_explicit_runtime =
      primary.HasFlag(kRuntimeFlag) && primary.runtime_version() != sdk;
  if (learned.has_explicit_runtime) {
    options.runtime_version = primary.runtime_version();
  }

  // Which codesign it was shows in what it wrote.
  learned.page_size = primary.page_size();
  learned.is_macos_26_page = learned.page_size > 4096;
  const bool has_entitlements = signature.Find(kEntitlementsSlot).has_value();
  const bool has_der = signature.Find(kEntitlementsDerSlot).has_value();
  const bool lacks_exec_segment =
      mach_o.version().has_value() && primary.exec_segment().size == 0;
  // Only the allocator before macOS 12 rounded to 4 KiB.
  const MachO::Segment* linkedit = mach_o.FindSegment("__LINKEDIT");
  const bool has_small_linkedit =
      linkedit != nullptr && linkedit->vm_size % kLinkeditAlignment != 0;
  learned.is_before_macos_12 = (has_entitlements && !has_der) ||
                               lacks_exec_segment || has_small_linkedit;
  if (!signature.Find(kCmsSlot).has_value()) {
    learned.foreign =
        "not made by Apple's codesign, which always writes a CMS slot";
  }
  return learned;
}

// Whether one run of codesign could have signed both slices.
bool CanShareOptions(const Learned& a, const Learned& b) {
  const SigningOptions& x = a.options;
  const SigningOptions& y = b.options;
  return a.identifier == b.identifier && x.flags == y.flags &&
         a.digests == b.digests && x.team_identifier == y.team_identifier &&
         x.requirements == y.requirements && x.entitlements == y.entitlements &&
         x.constraints == y.constraints &&
         x.runtime_version == y.runtime_version &&
         x.info_plist == y.info_plist && x.code_resources == y.code_resources &&
         x.pre_encrypt_hashes == y.pre_encrypt_hashes &&
         a.chain.size() == b.chain.size() &&
         (a.chain.empty() ||
          Equal(a.chain.front().der(), b.chain.front().der()));
}

CodesignGeneration Generation(std::span<const Learned> slices) {
  CodesignGeneration generation = CodesignGeneration::kMacOs12;
  for (const Learned& slice : slices) {
    if (slice.is_macos_26_page) return CodesignGeneration::kMacOs26;
    if (slice.is_before_macos_12) {
      generation = CodesignGeneration::kBeforeMacOs12;
    }
  }
  return generation;
}

const char* GenerationName(CodesignGeneration generation) {
  switch (generation) {
    case CodesignGeneration::kBeforeMacOs12:
      return "codesign before macOS 12";
    case CodesignGeneration::kMacOs12:
      return "codesign of macOS 12 to 15";
    case CodesignGeneration::kMacOs26:
      return "codesign of macOS 26";
  }
  return "";
}

std::vector<std::string> InputNotes(const Learned& learned,
                                    const SigningOptions& options) {
  std::vector<std::string> notes;
  notes.push_back(GenerationName(options.generation));
  notes.push_back(learned.chain.empty()
                      ? "ad-hoc"
                      : "certificate " + learned.chain.front().CommonName());
  if (options.host_cpu == CpuType::kX86_64) notes.push_back("x86_64 host");
  if (options.identifier.has_value()) {
    notes.push_back("explicit identifier " + *options.identifier);
  }
  if (!options.digests.empty()) notes.push_back("explicit digests");
  if (options.page_size.has_value()) notes.push_back("explicit page size");
  if (learned.has_explicit_requirements) {
    notes.push_back("explicit requirements");
  }
  if (learned.has_explicit_team) notes.push_back("explicit team identifier");
  if (learned.has_explicit_runtime) notes.push_back("explicit runtime version");
  if (options.entitlements.has_value()) notes.push_back("entitlements");
  if (options.info_plist.has_value()) notes.push_back("Info.plist");
  if (options.code_resources.has_value()) notes.push_back("CodeResources");
  if (options.pre_encrypt_hashes) notes.push_back("pre-encrypt hashes");
  if (options.reserved_cms_size != SigningOptions().reserved_cms_size) {
    notes.push_back(
        absl::StrFormat("signature size %d", options.reserved_cms_size));
  }
  return notes;
}

// --- Comparing ---------------------------------------------------------------

// What byte `offset` of a slice is, as far as signing changes it.
std::string DescribeSliceOffset(const MachO& mach_o, uint64_t offset) {
  if (offset < mach_o.header_size()) {
    return offset / 4 == 4   ? "ncmds"
           : offset / 4 == 5 ? "sizeofcmds"
                             : "mach_header";
  }
  if (offset >= mach_o.load_commands_end()) {
    return offset < mach_o.SigningLimit() ? "code" : "signature";
  }
  if (const auto& command = mach_o.signature_command();
      command.has_value() && offset >= command->command_offset &&
      offset - command->command_offset < 16) {
    const uint64_t inside = offset - command->command_offset;
    return std::string("LC_CODE_SIGNATURE ") + (inside < 8    ? "header"
                                                : inside < 12 ? "dataoff"
                                                              : "datasize");
  }
  for (const MachO::Segment& segment : mach_o.segments()) {
    if (offset < segment.command_offset ||
        offset - segment.command_offset >= (segment.is_64_bit ? 72u : 56u)) {
      continue;
    }
    const uint64_t inside = offset - segment.command_offset;
    const uint64_t word = segment.is_64_bit ? 8 : 4;
    constexpr const char* kWords[] = {"vmaddr", "vmsize", "fileoff",
                                      "filesize"};
    const bool is_word = inside >= 24 && (inside - 24) / word < 4;
    return std::string(segment.name) + " " +
           (is_word ? kWords[(inside - 24) / word] : "command");
  }
  return "load command";
}

// `describe` names an offset of `theirs`.
template <typename Describe>
Component CompareBytes(const std::string& name, ByteView theirs, ByteView ours,
                       Describe describe) {
  Component component;
  component.name = name;
  const auto [a, b] =
      std::mismatch(theirs.begin(), theirs.end(), ours.begin(), ours.end());
  component.identical = a == theirs.end() && b == ours.end();
  if (component.identical) return component;
  component.offset = static_cast<uint64_t>(a - theirs.begin());
  component.field = a == theirs.end()
                        ? absl::StrFormat("end, of %d bytes where ours has %d",
                                          theirs.size(), ours.size())
                        : describe(component.offset);
  // The word around the difference.
  const size_t start = component.offset / 4 * 4;
  const auto word = [&](ByteView bytes) {
    return start < bytes.size()
               ? HexEncode(bytes.subspan(
                     start, std::min<size_t>(8, bytes.size() - start)))
               : std::string("nothing");
  };
  component.values = word(theirs) + " theirs, " + word(ours) + " ours";
  return component;
}

Component CompareBlobs(uint32_t slot, std::optional<ByteView> theirs,
                       std::optional<ByteView> ours) {
  if (!theirs.has_value() || !ours.has_value()) {
    Component component;
    component.name = SlotName(slot);
    component.field = theirs.has_value() ? "missing in ours" : "only in ours";
    return component;
  }
  return CompareBytes(SlotName(slot), *theirs, *ours,
                      [](uint64_t) { return std::string("content"); });
}

// The index of a SuperBlob: magic, length, count, slots and offsets.
ByteView IndexOf(const SuperBlob& super_blob) {
  BigEndianReader in(super_blob.raw().subspan(8));
  return super_blob.raw().first(12 + size_t{8} * in.U32());
}

std::string DescribeIndexOffset(uint64_t offset) {
  if (offset < 12) {
    return offset < 4 ? "magic" : offset < 8 ? "length" : "count";
  }
  return absl::StrFormat("entry %d %s", (offset - 12) / 8,
                         (offset - 12) % 8 < 4 ? "slot" : "offset");
}

// Their CodeDirectory as it would be for the code as it is now: nullopt when
// its digests fit.
std::optional<Bytes> WithPresentPages(const CodeDirectory& directory,
                                      const MachO& mach_o) {
  if (directory.page_size() == 0) return std::nullopt;
  Bytes present = ToBytes(directory.raw());
  const size_t digest_size = DigestSize(directory.digest_kind());
  const auto slots = static_cast<size_t>(directory.code_slots().data() -
                                         directory.raw().data());
  for (uint32_t i = 0; i < directory.code_slot_count(); ++i) {
    const uint64_t at = uint64_t{i} * directory.page_size();
    if (at >= mach_o.SigningLimit()) break;
    const uint64_t size =
        std::min<uint64_t>(directory.page_size(), mach_o.SigningLimit() - at);
    const Bytes digest =
        ComputeDigest(directory.digest_kind(),
                      mach_o.raw().subspan(static_cast<size_t>(at),
                                           static_cast<size_t>(size)));
    std::copy(
        digest.begin(), digest.end(),
        present.begin() + static_cast<ptrdiff_t>(slots + i * digest_size));
  }
  if (Equal(present, directory.raw())) return std::nullopt;
  return present;
}

// The entitlements in DER say the same, in the form of macOS 11.
bool IsObsoleteDer(const EmbeddedSignature& theirs,
                   const EmbeddedSignature& ours) {
  const auto their_der = theirs.Find(kEntitlementsDerSlot);
  const auto our_der = ours.Find(kEntitlementsDerSlot);
  if (!their_der.has_value() || !our_der.has_value()) return false;
  const auto their_value = ParseEntitlementsDer(*their_der);
  const auto our_value = ParseEntitlementsDer(*our_der);
  constexpr uint8_t kSet = 0x31;
  return their_der->size() > kBlobHeaderSize &&
         (*their_der)[kBlobHeaderSize] == kSet && their_value.ok() &&
         our_value.ok() && *their_value == *our_value;
}

// Finds out why components differ, by undoing each known cause and comparing
// again.
class Explainer {
 public:
  Explainer(const MachO& their_mach_o, const EmbeddedSignature& theirs,
            const EmbeddedSignature& ours, const std::string& foreign)
      : their_mach_o_(their_mach_o),
        theirs_(theirs),
        ours_(ours),
        foreign_(foreign),
        obsolete_der_(IsObsoleteDer(theirs, ours)) {}

  std::string OfBlob(uint32_t slot) const {
    if (slot == kEntitlementsDerSlot && obsolete_der_) return kObsoleteDer;
    return foreign_;
  }

  std::string OfCodeDirectory(const CodeDirectory& theirs,
                              const CodeDirectory& ours) const {
    if (const auto present = WithPresentPages(theirs, their_mach_o_)) {
      if (Equal(*present, ours.raw())) {
        return "the code was changed after it had been signed: it doesn't fit "
               "its own page digests; nothing else differs";
      }
    }
    if (obsolete_der_) {
      Bytes changed = ToBytes(theirs.raw());
      const ByteView digest = *theirs.SpecialSlotDigest(kEntitlementsDerSlot);
      const ByteView our_digest = *ours.SpecialSlotDigest(kEntitlementsDerSlot);
      std::copy(our_digest.begin(), our_digest.end(),
                changed.begin() + (digest.data() - theirs.raw().data()));
      if (Equal(changed, ours.raw())) return kObsoleteDer;
    }
    return foreign_;
  }

  // Same slots, and all that differs follows from the DER's size.
  std::string OfIndex() const {
    std::map<uint32_t, size_t> sizes;
    for (const SuperBlob::Entry& entry : ours_.super_blob().entries()) {
      sizes[entry.slot] = entry.blob.size();
    }
    if (obsolete_der_) {
      sizes[kEntitlementsDerSlot] = theirs_.Find(kEntitlementsDerSlot)->size();
      if (Equal(BuildSuperBlobIndex(kEmbeddedSignatureMagic, sizes),
                IndexOf(theirs_.super_blob()))) {
        return kObsoleteDer;
      }
    }
    return foreign_;
  }

  std::string OfLayout() const { return foreign_; }

 private:
  static constexpr char kObsoleteDer[] =
      "DER entitlements in the form of macOS 11, which says the same with sets";

  const MachO& their_mach_o_;
  const EmbeddedSignature& theirs_;
  const EmbeddedSignature& ours_;
  const std::string& foreign_;
  const bool obsolete_der_;
};

absl::StatusOr<std::vector<Component>> CompareSlices(
    const UniversalFile::Slice& theirs, const UniversalFile::Slice& ours,
    const std::string& foreign) {
  ASSIGN_OR_RETURN(const EmbeddedSignature their_signature,
                   EmbeddedSignature::Parse(theirs.mach_o.Signature()));
  ASSIGN_OR_RETURN(const EmbeddedSignature our_signature,
                   EmbeddedSignature::Parse(ours.mach_o.Signature()));
  const Explainer explain(theirs.mach_o, their_signature, our_signature,
                          foreign);
  std::vector<Component> components;
  const auto add = [&](Component component, const std::string& reason) {
    if (!component.identical) component.reason = reason;
    components.push_back(std::move(component));
  };

  const auto covered = [](const MachO& mach_o) {
    return mach_o.raw().first(static_cast<size_t>(mach_o.SigningLimit()));
  };
  Component layout = CompareBytes(
      "layout", covered(theirs.mach_o), covered(ours.mach_o),
      [&](uint64_t at) { return DescribeSliceOffset(theirs.mach_o, at); });
  if (layout.identical && theirs.offset != ours.offset) {
    layout.identical = false;
    layout.field = "the slice's place in the file";
    layout.values =
        absl::StrFormat("%d theirs, %d ours", theirs.offset, ours.offset);
  }
  add(layout, explain.OfLayout());

  const auto their_directories = their_signature.code_directories();
  const auto our_directories = our_signature.code_directories();
  for (size_t i = 0; i < their_directories.size(); ++i) {
    const CodeDirectory& their_one = their_directories[i];
    const std::string name =
        "CodeDirectory " + std::string(DigestName(their_one.digest_kind()));
    if (i >= our_directories.size()) {
      Component missing;
      missing.name = name;
      missing.field = "missing in ours";
      add(missing, foreign);
      continue;
    }
    add(CompareBytes(name, their_one.raw(), our_directories[i].raw(),
                     [&](uint64_t at) { return their_one.DescribeOffset(at); }),
        explain.OfCodeDirectory(their_one, our_directories[i]));
  }
  for (const uint32_t slot :
       {kRequirementsSlot, kEntitlementsSlot, kEntitlementsDerSlot,
        kLaunchConstraintSelfSlot, kLaunchConstraintParentSlot,
        kLaunchConstraintResponsibleSlot, kLibraryConstraintSlot}) {
    const auto their_blob = their_signature.Find(slot);
    const auto our_blob = our_signature.Find(slot);
    if (!their_blob.has_value() && !our_blob.has_value()) continue;
    add(CompareBlobs(slot, their_blob, our_blob), explain.OfBlob(slot));
  }
  add(CompareBytes("SuperBlob index", IndexOf(their_signature.super_blob()),
                   IndexOf(our_signature.super_blob()), DescribeIndexOffset),
      explain.OfIndex());
  return components;
}

// The file once more with the bytes that an earlier signature left between the
// end of this one and the end of its room, to see whether they are all that
// differs.
Bytes WithLeftoverBytes(const UniversalFile& theirs, ByteView ours) {
  Bytes file = ToBytes(ours);
  for (const UniversalFile::Slice& slice : theirs.slices()) {
    const ByteView room = slice.mach_o.Signature();
    const size_t used =
        EmbeddedSignature::Parse(room)->super_blob().raw().size();
    const size_t at =
        static_cast<size_t>(slice.offset + slice.mach_o.SigningLimit());
    for (size_t i = used; i < room.size() && at + i < file.size(); ++i) {
      file[at + i] = room[i];
    }
  }
  return file;
}

bool HoldsForAllComponents(const FileComparison& comparison,
                           bool (*holds)(const Component&)) {
  for (const SliceComparison& slice : comparison.slices) {
    for (const Component& component : slice.components) {
      if (!holds(component)) return false;
    }
  }
  return true;
}

bool IsIdentical(const Component& component) { return component.identical; }

bool IsExplained(const Component& component) {
  return component.identical || !component.reason.empty();
}

void CompareWholeFile(const UniversalFile& theirs, ByteView ours,
                      FileComparison& comparison) {
  comparison.whole_file_identical = Equal(theirs.raw(), ours);
  if (*comparison.whole_file_identical) return;
  if (HoldsForAllComponents(comparison, IsIdentical)) {
    if (Equal(theirs.raw(), WithLeftoverBytes(theirs, ours))) {
      comparison.whole_file_reason =
          "leftover bytes: an earlier, longer signature shows behind this one; "
          "nothing else differs";
    }
  } else if (HoldsForAllComponents(comparison, IsExplained)) {
    comparison.whole_file_reason = "components differ, for the reasons above";
  }
}

absl::StatusOr<SigningPlan> Plan(const std::string& path,
                                 const SigningOptions& options,
                                 std::span<const Certificate> chain) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  return SigningPlan::Create(std::move(file), options, chain);
}

// Plans `stripped` with what codesign chooses by itself; then with what it must
// have been told, where that is not what is in the signature.
absl::StatusOr<SigningPlan> PlanLikeApple(const std::string& stripped,
                                          const UniversalFile& theirs,
                                          const std::vector<Learned>& learned,
                                          SigningOptions& options) {
  const Learned& first = learned.front();
  ASSIGN_OR_RETURN(SigningPlan plan, Plan(stripped, options, first.chain));
  if (plan.identifier() != first.identifier) {
    // The name may be that of another machine's native slice.
    options.host_cpu = CpuType::kX86_64;
    ASSIGN_OR_RETURN(plan, Plan(stripped, options, first.chain));
  }
  bool again = false;
  if (plan.identifier() != first.identifier) {
    options.host_cpu = CpuType::kArm64;
    options.identifier = first.identifier;
    again = true;
  }
  if (plan.slices()[0].digests != first.digests) {
    options.digests = first.digests;
    again = true;
  }
  for (size_t i = 0; i < learned.size(); ++i) {
    ASSIGN_OR_RETURN(
        const CodeDirectory directory,
        CodeDirectory::Parse(plan.slices()[i].code_directories[0]));
    if (directory.page_size() != learned[i].page_size) {
      options.page_size = learned[i].page_size;
      again = true;
    }
  }
  if (again) {
    ASSIGN_OR_RETURN(plan, Plan(stripped, options, first.chain));
  }
  const int64_t difference =
      int64_t{theirs.slices()[0].mach_o.signature_command()->data_size} -
      static_cast<int64_t>(plan.reserved_size(0));
  if (difference == 0) return plan;
  const int64_t size = int64_t{options.reserved_cms_size} + difference;
  if (size <= 0 || size > INT32_MAX) return plan;
  options.reserved_cms_size = static_cast<uint32_t>(size);
  return Plan(stripped, options, first.chain);
}

absl::Status WriteFile(const std::string& path, ByteView bytes) {
  std::ofstream out(path, std::ios::binary);
  out << AsText(bytes);
  out.close();
  return out ? absl::OkStatus()
             : FileError(errno, v1::STAGE_WRITE, "write", path);
}

absl::Status CompareTogether(const UniversalFile& theirs,
                             const std::vector<Learned>& learned,
                             FileComparison& comparison) {
  const ScratchFolder scratch;
  const std::string copy = scratch.File(fs::path(comparison.path).filename());
  RETURN_IF_ERROR(WriteFile(copy, theirs.raw()));
  RETURN_IF_ERROR(StripSignature(copy));

  SigningOptions options = learned.front().options;
  options.generation = Generation(learned);
  for (const Learned& each : learned) {
    options.force_library_entitlements |=
        each.options.force_library_entitlements;
  }
  ASSIGN_OR_RETURN(const SigningPlan plan,
                   PlanLikeApple(copy, theirs, learned, options));
  std::vector<Bytes> cms;
  for (const Learned& each : learned) cms.push_back(each.cms);
  RETURN_IF_ERROR(plan.WriteSigned(copy, cms));

  ASSIGN_OR_RETURN(const MappedFile written, MappedFile::Open(copy));
  ASSIGN_OR_RETURN(const UniversalFile ours,
                   UniversalFile::Parse(written.bytes()));
  for (size_t i = 0; i < theirs.slices().size(); ++i) {
    SliceComparison slice;
    slice.architecture = theirs.slices()[i].architecture.Name();
    slice.inputs = InputNotes(learned[i], options);
    ASSIGN_OR_RETURN(slice.components,
                     CompareSlices(theirs.slices()[i], ours.slices()[i],
                                   learned[i].foreign));
    comparison.slices.push_back(std::move(slice));
  }
  CompareWholeFile(theirs, written.bytes(), comparison);
  return absl::OkStatus();
}

}  // namespace

bool FileComparison::IsIdentical() const {
  return whole_file_identical.value_or(false) &&
         HoldsForAllComponents(*this, parity::IsIdentical);
}

bool FileComparison::IsExplained() const {
  return (whole_file_identical.value_or(false) || !whole_file_reason.empty()) &&
         HoldsForAllComponents(*this, parity::IsExplained);
}

namespace {

// `found_at` is where the code and its bundle lie; `path` has the bytes.
absl::StatusOr<FileComparison> Compare(const std::string& path,
                                       const std::string& found_at) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const UniversalFile theirs,
                   UniversalFile::Parse(file.bytes()));
  FileComparison comparison;
  comparison.path = found_at;
  comparison.format = theirs.Format();
  std::vector<Learned> learned;
  bool together = true;
  for (const UniversalFile::Slice& slice : theirs.slices()) {
    absl::StatusOr<Learned> each = Learn(slice.mach_o, found_at);
    if (!each.ok()) {
      return WithSubject(each.status(), slice.architecture.Name());
    }
    learned.push_back(*std::move(each));
    together &= CanShareOptions(learned.front(), learned.back());
  }
  if (together) {
    RETURN_IF_ERROR(CompareTogether(theirs, learned, comparison));
    return comparison;
  }

  // Not signed by one run: each slice as a thin file.
  const ScratchFolder scratch;
  for (const UniversalFile::Slice& slice : theirs.slices()) {
    const std::string thin = scratch.File(fs::path(found_at).filename());
    RETURN_IF_ERROR(WriteFile(thin, slice.mach_o.raw()));
    ASSIGN_OR_RETURN(const FileComparison one, Compare(thin, found_at));
    comparison.slices.push_back(one.slices.front());
  }
  comparison.whole_file_reason =
      "the slices were signed with different options, each was compared alone";
  return comparison;
}

}  // namespace

absl::StatusOr<FileComparison> CompareWithApple(const std::string& path) {
  return Compare(path, path);
}

std::string FormatText(const FileComparison& comparison) {
  std::string text = comparison.path + ": " + comparison.format + "\n";
  for (const SliceComparison& slice : comparison.slices) {
    text += "  " + slice.architecture;
    const char* separator = ": ";
    for (const std::string& input : slice.inputs) {
      text += separator + input;
      separator = ", ";
    }
    text += "\n";
    for (const Component& component : slice.components) {
      text += absl::StrFormat("    %-22s ", component.name);
      text += component.identical
                  ? "identical"
                  : absl::StrFormat("differs at %d: %s (%s)", component.offset,
                                    component.field, component.values);
      if (!component.reason.empty()) text += ": " + component.reason;
      text += "\n";
    }
  }
  text += "  whole file: ";
  if (comparison.whole_file_identical.value_or(false)) {
    text += "identical";
  } else {
    text +=
        comparison.whole_file_identical.has_value() ? "differs" : "not made";
    text += comparison.whole_file_reason.empty()
                ? ", unexplained"
                : ": " + comparison.whole_file_reason;
  }
  return text + "\n";
}

std::string FormatJson(const FileComparison& comparison) {
  nlohmann::json slices = nlohmann::json::array();
  for (const SliceComparison& slice : comparison.slices) {
    nlohmann::json components = nlohmann::json::array();
    for (const Component& component : slice.components) {
      nlohmann::json each = {{"component", component.name},
                             {"identical", component.identical}};
      if (!component.identical) {
        each["offset"] = component.offset;
        each["field"] = component.field;
        each["values"] = component.values;
        if (!component.reason.empty()) each["reason"] = component.reason;
      }
      components.push_back(each);
    }
    slices.push_back({{"architecture", slice.architecture},
                      {"inputs", slice.inputs},
                      {"components", components}});
  }
  nlohmann::json whole = {
      {"identical", comparison.whole_file_identical.value_or(false)}};
  if (!comparison.whole_file_reason.empty()) {
    whole["reason"] = comparison.whole_file_reason;
  }
  return nlohmann::json({{"path", comparison.path},
                         {"format", comparison.format},
                         {"slices", slices},
                         {"whole_file", whole}})
      .dump();
}

}  // namespace codeseal::parity
