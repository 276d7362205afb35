// An OpenID Connect provider of the test's own: a key set, and tokens that say
// whatever a test wants.

#ifndef CODESEAL_TESTS_SUPPORT_TOKEN_ISSUER_H_
#define CODESEAL_TESTS_SUPPORT_TOKEN_ISSUER_H_

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "tests/support/test_pki.h"

namespace codeseal::testing {

std::string Base64Url(std::string_view bytes);

class TokenIssuer {
 public:
  static constexpr char kIssuer[] = "https://token.test";
  static constexpr char kAudience[] = "codeseal";

  // `type` is kRsa2048 (RS256) or kP256 (ES256).
  explicit TokenIssuer(KeyType type = KeyType::kP256,
                       std::string key_id = "key-1");

  const std::string& algorithm() const { return algorithm_; }
  // {"keys": [...]}
  std::string KeySet() const;
  std::string public_key_pem() const;

  // What a job of GitHub Actions would get, good for five minutes from `now`,
  // with a new `jti`.
  static nlohmann::json Claims(absl::Time now);

  // The header names this issuer's algorithm and key unless `header` says
  // otherwise; the signature is always this issuer's.
  std::string Sign(
      const nlohmann::json& claims,
      const nlohmann::json& header = nlohmann::json::object()) const;
  // HMAC-SHA-256 with `secret`, as HS256 has it.
  static std::string SignWithSecret(const nlohmann::json& claims,
                                    const nlohmann::json& header,
                                    const std::string& secret);

 private:
  const std::shared_ptr<evp_pkey_st> key_;
  const std::string key_id_;
  const std::string algorithm_;
};

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_TOKEN_ISSUER_H_
