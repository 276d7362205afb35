#include "client/signer.h"

#include "absl/strings/str_cat.h"
#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/cms/digest_signature.h"
#include "codesign/cms/timestamp.h"

namespace codeseal::client {
namespace {

absl::Status Mistrust(const std::string& message) {
  return MakeError(absl::StatusCode::kInternal, v1::STAGE_CMS,
                   v1::REASON_SELF_VERIFY_FAILED,
                   "the signature that came back is not used: " + message);
}

absl::Status CheckCms(ByteView cms, const CmsContent& content,
                      const SigningIdentity& identity) {
  const absl::StatusOr<CmsSignature> signature = VerifyAppleCms(cms, content);
  if (!signature.ok()) {
    return Mistrust(std::string(Message(signature.status())));
  }
  // The designated requirement speaks of this leaf's chain.
  if (!Equal(signature->signer.der(), identity.chain.front().der())) {
    return Mistrust(absl::StrCat("it is by ", signature->signer.CommonName(),
                                 ", not by ",
                                 identity.chain.front().CommonName()));
  }
  if (signature->timestamp_token.has_value()) {
    const absl::Status timestamp =
        VerifyTimestampToken(*signature->timestamp_token,
                             signature->signature_value,
                             signature->certificates)
            .status();
    if (!timestamp.ok()) return Mistrust(std::string(Message(timestamp)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSignature(const SlicePlan& slice,
                            const SigningIdentity& identity, ByteView cms) {
  std::vector<CodeDirectoryBlob> blobs;
  for (size_t i = 0; i < slice.code_directories.size(); ++i) {
    blobs.push_back({slice.digests[i], slice.code_directories[i]});
  }
  return CheckCms(cms, DescribeContent(blobs), identity);
}

absl::Status CheckPackageSignatures(const PackagePlan& plan,
                                    const SigningIdentity& identity,
                                    const PackageSignatures& signatures) {
  RETURN_IF_ERROR(
      CheckCms(signatures.cms, DescribeBytes(plan.checksum()), identity));
  const absl::Status status =
      CheckRsaSignature(identity.chain.front(), plan.checksum_kind(),
                        plan.checksum(), signatures.rsa);
  return status.ok() ? status : Mistrust(std::string(Message(status)));
}

}  // namespace codeseal::client
