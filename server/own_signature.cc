#include "server/own_signature.h"

#include <string>
#include <vector>

#include "codesign/base/error.h"
#include "codesign/cms/signer_verdict.h"
#include "codesign/cms/trust.h"

namespace codeseal {
namespace {

absl::Status DoesNotVerify(std::string_view why) {
  return MakeError(absl::StatusCode::kDataLoss, v1::STAGE_CMS,
                   v1::REASON_SELF_VERIFY_FAILED,
                   "the new signature does not verify: " + std::string(why));
}

}  // namespace

absl::Status OwnSignatureCheck::CheckSigner(const CheckedRequest& request,
                                            std::span<const Certificate> chain,
                                            absl::Time now) {
  const SignerPurpose purpose = request.package.has_value()
                                    ? SignerPurpose::kPackage
                                    : SignerPurpose::kCode;
  Bytes key = {static_cast<uint8_t>(purpose)};
  for (const Certificate& each : chain) Append(key, each.der());
  key = ComputeDigest(DigestKind::kSha256, key);
  absl::Status verdict;
  {
    const std::lock_guard lock(mutex_);
    auto known = judged_.find(key);
    if (known == judged_.end()) {
      SignerPolicy policy;
      policy.purpose = purpose;
      policy.now = now;
      known = judged_
                  .emplace(key, JudgeSigner({chain.front(),
                                             {chain.begin(), chain.end()},
                                             std::nullopt,
                                             std::nullopt,
                                             {}},
                                            policy)
                                    .status())
                  .first;
    }
    verdict = known->second;
  }
  RETURN_IF_ERROR(verdict);
  for (const CodeDirectory& each : request.code_directories) {
    RETURN_IF_ERROR(CheckTeamIdentifier(each.team_identifier(), chain));
    // Such code is refused as soon as its certificate has expired.
    if (each.HasFlag(kExpiresFlag)) {
      RETURN_IF_ERROR(CheckValidityDates(chain, now));
    }
  }
  return absl::OkStatus();
}

absl::Status OwnSignatureCheck::CheckSigned(
    ByteView cms, const CmsContent& content,
    std::span<const Certificate> chain) {
  const absl::StatusOr<CmsSignature> verified =
      VerifyAppleCms(cms, content, chain);
  if (!verified.ok()) return DoesNotVerify(Message(verified.status()));
  if (!(verified->signer == chain.front())) {
    return DoesNotVerify("it names another signer");
  }
  return absl::OkStatus();
}

}  // namespace codeseal
