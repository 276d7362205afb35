#include "server/request_check.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "codesign/base/error.h"
#include "codesign/entitlements.h"
#include "codesign/requirement/requirement.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

absl::Status RefuseRequest(std::string_view rule, Reason reason,
                           std::string_view message) {
  return WithRule(MakeError(absl::StatusCode::kInvalidArgument,
                            v1::STAGE_POLICY, reason, message),
                  rule);
}

// A blob that comes with the request and the special slot that seals it.
struct BoundBlob {
  Slot slot;
  const std::string& (v1::CodeDirectorySet::*blob)() const;
};

constexpr std::array kBoundBlobs = {
    BoundBlob{kRequirementsSlot, &v1::CodeDirectorySet::requirements},
    BoundBlob{kEntitlementsSlot, &v1::CodeDirectorySet::entitlements},
    BoundBlob{kEntitlementsDerSlot, &v1::CodeDirectorySet::entitlements_der},
    BoundBlob{kLaunchConstraintSelfSlot,
              &v1::CodeDirectorySet::launch_constraint_self},
    BoundBlob{kLaunchConstraintParentSlot,
              &v1::CodeDirectorySet::launch_constraint_parent},
    BoundBlob{kLaunchConstraintResponsibleSlot,
              &v1::CodeDirectorySet::launch_constraint_responsible},
    BoundBlob{kLibraryConstraintSlot,
              &v1::CodeDirectorySet::library_constraint},
};

// Slots whose content is a file of the bundle or image: only its digest is
// here.
constexpr std::array kDigestOnlySlots = {kInfoPlistSlot, kCodeResourcesSlot,
                                         kRepSpecificSlot};

bool IsKnownDigest(DigestKind kind) { return DigestSize(kind) != 0; }

absl::Status CheckOne(const CodeDirectory& directory) {
  if (directory.HasFlag(kAdHocFlag) || directory.HasFlag(kLinkerSignedFlag)) {
    // Such code claims to have no signature.
    return RefuseRequest(
        "SR-6", v1::REASON_BAD_CODE_DIRECTORY,
        "the CodeDirectory is marked ad-hoc or linker-signed: " +
            FormatCodeDirectoryFlags(directory.flags()));
  }
  if (directory.platform() != 0) {  // Apple's own code only
    return RefuseRequest("SR-7", v1::REASON_BAD_CODE_DIRECTORY,
                         "the CodeDirectory claims Apple platform " +
                             std::to_string(directory.platform()));
  }
  if (directory.special_slot_count() > kLibraryConstraintSlot) {
    return RefuseRequest("SR-8", v1::REASON_BAD_CODE_DIRECTORY,
                         "special slot " +
                             std::to_string(directory.special_slot_count()) +
                             " has no meaning");
  }
  return absl::OkStatus();
}

// All CodeDirectories of a slice describe the same code.
absl::Status CheckSameCode(const CodeDirectory& primary,
                           const CodeDirectory& other) {
  const char* difference = nullptr;
  const ExecSegment& mine = primary.exec_segment();
  const ExecSegment& theirs = other.exec_segment();
  if (primary.identifier() != other.identifier()) {
    difference = "identifier";
  } else if (primary.team_identifier() != other.team_identifier()) {
    difference = "team identifier";
  } else if (primary.code_limit() != other.code_limit()) {
    difference = "code limit";
  } else if (primary.page_size() != other.page_size()) {
    difference = "page size";
  } else if (primary.flags() != other.flags()) {
    difference = "flags";
  } else if (mine.offset != theirs.offset || mine.size != theirs.size ||
             mine.flags != theirs.flags) {
    difference = "executable segment";
  }
  if (difference == nullptr) return absl::OkStatus();
  return RefuseRequest(
      "SR-5", v1::REASON_BAD_CODE_DIRECTORY,
      std::string("the CodeDirectories differ in their ") + difference);
}

// Slot `bound.slot` of every CodeDirectory seals exactly this blob.
absl::Status CheckBoundBlob(const BoundBlob& bound, ByteView blob,
                            std::span<const CodeDirectory> directories) {
  const std::string name = SlotName(bound.slot);
  for (const CodeDirectory& directory : directories) {
    const std::string kind(DigestName(directory.digest_kind()));
    const bool sealed = directory.SealsSpecialSlot(bound.slot);
    if (sealed && blob.empty()) {
      return RefuseRequest("SR-9", v1::REASON_BAD_CODE_DIRECTORY,
                           "the " + kind + " CodeDirectory seals " + name +
                               ", which the request leaves out");
    }
    if (!sealed && !blob.empty()) {
      return RefuseRequest("SR-10", v1::REASON_BAD_CODE_DIRECTORY,
                           "the request has " + name + ", which the " + kind +
                               " CodeDirectory does not seal");
    }
    if (!sealed) continue;
    const Bytes digest = ComputeDigest(directory.digest_kind(), blob);
    if (!Equal(digest, *directory.SpecialSlotDigest(bound.slot))) {
      return RefuseRequest("SR-11", v1::REASON_BAD_CODE_DIRECTORY,
                           "the " + kind + " of " + name +
                               " is not what the CodeDirectory seals");
    }
  }
  return absl::OkStatus();
}

// Every slot that seals something is one whose content we judge or know to be
// a file.
absl::Status CheckSealedSlots(const CodeDirectory& directory) {
  for (uint32_t slot = 1; slot <= directory.special_slot_count(); ++slot) {
    const bool known =
        std::find(kDigestOnlySlots.begin(), kDigestOnlySlots.end(), slot) !=
            kDigestOnlySlots.end() ||
        std::any_of(kBoundBlobs.begin(), kBoundBlobs.end(),
                    [&](const BoundBlob& bound) { return bound.slot == slot; });
    if (!known && directory.SealsSpecialSlot(slot)) {
      return RefuseRequest(
          "SR-8", v1::REASON_BAD_CODE_DIRECTORY,
          "special slot " + std::to_string(slot) + " must not seal anything");
    }
  }
  return absl::OkStatus();
}

// What the bound blobs say must make sense: macOS would refuse the code
// otherwise, or read something else in it than we do.
absl::Status CheckContents(const v1::CodeDirectorySet& set,
                           CheckedRequest& checked) {
  if (!set.requirements().empty()) {
    RETURN_IF_ERROR(
        WithSubject(ParseRequirementSet(AsBytes(set.requirements())).status(),
                    SlotName(kRequirementsSlot)));
  }
  for (const BoundBlob& bound : kBoundBlobs) {
    const ByteView blob = AsBytes((set.*bound.blob)());
    if (bound.slot < kLaunchConstraintSelfSlot || blob.empty()) continue;
    RETURN_IF_ERROR(
        WithSubject(ParseEntitlementsDer(blob, kLaunchConstraintMagic).status(),
                    SlotName(bound.slot)));
  }
  const ByteView xml = AsBytes(set.entitlements());
  const ByteView der = AsBytes(set.entitlements_der());
  if (!xml.empty()) {
    ASSIGN_OR_RETURN(checked.entitlements, ParseEntitlements(xml));
    if (!der.empty()) RETURN_IF_ERROR(CheckEntitlementsAgree(xml, der));
  } else if (!der.empty()) {
    return RefuseRequest(
        "SR-12", v1::REASON_BAD_CODE_DIRECTORY,
        "there are DER entitlements without the property list");
  }
  // The kernel believes these bits without looking at the entitlements.
  const uint64_t granted =
      kExecSegmentMainBinary | (checked.entitlements.has_value()
                                    ? ExecSegmentFlags(*checked.entitlements)
                                    : 0);
  const uint64_t claimed =
      checked.code_directories.front().exec_segment().flags;
  if ((claimed & ~granted) != 0) {
    return RefuseRequest("SR-13", v1::REASON_BAD_CODE_DIRECTORY,
                         "execSegFlags claims what no entitlement grants");
  }
  return absl::OkStatus();
}

absl::Status CheckCodeDirectorySet(const v1::CodeDirectorySet& set,
                                   CheckedRequest& checked) {
  if (set.code_directories().empty()) {
    return RefuseRequest("SR-2", v1::REASON_BAD_REQUEST,
                         "the request has no CodeDirectory");
  }
  std::vector<CodeDirectoryBlob> blobs;
  for (const std::string& raw : set.code_directories()) {
    ASSIGN_OR_RETURN(const CodeDirectory directory,
                     CodeDirectory::Parse(AsBytes(raw)));
    if (directory.raw().size() != raw.size()) {
      return RefuseRequest("SR-3", v1::REASON_BAD_CODE_DIRECTORY,
                           "there are bytes behind the CodeDirectory's end");
    }
    if (!blobs.empty() && blobs.back().kind >= directory.digest_kind()) {
      // Apple stores the lowest hashType first.
      return RefuseRequest("SR-4", v1::REASON_BAD_CODE_DIRECTORY,
                           "the CodeDirectories' digest types do not ascend");
    }
    RETURN_IF_ERROR(CheckOne(directory));
    RETURN_IF_ERROR(CheckSealedSlots(directory));
    checked.code_directories.push_back(directory);
    checked.cdhashes.push_back(directory.cdhash());
    blobs.push_back({directory.digest_kind(), directory.raw()});
    RETURN_IF_ERROR(CheckSameCode(checked.code_directories.front(), directory));
  }
  for (const BoundBlob& bound : kBoundBlobs) {
    RETURN_IF_ERROR(CheckBoundBlob(bound, AsBytes((set.*bound.blob)()),
                                   checked.code_directories));
  }
  RETURN_IF_ERROR(CheckContents(set, checked));
  checked.content = DescribeContent(blobs);
  return absl::OkStatus();
}

absl::Status CheckDigestSet(const v1::DigestSet& set, CheckedRequest& checked) {
  CmsContent& content = checked.content;
  for (const auto& each : set.digests()) {
    const auto kind = static_cast<DigestKind>(each.hash_type());
    const ByteView digest = AsBytes(each.digest());
    if (each.hash_type() > 0xff || !IsKnownDigest(kind) ||
        digest.size() != FullDigestSize(kind)) {
      return RefuseRequest("SR-14", v1::REASON_BAD_REQUEST,
                           "a digest has not the size of its type");
    }
    if (!content.code_directories.empty() &&
        content.code_directories.back().kind >= kind) {
      return RefuseRequest("SR-4", v1::REASON_BAD_REQUEST,
                           "the digests' types do not ascend");
    }
    content.code_directories.push_back({kind, ToBytes(digest)});
    CdHash& cdhash = checked.cdhashes.emplace_back();
    std::copy_n(digest.begin(), cdhash.size(), cdhash.begin());
  }
  if (content.code_directories.empty()) {
    return RefuseRequest("SR-2", v1::REASON_BAD_REQUEST,
                         "the request has no digest");
  }
  content.message_digest = ToBytes(AsBytes(set.message_digest()));
  const auto& primary = content.code_directories.front();
  if (content.message_digest.size() != FullDigestSize(DigestKind::kSha256) ||
      (FullDigestSize(primary.kind) == content.message_digest.size() &&
       primary.digest != content.message_digest)) {
    return RefuseRequest("SR-15", v1::REASON_BAD_REQUEST,
                         "message_digest is not the SHA-256 of the primary "
                         "CodeDirectory");
  }
  return absl::OkStatus();
}

}  // namespace

bool IsUuid(std::string_view text) {
  if (text.size() != 36) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    const char c = text[i];
    const bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
                     (c >= 'A' && c <= 'F');
    if (dash ? c != '-' : !hex) return false;
  }
  return true;
}

absl::StatusOr<CheckedRequest> CheckSignRequest(
    const v1::SignRequest& request) {
  if (!IsUuid(request.request_id())) {
    return RefuseRequest("SR-1", v1::REASON_BAD_REQUEST,
                         "request_id is not a UUID such as "
                         "123e4567-e89b-42d3-a456-426614174000");
  }
  CheckedRequest checked;
  switch (request.payload_case()) {
    case v1::SignRequest::kCodeDirectorySet:
      RETURN_IF_ERROR(
          CheckCodeDirectorySet(request.code_directory_set(), checked));
      break;
    case v1::SignRequest::kDigestSet:
      RETURN_IF_ERROR(CheckDigestSet(request.digest_set(), checked));
      break;
    case v1::SignRequest::kPackage: {
      ASSIGN_OR_RETURN(checked.package, CheckPackage(request.package()));
      checked.content = DescribeBytes(checked.package->checksum);
      break;
    }
    case v1::SignRequest::PAYLOAD_NOT_SET:
      return RefuseRequest(
          "SR-2", v1::REASON_BAD_REQUEST,
          "the request has neither CodeDirectories nor digests");
  }
  if (!v1::TimestampMode_IsValid(request.timestamp()) ||
      (request.timestamp() == v1::TIMESTAMP_MODE_NONE &&
       !request.timestamp_url().empty())) {
    return RefuseRequest(
        "SR-16", v1::REASON_BAD_REQUEST,
        "the request's wishes for a timestamp do not fit together");
  }
  if (request.has_signing_time()) {
    const int64_t seconds = request.signing_time().seconds();
    constexpr int64_t kYear2050 = 2'524'608'000;  // UTCTime ends there
    if (seconds < 0 || seconds >= kYear2050) {
      return RefuseRequest("SR-17", v1::REASON_BAD_REQUEST,
                           "signing_time is not between 1970 and 2050");
    }
    checked.signing_time = absl::FromUnixSeconds(seconds);
  }
  return checked;
}

}  // namespace codeseal
