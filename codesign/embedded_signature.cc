#include "codesign/embedded_signature.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "codesign/base/error.h"

namespace codeseal {
namespace {

absl::Status MalformedSignature(const char* rule, uint64_t offset,
                                const std::string& message) {
  return WithRule(ParseError(v1::REASON_MALFORMED_SIGNATURE, offset, message),
                  rule);
}

bool HoldsCodeDirectory(uint32_t slot) {
  return slot == kCodeDirectorySlot || (slot >= kAlternateCodeDirectorySlot &&
                                        slot < kAlternateCodeDirectoryEndSlot);
}

}  // namespace

std::optional<uint32_t> MagicOfSlot(uint32_t slot) {
  if (HoldsCodeDirectory(slot)) return kCodeDirectoryMagic;
  switch (slot) {
    case kRequirementsSlot:
      return kRequirementSetMagic;
    case kEntitlementsSlot:
      return kEntitlementsMagic;
    case kEntitlementsDerSlot:
      return kEntitlementsDerMagic;
    case kLaunchConstraintSelfSlot:
    case kLaunchConstraintParentSlot:
    case kLaunchConstraintResponsibleSlot:
    case kLibraryConstraintSlot:
      return kLaunchConstraintMagic;
    case kCmsSlot:
      return kBlobWrapperMagic;
    default:
      return std::nullopt;
  }
}

absl::StatusOr<EmbeddedSignature> EmbeddedSignature::Parse(ByteView bytes) {
  ASSIGN_OR_RETURN(SuperBlob super_blob,
                   SuperBlob::Parse(bytes, kEmbeddedSignatureMagic));
  EmbeddedSignature signature(std::move(super_blob));

  // By slot, so that the order of the index does not matter.
  std::vector<SuperBlob::Entry> entries(signature.super_blob_.entries().begin(),
                                        signature.super_blob_.entries().end());
  std::ranges::sort(entries, {}, &SuperBlob::Entry::slot);
  if (entries.empty() || entries.front().slot != kCodeDirectorySlot) {
    return MalformedSignature("ES-1", 0, "there is no CodeDirectory in slot 0");
  }
  std::vector<DigestKind> kinds;
  for (const SuperBlob::Entry& entry : entries) {
    const std::optional<uint32_t> magic = MagicOfSlot(entry.slot);
    if (magic.has_value() && entry.magic != *magic) {
      return MalformedSignature(
          "ES-2", entry.offset,
          absl::StrFormat("%s has magic %#x, want %#x", SlotName(entry.slot),
                          entry.magic, *magic));
    }
    if (entry.slot == kCmsSlot) {
      signature.cms_ = entry.blob.subspan(kBlobHeaderSize);
    }
    if (!HoldsCodeDirectory(entry.slot)) continue;
    absl::StatusOr<CodeDirectory> directory = CodeDirectory::Parse(entry.blob);
    if (!directory.ok()) {
      return WithOffsetBase(directory.status(), entry.offset);
    }
    if (std::ranges::find(kinds, directory->digest_kind()) != kinds.end()) {
      return MalformedSignature("ES-3", entry.offset,
                                "two CodeDirectories have the same digest");
    }
    kinds.push_back(directory->digest_kind());
    signature.code_directories_.push_back(*std::move(directory));
  }
  signature.best_ = static_cast<size_t>(
      std::ranges::find(kinds, BestDigest(kinds)) - kinds.begin());
  return signature;
}

absl::Status CheckSpecialSlot(const CodeDirectory& code_directory,
                              uint32_t slot, std::optional<ByteView> content) {
  if (!code_directory.SealsSpecialSlot(slot)) return absl::OkStatus();
  std::string fault;
  if (!content.has_value()) {
    fault = "is sealed but missing";
  } else if (!Equal(ComputeDigest(code_directory.digest_kind(), *content),
                    *code_directory.SpecialSlotDigest(slot))) {
    fault = "does not have the sealed digest";
  } else {
    return absl::OkStatus();
  }
  return WithSubject(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                v1::REASON_SPECIAL_SLOT_MISMATCH, SlotName(slot) + " " + fault),
      SlotName(slot));
}

}  // namespace codeseal
