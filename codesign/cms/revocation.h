// Whether certificates were revoked: what lists and OCSP answers say, from
// files, from the CMS, or, where the caller can fetch them, from the network.
//
//   CRL, OCSP response -> [RevocationChecker] -> RevocationAnswer -> verdict
//
// Spec: RFC 5280 sections 5 and 6.3; RFC 6960; RFC 5652 section 10.2.1 and RFC
//       5940 for what a CMS carries. Rules RV-*.
//
// A list or an answer counts only when the certificate's own issuer signed it,
// or, for OCSP, a responder that this issuer named. Not supported, and taken
// for no evidence: lists of another issuer (indirect), lists of changes
// (delta), lists of some reasons only.

#ifndef CODESEAL_CODESIGN_CMS_REVOCATION_H_
#define CODESEAL_CODESIGN_CMS_REVOCATION_H_

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"
#include "codesign/cms/certificate.h"

namespace codeseal {

enum class RevocationState {
  kGood,      // somebody who must know says so
  kRevoked,   // the same
  kUnknown,   // somebody should know, and no valid word of theirs is at hand
  kNoSource,  // the certificate names nobody, and no list of its issuer is here
};

struct RevocationAnswer {
  RevocationState state = RevocationState::kNoSource;
  // Since when, for kRevoked: the earlier of revocation and invalidity.
  absl::Time revoked_at = absl::InfinitePast();
  std::string text;  // for people: who said it, or why nothing is known
};

// Thread-safe. Neither copyable nor movable: verifiers share one.
class RevocationChecker {
 public:
  // Fetches `url` over HTTP: POST of `body`, an OCSP request, or GET when it is
  // empty. Must bound time and size itself; may be called from several threads.
  using Fetch =
      std::function<absl::StatusOr<Bytes>(const std::string& url, Bytes body)>;

  // Without `fetch` nobody is asked.
  explicit RevocationChecker(Fetch fetch = {});
  ~RevocationChecker();

  // Lists, as DER (one) or PEM (any number); an OCSP response, DER. Their
  // signatures are checked later, when it is known whose they should be.
  // Errors: INVALID_ARGUMENT REASON_BAD_REVOCATION_DATA.
  absl::Status AddLists(ByteView bytes);
  absl::Status AddOcspResponse(ByteView bytes);

  // What is known at `at` of `certificate`, which `issuer` issued. `stapled`:
  // the RevocationInfoChoice elements of a CMS; those that cannot be read are
  // no evidence. With `may_fetch` false the network is left alone: the places
  // that a certificate names are its issuer's choice, and an issuer whom nobody
  // trusts must not make this machine call anybody.
  RevocationAnswer Check(const Certificate& certificate,
                         const Certificate& issuer, absl::Time at,
                         std::span<const Bytes> stapled = {},
                         bool may_fetch = true);

 private:
  struct Evidence;

  RevocationAnswer Judge(const Evidence& evidence,
                         const Certificate& certificate,
                         const Certificate& issuer, absl::Time at) const;
  // Fetched bytes, each place at most once; an error is kept as well.
  absl::StatusOr<Bytes> FetchOnce(const std::string& url, Bytes body);

  const Fetch fetch_;
  std::mutex mutex_;
  std::unique_ptr<Evidence> given_;                     // guarded by mutex_
  std::map<std::string, absl::StatusOr<Bytes>> cache_;  // guarded by mutex_
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CMS_REVOCATION_H_
