#include "codesign/cms/signed_message.h"

#include <openssl/cms.h>

#include <utility>

#include "codesign/base/error.h"
#include "codesign/cms/openssl.h"

namespace codeseal {
namespace {

using CmsPtr = OpenSslPtr<CMS_ContentInfo, CMS_ContentInfo_free>;

struct OwnedX509StackDeleter {
  void operator()(STACK_OF(X509) * stack) const {
    sk_X509_pop_free(stack, X509_free);
  }
};
using OwnedX509StackPtr =
    std::unique_ptr<STACK_OF(X509), OwnedX509StackDeleter>;

absl::Status BadCms(std::string_view message) {
  return ParseError(v1::REASON_BAD_CMS, 0, DrainOpenSslErrors(message));
}

}  // namespace

absl::StatusOr<SignedMessage> OpenSignedMessage(ByteView cms) {
  const unsigned char* at = cms.data();
  const CmsPtr message(
      d2i_CMS_ContentInfo(nullptr, &at, static_cast<long>(cms.size())));
  if (message == nullptr) return BadCms("it is no CMS message");
  if (OBJ_obj2nid(CMS_get0_type(message.get())) != NID_pkcs7_signed) {
    return BadCms("it is a CMS message, but not a signed one");
  }
  const ASN1_OCTET_STRING* const* const stored =
      CMS_get0_content(message.get());
  if (stored == nullptr || *stored == nullptr) {
    return BadCms("the CMS message carries no content");
  }
  const BioPtr content(BIO_new(BIO_s_mem()));
  if (CMS_verify(message.get(), nullptr, nullptr, nullptr, content.get(),
                 CMS_BINARY | CMS_NO_SIGNER_CERT_VERIFY) != 1) {
    return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                     v1::REASON_CMS_SIGNATURE_INVALID,
                     DrainOpenSslErrors("the message's signature is invalid"));
  }
  SignedMessage opened;
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(content.get(), &bytes);
  if (size > 0) opened.content.assign(bytes, bytes + size);
  const OwnedX509StackPtr certificates(CMS_get1_certs(message.get()));
  for (int i = 0; i < sk_X509_num(certificates.get()); ++i) {
    ASSIGN_OR_RETURN(Certificate certificate,
                     Certificate::Share(sk_X509_value(certificates.get(), i)));
    opened.certificates.push_back(std::move(certificate));
  }
  return opened;
}

}  // namespace codeseal
