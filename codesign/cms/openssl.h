// Ownership and errors of OpenSSL objects, for the folders that may see them.
//
// Private to codesign/cms, hsm and tests: no public header includes it.

#ifndef CODESEAL_CODESIGN_CMS_OPENSSL_H_
#define CODESEAL_CODESIGN_CMS_OPENSSL_H_

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/ts.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>

#include "codesign/base/bytes.h"

namespace codeseal {

template <auto kFree>
struct OpenSslDeleter {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
template <typename T, auto kFree>
using OpenSslPtr = std::unique_ptr<T, OpenSslDeleter<kFree>>;

using BioPtr = OpenSslPtr<BIO, BIO_free_all>;
using BignumPtr = OpenSslPtr<BIGNUM, BN_free>;
using EvpMdContextPtr = OpenSslPtr<EVP_MD_CTX, EVP_MD_CTX_free>;
using EvpPkeyPtr = OpenSslPtr<EVP_PKEY, EVP_PKEY_free>;
using EvpPkeyContextPtr = OpenSslPtr<EVP_PKEY_CTX, EVP_PKEY_CTX_free>;
using ObjectPtr = OpenSslPtr<ASN1_OBJECT, ASN1_OBJECT_free>;
using X509Ptr = OpenSslPtr<X509, X509_free>;
using X509NamePtr = OpenSslPtr<X509_NAME, X509_NAME_free>;
using X509StorePtr = OpenSslPtr<X509_STORE, X509_STORE_free>;
using X509StoreContextPtr = OpenSslPtr<X509_STORE_CTX, X509_STORE_CTX_free>;

// `message`, then the texts of this thread's OpenSSL error queue, which is left
// empty: errors of one call must not explain the failure of the next.
std::string DrainOpenSslErrors(std::string_view message);

// The DER of an OpenSSL object: EncodeDer(i2d_X509, certificate). Empty when
// OpenSSL cannot encode it.
template <typename T>
Bytes EncodeDer(int (*encode)(T, unsigned char**), T object) {
  const int size = encode(object, nullptr);
  if (size <= 0) return {};
  Bytes der(static_cast<size_t>(size));
  unsigned char* out = der.data();
  encode(object, &out);
  return der;
}

// The owner of a certificate stack; the certificates stay borrowed.
struct X509StackDeleter {
  void operator()(STACK_OF(X509) * stack) const { sk_X509_free(stack); }
};
using X509StackPtr = std::unique_ptr<STACK_OF(X509), X509StackDeleter>;

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CMS_OPENSSL_H_
