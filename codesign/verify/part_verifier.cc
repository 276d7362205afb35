#include "codesign/verify/part_verifier.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "codesign/base/error.h"
#include "codesign/base/parallel.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/cms/timestamp.h"
#include "codesign/code_directory.h"
#include "codesign/embedded_signature.h"
#include "codesign/entitlements.h"
#include "codesign/requirement/default_designated.h"
#include "codesign/requirement/evaluator.h"
#include "codesign/requirement/requirement.h"
#include "codesign/verify/check_list.h"

namespace codeseal {
namespace {

// Slots 1 to 11 have a meaning (super_blob.h); a little room for new ones.
constexpr uint32_t kMaxSpecialSlot = 32;

// Bytes of code that one work item hashes.
constexpr uint64_t kChunkSize = 1024 * 1024;

// What Apple calls a CodeDirectory that does not parse.
const AppleError& AppleErrorOfCodeDirectory(const absl::Status& status) {
  const Reason reason = GetReason(status);
  const bool unsupported = reason == v1::REASON_UNSUPPORTED_VERSION ||
                           reason == v1::REASON_UNSUPPORTED_DIGEST ||
                           reason == v1::REASON_UNSUPPORTED_PAGE_SIZE ||
                           reason == v1::REASON_UNSUPPORTED_CODE;
  return unsupported ? kErrSignatureUnsupported : kErrSignatureFailed;
}

const AppleError& AppleErrorOfSlot(uint32_t slot) {
  switch (slot) {
    case kInfoPlistSlot:
      return kErrInfoPlistFailed;
    case kCodeResourcesSlot:
      return kErrResourceDirectoryFailed;
    default:
      return kErrSignatureFailed;
  }
}

const AppleError& AppleErrorOfSigner(const absl::Status& status) {
  switch (static_cast<int>(GetReason(status))) {  // int: a choice of some
    case v1::REASON_CERTIFICATE_EXPIRED:
      return kErrCertificateExpired;
    case v1::REASON_CERTIFICATE_REVOKED:
      return kErrCertificateRevoked;
    case v1::REASON_REVOCATION_UNKNOWN:
      return kErrRevocationIncomplete;
    case v1::REASON_TEAM_IDENTIFIER_MISMATCH:
      return kErrBadTeamIdentifier;
    default:
      break;
  }
  const std::string rule =
      GetErrorDetail(status).value_or(ErrorDetail()).rule();
  return rule == kRuleRootNotTrusted ? kErrSignatureUntrusted : kErrNotTrusted;
}

// What Apple calls a requirement that cannot be judged, or that does not hold.
const AppleError& AppleErrorOfRequirement(const absl::Status& status) {
  const Reason reason = GetReason(status);
  if (reason == v1::REASON_REQUIREMENT_NOT_SATISFIED) return kErrReqFailed;
  // RQ-3: an opcode that is not known; the other: a form that is not.
  const bool is_unsupported =
      reason == v1::REASON_UNSUPPORTED_VERSION ||
      GetErrorDetail(status).value_or(ErrorDetail()).rule() == "RQ-3";
  return is_unsupported ? kErrReqUnsupported : kErrReqInvalid;
}

class PartVerifier {
 public:
  PartVerifier(const StoredCode& code, const CodePart& part,
               const VerifyOptions& options, const VerifyScope& scope,
               SliceReport& report)
      : code_(code),
        part_(part),
        options_(options),
        scope_(scope),
        report_(report),
        checks_(report.checks, code.Subject(part)) {
    report_.architecture = part.architecture;
    report_.offset = part.offset;
  }

  void Run() {
    if (!ReadSignature() || !CheckCodeDirectories()) return;
    CheckSigner();
    CheckSpecialSlots();
    CheckEntitlements();
    for (const CodeDirectory& directory : signature_->code_directories()) {
      CheckPages(directory);
    }
    CheckRequirements();
  }

 private:
  bool ReadSignature();
  bool CheckCodeDirectories();
  void CheckSigner();
  void CheckTimestamp(const CmsSignature& cms);
  void CheckTrust(const CmsSignature& cms);
  void CheckSpecialSlots();
  void CheckOneSpecialSlot(uint32_t slot);
  void CheckEntitlements();
  void CheckPages(const CodeDirectory& directory);
  void CheckRequirements();
  absl::Status CheckDesignated(const RequirementContext& context,
                               std::string& note) const;

  const CodeDirectory& best() const { return signature_->best(); }
  // What the slot stands for: a blob of the signature or a file. An Info.plist
  // in the signature is nobody's.
  std::optional<ByteView> Component(uint32_t slot) const {
    if (slot != kInfoPlistSlot) {
      if (const auto blob = signature_->Find(slot)) return blob;
    }
    return code_.SideFile(part_, slot);
  }
  // The component, if the signature vouches for it.
  std::optional<ByteView> SealedComponent(uint32_t slot) const {
    const bool sealed = best().SealsSpecialSlot(slot) &&
                        CheckSpecialSlot(best(), slot, Component(slot)).ok();
    return sealed ? Component(slot) : std::nullopt;
  }
  std::optional<uint64_t> FileOffset(ByteView bytes) const {
    return code_.FileOffset(bytes);
  }

  const StoredCode& code_;
  const CodePart& part_;
  const VerifyOptions& options_;
  const VerifyScope& scope_;
  SliceReport& report_;
  CheckList checks_;

  std::optional<EmbeddedSignature> signature_;
  std::optional<Timestamp> timestamp_;  // verified
  bool signer_holds_ = false;           // CMS and chain passed
};

bool PartVerifier::ReadSignature() {
  if (!part_.signature_status.ok()) {
    checks_.Fail(kCheckSignatureLayout, kErrSignatureInvalid,
                 part_.signature_status);
    return false;
  }
  const ByteView bytes = part_.signature;
  if (bytes.empty()) {
    checks_.Fail(kCheckSigned, kErrUnsigned, v1::REASON_NOT_SIGNED,
                 part_.mach_o != nullptr ? "there is no LC_CODE_SIGNATURE"
                                         : "there is no signature beside it");
    return false;
  }
  absl::StatusOr<EmbeddedSignature> signature = EmbeddedSignature::Parse(bytes);
  if (!signature.ok()) {
    const std::string rule =
        GetErrorDetail(signature.status()).value_or(ErrorDetail()).rule();
    if (rule == "ES-1") {  // no CodeDirectory
      checks_.Fail(kCheckSigned, kErrUnsigned, v1::REASON_NOT_SIGNED,
                   Message(signature.status()), FileOffset(bytes));
    } else if (rule.starts_with("CD-")) {
      checks_.Fail(kCheckCodeDirectories,
                   AppleErrorOfCodeDirectory(signature.status()),
                   signature.status(), FileOffset(bytes));
    } else {
      checks_.Fail(kCheckSignatureLayout, kErrSignatureInvalid,
                   signature.status(), FileOffset(bytes));
    }
    return false;
  }
  signature_ = *std::move(signature);
  checks_.Pass(kCheckSigned);
  const absl::Status packed = signature_->super_blob().CheckPacked();
  if (packed.ok()) {
    checks_.Pass(kCheckSignatureLayout);
  } else if (GetReason(packed) != v1::REASON_OVERLAPPING_RANGES) {
    // Linkers other than Apple's leave gaps, and macOS takes their code.
    checks_.Pass(kCheckSignatureLayout,
                 "tolerated: " + std::string(Message(packed)));
  } else {
    checks_.Fail(kCheckSignatureLayout, kErrSignatureInvalid, packed,
                 FileOffset(bytes));
  }

  for (const CodeDirectory& directory : signature_->code_directories()) {
    report_.digests.push_back(directory.digest_kind());
    report_.cdhashes.push_back(directory.cdhash());
  }
  report_.cdhash = best().cdhash();
  report_.identifier = std::string(best().identifier());
  report_.team_identifier = std::string(best().team_identifier());
  // As macOS does, by the best digest, not by the primary CodeDirectory.
  report_.ad_hoc = best().HasFlag(kAdHocFlag);
  return true;
}

bool PartVerifier::CheckCodeDirectories() {
  const uint64_t signing_limit = part_.code.size();
  for (const CodeDirectory& directory : signature_->code_directories()) {
    if (directory.code_limit() != signing_limit) {
      checks_.Fail(
          kCheckCodeDirectories, kErrSignatureInvalid,
          v1::REASON_CODE_LIMIT_MISMATCH,
          absl::StrFormat("the CodeDirectory covers %d bytes, the code has %d",
                          directory.code_limit(), signing_limit),
          FileOffset(directory.raw()));
      return false;
    }
    if (directory.special_slot_count() > kMaxSpecialSlot) {
      checks_.Fail(
          kCheckCodeDirectories, kErrSignatureUnsupported,
          v1::REASON_SIGNATURE_UNSUPPORTED,
          absl::StrFormat("%d special slots, no code has more than %d",
                          directory.special_slot_count(), kMaxSpecialSlot),
          FileOffset(directory.raw()));
      return false;
    }
  }
  checks_.Pass(kCheckCodeDirectories,
               absl::StrFormat("%d bytes of code are covered", signing_limit));
  return true;
}

void PartVerifier::CheckSigner() {
  if (report_.ad_hoc && !signature_->cms().empty()) {
    // Apple's code would not look at it; nobody writes such code, though, and
    // a forger makes it of signed code by changing one bit.
    checks_.Fail(kCheckCmsSignature, kErrSignatureFailed,
                 v1::REASON_CMS_SIGNATURE_INVALID,
                 "the code calls itself ad-hoc, and has a CMS signature",
                 FileOffset(signature_->cms()));
    return;
  }
  if (report_.ad_hoc) {
    checks_.Pass(kCheckCmsSignature, "ad-hoc: nobody has signed it");
    // In a bundle the seal around it vouches for it.
    if (options_.require_trusted_anchor && !scope_.is_nested) {
      checks_.Fail(kCheckCertificateChain, kErrSignatureUntrusted,
                   v1::REASON_CHAIN_NOT_TRUSTED,
                   "it is signed ad-hoc, and one of the anchors is asked for");
    }
    return;
  }
  if (!signature_->Find(kCmsSlot).has_value()) {
    checks_.Fail(kCheckCmsSignature, kErrUnsigned, v1::REASON_NOT_SIGNED,
                 "the code is not ad-hoc and has no CMS signature");
    return;
  }
  const absl::StatusOr<CmsSignature> cms = ParseAppleCms(signature_->cms());
  if (!cms.ok()) {
    checks_.Fail(kCheckCmsSignature, kErrUnknownFormat, cms.status(),
                 FileOffset(signature_->cms()));
    return;
  }
  std::vector<CodeDirectoryBlob> blobs;
  for (const CodeDirectory& directory : signature_->code_directories()) {
    blobs.push_back({directory.digest_kind(), directory.raw()});
  }
  CmsContent content = DescribeContent(blobs);
  const auto is_sha1 = [](const CmsSignature& signer) {
    return signer.digest_kind == DigestKind::kSha1;
  };
  if (is_sha1(*cms) || std::any_of(cms->other_signers.begin(),
                                   cms->other_signers.end(), is_sha1)) {
    content.sha1_message_digest =
        ComputeDigest(DigestKind::kSha1, signature_->primary().raw());
  }
  report_.signing_time = cms->signing_time;
  const absl::Status status = CheckAppleCms(*cms, content);
  if (!status.ok()) {
    checks_.Fail(kCheckCmsSignature, kErrSignatureFailed, status);
    return;
  }
  std::string note = "signed by " + cms->signer.CommonName();
  for (const CmsSignature& other : cms->other_signers) {
    note +=
        "; also signed, which does not count, by " + other.signer.CommonName();
  }
  checks_.Pass(kCheckCmsSignature, std::move(note));
  CheckTimestamp(*cms);
  CheckTrust(*cms);
}

void PartVerifier::CheckTimestamp(const CmsSignature& cms) {
  if (!cms.timestamp_token.has_value()) {
    checks_.Skip(kCheckTimestamp, "there is none");
    return;
  }
  absl::StatusOr<Timestamp> timestamp = VerifyTimestampToken(
      *cms.timestamp_token, cms.signature_value, cms.certificates);
  if (!timestamp.ok()) {
    checks_.Fail(kCheckTimestamp, kErrTimestampInvalid, timestamp.status());
    return;
  }
  timestamp_ = *timestamp;
  report_.timestamp = timestamp->time;
  checks_.Pass(kCheckTimestamp,
               "stamped by " + timestamp->chain.front().CommonName());
}

void PartVerifier::CheckTrust(const CmsSignature& cms) {
  SignerPolicy policy;
  policy.anchors = options_.anchors;
  policy.require_trusted_anchor = options_.require_trusted_anchor;
  policy.at = options_.at;
  policy.now = options_.now;
  policy.expiration_counts =
      options_.check_expiration || best().HasFlag(kExpiresFlag);
  policy.revocation = options_.revocation.get();
  policy.team_identifier = report_.team_identifier;
  SignerVerdict verdict =
      JudgeSigner({cms.signer, cms.certificates, cms.signing_time, timestamp_,
                   cms.revocation_values},
                  policy);
  report_.authorities = std::move(verdict.authorities);
  report_.trusted = verdict.trusted;
  signer_holds_ = verdict.holds;
  for (SignerCheck& check : verdict.checks) {
    if (!check.made) {
      checks_.Skip(check.name, std::move(check.note));
    } else if (check.status.ok()) {
      checks_.Pass(check.name, std::move(check.note));
    } else {
      checks_.Fail(check.name, AppleErrorOfSigner(check.status), check.status);
    }
  }
}

// From the highest slot down.
void PartVerifier::CheckSpecialSlots() {
  for (uint32_t slot = kMaxSpecialSlot; slot > kCodeDirectorySlot; --slot) {
    if (slot == kCodeResourcesSlot && code_.bundle() != nullptr) continue;
    CheckOneSpecialSlot(slot);
  }
}

void PartVerifier::CheckOneSpecialSlot(uint32_t slot) {
  const std::span<const CodeDirectory> directories =
      signature_->code_directories();
  const std::optional<ByteView> component = Component(slot);
  const std::string name =
      std::string(kCheckSpecialSlot) + "-" + std::to_string(slot);
  if (std::none_of(directories.begin(), directories.end(),
                   [slot](const CodeDirectory& directory) {
                     return directory.SealsSpecialSlot(slot);
                   })) {
    if (component.has_value()) {
      checks_.Skip(name, SlotName(slot) +
                             ": present, but the signature does not cover it");
    }
    return;
  }
  for (const CodeDirectory& directory : directories) {
    const absl::Status status = CheckSpecialSlot(directory, slot, component);
    if (status.ok()) continue;
    checks_.Fail(
        name, AppleErrorOfSlot(slot), v1::REASON_SPECIAL_SLOT_MISMATCH,
        absl::StrFormat("%s (%s)", std::string(Message(status)),
                        std::string(DigestName(directory.digest_kind()))),
        component.has_value() ? FileOffset(*component) : std::nullopt);
    return;
  }
  checks_.Pass(name, SlotName(slot));
}

// Older systems obey the XML, newer ones the DER.
void PartVerifier::CheckEntitlements() {
  const std::optional<ByteView> xml = SealedComponent(kEntitlementsSlot);
  const std::optional<ByteView> der = SealedComponent(kEntitlementsDerSlot);
  if (!xml.has_value() || !der.has_value()) return;
  const absl::Status status = CheckEntitlementsAgree(*xml, *der);
  if (status.ok()) {
    checks_.Pass(kCheckEntitlements, "both forms say the same");
  } else {
    checks_.Fail(kCheckEntitlements, kErrInvalidEntitlements, status,
                 FileOffset(*xml));
  }
}

void PartVerifier::CheckPages(const CodeDirectory& directory) {
  const DigestKind kind = directory.digest_kind();
  if (scope_.is_shallow) {
    checks_.Skip(kCheckCodePages, "nested code: only with --deep");
    return;
  }
  const ByteView code = part_.code;
  const size_t digest_size = DigestSize(kind);
  const ByteView expected = directory.code_slots();
  const size_t page_count = directory.code_slot_count();
  const size_t page_size =
      directory.page_size() != 0 ? directory.page_size() : code.size();
  const size_t pages_per_chunk =
      std::max<size_t>(1, kChunkSize / std::max<size_t>(1, page_size));
  const size_t chunk_count =
      (page_count + pages_per_chunk - 1) / pages_per_chunk;

  std::atomic<size_t> first_bad_page = std::numeric_limits<size_t>::max();
  std::atomic<size_t> bad_page_count = 0;
  ParallelFor(chunk_count, [&](size_t chunk) {
    Digester digester(kind);
    Bytes digest(digest_size);
    const size_t begin = chunk * pages_per_chunk;
    const size_t end = std::min(page_count, begin + pages_per_chunk);
    for (size_t page = begin; page < end; ++page) {
      const size_t offset = page * page_size;
      digester.Digest(
          code.subspan(offset, std::min(page_size, code.size() - offset)),
          digest);
      if (Equal(digest, expected.subspan(page * digest_size, digest_size))) {
        continue;
      }
      ++bad_page_count;
      size_t lowest = first_bad_page;
      while (page < lowest &&
             !first_bad_page.compare_exchange_weak(lowest, page)) {
      }
    }
    code_.main_file().Release(part_.offset + begin * page_size,
                              (end - begin) * page_size);
  });

  const std::string digest_name(DigestName(kind));
  if (bad_page_count == 0) {
    checks_.Pass(kCheckCodePages,
                 absl::StrFormat("%d pages, %s", page_count, digest_name));
    return;
  }
  checks_.Fail(kCheckCodePages, kErrSignatureFailed, v1::REASON_CODE_MODIFIED,
               absl::StrFormat("page %d differs (%s; %d of %d pages do)",
                               first_bad_page.load(), digest_name,
                               bad_page_count.load(), page_count),
               part_.offset + first_bad_page * page_size);
}

void PartVerifier::CheckRequirements() {
  RequirementContext context;
  context.identifier = report_.identifier;
  context.cdhashes = {&report_.cdhash, 1};
  context.platform = best().platform();
  // A chain that does not hold must not satisfy anything.
  if (signer_holds_) context.chain = report_.authorities;
  PlistDict info;
  PlistDict entitlements;
  if (const auto bytes = SealedComponent(kInfoPlistSlot)) {
    if (absl::StatusOr<PlistDict> dict = ParsePlistDict(*bytes); dict.ok()) {
      info = *std::move(dict);
      context.info = &info;
    }
  }
  if (const auto blob = SealedComponent(kEntitlementsSlot)) {
    if (absl::StatusOr<PlistDict> dict = ParseEntitlements(*blob); dict.ok()) {
      entitlements = *std::move(dict);
      context.entitlements = &entitlements;
    }
  }

  if (options_.requirement.has_value()) {
    const absl::StatusOr<RequirementExpression> expression =
        ParseRequirement(*options_.requirement);
    const absl::Status status = expression.ok()
                                    ? CheckRequirement(*expression, context)
                                    : expression.status();
    if (status.ok()) {
      checks_.Pass(kCheckExplicitRequirement);
    } else {
      checks_.Fail(kCheckExplicitRequirement, AppleErrorOfRequirement(status),
                   status);
    }
  }

  if (scope_.is_nested) return;
  std::string note;
  const absl::Status status = CheckDesignated(context, note);
  if (status.ok()) {
    checks_.Pass(kCheckDesignatedRequirement, note);
  } else {
    checks_.Fail(kCheckDesignatedRequirement, AppleErrorOfRequirement(status),
                 status);
  }
}

absl::Status PartVerifier::CheckDesignated(const RequirementContext& context,
                                           std::string& note) const {
  if (const auto blob = SealedComponent(kRequirementsSlot)) {
    ASSIGN_OR_RETURN(const RequirementSet set, ParseRequirementSet(*blob));
    const auto designated = set.find(kDesignatedRequirement);
    if (designated != set.end()) {
      ASSIGN_OR_RETURN(const RequirementExpression expression,
                       ParseRequirement(designated->second));
      note = "stored";
      return CheckRequirement(expression, context);
    }
  }
  // What codesign would have written; ad-hoc code requires its own cdhash.
  const std::optional<RequirementExpression> implicit =
      report_.ad_hoc
          ? BuildImplicitDesignated(context.cdhashes)
          : BuildDefaultDesignated(context.identifier, context.chain);
  note = "implicit";
  if (!implicit.has_value()) {
    return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                     v1::REASON_REQUIREMENT_NOT_SATISFIED,
                     "the signer is not known, and so no requirement is");
  }
  return CheckRequirement(*implicit, context);
}

}  // namespace

void VerifyPart(const StoredCode& code, const CodePart& part,
                const VerifyOptions& options, const VerifyScope& scope,
                SliceReport& report) {
  PartVerifier(code, part, options, scope, report).Run();
}

}  // namespace codeseal
