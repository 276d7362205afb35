#include "hsm/certificate_request.h"

#include <openssl/pem.h>

#include <utility>

#include "codesign/base/error.h"
#include "hsm/certificate_parts.h"
#include "hsm/openssl_ptr.h"
#include "hsm/provider.h"

namespace codeseal {

absl::StatusOr<std::string> BuildCertificateRequest(
    std::shared_ptr<KeyBackend> key, std::string_view subject,
    absl::Time deadline) {
  ASSIGN_OR_RETURN(const UniqueX509Name name, ParseSubject(subject));
  ASSIGN_OR_RETURN(const UniqueEvpPkey pkey, MakeTokenPkey(std::move(key)));
  const UniqueX509Req request(X509_REQ_new());
  if (X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 ||
      X509_REQ_set_subject_name(request.get(), name.get()) != 1 ||
      X509_REQ_set_pubkey(request.get(), pkey.get()) != 1) {
    return OpenSslError("cannot build the certificate request");
  }
  const SignScope scope(deadline);
  if (X509_REQ_sign(request.get(), pkey.get(), DigestFor(pkey.get())) == 0) {
    return SignError(scope, "cannot sign the certificate request");
  }
  const UniqueBio pem(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509_REQ(pem.get(), request.get()) != 1) {
    return OpenSslError("cannot write the certificate request");
  }
  return ReadAll(pem.get());
}

}  // namespace codeseal
