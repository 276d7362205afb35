// What a forger does to a CMS signature: takes it apart, exchanges a part, puts
// it together again. And what a certificate authority would make: lists of
// revoked certificates, OCSP answers.

#ifndef CODESEAL_TESTS_SUPPORT_FORGED_CMS_H_
#define CODESEAL_TESTS_SUPPORT_FORGED_CMS_H_

#include <functional>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/cms/certificate.h"
#include "tests/support/test_pki.h"

namespace codeseal::testing {

// The parts of a SignedData that differ; each is a whole DER element.
struct CmsParts {
  std::vector<Bytes> certificates;
  std::vector<Bytes> crls;  // RevocationInfoChoice
  std::vector<Bytes> signer_infos;
};

CmsParts TakeApart(ByteView cms);
// Members stay in their order, also where DER would sort them.
Bytes PutTogether(const CmsParts& parts);

// The CMS with its parts changed.
Bytes ChangeCms(ByteView cms, const std::function<void(CmsParts&)>& change);

// The SignerInfo with one more unsigned attribute, whose value is `token`.
Bytes WithTimestamp(ByteView signer_info, ByteView token);

// The CMS, with a timestamp of `authority` (leaf first;
// tests/support/timestamp_authority.h) on its first signer.
Bytes StampCms(ByteView cms, const std::vector<TestIdentity>& authority,
               absl::Time at);

struct RevocationListSpec {
  std::vector<Certificate> revoked;
  absl::Time revoked_at = absl::Now() - absl::Minutes(10);
  absl::Time from = absl::Now() - absl::Hours(1);
  absl::Time until = absl::Now() + absl::Hours(1);
};
Bytes MakeRevocationList(const TestIdentity& issuer,
                         const RevocationListSpec& spec);

struct OcspSpec {
  bool is_revoked = false;
  absl::Time revoked_at = absl::Now() - absl::Minutes(10);
  absl::Time from = absl::Now() - absl::Hours(1);
  absl::Time until = absl::Now() + absl::Hours(1);
};
// An answer about `certificate`, signed by `responder`.
Bytes MakeOcspResponse(const Certificate& certificate,
                       const Certificate& issuer, const TestIdentity& responder,
                       const OcspSpec& spec);
// The answer as a RevocationInfoChoice of a CMS.
Bytes OcspAsRevocationInfo(ByteView response);

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_FORGED_CMS_H_
