// Promise 18 with two replicas on one PostgreSQL: a request id signs at most
// once, whichever replica is asked and whichever dies.

#include <atomic>
#include <csignal>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/client_fixture.h"
#include "tests/integration/test_client.h"
#include "tests/support/fault_shim.h"
#include "tests/support/postgres_cluster.h"
#include "tests/support/server_process.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {
namespace {

class Promise18ReplicasTest : public ClientTest {
 protected:
  Promise18ReplicasTest() {
    dsn_ = PostgresCluster::Get().AddDatabase();
    config_ = world_.WriteConfig(world_.Config(
        world_.TokensSection(FaultShim::Module()), world_.IdentitiesSection(),
        "state: {postgres: {dsn_file: " + world_.folder().Write("dsn", dsn_) +
            ", lease: 2s, timeout: 2s}}\n"));
    for (Replica& each : replicas_) Start(each);
  }

  struct Replica {
    std::unique_ptr<ServerProcess> server;
    std::unique_ptr<TestClient> client;
  };
  void Start(Replica& replica) {
    replica.server = std::make_unique<ServerProcess>(config_);
    replica.client = std::make_unique<TestClient>(
        replica.server->address(), world_.tls_ca(), world_.client());
  }

  static v1::SignRequest NewRequest() {
    SignRequestSpec spec;
    spec.request_id = RandomUuid();
    spec.identity = "ec";
    return BuildSignRequest(spec);
  }
  // For codeseal: both replicas.
  std::string Addresses() const {
    std::string list;
    for (const Replica& each : replicas_) {
      const std::string& address = each.server->address();
      list += (list.empty() ? "localhost" : ",localhost") +
              address.substr(address.rfind(':'));
    }
    return list;
  }

  FaultShim shim_;
  ServerWorld world_;
  std::string dsn_;
  std::string config_;
  Replica replicas_[2];
};

TEST_F(Promise18ReplicasTest, promise_18_fifty_duplicates_over_two_replicas) {
  for (Replica& each : replicas_) {
    ASSERT_THAT(each.client->Sign(NewRequest()), IsOk());
  }
  shim_.Play("C_Sign delay=300ms");
  const int before = shim_.CallCount("C_Sign");
  const v1::SignRequest request = NewRequest();
  std::mutex mutex;
  std::multiset<std::string> signatures;
  int original_count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 50; ++i) {
    threads.emplace_back([&, i] {
      // Once: whoever finds the other at work waits for its outcome.
      const TestClient::Result result = replicas_[i % 2].client->Sign(request);
      ASSERT_THAT(result, IsOk());
      const std::lock_guard lock(mutex);
      signatures.insert(result->cms());
      if (!result->replayed()) ++original_count;
    });
  }
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(shim_.CallCount("C_Sign"), before + 1);
  EXPECT_EQ(signatures.size(), 50u);
  EXPECT_EQ(signatures.count(*signatures.begin()), 50u);
  EXPECT_EQ(original_count, 1);
}

TEST_F(Promise18ReplicasTest, promise_18_a_dead_replicas_intent_is_not_signed) {
  for (Replica& each : replicas_) {
    ASSERT_THAT(each.client->Sign(NewRequest()), IsOk());
  }
  const int before = shim_.CallCount("C_SignInit");
  shim_.Play("C_Sign delay=5s");
  const v1::SignRequest request = NewRequest();
  std::thread caller(
      [&] { EXPECT_FALSE(replicas_[0].client->Sign(request).ok()); });
  ASSERT_TRUE(shim_.WaitForCalls("C_SignInit", before));
  kill(replicas_[0].server->pid(), SIGKILL);
  replicas_[0].server->Wait();
  caller.join();
  shim_.Play("");
  const int after = shim_.CallCount("C_Sign");
  // Waits for the lease, then says so.
  EXPECT_THAT(replicas_[1].client->Sign(request),
              HasReason(v1::REASON_INDETERMINATE));
  EXPECT_THAT(replicas_[1].client->GetSignature(request.request_id()),
              HasReason(v1::REASON_INDETERMINATE));
  EXPECT_EQ(shim_.CallCount("C_Sign"), after);
  EXPECT_THAT(replicas_[1].client->Sign(NewRequest()), IsOk());
}

TEST_F(Promise18ReplicasTest, promise_18_a_killed_replica_fails_no_client) {
  shim_.Play("C_Sign delay=20ms");
  environment_["CODESEAL_SERVER"] = Addresses();
  environment_["CODESEAL_CA"] = world_.tls_ca();
  environment_["CODESEAL_CERT"] = world_.client().certificate;
  environment_["CODESEAL_KEY"] = world_.client().key;
  const std::string tool = Write("tool", UnsignedUniversal(5000));
  std::atomic<int> done_count = 0;
  std::atomic<bool> killed = false;
  constexpr int kClients = 4;
  std::vector<std::thread> threads;
  for (int i = 0; i < kClients; ++i) {
    threads.emplace_back([&, i] {
      const std::string mine =
          Write("tool" + std::to_string(i), UnsignedUniversal(5000));
      // At least two after the kill.
      for (int after = 0; after < 2; after += killed ? 1 : 0) {
        const SubprocessResult sign =
            Codeseal({"sign", "-f", "-s", "ec", mine});
        EXPECT_EQ(sign.exit_code, 0) << sign.err;
        ++done_count;
      }
    });
  }
  const int before = shim_.CallCount("C_Sign");
  ASSERT_TRUE(shim_.WaitForCalls("C_Sign", before + 4 * kClients));
  kill(replicas_[0].server->pid(), SIGKILL);
  replicas_[0].server->Wait();
  killed = true;
  for (std::thread& each : threads) each.join();
  EXPECT_GE(done_count, 2 * kClients);
  // Every reply was a row's, and no id has more than one.
  EXPECT_EQ(PostgresCluster::Get().Query(
                dsn_, "SELECT count(*) FROM signatures WHERE state = 2"),
            "0\n");
}

TEST_F(Promise18ReplicasTest,
       promise_18_without_the_database_nothing_is_signed) {
  const v1::SignRequest known = NewRequest();
  ASSERT_THAT(replicas_[0].client->Sign(known), IsOk());
  const int before = shim_.CallCount("C_Sign");
  PostgresCluster& cluster = PostgresCluster::Get();
  for (const bool hangs : {false, true}) {
    hangs ? cluster.Freeze() : cluster.Stop();
    const absl::Time begin = absl::Now();
    for (Replica& each : replicas_) {
      const TestClient::Result result = each.client->Sign(NewRequest());
      EXPECT_THAT(result, HasReason(v1::REASON_STATE_STORE));
      EXPECT_THAT(result, HasCode(absl::StatusCode::kUnavailable));
    }
    EXPECT_LT(absl::Now() - begin, absl::Seconds(15));
    hangs ? cluster.Continue() : cluster.Start();
  }
  EXPECT_EQ(shim_.CallCount("C_Sign"), before);
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  TestClient::Result again = replicas_[1].client->Sign(known);
  while (!again.ok() && absl::Now() < deadline) {
    again = replicas_[1].client->Sign(known);
  }
  ASSERT_THAT(again, IsOk());
  EXPECT_TRUE(again->replayed());
}

}  // namespace
}  // namespace codeseal::testing
