// Apple's profile of a CMS signature over CodeDirectories: detached content,
// the two hash-agility attributes, BER with indefinite lengths outside.
//
//   CodeDirectories -> CmsContent -> token key -> CMS -> embedded signature
//
// Spec: RFC 5652; Security libsecurity_smime and CodeSigner's signer.cpp.

#ifndef CODESEAL_CODESIGN_CMS_APPLE_CMS_H_
#define CODESEAL_CODESIGN_CMS_APPLE_CMS_H_

#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/cms/certificate.h"

struct evp_pkey_st;
struct ossl_lib_ctx_st;

namespace codeseal {

// What the signature covers. It needs digests only, so that a request may
// leave the CodeDirectories at home.
struct CmsContent {
  struct CodeDirectoryDigest {
    DigestKind kind = DigestKind::kSha256;
    Bytes digest;  // FullDigestSize(kind) bytes
  };
  Bytes message_digest;  // SHA-256 of the primary CodeDirectory: 32 bytes
  std::vector<CodeDirectoryDigest> code_directories;  // ascending hashType
};

// `code_directories`: raw blobs with their hashType, primary first.
struct CodeDirectoryBlob {
  DigestKind kind = DigestKind::kSha256;
  ByteView raw;
};
CmsContent DescribeContent(std::span<const CodeDirectoryBlob> code_directories);

struct CmsSigner {
  evp_pkey_st* key = nullptr;  // borrowed; RSA or EC, may be a token key
  ossl_lib_ctx_st* context = nullptr;  // where the key's provider is loaded
  std::span<const Certificate> chain;  // leaf first, self-signed root last
};

// The ContentInfo. Without `signing_time` the attribute is left out. Uses the
// key exactly once.
// Errors: INTERNAL STAGE_CMS for OpenSSL's faults; the token's own Status when
// the key failed (see hsm/provider.h); INVALID_ARGUMENT
// REASON_INCOMPLETE_CHAIN.
absl::StatusOr<Bytes> BuildAppleCms(const CmsSigner& signer,
                                    const CmsContent& content,
                                    std::optional<absl::Time> signing_time);

// What a CMS says, as stored.
struct CmsSignature {
  std::vector<Certificate> certificates;  // as stored, any order
  Certificate signer;
  std::optional<absl::Time> signing_time;
  // DER or BER of the RFC 3161 token; not verified here.
  std::optional<Bytes> timestamp_token;
};

// Checks the first signer's signature, messageDigest and both hash-agility
// attributes against `content`. Signed attributes are hashed as stored. Not
// checked: trust, validity dates, the timestamp.
// Errors: INVALID_ARGUMENT REASON_BAD_CMS when it does not parse;
// FAILED_PRECONDITION REASON_CMS_SIGNATURE_INVALID when it does not fit.
absl::StatusOr<CmsSignature> VerifyAppleCms(ByteView cms,
                                            const CmsContent& content);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CMS_APPLE_CMS_H_
