#include "codesign/verify/description.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "codesign/base/error.h"
#include "codesign/bundle/resource_seal.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/cms/timestamp.h"
#include "codesign/embedded_signature.h"
#include "codesign/entitlements.h"
#include "codesign/launch_constraint.h"
#include "codesign/requirement/default_designated.h"
#include "codesign/requirement/requirement.h"

namespace codeseal {
namespace {

void DescribeCodeDirectories(const EmbeddedSignature& signature,
                             SliceDescription& out) {
  const CodeDirectory& best = signature.best();
  out.identifier = std::string(best.identifier());
  out.team_identifier = std::string(best.team_identifier());
  out.version = best.version();
  out.flags = best.flags();
  out.ad_hoc = best.HasFlag(kAdHocFlag);
  out.code_directory_size = best.raw().size();
  out.code_slot_count = best.code_slot_count();
  out.special_slot_count = best.special_slot_count();
  out.platform = best.platform();
  out.digest_kind = best.digest_kind();
  out.page_size = best.page_size();
  out.exec_segment = best.exec_segment();
  out.runtime_version = best.runtime_version();
  out.cdhash = best.cdhash();
  out.seals_resources = best.SealsSpecialSlot(kCodeResourcesSlot);
  for (uint32_t slot = best.special_slot_count(); slot > 0; --slot) {
    Append(out.special_slots, *best.SpecialSlotDigest(slot));
  }
  out.code_slots = ToBytes(best.code_slots());
  for (const CodeDirectory& directory : signature.code_directories()) {
    out.code_directories.push_back(
        {directory.digest_kind(), directory.cdhash(),
         ComputeFullDigest(directory.digest_kind(), directory.raw())});
  }
  out.cms_digest =
      ComputeDigest(DigestKind::kSha256, signature.primary().raw());
}

void DescribeSigner(const EmbeddedSignature& signature, SliceDescription& out) {
  out.cms_size = signature.cms().size();
  if (out.ad_hoc || signature.cms().empty()) return;
  const absl::StatusOr<CmsSignature> cms = ParseAppleCms(signature.cms());
  if (!cms.ok()) return;
  out.signing_time = cms->signing_time;
  const absl::StatusOr<std::vector<Certificate>> chain =
      BuildChain(cms->signer, cms->certificates);
  out.authorities = chain.ok() ? *chain : std::vector{cms->signer};
  if (!cms->timestamp_token.has_value()) return;
  const absl::StatusOr<Timestamp> timestamp = VerifyTimestampToken(
      *cms->timestamp_token, cms->signature_value, cms->certificates);
  if (timestamp.ok()) out.timestamp = timestamp->time;
}

void DescribeBlobs(const EmbeddedSignature& signature,
                   std::optional<ByteView> info_plist, SliceDescription& out) {
  if (info_plist.has_value() &&
      signature.best().SealsSpecialSlot(kInfoPlistSlot)) {
    const absl::StatusOr<PlistDict> info = ParsePlistDict(*info_plist);
    if (info.ok()) out.info_plist_entry_count = info->size();
  }
  for (uint32_t slot = kLaunchConstraintSelfSlot;
       slot <= kLibraryConstraintSlot; ++slot) {
    if (const auto blob = signature.Find(slot)) {
      out.constraints[slot] =
          ParseLaunchConstraint(*blob).value_or(PlistDict());
    }
  }
  if (const auto blob = signature.Find(kEntitlementsSlot)) {
    out.entitlements_xml = ToBytes(blob->subspan(kBlobHeaderSize));
    absl::StatusOr<PlistDict> dict = ParseEntitlements(*blob);
    if (dict.ok()) out.entitlements = *std::move(dict);
  }
  if (const auto blob = signature.Find(kEntitlementsDerSlot)) {
    out.entitlements_der = ToBytes(blob->subspan(kBlobHeaderSize));
    absl::StatusOr<PlistDict> dict = ParseEntitlementsDer(*blob);
    if (dict.ok()) out.entitlements = *std::move(dict);
  }
}

// The cdhashes of slice `first`, then those of the others in the file's order.
std::vector<CdHash> CdHashesFrom(const CodeDescription& description,
                                 size_t first) {
  std::vector<const SliceDescription*> slices;
  for (const SliceDescription& slice : description.slices) {
    slices.push_back(&slice);
  }
  const SliceDescription* first_slice = slices[first];
  std::ranges::sort(slices, {}, [first_slice](const SliceDescription* slice) {
    return std::pair(slice != first_slice, slice->offset);
  });
  std::vector<CdHash> cdhashes;
  for (const SliceDescription* slice : slices) {
    for (const CodeDirectoryDescription& each : slice->code_directories) {
      cdhashes.push_back(each.cdhash);
    }
  }
  return cdhashes;
}

void DescribeRequirements(const EmbeddedSignature& signature,
                          std::span<const CdHash> cdhashes,
                          SliceDescription& out) {
  bool has_designated = false;
  if (const auto blob = signature.Find(kRequirementsSlot)) {
    const absl::StatusOr<RequirementSet> set = ParseRequirementSet(*blob);
    const absl::StatusOr<std::string> text = DumpRequirementBlob(*blob);
    if (set.ok() && text.ok()) {
      out.requirement_count = set->size();
      out.requirements_size = blob->size();
      has_designated = set->contains(kDesignatedRequirement);
      if (!set->empty()) out.requirements = *text;
    }
  }
  if (has_designated) return;
  const std::optional<RequirementExpression> implicit =
      out.ad_hoc ? BuildImplicitDesignated(cdhashes)
                 : BuildDefaultDesignated(out.identifier, out.authorities);
  if (implicit.has_value()) {
    out.requirements += "# designated => " + DumpRequirement(*implicit) + "\n";
  }
}

// The medium style of Apple's dates: "Jan 2, 2026 at 3:04:05 PM".
std::string FormatAppleTime(absl::Time time) {
  const absl::CivilSecond civil =
      absl::ToCivilSecond(time, absl::UTCTimeZone());
  const int hour = civil.hour() % 12 == 0 ? 12 : civil.hour() % 12;
  return absl::FormatTime("%b ", time, absl::UTCTimeZone()) +
         absl::StrFormat("%d, %d at %d:%02d:%02d %s", civil.day(), civil.year(),
                         hour, civil.minute(), civil.second(),
                         civil.hour() < 12 ? "AM" : "PM");
}

// 0x00XXYYZZ or 0xXXXXYYZZ.
std::string FormatVersion(uint32_t version) {
  return absl::StrFormat("%d.%d.%d", version >> 16, version >> 8 & 0xff,
                         version & 0xff);
}

// Collects the lines that `verbosity` lets through.
class Lines {
 public:
  explicit Lines(int verbosity) : verbosity_(verbosity) {}

  template <typename... Args>
  void Add(int level, const absl::FormatSpec<Args...>& format,
           const Args&... args) {
    if (level > verbosity_) return;
    absl::StrAppendFormat(&text_, format, args...);
    text_ += '\n';
  }
  bool Shows(int level) const { return level <= verbosity_; }
  std::string Take() && { return std::move(text_); }

 private:
  int verbosity_;
  std::string text_;
};

// "    -2=9879...", from `first` on.
void AddSlots(Lines& lines, int level, int64_t first, ByteView digests,
              size_t digest_size) {
  if (!lines.Shows(level) || digest_size == 0) return;
  for (size_t offset = 0; offset < digests.size(); offset += digest_size) {
    lines.Add(level, "%6d=%s", first++,
              HexEncode(digests.subspan(offset, digest_size)));
  }
}

std::string EscapeXml(std::string_view text) {
  std::string escaped;
  for (const char character : text) {
    switch (character) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      default:
        escaped += character;
    }
  }
  return escaped;
}

std::string Base64(const Bytes& bytes) {
  return absl::Base64Escape(
      absl::string_view(AsText(bytes).data(), bytes.size()));
}

// Entitlements hold no reals and no dates: their DER form has none.
std::string DumpValue(const PlistValue& value, const std::string& indent) {
  if (const bool* boolean = value.As<bool>()) {
    return indent + "[Bool] " + (*boolean ? "true" : "false") + "\n";
  }
  if (const int64_t* integer = value.As<int64_t>()) {
    return indent + "[Int] " + std::to_string(*integer) + "\n";
  }
  if (const std::string* text = value.As<std::string>()) {
    return indent + "[String] " + *text + "\n";
  }
  if (const Bytes* bytes = value.As<Bytes>()) {
    return indent + "[Data] " + Base64(*bytes) + "\n";
  }
  std::string dump;
  if (const PlistArray* array = value.As<PlistArray>()) {
    dump = indent + "[Array]\n";
    for (const PlistValue& item : *array)
      dump += DumpValue(item, indent + '\t');
  } else if (const PlistDict* dict = value.As<PlistDict>()) {
    dump = indent + "[Dict]\n";
    for (const auto& [key, item] : *dict) {
      dump += indent + "\t[Key] " + key + "\n" + indent + "\t[Value]\n" +
              DumpValue(item, indent + "\t\t");
    }
  }
  return dump;
}

std::string DumpValueXml(const PlistValue& value) {
  if (const bool* boolean = value.As<bool>()) {
    return *boolean ? "<true/>" : "<false/>";
  }
  if (const int64_t* integer = value.As<int64_t>()) {
    return "<integer>" + std::to_string(*integer) + "</integer>";
  }
  if (const std::string* text = value.As<std::string>()) {
    return "<string>" + EscapeXml(*text) + "</string>";
  }
  if (const Bytes* bytes = value.As<Bytes>()) {
    return "<data>" + Base64(*bytes) + "</data>";
  }
  std::string dump;
  if (const PlistArray* array = value.As<PlistArray>()) {
    for (const PlistValue& item : *array) dump += DumpValueXml(item);
    return "<array>" + dump + "</array>";
  }
  if (const PlistDict* dict = value.As<PlistDict>()) {
    for (const auto& [key, item] : *dict) {
      dump += "<key>" + EscapeXml(key) + "</key>" + DumpValueXml(item);
    }
    return "<dict>" + dump + "</dict>";
  }
  return dump;
}

absl::StatusOr<EmbeddedSignature> ReadSignature(const CodePart& part) {
  RETURN_IF_ERROR(part.signature_status);
  if (part.signature.empty()) {
    return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                     v1::REASON_NOT_SIGNED, "code object is not signed at all");
  }
  return EmbeddedSignature::Parse(part.signature);
}

std::optional<SealDescription> DescribeSeal(const StoredCode& code) {
  const auto bytes = code.SideFile(code.parts().front(), kCodeResourcesSlot);
  if (!bytes.has_value()) return std::nullopt;
  const absl::StatusOr<ResourceSeal> seal = ParseCodeResources(*bytes);
  if (!seal.ok()) return std::nullopt;
  return SealDescription{.version = seal->version(),
                         .rule_count = seal->RuleCount(),
                         .file_count = seal->FileCount()};
}

}  // namespace

CodeDescription Describe(const StoredCode& code) {
  CodeDescription description;
  std::error_code error;
  const auto absolute =
      std::filesystem::absolute(code.main_file().path(), error);
  description.path = error ? code.main_file().path() : absolute.string();
  description.format = code.Format();
  description.signature_source = code.SignatureSource();
  description.seal = DescribeSeal(code);
  description.has_ticket = code.HasTicket();
  std::vector<std::optional<EmbeddedSignature>> signatures;
  for (const CodePart& part : code.parts()) {
    SliceDescription& slice = description.slices.emplace_back();
    slice.architecture = part.architecture;
    slice.offset = part.offset;
    slice.is_native = &part == &code.NativePart();
    if (part.mach_o != nullptr && part.mach_o->version().has_value()) {
      const MachO::Version& version = *part.mach_o->version();
      slice.build_version = {static_cast<uint32_t>(version.platform),
                             version.minimum_os, version.sdk};
    }
    signatures.emplace_back();
    absl::StatusOr<EmbeddedSignature> signature = ReadSignature(part);
    if (!signature.ok()) {
      slice.status = WithSubject(signature.status(), code.Subject(part));
      continue;
    }
    DescribeCodeDirectories(*signature, slice);
    DescribeSigner(*signature, slice);
    DescribeBlobs(*signature, code.SideFile(part, kInfoPlistSlot), slice);
    signatures.back() = *std::move(signature);
  }
  for (size_t i = 0; i < signatures.size(); ++i) {
    if (!signatures[i].has_value()) continue;
    DescribeRequirements(*signatures[i], CdHashesFrom(description, i),
                         description.slices[i]);
  }
  return description;
}

std::string_view ConstraintName(uint32_t slot) {
  switch (slot) {
    case kLaunchConstraintSelfSlot:
      return "Self Launch";
    case kLaunchConstraintParentSlot:
      return "Parent Launch";
    case kLaunchConstraintResponsibleSlot:
      return "Responsible Launch";
    default:
      return "Library Load";
  }
}

std::string FormatDescription(const CodeDescription& description,
                              const SliceDescription& slice, int verbosity) {
  Lines lines(verbosity);
  lines.Add(0, "Executable=%s", description.path);
  lines.Add(1, "Identifier=%s", slice.identifier);
  lines.Add(1, "Format=%s", description.format);
  lines.Add(1, "CodeDirectory v=%x size=%d flags=%s hashes=%d+%d location=%s",
            slice.version, slice.code_directory_size,
            FormatCodeDirectoryFlags(slice.flags), slice.code_slot_count,
            slice.special_slot_count, description.signature_source);
  if (slice.platform != 0) {
    lines.Add(1, "Platform identifier=%d", slice.platform);
  }
  if (slice.build_version.has_value()) {
    lines.Add(4, "VersionPlatform=%d", slice.build_version->platform);
    lines.Add(4, "VersionMin=%d", slice.build_version->minimum_os);
    lines.Add(4, "VersionSDK=%d", slice.build_version->sdk);
  }
  const size_t digest_size = DigestSize(slice.digest_kind);
  lines.Add(3, "Hash type=%s size=%d",
            std::string(DigestName(slice.digest_kind)), digest_size);
  std::string choices;
  for (const CodeDirectoryDescription& each : slice.code_directories) {
    const std::string name(DigestName(each.digest_kind));
    lines.Add(3, "CandidateCDHash %s=%s", name, HexEncode(each.cdhash));
    lines.Add(3, "CandidateCDHashFull %s=%s", name,
              HexEncode(each.full_digest));
    choices += (choices.empty() ? "" : ",") + name;
  }
  lines.Add(3, "Hash choices=%s", choices);
  lines.Add(3, "CMSDigest=%s", HexEncode(slice.cms_digest));
  lines.Add(3, "CMSDigestType=%d", static_cast<int>(DigestKind::kSha256));
  if (slice.version >= kCodeDirectoryWithExecSegment) {
    lines.Add(4, "Executable Segment base=%d", slice.exec_segment.offset);
    lines.Add(4, "Executable Segment limit=%d", slice.exec_segment.size);
    lines.Add(4, "Executable Segment flags=0x%x", slice.exec_segment.flags);
  }
  if (slice.page_size == 0) {
    lines.Add(4, "Page size=none");
  } else {
    lines.Add(4, "Page size=%d", slice.page_size);
  }
  if (!slice.constraints.empty()) lines.Add(4, "Launch Constraints:");
  for (const auto& [slot, facts] : slice.constraints) {
    lines.Add(4, "\tHas %s Constraints", std::string(ConstraintName(slot)));
  }
  AddSlots(lines, 5, -int64_t{slice.special_slot_count}, slice.special_slots,
           digest_size);
  AddSlots(lines, 6, 0, slice.code_slots, digest_size);
  lines.Add(3, "CDHash=%s", HexEncode(slice.cdhash));
  if (slice.ad_hoc) {
    lines.Add(1, "Signature=adhoc");
  } else {
    lines.Add(1, "Signature size=%d", slice.cms_size);
  }
  for (const Certificate& authority : slice.authorities) {
    lines.Add(2, "Authority=%s", authority.CommonName());
  }
  if (slice.timestamp.has_value()) {
    lines.Add(1, "Timestamp=%s", FormatAppleTime(*slice.timestamp));
  } else if (slice.signing_time.has_value()) {
    lines.Add(1, "Signed Time=%s", FormatAppleTime(*slice.signing_time));
  }
  if (description.has_ticket) lines.Add(1, "Notarization Ticket=stapled");
  if (slice.info_plist_entry_count.has_value()) {
    lines.Add(1, "Info.plist entries=%d", *slice.info_plist_entry_count);
  } else {
    lines.Add(1, "Info.plist=not bound");
  }
  lines.Add(1, "TeamIdentifier=%s",
            slice.team_identifier.empty() ? "not set" : slice.team_identifier);
  if (slice.runtime_version != 0) {
    lines.Add(1, "Runtime Version=%s", FormatVersion(slice.runtime_version));
  }
  if (slice.seals_resources && description.seal.has_value()) {
    lines.Add(1, "Sealed Resources version=%d rules=%d files=%d",
              description.seal->version, description.seal->rule_count,
              description.seal->file_count);
  } else {
    lines.Add(1, "Sealed Resources=none");
  }
  if (slice.requirement_count.has_value()) {
    lines.Add(1, "Internal requirements count=%d size=%d",
              *slice.requirement_count, slice.requirements_size);
  } else {
    lines.Add(1, "Internal requirements=none");
  }
  return std::move(lines).Take();
}

std::string FormatEntitlements(const PlistDict& entitlements) {
  return DumpValue(PlistValue{entitlements}, "");
}

std::string FormatEntitlementsXml(const PlistDict& entitlements) {
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
         "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
         "\"https://www.apple.com/DTDs/PropertyList-1.0.dtd\">"
         "<plist version=\"1.0\">" +
         DumpValueXml(PlistValue{entitlements}) + "</plist>";
}

}  // namespace codeseal
