// A real RFC 3161 authority, made of OpenSSL's TS API: it reads queries, signs
// tokens with certificates of its own, and lies when it is told to.
//
//   query -> [TimestampAuthority] -> response
//
// A lie is one wrong fact in an otherwise good answer: wherever possible the
// honest responder is given a changed query, so that no second writer of
// tokens is needed.

#ifndef CODESEAL_TESTS_SUPPORT_TIMESTAMP_AUTHORITY_H_
#define CODESEAL_TESTS_SUPPORT_TIMESTAMP_AUTHORITY_H_

#include <map>
#include <mutex>
#include <string>

#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "tests/support/test_pki.h"

namespace codeseal::testing {

// Leaf and root of a timestamp authority, good from a year ago.
std::vector<TestIdentity> MakeTimestampAuthority();

// A token over `stamped`, SHA-256, with the chain of `authority` (leaf first).
Bytes MakeTimestampToken(ByteView stamped,
                         const std::vector<TestIdentity>& authority,
                         absl::Time at);

enum class TsaLie {
  kNone,
  kWrongNonce,
  kNoNonce,
  kWrongImprint,
  kSha1Imprint,
  kSha1Signature,
  kWrongTime,           // an hour ago
  kRefusal,             // status 2, with words
  kForeignRoot,         // another authority's chain
  kExpiredCertificate,  // an hour before the token's time
  kResigned,            // no lie: as the next five, with the right certificate
  kNoPurpose,           // the signer has no extended key usage
  kCodeSigningPurpose,  // and it is another one
  kSecondPurpose,       // timeStamping and another
  kPurposeNotCritical,
  kSignerIsAuthority,  // a CA certificate
  kGarbage,
  kTruncated,
};

// Thread-safe.
class TimestampAuthority {
 public:
  static constexpr char kPolicy[] = "1.2.3.4.5.6";

  TimestampAuthority();

  const Certificate& root() const { return root_.certificate(); }
  const Certificate& signer() const { return signer_.certificate(); }

  // The TimeStampResp to a TimeStampReq. Aborts the program when the query does
  // not parse.
  Bytes Answer(ByteView query, TsaLie lie = TsaLie::kNone);

 private:
  // A signer's certificate and its issuer's.
  struct Signer {
    TestIdentity identity;
    TestIdentity issuer;
  };
  const Signer& SignerFor(TsaLie lie);

  TestIdentity root_;
  TestIdentity signer_;
  std::mutex mutex_;
  std::map<TsaLie, Signer> signers_;  // made when first needed
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_TIMESTAMP_AUTHORITY_H_
