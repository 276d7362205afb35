// Whether a request whose content is in order may be signed now: release
// windows, quotas, identity tokens that serve one client alone, grants, who may
// sign digests alone.
//
//   IdentityConfig, Peer, CheckedRequest, the time -> CheckPermit -> [Permit]
//     -> Charge(), in the transaction that keeps the intent
//
// What is counted is counted with the intent, or not at all: across replicas,
// and whatever crashes. An intent that nobody knows the end of stays counted.

#ifndef CODESEAL_SERVER_PERMIT_H_
#define CODESEAL_SERVER_PERMIT_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codeseal/v1/signing.pb.h"
#include "server/config.h"
#include "server/database.h"
#include "server/grants.h"
#include "server/peer.h"
#include "server/request_check.h"

namespace codeseal {

struct PermitInput {
  const IdentityConfig& identity;
  const Peer& peer;
  const v1::SignRequest& request;
  const CheckedRequest& checked;
  absl::Time now;
};

// A value: holds what it needs.
class Permit {
 public:
  // What a replay need not fulfil again.
  // Errors: FAILED_PRECONDITION REASON_OUTSIDE_RELEASE_WINDOW.
  const absl::Status& window() const { return window_; }
  // Whether Charge() changes anything.
  bool counts() const;
  // Whether Charge() has anything to say.
  bool has_conditions() const { return counts() || !window_.ok(); }

  // Errors: window()'s; RESOURCE_EXHAUSTED REASON_QUOTA_EXCEEDED;
  // PERMISSION_DENIED REASON_BAD_IDENTITY_TOKEN for a token that another client
  // has used; UseGrant()'s; the database's. What was changed before the error
  // is for the caller to undo.
  absl::Status Charge(Database& database) const;
  // Takes back what Charge() counted: there is no signature.
  absl::Status Refund(Database& database) const;

 private:
  friend absl::StatusOr<Permit> CheckPermit(const PermitInput& input);

  std::string identity_;
  QuotaConfig quotas_;
  std::string client_;
  absl::Time at_;
  absl::Status window_;
  // The token that came with the call, and whose it is; null: none matters.
  std::shared_ptr<const WorkloadIdentity> workload_;
  std::string certificate_;
  bool needs_grant_ = false;
  GrantUse grant_;
};

// Errors: PERMISSION_DENIED REASON_POLICY_VIOLATION by rule
// "IDENTITY/digest_only".
absl::StatusOr<Permit> CheckPermit(const PermitInput& input);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_PERMIT_H_
