// RFC 3161 timestamps: an authority's signed word that a signature existed at a
// certain time. Code that has one outlives its signer's certificate.
//
//   signature value -> TimestampQuery -> (HTTP) -> [response] -> token -> CMS
//   CMS -> token -> [VerifyTimestampToken] -> time
//
// A token is judged by the same rules when it is got and when it is found in
// code: its signature and ESS attribute, its imprint, one signer with a chain
// that was valid at the token's own time, a leaf that is no CA and whose sole,
// critical extended key usage is timeStamping. Whoever asks for a new one adds
// what only the asker knows: the nonce, the roots, the policy, and that SHA-1
// is not good enough any more.
//
// Spec: RFC 3161 sections 2.2 to 2.4, RFC 5816. Apple's authority (measured on
//       tokens of 2012 to 2026) keeps all of these rules, with one exception:
//       its tokens are signed over a SHA-1 digest.

#ifndef CODESEAL_CODESIGN_CMS_TIMESTAMP_H_
#define CODESEAL_CODESIGN_CMS_TIMESTAMP_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/cms/certificate.h"

namespace codeseal {

struct Timestamp {
  absl::Time time;                 // what the authority says, whole seconds
  std::vector<Certificate> chain;  // the authority's: leaf first, root last
  std::string policy;              // dotted OID
  bool sha1_imprint = false;       // the imprint is a SHA-1 digest
  bool sha1_signature = false;     // the token's signature covers one
};

// Verifies a token over `stamped`, the signature value that it belongs to. The
// chain ends in a self-signed certificate of the token or of `candidates`;
// whether that one is trusted, and whether SHA-1 is good enough, is left to the
// caller.
// Errors: FAILED_PRECONDITION REASON_BAD_TIMESTAMP.
absl::StatusOr<Timestamp> VerifyTimestampToken(
    ByteView token, ByteView stamped, std::span<const Certificate> candidates);

// What is forgiven to an authority.
enum class TimestampProfile : uint8_t {
  kRfc3161,  // nothing
  kApple,    // a token signed over a SHA-1 digest
};

// What a new token must satisfy.
struct TimestampRules {
  TimestampProfile profile = TimestampProfile::kRfc3161;
  // The chain must end in one of these, or, with Apple's profile, in a root of
  // Apple's.
  std::vector<Certificate> roots;
  // Dotted OID that is asked for and that the token must name; empty: any.
  std::string policy;
};

// A TimeStampReq and what its answer is held against.
struct TimestampQuery {
  Bytes stamped;
  Bytes nonce;  // content octets of the INTEGER
  Bytes der;    // what is sent
};

// Asks for a token over the SHA-256 of `stamped`, with a fresh random nonce of
// 64 bits, the authority's certificates, and `rules.policy` if there is one.
// Errors: INVALID_ARGUMENT REASON_BAD_OPTION for a policy that is no OID.
absl::StatusOr<TimestampQuery> MakeTimestampQuery(ByteView stamped,
                                                  const TimestampRules& rules);

struct NewTimestamp {
  Bytes token;  // DER of the ContentInfo, as received
  Timestamp timestamp;
};

// The token of a TimeStampResp to `query`, wholly verified. Not checked: how
// far its time is from ours. `known` are certificates that need not be parsed
// again when the token holds them, such as the chain of an earlier one.
// Errors: FAILED_PRECONDITION REASON_BAD_TIMESTAMP, also when the authority
// says no; the message has its words.
absl::StatusOr<NewTimestamp> OpenTimestampResponse(
    ByteView response, const TimestampQuery& query, const TimestampRules& rules,
    std::span<const Certificate> known = {});

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CMS_TIMESTAMP_H_
