// Promises 18 and 19, on one server: a request id signs at most once, a replay
// gets the same bytes, and the same id with another payload is an error.

#include <algorithm>
#include <atomic>
#include <csignal>
#include <set>
#include <thread>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "gmock/gmock.h"
#include "tests/integration/stamp_fixture.h"
#include "tests/support/fault_shim.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {
namespace {

class Promise18Test : public StampTest {
 protected:
  // "ec" on a token whose calls are counted. `timestamp` is the mode.
  std::string LedgerConfig(const std::string& timestamp) {
    return world_.Config(
               world_.TokensSection(FaultShim::Module()),
               "identities:\n" + ServerWorld::Identity(
                                     "ec", "main", "02", "main-02.chain.pem",
                                     "    timestamp: {tsa: test, mode: " +
                                         timestamp + "}\n")) +
           "state: {sqlite: {path: ledger.db}}\n"
           "tsa:\n  test: {urls: [\"" +
           tsa_.url() + "\"], roots: " +
           world_.folder().Write("tsa-roots.pem", authority_.root().Pem()) +
           ", attempts: 1, timeout: 5s}\n";
  }

  // As a client does that retries: the same request until it is answered.
  TestClient::Result SignPatiently(TestClient& client,
                                   const v1::SignRequest& request) {
    for (;;) {
      TestClient::Result result = client.Sign(request);
      if (GetReason(result.status()) != v1::REASON_IN_PROGRESS) return result;
    }
  }
  absl::StatusOr<v1::SignResponse> GetSignature(const std::string& id) {
    return client_->GetSignature(id);
  }

  FaultShim shim_;
  TimestampServer tsa_{authority_};
};

TEST_F(Promise18Test, promise_18_fifty_duplicates_are_one_signature) {
  Start(LedgerConfig("none"));
  ASSERT_THAT(client_->Sign(NewRequest()), IsOk());
  shim_.Play("C_Sign delay=300ms");
  const int before = shim_.CallCount("C_Sign");
  const v1::SignRequest request = NewRequest();
  std::mutex mutex;
  std::set<std::string> signatures;
  int original_count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 50; ++i) {
    threads.emplace_back([&] {
      const TestClient::Result result = SignPatiently(*client_, request);
      ASSERT_THAT(result, IsOk());
      const std::lock_guard lock(mutex);
      signatures.insert(result->cms());
      if (!result->replayed()) ++original_count;
    });
  }
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(shim_.CallCount("C_Sign"), before + 1);
  EXPECT_EQ(signatures.size(), 1u);
  EXPECT_EQ(original_count, 1);
}

TEST_F(Promise18Test, promise_18_a_replay_survives_a_restart) {
  const std::string config = LedgerConfig("required");
  Start(config);
  const v1::SignRequest request = NewRequest();
  const TestClient::Result first = client_->Sign(request);
  ASSERT_THAT(first, IsOk());
  server_->Stop();
  Start(config);
  const int before = shim_.CallCount("C_Sign");
  const int query_count = tsa_.query_count();
  TestClient::Result again = client_->Sign(request);
  ASSERT_THAT(again, IsOk());
  EXPECT_TRUE(again->replayed());
  again->set_replayed(false);
  EXPECT_EQ(again->SerializeAsString(), first->SerializeAsString());
  EXPECT_EQ(shim_.CallCount("C_Sign"), before);
  EXPECT_EQ(tsa_.query_count(), query_count);
  const auto found = GetSignature(request.request_id());
  ASSERT_THAT(found, IsOk());
  EXPECT_EQ(found->cms(), first->cms());
}

TEST_F(Promise18Test, promise_18_a_timestamp_outage_signs_nothing_twice) {
  Start(LedgerConfig("required"));
  ASSERT_THAT(client_->Sign(NewRequest()), IsOk());
  tsa_.SetFault(HttpFault::kStatus500);
  const int before = shim_.CallCount("C_Sign");
  const v1::SignRequest request = NewRequest();
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(client_->Sign(request), HasReason(v1::REASON_TSA_DOWN));
    EXPECT_THAT(GetSignature(request.request_id()),
                HasReason(v1::REASON_TSA_DOWN));
  }
  tsa_.SetFault(HttpFault::kNone);
  const TestClient::Result result = client_->Sign(request);
  ASSERT_THAT(result, IsOk());
  EXPECT_TRUE(TimestampIn(result->cms()).has_value());
  EXPECT_EQ(shim_.CallCount("C_Sign"), before + 1);
}

TEST_F(Promise18Test, promise_18_a_crash_while_signing_is_never_signed_again) {
  const std::string config = LedgerConfig("none");
  Start(config);
  ASSERT_THAT(client_->Sign(NewRequest()), IsOk());
  const int before = shim_.CallCount("C_Sign");
  shim_.Play("C_Sign delay=5s");
  const v1::SignRequest request = NewRequest();
  std::thread caller([&] {
    EXPECT_THAT(client_->Sign(request),
                HasCode(absl::StatusCode::kUnavailable));
  });
  ASSERT_TRUE(shim_.WaitForCalls("C_SignInit", before));
  kill(server_->pid(), SIGKILL);
  server_->Wait();
  caller.join();
  shim_.Play("");
  Start(config);
  const int after = shim_.CallCount("C_Sign");
  for (int i = 0; i < 2; ++i) {
    const TestClient::Result result = client_->Sign(request);
    EXPECT_THAT(result, HasReason(v1::REASON_INDETERMINATE));
    EXPECT_THAT(result, HasCode(absl::StatusCode::kUnknown));
    EXPECT_THAT(GetSignature(request.request_id()),
                HasReason(v1::REASON_INDETERMINATE));
  }
  EXPECT_EQ(shim_.CallCount("C_Sign"), after);
  EXPECT_THAT(client_->Sign(NewRequest()), IsOk());
}

TEST_F(Promise18Test, promise_18_what_the_token_refused_may_be_tried_again) {
  Start(LedgerConfig("none"));
  ASSERT_THAT(client_->Sign(NewRequest()), IsOk());
  shim_.Play("C_SignInit rv=CKR_FUNCTION_FAILED");
  const v1::SignRequest request = NewRequest();
  EXPECT_FALSE(client_->Sign(request).ok());
  shim_.Play("");
  TestClient::Result result = client_->Sign(request);
  // The token's breaker may want a moment.
  for (int i = 0; i < 100 && !result.ok(); ++i) {
    absl::SleepFor(absl::Milliseconds(100));
    result = client_->Sign(request);
  }
  ASSERT_THAT(result, IsOk());
  EXPECT_FALSE(result->replayed());
}

TEST_F(Promise18Test, promise_19_another_payload_is_an_error) {
  Start(LedgerConfig("none"));
  SignRequestSpec spec;
  spec.request_id = RandomUuid();
  spec.identity = "ec";
  const v1::SignRequest request = BuildSignRequest(spec);
  ASSERT_THAT(client_->Sign(request), IsOk());
  const int before = shim_.CallCount("C_Sign");
  spec.identifier = "com.example.another";
  const TestClient::Result other = client_->Sign(BuildSignRequest(spec));
  EXPECT_THAT(other, HasReason(v1::REASON_REQUEST_ID_REUSED));
  EXPECT_THAT(other, HasCode(absl::StatusCode::kAlreadyExists));
  v1::SignRequest at_another_time = request;
  at_another_time.mutable_signing_time()->set_seconds(
      absl::ToUnixSeconds(absl::Now() - absl::Minutes(1)));
  EXPECT_THAT(client_->Sign(at_another_time),
              HasReason(v1::REASON_REQUEST_ID_REUSED));
  // Where the artifact lay is not part of what is signed.
  v1::SignRequest elsewhere = request;
  elsewhere.mutable_artifact()->set_path("another/path");
  EXPECT_TRUE(client_->Sign(elsewhere)->replayed());
  EXPECT_EQ(shim_.CallCount("C_Sign"), before);
}

TEST_F(Promise18Test, promise_19_ids_belong_to_their_client) {
  CertificateSpec spec;
  spec.uris = {"spiffe://test/other-host"};
  spec.extended_key_usage = {kClientAuth};
  const ClientFiles files = world_.AddClient("other", spec);
  Start(LedgerConfig("none"));
  const v1::SignRequest request = NewRequest();
  ASSERT_THAT(client_->Sign(request), IsOk());
  TestClient other(server_->address(), world_.tls_ca(), files);
  EXPECT_THAT(other.GetSignature(request.request_id()),
              HasReason(v1::REASON_REQUEST_NOT_FOUND));
}

}  // namespace
}  // namespace codeseal::testing
