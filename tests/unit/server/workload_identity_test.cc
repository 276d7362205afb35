// Promise 30, on the server's side of the wire: which tokens are believed, and
// what for. tests/integration/promise_30_* has the whole way.

#include "server/workload_identity.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "codesign/base/error.h"
#include "gtest/gtest.h"
#include "server/json_web_token.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/token_issuer.h"

namespace codeseal {
namespace {

using ::codeseal::testing::Base64Url;
using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::KeyType;
using ::codeseal::testing::TokenIssuer;
using nlohmann::json;

class WorkloadIdentityTest : public ::testing::Test {
 protected:
  void Start(const TokenIssuer& issuer) {
    provider_.name = "ci";
    provider_.issuer = TokenIssuer::kIssuer;
    provider_.audience = TokenIssuer::kAudience;
    provider_.algorithms = {issuer.algorithm()};
    provider_.keys_file = folder_.Write("keys.json", issuer.KeySet());
    auto verifier = WorkloadVerifier::Create({provider_}, clock_);
    ASSERT_THAT(verifier, IsOk());
    verifier_ = *std::move(verifier);
  }
  json Claims() const { return TokenIssuer::Claims(clock_.Now()); }

  testing::TempFolder folder_;
  testing::FakeClock clock_{absl::FromUnixSeconds(1'800'000'000)};
  OidcProviderConfig provider_;
  std::unique_ptr<WorkloadVerifier> verifier_;
};

TEST_F(WorkloadIdentityTest, BelievesTokensOfBothAlgorithms) {
  for (const KeyType type : {KeyType::kRsa2048, KeyType::kP256}) {
    const TokenIssuer issuer(type);
    Start(issuer);
    json claims = Claims();
    claims["run_attempt"] = 3;
    claims["protected"] = true;
    const auto workload = verifier_->Verify(issuer.Sign(claims));
    ASSERT_THAT(workload, IsOk());
    EXPECT_EQ((*workload)->provider, "ci");
    EXPECT_EQ((*workload)->claims.at("repository_id"), "123456");
    EXPECT_EQ((*workload)->claims.at("run_attempt"), "3");
    EXPECT_EQ((*workload)->claims.at("protected"), "true");
    EXPECT_EQ((*workload)->token_id, claims["jti"].get<std::string>());
    EXPECT_EQ((*workload)->expires_at,
              clock_.Now() + absl::Minutes(5) + provider_.leeway);
  }
}

// What a forged, stale or misdirected token looks like.
TEST_F(WorkloadIdentityTest, promise_30_bad_tokens_are_refused) {
  const TokenIssuer issuer;
  const TokenIssuer stranger;  // the same key id, another key
  Start(issuer);
  const auto seconds = [&](absl::Duration from_now) {
    return absl::ToUnixSeconds(clock_.Now() + from_now);
  };
  const auto with = [&](const char* name, const json& value) {
    json claims = Claims();
    claims[name] = value;
    return issuer.Sign(claims);
  };
  const auto without = [&](const char* name) {
    json claims = Claims();
    claims.erase(name);
    return issuer.Sign(claims);
  };
  const std::string good = issuer.Sign(Claims());
  const size_t second = good.rfind('.');
  const std::string unsigned_part =
      Base64Url(R"({"alg":"none"})") + "." + Base64Url(Claims().dump());
  const struct {
    const char* what;
    std::string token;
    const char* says;
  } cases[] = {
      {"alg none", unsigned_part + ".", "algorithm"},
      {"alg none with a signature", unsigned_part + good.substr(second),
       "algorithm"},
      {"alg None", issuer.Sign(Claims(), {{"alg", "None"}}), "algorithm"},
      {"alg HS256 with the public key",
       TokenIssuer::SignWithSecret(Claims(),
                                   {{"alg", "HS256"}, {"kid", "key-1"}},
                                   issuer.public_key_pem()),
       "algorithm"},
      {"alg RS256 with an EC key", issuer.Sign(Claims(), {{"alg", "RS256"}}),
       "algorithm"},
      {"alg ES384", issuer.Sign(Claims(), {{"alg", "ES384"}}), "algorithm"},
      {"no alg", issuer.Sign(Claims(), {{"alg", nullptr}}), "algorithm"},
      {"another key", stranger.Sign(Claims()), "signature"},
      {"unknown key id", issuer.Sign(Claims(), {{"kid", "key-2"}}),
       "nobody knows its key"},
      {"key in the header",
       stranger.Sign(Claims(), {{"jwk", json::parse(stranger.KeySet())}}),
       "signature"},
      {"crit", issuer.Sign(Claims(), {{"crit", {"b64"}}, {"b64", false}}),
       "extensions"},
      {"changed claims",
       good.substr(0, good.find('.') + 1) +
           Base64Url(TokenIssuer::Claims(clock_.Now()).dump()) +
           good.substr(second),
       "signature"},
      {"cut signature", good.substr(0, good.size() - 4), "signature"},
      {"no signature", good.substr(0, second + 1), "signature"},
      {"another audience", with("aud", "another"), "audience"},
      {"audiences without us", with("aud", {"a", "b"}), "audience"},
      {"part of our audience", with("aud", "codesealx"), "audience"},
      {"no audience", without("aud"), "audience"},
      {"another issuer", with("iss", "https://token.test.evil"), "issuer"},
      {"no issuer", without("iss"), "issuer"},
      {"expired", with("exp", seconds(-absl::Seconds(31))), "expired"},
      {"no exp", without("exp"), "expired"},
      {"exp as text", with("exp", "1900000000"), "expired"},
      {"valid for ever", with("exp", seconds(absl::Hours(25))), "too long"},
      {"not yet", with("nbf", seconds(absl::Seconds(31))), "not valid yet"},
      {"issued tomorrow", with("iat", seconds(absl::Hours(24))),
       "not valid yet"},
      {"issued long ago", with("iat", seconds(-absl::Minutes(16))),
       "too long ago"},
      {"no iat", without("iat"), "not valid yet"},
      {"no jti", without("jti"), "jti"},
      {"empty", "", "no signed"},
      {"two parts", "e30.e30", "no signed"},
      {"four parts", good + ".e30", "no signed"},
      {"no JSON", "bm8.bm8.bm8", "no signed"},
      {"padding", good + "=", "no signed"},
      {"blank", " " + good, "no signed"},
      {"too large", std::string(kMaxTokenSize + 1, 'a'), "no signed"},
      {"deep JSON",
       Base64Url(std::string(3000, '[')) + "." + Base64Url("{}") + ".e30",
       "no signed"},
  };
  ASSERT_THAT(verifier_->Verify(good), IsOk());
  for (const auto& each : cases) {
    const auto workload = verifier_->Verify(each.token);
    EXPECT_THAT(workload, HasReason(v1::REASON_BAD_IDENTITY_TOKEN))
        << each.what;
    EXPECT_THAT(workload, HasCode(absl::StatusCode::kPermissionDenied))
        << each.what;
    EXPECT_THAT(workload.status(), HasMessage(each.says)) << each.what;
  }
}

TEST_F(WorkloadIdentityTest, TheClocksMayDifferALittle) {
  const TokenIssuer issuer;
  Start(issuer);
  const std::string token = issuer.Sign(Claims());
  clock_.Advance(-absl::Seconds(29));
  EXPECT_THAT(verifier_->Verify(token), IsOk());
  clock_.Advance(absl::Seconds(29) + absl::Minutes(5) + absl::Seconds(29));
  EXPECT_THAT(verifier_->Verify(token), IsOk());
  clock_.Advance(absl::Seconds(2));
  EXPECT_THAT(verifier_->Verify(token),
              HasReason(v1::REASON_BAD_IDENTITY_TOKEN));
}

TEST_F(WorkloadIdentityTest, KeysOfOtherKindsAreLeftOut) {
  const TokenIssuer issuer;
  json set = json::parse(issuer.KeySet());
  json encryption = set["keys"][0];
  encryption["use"] = "enc";
  json wrong_point = set["keys"][0];
  wrong_point["y"] = wrong_point["x"];
  json wrong_algorithm = set["keys"][0];
  wrong_algorithm["alg"] = "ES512";
  const json list = {encryption,
                     wrong_point,
                     wrong_algorithm,
                     {{"kty", "oct"}, {"k", "c2VjcmV0"}, {"kid", "key-1"}},
                     {{"kty", "RSA"}, {"n", "AQ"}, {"e", "AQAB"}},
                     "no object",
                     set["keys"][0]};
  const auto keys = ParseJsonWebKeys(json{{"keys", list}}.dump());
  ASSERT_THAT(keys, IsOk());
  ASSERT_EQ(keys->size(), 1u);
  EXPECT_EQ(keys->front().algorithm, "ES256");
  for (const char* const wrong : {"", "{", "[]", "{}", R"({"keys":{}})"}) {
    EXPECT_FALSE(ParseJsonWebKeys(wrong).ok()) << wrong;
  }
}

TEST_F(WorkloadIdentityTest, NewKeysAreReadFromTheFileAndBadOnesLeaveTheOld) {
  const TokenIssuer issuer;
  const TokenIssuer next(KeyType::kP256, "key-2");
  Start(issuer);
  const std::string token = next.Sign(Claims());
  EXPECT_THAT(verifier_->Verify(token),
              HasReason(v1::REASON_BAD_IDENTITY_TOKEN));
  folder_.Write("keys.json", next.KeySet());
  const auto verified = [&](const std::string& text) {
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (!verifier_->Verify(text).ok() && absl::Now() < deadline) {
    }
    return verifier_->Verify(text).ok();
  };
  EXPECT_TRUE(verified(token));
  EXPECT_THAT(verifier_->Verify(issuer.Sign(Claims())),
              HasReason(v1::REASON_BAD_IDENTITY_TOKEN));
  folder_.Write("keys.json", "{}");
  EXPECT_TRUE(verified(next.Sign(Claims())));
}

}  // namespace
}  // namespace codeseal
