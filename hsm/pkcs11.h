// The one door to the PKCS#11 header, which defines macros for words such as
// `label`: include it last, in the worker's .cc files and internal headers
// only.

#ifndef CODESEAL_HSM_PKCS11_H_
#define CODESEAL_HSM_PKCS11_H_

#include <p11-kit/pkcs11.h>

#endif  // CODESEAL_HSM_PKCS11_H_
