// JSON Web Tokens and the keys that they are signed with, as far as identity
// tokens of CI systems need them: RS256 and ES256, nothing else.
//
//   token text -> ParseJsonWebToken -> CheckTokenSignature -> claims
//
// Spec: RFC 7515 (JWS), RFC 7517 (JWK), RFC 7518, RFC 7519 (JWT), RFC 8725.

#ifndef CODESEAL_SERVER_JSON_WEB_TOKEN_H_
#define CODESEAL_SERVER_JSON_WEB_TOKEN_H_

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/bytes.h"

namespace codeseal {

inline constexpr size_t kMaxTokenSize = 8 << 10;  // bytes
inline constexpr size_t kMaxKeySetSize = 256 << 10;

struct JsonWebKey {
  std::string id;         // `kid`; may be empty
  std::string algorithm;  // RS256 or ES256: what the key itself is for
  Bytes public_key;       // SubjectPublicKeyInfo
};

struct JsonWebToken {
  std::string algorithm;    // what the header claims
  std::string key_id;       // empty: none
  std::string signed_part;  // exactly the bytes that were signed
  Bytes signature;

  std::vector<std::string> audiences;
  absl::Time issued_at = absl::InfiniteFuture();  // never issued
  absl::Time not_before = absl::InfinitePast();
  absl::Time expires_at = absl::InfinitePast();  // expired
  // Texts, numbers and truth values as text; nothing else.
  std::map<std::string, std::string> claims;
};

// PERMISSION_DENIED REASON_BAD_IDENTITY_TOKEN: why a token is refused.
absl::Status BadIdentityToken(const std::string& message);

// A key set without the keys that are of other kinds or not for signatures.
// Errors: INVALID_ARGUMENT REASON_BAD_IDENTITY_TOKEN.
absl::StatusOr<std::vector<JsonWebKey>> ParseJsonWebKeys(std::string_view json);

// Reads the token; believes nothing that it says. Keys and addresses in its
// header are ignored.
// Errors: PERMISSION_DENIED REASON_BAD_IDENTITY_TOKEN.
absl::StatusOr<JsonWebToken> ParseJsonWebToken(std::string_view text);

// The algorithm is the key's; a token that claims another one is refused.
// Errors: PERMISSION_DENIED REASON_BAD_IDENTITY_TOKEN.
absl::Status CheckTokenSignature(const JsonWebToken& token,
                                 const JsonWebKey& key);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_JSON_WEB_TOKEN_H_
