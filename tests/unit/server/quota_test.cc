#include "server/quota.h"

#include <memory>

#include "codesign/base/error.h"
#include "gtest/gtest.h"
#include "server/retry_delay.h"
#include "server/sqlite_database.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

// The start of a day, and so of an hour and a minute.
const absl::Time kDay = absl::FromUnixSeconds(20'000 * 86'400);

class QuotaTest : public ::testing::Test {
 protected:
  QuotaTest() {
    auto database = OpenSqliteDatabase(folder_.Path("state.db"));
    EXPECT_THAT(database, IsOk());
    database_ = *std::move(database);
  }

  // In a transaction of its own, as the ledger has it.
  absl::Status Charge(absl::Time now, const std::string& client = "a",
                      const std::string& identity = "release") {
    RETURN_IF_ERROR(database_->Begin());
    absl::Status status =
        ChargeQuotas(*database_, identity, quotas_, client, now);
    if (status.ok()) status = database_->Commit();
    if (!status.ok()) database_->Rollback();
    return status;
  }

  testing::TempFolder folder_;
  std::unique_ptr<Database> database_;
  QuotaConfig quotas_;
};

TEST_F(QuotaTest, CountsEachPeriodAnew) {
  quotas_.per_minute = 2;
  EXPECT_THAT(Charge(kDay), IsOk());
  EXPECT_THAT(Charge(kDay + absl::Seconds(59)), IsOk());
  const absl::Status full = Charge(kDay + absl::Seconds(59));
  EXPECT_THAT(full, HasReason(v1::REASON_QUOTA_EXCEEDED));
  EXPECT_THAT(full, HasCode(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(GetRetryDelay(full), absl::Seconds(1));
  EXPECT_THAT(Charge(kDay + absl::Seconds(60)), IsOk());
}

TEST_F(QuotaTest, WhatIsRefusedIsNotCounted) {
  quotas_.per_minute = 1;
  quotas_.per_hour = 2;
  EXPECT_THAT(Charge(kDay), IsOk());
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(Charge(kDay), HasReason(v1::REASON_QUOTA_EXCEEDED));
  }
  EXPECT_THAT(Charge(kDay + absl::Minutes(1)), IsOk());
  const absl::Status full = Charge(kDay + absl::Minutes(2));
  EXPECT_THAT(full, HasReason(v1::REASON_QUOTA_EXCEEDED));
  EXPECT_EQ(GetRetryDelay(full), absl::Minutes(58));
}

TEST_F(QuotaTest, IdentitiesAndClientsCountForThemselves) {
  quotas_.client_per_day = 1;
  EXPECT_THAT(Charge(kDay, "a"), IsOk());
  EXPECT_THAT(Charge(kDay, "b"), IsOk());
  EXPECT_THAT(Charge(kDay, "a", "other"), IsOk());
  EXPECT_THAT(Charge(kDay + absl::Hours(23), "a"),
              HasReason(v1::REASON_QUOTA_EXCEEDED));
  EXPECT_THAT(Charge(kDay + absl::Hours(24), "a"), IsOk());
}

TEST_F(QuotaTest, ARefundGivesOneBack) {
  quotas_.per_day = 1;
  EXPECT_THAT(Charge(kDay), IsOk());
  EXPECT_THAT(RefundQuotas(*database_, "release", quotas_, "a", kDay), IsOk());
  EXPECT_THAT(Charge(kDay), IsOk());
  EXPECT_THAT(Charge(kDay), HasReason(v1::REASON_QUOTA_EXCEEDED));
}

}  // namespace
}  // namespace codeseal
