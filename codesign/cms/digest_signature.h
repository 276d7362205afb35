// A bare RSA signature whose digest was computed elsewhere: what a flat package
// carries beside its CMS.
//
//   checksum of the table of contents -> token key -> [RSA signature] -> heap
//
// Spec: RFC 8017, RSASSA-PKCS1-v1_5, from the DigestInfo on.

#ifndef CODESEAL_CODESIGN_CMS_DIGEST_SIGNATURE_H_
#define CODESEAL_CODESIGN_CMS_DIGEST_SIGNATURE_H_

#include <cstddef>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/cms/certificate.h"

namespace codeseal {

// Bytes of such a signature; 0 when the certificate's key is not RSA.
size_t RsaSignatureSize(const Certificate& certificate);

// Signs `digest`, which has DigestSize(kind) bytes and is not hashed again.
// Uses the key exactly once.
// Errors: INVALID_ARGUMENT REASON_KEY_UNSUPPORTED for other keys than RSA;
// INTERNAL STAGE_CMS when OpenSSL fails (why a token key failed is in
// hsm/provider.h, SignScope).
absl::StatusOr<Bytes> SignRsaDigest(const CmsSigner& signer, DigestKind kind,
                                    ByteView digest);

// Errors: FAILED_PRECONDITION REASON_CMS_SIGNATURE_INVALID.
absl::Status CheckRsaSignature(const Certificate& signer, DigestKind kind,
                               ByteView digest, ByteView signature);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CMS_DIGEST_SIGNATURE_H_
