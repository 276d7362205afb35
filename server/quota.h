// How many signatures an identity makes in a minute, an hour and a day, in all
// and for one client. The counts are rows of the database: with several
// replicas on one, they are exact across them.
//
//   QuotaConfig, client, the time -> [ChargeQuotas], in the intent's
//   transaction
//
// Periods begin with the minute, hour and day of UTC.

#ifndef CODESEAL_SERVER_QUOTA_H_
#define CODESEAL_SERVER_QUOTA_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/config.h"
#include "server/database.h"

namespace codeseal {

// Counts one signature.
// Errors: RESOURCE_EXHAUSTED REASON_QUOTA_EXCEEDED, with the time until the
// period ends as retry delay; then the caller must undo what was counted. The
// database's.
absl::Status ChargeQuotas(Database& database, const std::string& identity,
                          const QuotaConfig& quotas, const std::string& client,
                          absl::Time now);

// Takes one back: what was counted at `charged_at` made no signature.
absl::Status RefundQuotas(Database& database, const std::string& identity,
                          const QuotaConfig& quotas, const std::string& client,
                          absl::Time charged_at);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_QUOTA_H_
