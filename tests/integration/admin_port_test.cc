// What probes and Prometheus see: a process that lives says so whatever its
// tokens do, readiness follows real signatures, and labels are the
// configuration's own words.

#include "absl/time/clock.h"
#include "codesign/base/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/admin_page.h"
#include "tests/integration/test_client.h"
#include "tests/support/fault_shim.h"
#include "tests/support/server_process.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class AdminPortTest : public ::testing::Test {
 protected:
  void Start() {
    config_ = world_.Config(world_.TokensSection(FaultShim::Module()),
                            world_.IdentitiesSection(),
                            "admin: {address: \"127.0.0.1:0\"}\n");
    server_ = std::make_unique<ServerProcess>(world_.WriteConfig(config_));
    client_ = std::make_unique<TestClient>(server_->address(), world_.tls_ca(),
                                           world_.client());
    address_ = AdminAddress(*server_);
  }
  TestClient::Result Sign(const std::string& identity) {
    SignRequestSpec spec;
    spec.request_id = RandomUuid();
    spec.identity = identity;
    return client_->Sign(BuildSignRequest(spec));
  }
  AdminPage Get(const std::string& path) { return GetPage(address_, path); }
  // Until the page has this status.
  bool WaitFor(const std::string& path, long status) {
    const absl::Time limit = absl::Now() + absl::Seconds(30);
    while (absl::Now() < limit) {
      if (Get(path).status == status) return true;
    }
    return false;
  }

  ServerWorld world_;
  FaultShim shim_;
  std::string config_;
  std::string address_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<TestClient> client_;
};

TEST_F(AdminPortTest, ReadinessFollowsSignaturesAndLivenessDoesNot) {
  Start();
  ASSERT_THAT(Sign("ec"), IsOk());
  EXPECT_EQ(Get("/livez").status, 200);
  EXPECT_EQ(Get("/readyz").status, 200);
  EXPECT_EQ(client_->Health("codeseal.v1.SigningService"), "SERVING");

  shim_.Play("* rv=CKR_DEVICE_REMOVED");
  EXPECT_FALSE(Sign("ec").ok());
  EXPECT_FALSE(Sign("rsa").ok());
  ASSERT_TRUE(WaitFor("/readyz", 503));
  EXPECT_THAT(Get("/readyz").body, HasSubstr("REASON_TOKEN"));
  EXPECT_EQ(Get("/livez").status, 200);
  EXPECT_EQ(MetricOf(Get("/metrics").body,
                     "codeseal_identity_ready{identity=\"ec\"}"),
            0);
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (client_->Health("codeseal.v1.SigningService") == "SERVING" &&
         absl::Now() < limit) {
  }
  EXPECT_EQ(client_->Health("codeseal.v1.SigningService"), "NOT_SERVING");

  shim_.Play("");
  EXPECT_TRUE(WaitFor("/readyz", 200));
  EXPECT_THAT(Sign("ec"), IsOk());
}

TEST_F(AdminPortTest, MetricsCountByTheConfigurationsWordsAlone) {
  Start();
  ASSERT_THAT(Sign("ec"), IsOk());
  ASSERT_THAT(Sign("ec"), IsOk());
  EXPECT_FALSE(Sign("nobody-knows-this").ok());
  const std::string text = Get("/metrics").body;
  EXPECT_EQ(MetricOf(text,
                     "codeseal_requests_total{code=\"OK\","
                     "identity=\"ec\",reason=\"\"}"),
            2)
      << text;
  EXPECT_EQ(MetricOf(text,
                     "codeseal_requests_total{code=\"NOT_FOUND\","
                     "identity=\"other\","
                     "reason=\"REASON_IDENTITY_NOT_FOUND\"}"),
            1)
      << text;
  EXPECT_EQ(MetricOf(text,
                     "codeseal_request_duration_seconds_count{"
                     "identity=\"ec\"}"),
            2);
  EXPECT_EQ(MetricOf(text, "codeseal_identity_ready{identity=\"ec\"}"), 1);
  EXPECT_GT(
      MetricOf(text, "codeseal_certificate_expiry_seconds{identity=\"ec\"}"),
      1e9);
  const std::string sha256 =
      HexEncode(ComputeDigest(DigestKind::kSha256, AsBytes(config_)));
  EXPECT_EQ(MetricOf(text, "codeseal_config_info{sha256=\"" + sha256 + "\"}"),
            1);
  EXPECT_THAT(server_->log(), HasSubstr(sha256));
  // Nothing that a caller sent, and not who it was.
  EXPECT_THAT(text, Not(HasSubstr("nobody-knows-this")));
  EXPECT_THAT(text, Not(HasSubstr(ServerWorld::kClientUri)));
}

TEST_F(AdminPortTest, ServesNothingElse) {
  Start();
  EXPECT_EQ(Get("/").status, 404);
  EXPECT_EQ(Get("/livez/x").status, 404);
  EXPECT_EQ(Get("/../../etc/passwd").status, 404);
}

}  // namespace
}  // namespace codeseal::testing
