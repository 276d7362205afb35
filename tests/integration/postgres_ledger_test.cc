// The ledger's rows in PostgreSQL: two ledgers on one database are two
// replicas.

#include <atomic>
#include <future>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "gtest/gtest.h"
#include "server/ledger.h"
#include "tests/support/postgres_cluster.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::PostgresCluster;

const LedgerKey kKey = {"spiffe://test/a", "id-1"};
const Bytes kPayload = ToBytes("a digest");

class PostgresLedgerTest : public ::testing::Test {
 protected:
  PostgresLedgerTest() : dsn_(cluster_.AddDatabase()) {}

  std::unique_ptr<Ledger> MakeReplica() {
    PostgresOptions options;
    options.dsn = dsn_;
    options.timeout = absl::Seconds(1);
    options.lease = absl::Seconds(2);
    options.connection_count = 2;
    auto stores = OpenPostgresLedgerStores(options);
    EXPECT_THAT(stores, IsOk());
    return std::make_unique<Ledger>(*std::move(stores), absl::Hours(1), clock_);
  }

  using Begun = absl::StatusOr<std::optional<LedgerEntry>>;
  static Begun Begin(Ledger& ledger, const LedgerKey& key,
                     ByteView payload_digest,
                     Ledger::Admission admission = nullptr) {
    std::promise<Begun> promise;
    ledger.Begin(
        key, payload_digest,
        [&promise](Begun begun) { promise.set_value(std::move(begun)); },
        std::move(admission));
    return promise.get_future().get();
  }
  static absl::Status Keep(Ledger& ledger, LedgerState state,
                           const v1::SignResponse& response,
                           const LedgerKey& key = kKey) {
    std::promise<absl::Status> promise;
    ledger.Keep(key, state, response,
                [&](const absl::Status& status) { promise.set_value(status); });
    return promise.get_future().get();
  }
  static absl::Status Release(Ledger& ledger, bool forget) {
    std::promise<absl::Status> promise;
    ledger.Release(kKey, forget, nullptr, [&](const absl::Status& status) {
      promise.set_value(status);
    });
    return promise.get_future().get();
  }
  // Begin() as a handler makes it that waits for others.
  static absl::StatusOr<std::optional<LedgerEntry>> BeginPatiently(
      Ledger& ledger, const LedgerKey& key = kKey) {
    for (;;) {
      auto begun = Begin(ledger, key, kPayload);
      if (GetReason(begun.status()) != v1::REASON_IN_PROGRESS) return begun;
      std::promise<bool> settled;
      ledger.Await(key, absl::Now() + absl::Seconds(20),
                   [&](bool is_settled) { settled.set_value(is_settled); });
      EXPECT_TRUE(settled.get_future().get());
    }
  }
  static bool IsNew(const absl::StatusOr<std::optional<LedgerEntry>>& begun) {
    EXPECT_THAT(begun, IsOk());
    return begun.ok() && !begun->has_value();
  }
  v1::SignResponse MakeResponse() const {
    const Bytes directory = ToBytes("a CodeDirectory");
    const CodeDirectoryBlob blob = {DigestKind::kSha256, directory};
    const std::vector<Certificate> certificates = chain_.certificates();
    v1::SignResponse response;
    response.set_cms(
        ToString(*BuildAppleCms({chain_.leaf.key(), nullptr, certificates},
                                DescribeContent({&blob, 1}), absl::Now())));
    return response;
  }
  // As if every replica had died: nothing is renewed any more.
  void ExpireLeases() {
    cluster_.Query(dsn_,
                   "UPDATE replicas SET alive_until_ms = 0;"
                   "ALTER TABLE replicas ADD CHECK (alive_until_ms = 0)");
  }

  PostgresCluster& cluster_ = PostgresCluster::Get();
  const std::string dsn_;
  const SystemClock clock_;
  const testing::TestChain chain_ = testing::MakeCodeSigningChain();
};

TEST_F(PostgresLedgerTest, AReplaySurvivesEveryReplica) {
  const v1::SignResponse response = MakeResponse();
  {
    const auto replica = MakeReplica();
    ASSERT_TRUE(IsNew(Begin(*replica, kKey, kPayload)));
    ASSERT_THAT(Keep(*replica, LedgerState::kDone, response), IsOk());
  }
  const auto replica = MakeReplica();
  const auto again = Begin(*replica, kKey, kPayload);
  ASSERT_THAT(again, IsOk());
  ASSERT_TRUE(again->has_value());
  EXPECT_EQ((*again)->response.cms(), response.cms());
  EXPECT_TRUE((*again)->response.replayed());
  EXPECT_THAT(Begin(*replica, kKey, ToBytes("another")),
              HasReason(v1::REASON_REQUEST_ID_REUSED));
}

TEST_F(PostgresLedgerTest, EachKeyIsBegunOnceAcrossReplicas) {
  const auto a = MakeReplica();
  const auto b = MakeReplica();
  std::atomic<int> new_count = 0;
  std::atomic<int> refused_count = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      Ledger& ledger = thread % 2 == 0 ? *a : *b;
      for (int i = 0; i < 30; ++i) {
        const auto begun =
            Begin(ledger, {"client", std::to_string(i)}, kPayload);
        if (begun.ok() && !begun->has_value()) ++new_count;
        if (GetReason(begun.status()) == v1::REASON_IN_PROGRESS) {
          ++refused_count;
        }
      }
    });
  }
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(new_count, 30);
  EXPECT_EQ(refused_count, 7 * 30);
}

TEST_F(PostgresLedgerTest, WhoeverWaitsGetsTheOtherReplicasOutcome) {
  const auto a = MakeReplica();
  const auto b = MakeReplica();
  ASSERT_TRUE(IsNew(Begin(*a, kKey, kPayload)));
  auto waiting =
      std::async(std::launch::async, [&] { return BeginPatiently(*b); });
  const v1::SignResponse response = MakeResponse();
  ASSERT_THAT(Keep(*a, LedgerState::kDone, response), IsOk());
  const auto entry = waiting.get();
  ASSERT_THAT(entry, IsOk());
  ASSERT_TRUE(entry->has_value());
  EXPECT_EQ((*entry)->response.cms(), response.cms());
}

TEST_F(PostgresLedgerTest, WhatAReplicaReleasesAnotherOneBegins) {
  const auto a = MakeReplica();
  const auto b = MakeReplica();
  ASSERT_TRUE(IsNew(Begin(*a, kKey, kPayload)));
  auto waiting =
      std::async(std::launch::async, [&] { return BeginPatiently(*b); });
  ASSERT_THAT(Release(*a, /*forget=*/true), IsOk());
  EXPECT_TRUE(IsNew(waiting.get()));
}

TEST_F(PostgresLedgerTest, AnIntentWhoseReplicaDiedIsNeverSigned) {
  const auto a = MakeReplica();
  const auto b = MakeReplica();
  ASSERT_TRUE(IsNew(Begin(*a, kKey, kPayload)));
  EXPECT_THAT(Begin(*b, kKey, kPayload), HasReason(v1::REASON_IN_PROGRESS));
  ExpireLeases();
  EXPECT_THAT(Begin(*b, kKey, kPayload), HasReason(v1::REASON_INDETERMINATE));
  // It was only slow: what it made is found.
  ASSERT_THAT(Keep(*a, LedgerState::kDone, MakeResponse()), IsOk());
  EXPECT_THAT(Begin(*b, kKey, kPayload), IsOk());
}

TEST_F(PostgresLedgerTest, AReplicaThatStopsLeavesNoDoubt) {
  const auto b = MakeReplica();
  {
    const auto a = MakeReplica();
    ASSERT_TRUE(IsNew(Begin(*a, kKey, kPayload)));
  }
  EXPECT_THAT(Begin(*b, kKey, kPayload), HasReason(v1::REASON_INDETERMINATE));
}

TEST_F(PostgresLedgerTest, OneReplicaStampsWhatAnotherSigned) {
  const auto a = MakeReplica();
  const auto b = MakeReplica();
  const auto c = MakeReplica();
  ASSERT_TRUE(IsNew(Begin(*a, kKey, kPayload)));
  ASSERT_THAT(Keep(*a, LedgerState::kSigned, MakeResponse()), IsOk());
  EXPECT_THAT(Begin(*b, kKey, kPayload), HasReason(v1::REASON_IN_PROGRESS));
  ASSERT_THAT(Release(*a, /*forget=*/false), IsOk());
  const auto begun = Begin(*b, kKey, kPayload);
  ASSERT_THAT(begun, IsOk());
  ASSERT_TRUE(begun->has_value());
  EXPECT_EQ((*begun)->state, LedgerState::kSigned);
  EXPECT_THAT(Begin(*c, kKey, kPayload), HasReason(v1::REASON_IN_PROGRESS));
}

TEST_F(PostgresLedgerTest, ARefusedAdmissionLeavesNothingBehind) {
  const auto replica = MakeReplica();
  const auto refuse = [](Database& database) -> absl::Status {
    RETURN_IF_ERROR(
        database
            .Run("INSERT INTO replicas (id, alive_until_ms) VALUES (?, ?)",
                 {std::string("trace"), int64_t{1}})
            .status());
    return MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                     v1::REASON_POLICY_VIOLATION, "no");
  };
  EXPECT_THAT(Begin(*replica, kKey, kPayload, refuse),
              HasReason(v1::REASON_POLICY_VIOLATION));
  EXPECT_EQ(
      cluster_.Query(dsn_, "SELECT count(*) FROM replicas WHERE id = 'trace'"),
      "0\n");
  EXPECT_TRUE(IsNew(Begin(*replica, kKey, kPayload)));
}

TEST_F(PostgresLedgerTest, AnOlderSchemaIsBroughtUpToDate) {
  cluster_.Query(
      dsn_,
      "CREATE TABLE codeseal_schema (one BIGINT NOT NULL PRIMARY KEY CHECK "
      "(one = 1), version BIGINT NOT NULL);"
      "INSERT INTO codeseal_schema VALUES (1, 1);"
      "CREATE TABLE signatures (client TEXT NOT NULL, request_id TEXT NOT NULL,"
      " payload_digest BYTEA NOT NULL, state BIGINT NOT NULL, response BYTEA "
      "NOT NULL DEFAULT '', created_at BIGINT NOT NULL, changed_at BIGINT NOT "
      "NULL, PRIMARY KEY (client, request_id));"
      "INSERT INTO signatures VALUES ('spiffe://test/a', 'id-1', '', 1, '', "
      "4000000000, 4000000000)");
  const auto replica = MakeReplica();
  EXPECT_THAT(Begin(*replica, kKey, {}), HasReason(v1::REASON_INDETERMINATE));
}

TEST_F(PostgresLedgerTest, ANewerSchemaIsLeftAlone) {
  cluster_.Query(
      dsn_,
      "CREATE TABLE codeseal_schema (one BIGINT NOT NULL PRIMARY KEY CHECK "
      "(one = 1), version BIGINT NOT NULL);"
      "INSERT INTO codeseal_schema VALUES (1, 99)");
  PostgresOptions options;
  options.dsn = dsn_;
  EXPECT_THAT(OpenPostgresLedgerStores(options).status(),
              HasReason(v1::REASON_STATE_STORE));
}

TEST_F(PostgresLedgerTest, ReplicasThatStartTogetherMakeOneSchema) {
  std::vector<std::future<std::unique_ptr<Ledger>>> replicas;
  for (int i = 0; i < 4; ++i) {
    replicas.push_back(
        std::async(std::launch::async, [this] { return MakeReplica(); }));
  }
  for (auto& each : replicas) EXPECT_NE(each.get(), nullptr);
}

TEST_F(PostgresLedgerTest, GoesOnWhenTheDatabaseIsBack) {
  const auto replica = MakeReplica();
  ASSERT_TRUE(IsNew(Begin(*replica, kKey, kPayload)));
  cluster_.Stop();
  EXPECT_THAT(Begin(*replica, {"client", "down"}, kPayload),
              HasReason(v1::REASON_STATE_STORE));
  cluster_.Start();
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  absl::Status kept;
  do {
    kept = Keep(*replica, LedgerState::kDone, MakeResponse());
  } while (!kept.ok() && absl::Now() < deadline);
  EXPECT_THAT(kept, IsOk());
}

TEST_F(PostgresLedgerTest, ADatabaseThatHangsIsNotWaitedForLong) {
  const auto replica = MakeReplica();
  ASSERT_TRUE(IsNew(Begin(*replica, kKey, kPayload)));
  cluster_.Freeze();
  const absl::Time begin = absl::Now();
  EXPECT_THAT(Begin(*replica, {"client", "hangs"}, kPayload),
              HasReason(v1::REASON_STATE_STORE));
  // A statement, then a connection: a second each, and what a busy machine
  // adds.
  EXPECT_LT(absl::Now() - begin, absl::Seconds(6));
  cluster_.Continue();
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (!Begin(*replica, {"client", "back"}, kPayload).ok() &&
         absl::Now() < deadline) {
  }
  EXPECT_LT(absl::Now(), deadline);
}

}  // namespace
}  // namespace codeseal
