// A configuration with one identity on a fake token, for the parts that need
// both.

#ifndef CODESEAL_TESTS_UNIT_SERVER_SERVER_FIXTURE_H_
#define CODESEAL_TESTS_UNIT_SERVER_SERVER_FIXTURE_H_

#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "server/identity_store.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_pki.h"
#include "tests/unit/server/fake_token.h"

namespace codeseal::testing {

// The identity "dev", version "v1", on the token "soft" with a P-256 key unless
// told otherwise; the peer "builder" may use it.
class ServerFixture : public ::testing::Test {
 protected:
  explicit ServerFixture(const char* algorithm = "p256",
                         CertificateSpec leaf = {})
      : key_(SoftwareKey::Cached(algorithm)) {
    CertificateSpec authority;
    authority.common_name = "root";
    const TestIdentity root = MakeRoot(authority);
    leaf.common_name = "signer";
    if (leaf.extended_key_usage.empty()) {
      leaf.extended_key_usage = {kCodeSigning};
    }
    const Certificate certificate = IssueForKey(key_->public_key(), leaf, root);
    IdentityVersionConfig version;
    version.id = "v1";
    version.keys = {{"soft", {{1}, ""}}};
    version.chain = folder_.Write("chain.pem", certificate.Pem() + root.pem());
    IdentityConfig identity;
    identity.name = "dev";
    identity.versions = {version};
    identity.allow = {{"", "builder", ""}};
    TokenConfig token;
    token.name = "soft";
    config_.tokens = {token};
    config_.identities = {identity};
    token_ = std::make_shared<FakeToken>(token, key_);
    peer_ = {{}, {"builder"}, std::string(64, 'a'), absl::InfiniteFuture()};
  }

  absl::StatusOr<std::unique_ptr<IdentityStore>> MakeStore() const {
    return IdentityStore::Create(config_,
                                 [this](const TokenConfig&) { return token_; });
  }

  TempFolder folder_;
  const std::shared_ptr<SoftwareKey> key_;
  ServerConfig config_;
  std::shared_ptr<FakeToken> token_;
  Peer peer_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_UNIT_SERVER_SERVER_FIXTURE_H_
