// A server with timestamp authorities, and what its replies say.

#ifndef CODESEAL_TESTS_INTEGRATION_STAMP_FIXTURE_H_
#define CODESEAL_TESTS_INTEGRATION_STAMP_FIXTURE_H_

#include <memory>
#include <string>
#include <vector>

#include "codesign/cms/apple_cms.h"
#include "codesign/cms/timestamp.h"
#include "gtest/gtest.h"
#include "tests/integration/test_client.h"
#include "tests/support/server_process.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/timestamp_server.h"

namespace codeseal::testing {

class StampTest : public ::testing::Test {
 protected:
  // The identity "ec" with the authority "test", which has these servers.
  // `more` are further keys of the authority, each after a comma.
  std::string StampConfig(const std::vector<std::string>& urls,
                          const std::string& mode,
                          const std::string& more = "") const {
    std::string list;
    for (const std::string& url : urls) {
      list += (list.empty() ? "\"" : ", \"") + url + "\"";
    }
    return world_.Config(
        world_.TokensSection(),
        "identities:\n" +
            ServerWorld::Identity(
                "ec", "main", "02", "main-02.chain.pem",
                "    timestamp: {tsa: test, mode: " + mode + "}\n"),
        "tsa:\n  test: {urls: [" + list + "], roots: " +
            world_.folder().Write("tsa-roots.pem", authority_.root().Pem()) +
            more + "}\n");
  }

  void Start(const std::string& config) {
    server_ = std::make_unique<ServerProcess>(world_.WriteConfig(config));
    client_ = std::make_unique<TestClient>(server_->address(), world_.tls_ca(),
                                           world_.client());
  }

  static v1::SignRequest NewRequest() {
    SignRequestSpec spec;
    spec.request_id = RandomUuid();
    spec.identity = "ec";
    return BuildSignRequest(spec);
  }

  // The verified timestamp of a reply's CMS; nullopt when there is none.
  static std::optional<Timestamp> TimestampIn(const std::string& cms) {
    const absl::StatusOr<CmsSignature> signature = ParseAppleCms(AsBytes(cms));
    if (!signature.ok() || !signature->timestamp_token.has_value()) {
      return std::nullopt;
    }
    absl::StatusOr<Timestamp> timestamp = VerifyTimestampToken(
        *signature->timestamp_token, signature->signature_value, {});
    if (!timestamp.ok()) return std::nullopt;
    return *std::move(timestamp);
  }

  ServerWorld world_;
  TimestampAuthority authority_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<TestClient> client_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_INTEGRATION_STAMP_FIXTURE_H_
