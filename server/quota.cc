#include "server/quota.h"

#include <cstdint>
#include <vector>

#include "codesign/base/error.h"
#include "server/retry_delay.h"

namespace codeseal {
namespace {

struct Count {
  std::string name;
  std::string words;  // "per minute for this client"
  uint32_t limit;
  int64_t period;  // seconds
};

// Always in this order: two replicas that charge the same never wait for each
// other.
std::vector<Count> CountsOf(const std::string& identity,
                            const QuotaConfig& quotas,
                            const std::string& client) {
  const struct {
    const char* word;
    int64_t period;
    uint32_t all;
    uint32_t one_client;
  } periods[] = {
      {"minute", 60, quotas.per_minute, quotas.client_per_minute},
      {"hour", 3600, quotas.per_hour, quotas.client_per_hour},
      {"day", 86400, quotas.per_day, quotas.client_per_day},
  };
  std::vector<Count> counts;
  for (const auto& each : periods) {
    const std::string name = identity + "/" + each.word;
    const std::string words = std::string("per ") + each.word;
    if (each.all != 0) counts.push_back({name, words, each.all, each.period});
    if (each.one_client != 0) {
      counts.push_back({name + "/" + client, words + " for one client",
                        each.one_client, each.period});
    }
  }
  return counts;
}

int64_t PeriodStart(const Count& count, absl::Time now) {
  const int64_t seconds = absl::ToUnixSeconds(now);
  return seconds - seconds % count.period;
}

constexpr char kCharge[] =
    "INSERT INTO quotas (name, period_start, period_end, used) "
    "VALUES (?, ?, ?, 1) ON CONFLICT (name, period_start) DO UPDATE "
    "SET used = quotas.used + 1 WHERE quotas.used < ?";
constexpr char kRefund[] =
    "UPDATE quotas SET used = used - 1 "
    "WHERE name = ? AND period_start = ? AND used > 0";

}  // namespace

absl::Status ChargeQuotas(Database& database, const std::string& identity,
                          const QuotaConfig& quotas, const std::string& client,
                          absl::Time now) {
  for (const Count& each : CountsOf(identity, quotas, client)) {
    const int64_t start = PeriodStart(each, now);
    const int64_t end = start + each.period;
    ASSIGN_OR_RETURN(
        const DatabaseResult charged,
        database.Run(kCharge, {each.name, start, end, int64_t{each.limit}}));
    if (charged.changed_count != 0) continue;
    return WithRetryDelay(
        MakeError(absl::StatusCode::kResourceExhausted, v1::STAGE_POLICY,
                  v1::REASON_QUOTA_EXCEEDED,
                  "the identity's " + std::to_string(each.limit) +
                      " signatures " + each.words + " are used up until " +
                      absl::FormatTime("%H:%M UTC", absl::FromUnixSeconds(end),
                                       absl::UTCTimeZone())),
        absl::FromUnixSeconds(end) - now);
  }
  return absl::OkStatus();
}

absl::Status RefundQuotas(Database& database, const std::string& identity,
                          const QuotaConfig& quotas, const std::string& client,
                          absl::Time charged_at) {
  for (const Count& each : CountsOf(identity, quotas, client)) {
    RETURN_IF_ERROR(
        database.Run(kRefund, {each.name, PeriodStart(each, charged_at)})
            .status());
  }
  return absl::OkStatus();
}

}  // namespace codeseal
