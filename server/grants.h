// Grants and the approvals behind them, as rows of the database. Every function
// is a part of one transaction: with several replicas on one database, each use
// is counted once, and the last one is nobody else's.
//
//   RequestGrant -> CreateGrant -> DecideGrant... -> UseGrant, with the intent

#ifndef CODESEAL_SERVER_GRANTS_H_
#define CODESEAL_SERVER_GRANTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codeseal/v1/approval.pb.h"
#include "codesign/base/bytes.h"
#include "server/database.h"

namespace codeseal {

// What a request wants a grant for.
struct GrantUse {
  std::string id;  // empty: the request names none
  std::string identity;
  std::vector<Bytes> cdhashes;           // of the request, all of them
  std::vector<std::string> identifiers;  // of the code or the package
};

// A new grant in state pending; `terms` has everything but that.
absl::Status CreateGrant(Database& database, const v1::Grant& terms);

// With its approvals, in the order of their names.
// Errors: NOT_FOUND REASON_GRANT_NOT_FOUND.
absl::StatusOr<v1::Grant> FindGrant(Database& database, const std::string& id);

// The newest ones; `identity` empty: of all. Only what may still be used or
// decided, unless `all`.
absl::StatusOr<std::vector<v1::Grant>> ListGrants(Database& database,
                                                  const std::string& identity,
                                                  bool all, absl::Time now);

// One approver's word. The grant is approved with the quorum-th approval, and
// rejected with the first rejection.
// Errors: FAILED_PRECONDITION REASON_GRANT_STATE when it is decided, over, or
// the approver has decided before.
absl::Status DecideGrant(Database& database, const std::string& id,
                         const v1::Approval& approval, absl::Time now);

// Errors: FAILED_PRECONDITION REASON_GRANT_STATE when it is over already.
absl::Status RevokeGrant(Database& database, const std::string& id);

// Counts one signature.
// Errors: FAILED_PRECONDITION REASON_APPROVAL_REQUIRED without a grant, while
// approvals are missing, and for code that the grant is not about;
// REASON_GRANT_STATE when it is over; NOT_FOUND REASON_GRANT_NOT_FOUND.
absl::Status UseGrant(Database& database, const GrantUse& use, absl::Time now);
// Takes one back: there is no signature.
absl::Status ReturnGrant(Database& database, const GrantUse& use);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_GRANTS_H_
