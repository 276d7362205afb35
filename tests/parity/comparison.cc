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
  uint32_t page_size = 0;
  bool is_macos_26_page = false;  // a page that only macOS 26 writes
  bool is_before_macos_12 = false;
  bool has_explicit_requirements = false;
  bool has_explicit_team = false;
  bool has_explicit_runtime = false;
};

absl::StatusOr<std::vector<Certificate>> LearnChain(
    const EmbeddedSignature& signature) {
  if (signature.cms().empty()) return std::vector<Certificate>();
  std::vector<CodeDirectoryBlob> blobs;
  for (const CodeDirectory& directory : signature.code_directories()) {
    blobs.push_back({directory.digest_kind(), directory.raw()});
  }
  ASSIGN_OR_RETURN(const CmsSignature cms,
                   VerifyAppleCms(signature.cms(), DescribeContent(blobs)));
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

absl::StatusOr<Learned> Learn(const MachO& mach_o) {
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
  options.identifier = std::string(primary.identifier());
  options.flags = primary.flags();
  if (learned.chain.empty()) *options.flags &= ~kAdHocFlag;
  for (const CodeDirectory& directory : signature.code_directories()) {
    options.digests.push_back(directory.digest_kind());
  }
  const std::string team(primary.team_identifier());
  learned.has_explicit_team =
      team != TeamIdentifier(learned.chain).value_or("");
  if (learned.has_explicit_team) options.team_identifier = team;

  if (const auto blob = signature.Find(kRequirementsSlot)) {
    learned.has_explicit_requirements =
        !Equal(*blob, DefaultRequirements(*options.identifier, learned.chain));
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
  learned.is_before_macos_12 =
      (has_entitlements && !has_der) || lacks_exec_segment;
  return learned;
}

// Whether one run of codesign could have signed both slices.
bool CanShareOptions(const Learned& a, const Learned& b) {
  const SigningOptions& x = a.options;
  const SigningOptions& y = b.options;
  return x.identifier == y.identifier && x.flags == y.flags &&
         x.digests == y.digests && x.team_identifier == y.team_identifier &&
         x.requirements == y.requirements && x.entitlements == y.entitlements &&
         x.constraints == y.constraints &&
         x.runtime_version == y.runtime_version &&
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
  if (learned.has_explicit_requirements) {
    notes.push_back("explicit requirements");
  }
  if (learned.has_explicit_team) notes.push_back("explicit team identifier");
  if (learned.has_explicit_runtime) notes.push_back("explicit runtime version");
  if (options.entitlements.has_value()) notes.push_back("entitlements");
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

absl::StatusOr<std::vector<Component>> CompareSlices(
    const UniversalFile::Slice& theirs, const UniversalFile::Slice& ours) {
  ASSIGN_OR_RETURN(const EmbeddedSignature their_signature,
                   EmbeddedSignature::Parse(theirs.mach_o.Signature()));
  ASSIGN_OR_RETURN(const EmbeddedSignature our_signature,
                   EmbeddedSignature::Parse(ours.mach_o.Signature()));
  std::vector<Component> components;

  Component layout = CompareBytes(
      "layout",
      theirs.mach_o.raw().first(
          static_cast<size_t>(theirs.mach_o.SigningLimit())),
      ours.mach_o.raw().first(static_cast<size_t>(ours.mach_o.SigningLimit())),
      [&](uint64_t at) { return DescribeSliceOffset(theirs.mach_o, at); });
  if (layout.identical && theirs.offset != ours.offset) {
    layout.identical = false;
    layout.field = absl::StrFormat("slice offset: %d theirs, %d ours",
                                   theirs.offset, ours.offset);
  }
  components.push_back(layout);

  const auto describe = [](const CodeDirectory& directory) {
    return [&directory](uint64_t at) { return directory.DescribeOffset(at); };
  };
  const auto their_directories = their_signature.code_directories();
  const auto our_directories = our_signature.code_directories();
  for (size_t i = 0;
       i < std::min(their_directories.size(), our_directories.size()); ++i) {
    components.push_back(CompareBytes(
        "CodeDirectory " +
            std::string(DigestName(their_directories[i].digest_kind())),
        their_directories[i].raw(), our_directories[i].raw(),
        describe(their_directories[i])));
  }
  for (const uint32_t slot :
       {kRequirementsSlot, kEntitlementsSlot, kEntitlementsDerSlot,
        kLaunchConstraintSelfSlot, kLaunchConstraintParentSlot,
        kLaunchConstraintResponsibleSlot, kLibraryConstraintSlot}) {
    const auto their_blob = their_signature.Find(slot);
    const auto our_blob = our_signature.Find(slot);
    if (!their_blob.has_value() && !our_blob.has_value()) continue;
    components.push_back(CompareBlobs(slot, their_blob, our_blob));
  }
  components.push_back(
      CompareBytes("SuperBlob index", IndexOf(their_signature.super_blob()),
                   IndexOf(our_signature.super_blob()), DescribeIndexOffset));
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

bool AllIdentical(const FileComparison& comparison) {
  for (const SliceComparison& slice : comparison.slices) {
    for (const Component& component : slice.components) {
      if (!component.identical) return false;
    }
  }
  return true;
}

void CompareWholeFile(const UniversalFile& theirs, ByteView ours,
                      FileComparison& comparison) {
  comparison.whole_file_identical = Equal(theirs.raw(), ours);
  if (*comparison.whole_file_identical) return;
  const Bytes with_leftovers = WithLeftoverBytes(theirs, ours);
  const ByteView a = theirs.raw();
  const auto at = static_cast<uint64_t>(
      std::mismatch(a.begin(), a.end(), ours.begin(), ours.end()).first -
      a.begin());
  if (Equal(a, with_leftovers)) {
    comparison.whole_file_reason = absl::StrFormat(
        "leftover bytes: an earlier, longer signature shows behind this one, "
        "from byte %d; nothing else differs",
        at);
  } else if (!AllIdentical(comparison)) {
    comparison.whole_file_reason =
        absl::StrFormat("components differ; first at byte %d of the file", at);
  } else {
    comparison.whole_file_reason =
        absl::StrFormat("unexplained, first at byte %d", at);
  }
}

absl::StatusOr<SigningPlan> Plan(const std::string& path,
                                 const SigningOptions& options,
                                 std::span<const Certificate> chain) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  return SigningPlan::Create(std::move(file), options, chain);
}

// Plans `stripped`, with another signature size when that is what fits.
absl::StatusOr<SigningPlan> PlanLikeApple(const std::string& stripped,
                                          const UniversalFile& theirs,
                                          SigningOptions& options,
                                          std::span<const Certificate> chain) {
  ASSIGN_OR_RETURN(SigningPlan plan, Plan(stripped, options, chain));
  // The same difference in each slice is the difference of --signature-size.
  const int64_t difference =
      int64_t{theirs.slices()[0].mach_o.signature_command()->data_size} -
      static_cast<int64_t>(plan.reserved_size(0));
  if (difference == 0) return plan;
  const int64_t size = int64_t{options.reserved_cms_size} + difference;
  if (size <= 0 || size > INT32_MAX) return plan;
  options.reserved_cms_size = static_cast<uint32_t>(size);
  return Plan(stripped, options, chain);
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
  const std::vector<Certificate>& chain = learned.front().chain;
  ASSIGN_OR_RETURN(const SigningPlan plan,
                   PlanLikeApple(copy, theirs, options, chain));
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
                     CompareSlices(theirs.slices()[i], ours.slices()[i]));
    comparison.slices.push_back(std::move(slice));
  }
  CompareWholeFile(theirs, written.bytes(), comparison);
  return absl::OkStatus();
}

// Each slice as a thin file, when they were not signed by one run.
absl::Status CompareApart(const UniversalFile& theirs,
                          FileComparison& comparison) {
  const ScratchFolder scratch;
  for (const UniversalFile::Slice& slice : theirs.slices()) {
    const std::string thin = scratch.File(fs::path(comparison.path).filename());
    RETURN_IF_ERROR(WriteFile(thin, slice.mach_o.raw()));
    ASSIGN_OR_RETURN(const FileComparison one, CompareWithApple(thin));
    comparison.slices.push_back(one.slices.front());
  }
  comparison.whole_file_reason =
      "the slices were signed with different options, each was compared alone";
  return absl::OkStatus();
}

}  // namespace

bool FileComparison::IsExplained() const {
  return AllIdentical(*this) &&
         (whole_file_identical.value_or(false) ||
          (!whole_file_reason.empty() &&
           whole_file_reason.find("unexplained") == std::string::npos));
}

absl::StatusOr<FileComparison> CompareWithApple(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const UniversalFile theirs,
                   UniversalFile::Parse(file.bytes()));
  FileComparison comparison;
  comparison.path = path;
  comparison.format = theirs.Format();
  std::vector<Learned> learned;
  bool together = true;
  for (const UniversalFile::Slice& slice : theirs.slices()) {
    absl::StatusOr<Learned> each = Learn(slice.mach_o);
    if (!each.ok()) {
      return WithSubject(each.status(), slice.architecture.Name());
    }
    learned.push_back(*std::move(each));
    together &= CanShareOptions(learned.front(), learned.back());
  }
  RETURN_IF_ERROR(together ? CompareTogether(theirs, learned, comparison)
                           : CompareApart(theirs, comparison));
  return comparison;
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
      text += "\n";
    }
  }
  text += "  whole file: ";
  text += comparison.whole_file_identical.value_or(false)
              ? "identical"
              : (comparison.whole_file_identical.has_value() ? "differs: "
                                                             : "not made: ") +
                    comparison.whole_file_reason;
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
