// Apple's profile of a CMS signature: detached content, for code the two
// hash-agility attributes, BER with indefinite lengths outside.
//
//   CodeDirectories -> CmsContent -> token key -> [CMS] -> embedded signature
//   checksum of a package's table -> CmsContent -> token key -> [CMS] -> heap
//
// Spec: RFC 5652; Security, libsecurity_smime and CodeSigner's signer.cpp;
//       OIDs 1.2.840.113635.100.9.1 and .2 for the hash-agility attributes.
//
// The message is written and read here, byte by byte, and only the signature
// itself is OpenSSL's: Apple's outer encoding is one that OpenSSL cannot write,
// attributes must be hashed as they were stored, and OpenSSL's own CMS takes
// 40 us for each signature where this takes a few. Tests hold the result
// against OpenSSL's reader.

#ifndef CODESEAL_CODESIGN_CMS_APPLE_CMS_H_
#define CODESEAL_CODESIGN_CMS_APPLE_CMS_H_

#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
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
  // SHA-1 of the same, for signatures of before 2016; empty when not known.
  Bytes sha1_message_digest;
  std::vector<CodeDirectoryDigest> code_directories;  // ascending hashType
  // Without it there are no CodeDirectories, and the signature has no
  // hash-agility attributes.
  bool is_code = true;
};

// One CodeDirectory as it is stored.
struct CodeDirectoryBlob {
  DigestKind kind = DigestKind::kSha256;
  ByteView raw;
};
// `code_directories`: primary first, at least one. Leaves sha1_message_digest
// empty.
CmsContent DescribeContent(std::span<const CodeDirectoryBlob> code_directories);

// Bytes that are no code: the checksum of an installer package.
CmsContent DescribeBytes(ByteView bytes);

struct CmsSigner {
  evp_pkey_st* key = nullptr;  // borrowed; RSA or EC, may be a token key
  ossl_lib_ctx_st* context = nullptr;  // where the key's provider is loaded
  std::span<const Certificate> chain;  // leaf first, self-signed root last
};

// The ContentInfo. Without `signing_time` the attribute is left out. Uses the
// key exactly once. Not checked: whether the key is the leaf's; verify the
// result with VerifyAppleCms().
// Errors: INTERNAL STAGE_CMS when OpenSSL fails (why a token key failed is in
// hsm/provider.h, SignScope); INVALID_ARGUMENT REASON_INCOMPLETE_CHAIN when the
// chain is empty or does not end in a self-issued certificate, REASON_BAD_CMS
// when `content` is incomplete, REASON_KEY_UNSUPPORTED.
absl::StatusOr<Bytes> BuildAppleCms(const CmsSigner& signer,
                                    const CmsContent& content,
                                    std::optional<absl::Time> signing_time);

// The same message with an RFC 3161 token as an unsigned attribute of its
// signer. No byte of what was there changes but the lengths around it, so that
// a signature is made once and kept, and stamped afterwards. Not checked:
// whether the token is one, and this signature's.
// Errors: INVALID_ARGUMENT REASON_BAD_CMS when `cms` is not one signer's as
// BuildAppleCms() makes it, has unsigned attributes already, or when `token` is
// not one element of ASN.1.
absl::StatusOr<Bytes> AddTimestampToken(ByteView cms, ByteView token);

// What a CMS says, as stored. The first signer is the one that counts, as for
// Apple.
struct CmsSignature {
  // One entry of the V2 hash-agility attribute.
  struct AgilityDigest {
    std::optional<DigestKind> kind;  // nullopt: an algorithm we do not know
    Bytes digest;
  };

  explicit CmsSignature(Certificate signer_certificate)
      : signer(std::move(signer_certificate)) {}

  std::vector<Certificate> certificates;         // as stored, any order
  Certificate signer;                            // one of them
  DigestKind digest_kind = DigestKind::kSha256;  // of the CMS itself
  Bytes message_digest;
  std::optional<absl::Time> signing_time;
  std::optional<std::vector<Bytes>> cdhashes;                 // V1
  std::optional<std::vector<AgilityDigest>> agility_digests;  // V2
  // The attributes as a DER SET header over the stored bytes: what is signed.
  Bytes signed_attributes;
  Bytes signature_value;  // what an RFC 3161 token stamps
  // DER or BER of the RFC 3161 token; see timestamp.h.
  std::optional<Bytes> timestamp_token;
  // Elements of the CMS's `crls`: lists of revoked certificates, OCSP
  // responses. Not parsed.
  std::vector<Bytes> revocation_values;
  // Signers behind the first. Apple's code never looks at them; here a
  // signature that is none, or one of something else, is a forger's trace.
  // Without certificates, revocation values and signers of their own.
  std::vector<CmsSignature> other_signers;
};

// Reads a ContentInfo; zero bytes behind it are ignored. Nothing is verified.
// A stored certificate that equals one of `known` is not parsed again: parsing
// is the dearest part of checking a signature that one has just made.
// Errors: INVALID_ARGUMENT REASON_BAD_CMS with the offset.
absl::StatusOr<CmsSignature> ParseAppleCms(
    ByteView cms, std::span<const Certificate> known = {});

// Checks every signer's signature, messageDigest and both hash-agility
// attributes against `content`. Without those attributes, as before 2016, the
// CMS covers one CodeDirectory, and there may be no other. Not checked: trust,
// validity dates, the timestamp.
// Errors: FAILED_PRECONDITION REASON_CMS_SIGNATURE_INVALID.
absl::Status CheckAppleCms(const CmsSignature& signature,
                           const CmsContent& content);

// Both in one.
absl::StatusOr<CmsSignature> VerifyAppleCms(
    ByteView cms, const CmsContent& content,
    std::span<const Certificate> known = {});

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CMS_APPLE_CMS_H_
