// Owners for OpenSSL's objects.

#ifndef CODESEAL_HSM_OPENSSL_PTR_H_
#define CODESEAL_HSM_OPENSSL_PTR_H_

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>

namespace codeseal {

template <auto Free>
struct OpenSslDeleter {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
template <typename T, auto Free>
using OpenSslPtr = std::unique_ptr<T, OpenSslDeleter<Free>>;

inline void FreeOpenSslBuffer(unsigned char* buffer) { OPENSSL_free(buffer); }

using UniqueBio = OpenSslPtr<BIO, BIO_free_all>;
using UniqueBuffer = OpenSslPtr<unsigned char, FreeOpenSslBuffer>;
using UniqueEvpMd = OpenSslPtr<EVP_MD, EVP_MD_free>;
using UniqueEvpMdCtx = OpenSslPtr<EVP_MD_CTX, EVP_MD_CTX_free>;
using UniqueEvpPkeyCtx = OpenSslPtr<EVP_PKEY_CTX, EVP_PKEY_CTX_free>;
using UniqueParams = OpenSslPtr<OSSL_PARAM, OSSL_PARAM_free>;
using UniqueParamBuilder = OpenSslPtr<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free>;
using UniqueAlgorithm = OpenSslPtr<X509_ALGOR, X509_ALGOR_free>;
using UniqueAsn1OctetString =
    OpenSslPtr<ASN1_OCTET_STRING, ASN1_OCTET_STRING_free>;
using UniqueBigNum = OpenSslPtr<BIGNUM, BN_free>;
using UniqueEcdsaSignature = OpenSslPtr<ECDSA_SIG, ECDSA_SIG_free>;
using UniqueExtension = OpenSslPtr<X509_EXTENSION, X509_EXTENSION_free>;
using UniquePssParams = OpenSslPtr<RSA_PSS_PARAMS, RSA_PSS_PARAMS_free>;
using UniqueX509 = OpenSslPtr<X509, X509_free>;
using UniqueX509Name = OpenSslPtr<X509_NAME, X509_NAME_free>;
using UniqueX509Req = OpenSslPtr<X509_REQ, X509_REQ_free>;

}  // namespace codeseal

#endif  // CODESEAL_HSM_OPENSSL_PTR_H_
