// Promise 32: quotas of an identity are exact across replicas; and the other
// conditions under which an identity signs, seen from outside.

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "gtest/gtest.h"
#include "tests/integration/test_client.h"
#include "tests/support/fault_shim.h"
#include "tests/support/postgres_cluster.h"
#include "tests/support/server_process.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {
namespace {

class Promise32Test : public ::testing::Test {
 protected:
  // Two replicas whose identity "ec" has `more` in its configuration.
  void Start(const std::string& more) {
    const std::string config = world_.WriteConfig(world_.Config(
        world_.TokensSection(FaultShim::Module()),
        "identities:\n" + ServerWorld::Identity("ec", "main", "02",
                                                "main-02.chain.pem", more),
        "state: {postgres: {dsn_file: " +
            world_.folder().Write("dsn", PostgresCluster::Get().AddDatabase()) +
            "}}\n"));
    for (int i = 0; i < 2; ++i) {
      servers_.push_back(std::make_unique<ServerProcess>(config));
      clients_.push_back(std::make_unique<TestClient>(
          servers_.back()->address(), world_.tls_ca(), world_.client()));
    }
  }
  static v1::SignRequest NewRequest() {
    SignRequestSpec spec;
    spec.request_id = RandomUuid();
    spec.identity = "ec";
    return BuildSignRequest(spec);
  }

  FaultShim shim_;
  ServerWorld world_;
  std::vector<std::unique_ptr<ServerProcess>> servers_;
  std::vector<std::unique_ptr<TestClient>> clients_;
};

TEST_F(Promise32Test, promise_32_quotas_are_exact_across_replicas) {
  Start("    limits: {per_day: 20}\n");
  const int before = shim_.CallCount("C_Sign");
  std::atomic<int> signed_count = 0;
  std::atomic<int> refused_count = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 5; ++i) {
        const TestClient::Result result =
            clients_[static_cast<size_t>(thread % 2)]->Sign(NewRequest());
        if (result.ok()) {
          ++signed_count;
        } else {
          EXPECT_THAT(result, HasReason(v1::REASON_QUOTA_EXCEEDED));
          EXPECT_THAT(result, HasCode(absl::StatusCode::kResourceExhausted));
          ++refused_count;
        }
      }
    });
  }
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(signed_count, 20);
  EXPECT_EQ(refused_count, 20);
  EXPECT_LE(shim_.CallCount("C_Sign"), before + 20 + 2);  // and idle pings
}

TEST_F(Promise32Test, promise_32_replays_and_failures_cost_nothing) {
  Start("    limits: {client_per_day: 2}\n");
  const v1::SignRequest request = NewRequest();
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(clients_[static_cast<size_t>(i % 2)]->Sign(request), IsOk());
  }
  v1::SignRequest only_judged = NewRequest();
  only_judged.set_validate_only(true);
  EXPECT_THAT(clients_[0]->Sign(only_judged), IsOk());
  shim_.Play("C_SignInit rv=CKR_FUNCTION_FAILED");
  EXPECT_FALSE(clients_[0]->Sign(NewRequest()).ok());
  shim_.Play("");
  EXPECT_THAT(clients_[1]->Sign(NewRequest()), IsOk());
  EXPECT_THAT(clients_[1]->Sign(NewRequest()),
              HasReason(v1::REASON_QUOTA_EXCEEDED));
  EXPECT_THAT(clients_[1]->Sign(only_judged),
              HasReason(v1::REASON_QUOTA_EXCEEDED));
  EXPECT_THAT(clients_[1]->Sign(request), IsOk());
}

TEST_F(Promise32Test, promise_32_nothing_is_signed_outside_release_windows) {
  // The day before yesterday, for a minute.
  const absl::CivilDay day =
      absl::ToCivilDay(absl::Now() - absl::Hours(48), absl::UTCTimeZone());
  const char* const days[] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
  const std::string closed = days[static_cast<size_t>(absl::GetWeekday(day))];
  Start("    release_windows: [{days: [" + closed +
        "], from: \"10:00\", to: \"10:01\"}]\n");
  const int before = shim_.CallCount("C_Sign");
  const TestClient::Result result = clients_[0]->Sign(NewRequest());
  EXPECT_THAT(result, HasReason(v1::REASON_OUTSIDE_RELEASE_WINDOW));
  EXPECT_THAT(result, HasCode(absl::StatusCode::kFailedPrecondition));
  EXPECT_LE(shim_.CallCount("C_Sign"), before + 1);
}

}  // namespace
}  // namespace codeseal::testing
