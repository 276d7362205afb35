#include "server/grants.h"

#include <algorithm>
#include <cstdint>

#include "codesign/base/error.h"

namespace codeseal {
namespace {

constexpr char kInsertGrant[] =
    "INSERT INTO grants (id, identity, terms, state, max_uses, use_count, "
    "created_at, expires_at) VALUES (?, ?, ?, 1, ?, 0, ?, ?)";
constexpr char kFindGrant[] =
    "SELECT terms, state, use_count, expires_at FROM grants WHERE id = ?";
constexpr char kListAll[] =
    "SELECT id FROM grants ORDER BY created_at DESC, id LIMIT 500";
constexpr char kListOpen[] =
    "SELECT id FROM grants WHERE state <= 2 AND expires_at > ? AND "
    "use_count < max_uses ORDER BY created_at DESC, id LIMIT 500";
constexpr char kFindApprovals[] =
    "SELECT approval FROM approvals WHERE grant_id = ? ORDER BY approver";
// Changes nothing, but whoever decides at the same time waits.
constexpr char kLockPending[] =
    "UPDATE grants SET state = 1 WHERE id = ? AND state = 1 AND "
    "expires_at > ?";
constexpr char kInsertApproval[] =
    "INSERT INTO approvals (grant_id, approver, approves, approval) "
    "VALUES (?, ?, ?, ?) ON CONFLICT (grant_id, approver) DO NOTHING";
constexpr char kCountApprovals[] =
    "SELECT COUNT(*) FROM approvals WHERE grant_id = ? AND approves = 1";
constexpr char kSetState[] =
    "UPDATE grants SET state = ? WHERE id = ? AND state <= 2";
constexpr char kUse[] =
    "UPDATE grants SET use_count = use_count + 1 WHERE id = ? AND state = 2 "
    "AND use_count < max_uses AND expires_at > ?";
constexpr char kReturn[] =
    "UPDATE grants SET use_count = use_count - 1 WHERE id = ? AND "
    "use_count > 0";

absl::Status Refusal(Reason reason, const std::string& id,
                     const std::string& message) {
  const absl::StatusCode code = reason == v1::REASON_GRANT_NOT_FOUND
                                    ? absl::StatusCode::kNotFound
                                    : absl::StatusCode::kFailedPrecondition;
  absl::Status status = MakeError(code, v1::STAGE_POLICY, reason, message);
  return id.empty() ? status : WithSubject(std::move(status), "grant " + id);
}

// Why it cannot be used or decided now.
absl::Status WhyOver(const v1::Grant& grant, absl::Time now) {
  const auto over = [&](const char* why) {
    return Refusal(v1::REASON_GRANT_STATE, grant.id(), why);
  };
  if (grant.state() == v1::GRANT_STATE_REJECTED) {
    return over("the grant was rejected");
  }
  if (grant.state() == v1::GRANT_STATE_REVOKED) {
    return over("the grant was revoked");
  }
  if (absl::ToUnixSeconds(now) >= grant.expires_at().seconds()) {
    return over("the grant has expired");
  }
  if (grant.use_count() >= grant.max_uses()) {
    return over("the grant is used up");
  }
  return over("the grant is approved already");
}

// Whether the grant is about what is to be signed.
absl::Status CheckBinding(const v1::Grant& grant, const GrantUse& use) {
  const auto has = [](const auto& list, const auto& wanted) {
    return std::any_of(list.begin(), list.end(), [&](const auto& each) {
      return Equal(AsBytes(each), wanted);
    });
  };
  const bool by_identifier = grant.cdhashes().empty();
  if (by_identifier) {
    for (const std::string& each : use.identifiers) {
      if (!has(grant.identifiers(), AsBytes(each))) {
        return Refusal(
            v1::REASON_APPROVAL_REQUIRED, use.id,
            "the grant is not about code with the identifier '" + each + "'");
      }
    }
    if (!use.identifiers.empty()) return absl::OkStatus();
    return Refusal(v1::REASON_APPROVAL_REQUIRED, use.id,
                   "the grant is about identifiers, and digests have none");
  }
  for (const Bytes& each : use.cdhashes) {
    if (!has(grant.cdhashes(), ByteView(each))) {
      return Refusal(
          v1::REASON_APPROVAL_REQUIRED, use.id,
          "the grant is not about the code with cdhash " + HexEncode(each));
    }
  }
  if (!use.cdhashes.empty()) return absl::OkStatus();
  return Refusal(v1::REASON_APPROVAL_REQUIRED, use.id,
                 "the grant is about cdhashes, and this has none");
}

}  // namespace

absl::Status CreateGrant(Database& database, const v1::Grant& terms) {
  return database
      .Run(kInsertGrant,
           {terms.id(), terms.identity(),
            ToBytes(AsBytes(terms.SerializeAsString())),
            int64_t{terms.max_uses()}, int64_t{terms.created_at().seconds()},
            int64_t{terms.expires_at().seconds()}})
      .status();
}

absl::StatusOr<v1::Grant> FindGrant(Database& database, const std::string& id) {
  ASSIGN_OR_RETURN(const DatabaseResult found, database.Run(kFindGrant, {id}));
  v1::Grant grant;
  if (found.rows.empty() ||
      !grant.ParseFromString(ToString(found.Blob(0, 0)))) {
    return Refusal(v1::REASON_GRANT_NOT_FOUND, id, "there is no such grant");
  }
  grant.set_state(static_cast<v1::GrantState>(found.Number(0, 1)));
  grant.set_use_count(static_cast<uint32_t>(found.Number(0, 2)));
  ASSIGN_OR_RETURN(const DatabaseResult approvals,
                   database.Run(kFindApprovals, {id}));
  for (size_t i = 0; i < approvals.rows.size(); ++i) {
    grant.add_approvals()->ParseFromString(ToString(approvals.Blob(i, 0)));
  }
  return grant;
}

absl::StatusOr<std::vector<v1::Grant>> ListGrants(Database& database,
                                                  const std::string& identity,
                                                  bool all, absl::Time now) {
  const absl::StatusOr<DatabaseResult> ids =
      all ? database.Run(kListAll, {})
          : database.Run(kListOpen, {absl::ToUnixSeconds(now)});
  if (!ids.ok()) return ids.status();
  std::vector<v1::Grant> grants;
  for (size_t i = 0; i < ids->rows.size(); ++i) {
    ASSIGN_OR_RETURN(v1::Grant grant, FindGrant(database, ids->Text(i, 0)));
    if (identity.empty() || grant.identity() == identity) {
      grants.push_back(std::move(grant));
    }
  }
  return grants;
}

absl::Status DecideGrant(Database& database, const std::string& id,
                         const v1::Approval& approval, absl::Time now) {
  ASSIGN_OR_RETURN(const DatabaseResult locked,
                   database.Run(kLockPending, {id, absl::ToUnixSeconds(now)}));
  ASSIGN_OR_RETURN(const v1::Grant grant, FindGrant(database, id));
  if (locked.changed_count == 0) return WhyOver(grant, now);
  ASSIGN_OR_RETURN(
      const DatabaseResult added,
      database.Run(kInsertApproval,
                   {id, approval.approver(), int64_t{approval.approves()},
                    ToBytes(AsBytes(approval.SerializeAsString()))}));
  if (added.changed_count == 0) {
    return Refusal(v1::REASON_GRANT_STATE, id,
                   approval.approver() + " has decided already");
  }
  v1::GrantState state = v1::GRANT_STATE_REJECTED;
  if (approval.approves()) {
    ASSIGN_OR_RETURN(const DatabaseResult count,
                     database.Run(kCountApprovals, {id}));
    if (count.Number(0, 0) < int64_t{grant.quorum()}) return absl::OkStatus();
    state = v1::GRANT_STATE_APPROVED;
  }
  return database.Run(kSetState, {static_cast<int64_t>(state), id}).status();
}

absl::Status RevokeGrant(Database& database, const std::string& id) {
  ASSIGN_OR_RETURN(
      const DatabaseResult revoked,
      database.Run(kSetState,
                   {static_cast<int64_t>(v1::GRANT_STATE_REVOKED), id}));
  if (revoked.changed_count != 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const v1::Grant grant, FindGrant(database, id));
  return WhyOver(grant, absl::InfinitePast());
}

absl::Status UseGrant(Database& database, const GrantUse& use, absl::Time now) {
  if (use.id.empty()) {
    return Refusal(v1::REASON_APPROVAL_REQUIRED, "",
                   "the identity signs what people have approved; the request "
                   "names no grant");
  }
  ASSIGN_OR_RETURN(const DatabaseResult used,
                   database.Run(kUse, {use.id, absl::ToUnixSeconds(now)}));
  ASSIGN_OR_RETURN(const v1::Grant grant, FindGrant(database, use.id));
  // Of another identity: nothing is said about it.
  if (grant.identity() != use.identity) {
    return Refusal(v1::REASON_GRANT_NOT_FOUND, use.id,
                   "there is no such grant");
  }
  RETURN_IF_ERROR(CheckBinding(grant, use));
  if (used.changed_count != 0) return absl::OkStatus();
  if (grant.state() != v1::GRANT_STATE_PENDING ||
      absl::ToUnixSeconds(now) >= grant.expires_at().seconds()) {
    return WhyOver(grant, now);
  }
  const auto count = std::count_if(
      grant.approvals().begin(), grant.approvals().end(),
      [](const v1::Approval& approval) { return approval.approves(); });
  return Refusal(v1::REASON_APPROVAL_REQUIRED, use.id,
                 "the grant has " + std::to_string(count) + " of " +
                     std::to_string(grant.quorum()) + " approvals");
}

absl::Status ReturnGrant(Database& database, const GrantUse& use) {
  return database.Run(kReturn, {use.id}).status();
}

}  // namespace codeseal
