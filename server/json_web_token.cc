#include "server/json_web_token.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/escaping.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "hsm/public_key.h"

namespace codeseal {
namespace {

using nlohmann::json;

// DER of the object identifier of P-256, as CKA_EC_PARAMS has it.
constexpr uint8_t kP256[] = {0x06, 0x08, 0x2a, 0x86, 0x48,
                             0xce, 0x3d, 0x03, 0x01, 0x07};
constexpr size_t kP256Size = 32;  // bytes of a coordinate
constexpr size_t kMaxKeyCount = 64;

// Base64 for URLs without padding: exactly one text for each value, or several
// tokens would be the same.
std::optional<std::string> Decode(std::string_view text) {
  const bool clean = std::all_of(text.begin(), text.end(), [](char c) {
    return ('A' <= c && c <= 'Z') || ('a' <= c && c <= 'z') ||
           ('0' <= c && c <= '9') || c == '-' || c == '_';
  });
  std::string bytes;
  if (!clean || text.size() % 4 == 1 ||
      !absl::WebSafeBase64Unescape(absl::string_view(text.data(), text.size()),
                                   &bytes)) {
    return std::nullopt;
  }
  return bytes;
}

std::optional<Bytes> DecodeMember(const json& object, const char* name) {
  const auto member = object.find(name);
  if (member == object.end() || !member->is_string()) return std::nullopt;
  const std::optional<std::string> bytes = Decode(member->get<std::string>());
  if (!bytes.has_value()) return std::nullopt;
  return ToBytes(AsBytes(*bytes));
}

std::string TextMember(const json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_string()
             ? member->get<std::string>()
             : "";
}

// Not an object when the text is no JSON.
json ParseObject(std::string_view text) {
  json parsed = json::parse(text.begin(), text.end(), nullptr,
                            /*allow_exceptions=*/false);
  return parsed.is_object() ? parsed : json();
}

std::optional<JsonWebKey> ReadJsonWebKey(const json& object) {
  JsonWebKey key;
  key.id = TextMember(object, "kid");
  const std::string use = TextMember(object, "use");
  const std::string algorithm = TextMember(object, "alg");
  if (!use.empty() && use != "sig") return std::nullopt;
  absl::StatusOr<Bytes> public_key = absl::NotFoundError("another kind");
  if (TextMember(object, "kty") == "RSA") {
    key.algorithm = "RS256";
    const std::optional<Bytes> modulus = DecodeMember(object, "n");
    const std::optional<Bytes> exponent = DecodeMember(object, "e");
    if (modulus.has_value() && exponent.has_value()) {
      public_key = BuildRsaPublicKey(*modulus, *exponent);
    }
  } else if (TextMember(object, "kty") == "EC" &&
             TextMember(object, "crv") == "P-256") {
    key.algorithm = "ES256";
    const std::optional<Bytes> x = DecodeMember(object, "x");
    const std::optional<Bytes> y = DecodeMember(object, "y");
    if (x.has_value() && y.has_value() && x->size() == kP256Size &&
        y->size() == kP256Size) {
      Bytes point = {0x04};  // not compressed
      Append(point, *x);
      Append(point, *y);
      public_key = BuildEcPublicKey(kP256, point);
    }
  }
  if (!public_key.ok() || (!algorithm.empty() && algorithm != key.algorithm)) {
    return std::nullopt;
  }
  // Refuses short RSA keys and points that are on no curve.
  if (!ParsePublicKey(*public_key).ok()) return std::nullopt;
  key.public_key = *std::move(public_key);
  return key;
}

absl::Time ReadTime(const json& claims, const char* name, absl::Time missing) {
  const auto claim = claims.find(name);
  if (claim == claims.end()) return missing;
  if (!claim->is_number()) return missing;
  const double seconds = claim->get<double>();
  if (!std::isfinite(seconds) || std::abs(seconds) > 1e12) return missing;
  return absl::FromUnixSeconds(static_cast<int64_t>(seconds));
}

void ReadClaims(const json& claims, JsonWebToken& token) {
  token.issued_at = ReadTime(claims, "iat", token.issued_at);
  token.not_before = ReadTime(claims, "nbf", token.not_before);
  token.expires_at = ReadTime(claims, "exp", token.expires_at);
  for (const auto& [name, value] : claims.items()) {
    if (value.is_string()) {
      token.claims[name] = value.get<std::string>();
    } else if (value.is_boolean()) {
      token.claims[name] = value.get<bool>() ? "true" : "false";
    } else if (value.is_number_integer()) {
      token.claims[name] = value.dump();
    }
  }
  const auto audience = claims.find("aud");
  if (audience == claims.end()) return;
  if (audience->is_string()) {
    token.audiences.push_back(audience->get<std::string>());
  } else if (audience->is_array()) {
    for (const json& each : *audience) {
      if (each.is_string()) token.audiences.push_back(each.get<std::string>());
    }
  }
}

// A number of the signature as DER INTEGER.
void AppendInteger(std::span<const uint8_t> number, Bytes& to) {
  while (number.size() > 1 && number.front() == 0) number = number.subspan(1);
  const bool sign = (number.front() & 0x80) != 0;
  to.push_back(0x02);
  to.push_back(static_cast<uint8_t>(number.size() + (sign ? 1 : 0)));
  if (sign) to.push_back(0);
  Append(to, number);
}

// r and s side by side as Ecdsa-Sig-Value; empty when it is nothing like it.
Bytes EcdsaSignature(ByteView raw) {
  if (raw.size() != 2 * kP256Size) return {};
  Bytes numbers;
  AppendInteger(raw.first(kP256Size), numbers);
  AppendInteger(raw.subspan(kP256Size), numbers);
  Bytes der = {0x30, static_cast<uint8_t>(numbers.size())};
  Append(der, numbers);
  return der;
}

}  // namespace

absl::Status BadIdentityToken(const std::string& message) {
  return MakeError(absl::StatusCode::kPermissionDenied, v1::STAGE_POLICY,
                   v1::REASON_BAD_IDENTITY_TOKEN,
                   "the identity token is refused: " + message);
}

absl::StatusOr<std::vector<JsonWebKey>> ParseJsonWebKeys(
    std::string_view text) {
  const json set = text.size() <= kMaxKeySetSize ? ParseObject(text) : json();
  const auto list = set.is_object() ? set.find("keys") : set.end();
  if (!set.is_object() || list == set.end() || !list->is_array()) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PARSE,
                     v1::REASON_BAD_IDENTITY_TOKEN,
                     "this is no JSON Web Key "
                     "Set");
  }
  std::vector<JsonWebKey> keys;
  for (const json& each : *list) {
    if (!each.is_object() || keys.size() == kMaxKeyCount) continue;
    std::optional<JsonWebKey> key = ReadJsonWebKey(each);
    if (key.has_value()) keys.push_back(*std::move(key));
  }
  return keys;
}

absl::StatusOr<JsonWebToken> ParseJsonWebToken(std::string_view text) {
  const size_t first = text.find('.');
  const size_t second = first == std::string_view::npos
                            ? std::string_view::npos
                            : text.find('.', first + 1);
  if (text.size() > kMaxTokenSize || second == std::string_view::npos ||
      text.find('.', second + 1) != std::string_view::npos) {
    return BadIdentityToken("it is no signed JSON Web Token");
  }
  const std::optional<std::string> header = Decode(text.substr(0, first));
  const std::optional<std::string> claims =
      Decode(text.substr(first + 1, second - first - 1));
  const std::optional<std::string> signature = Decode(text.substr(second + 1));
  const json parsed_header = header.has_value() ? ParseObject(*header) : json();
  const json parsed_claims = claims.has_value() ? ParseObject(*claims) : json();
  if (!parsed_header.is_object() || !parsed_claims.is_object() ||
      !signature.has_value()) {
    return BadIdentityToken("it is no signed JSON Web Token");
  }
  // Extensions that must be understood; we understand none.
  if (parsed_header.contains("crit")) {
    return BadIdentityToken("its header demands extensions");
  }
  JsonWebToken token;
  token.algorithm = TextMember(parsed_header, "alg");
  token.key_id = TextMember(parsed_header, "kid");
  token.signed_part = std::string(text.substr(0, second));
  token.signature = ToBytes(AsBytes(*signature));
  ReadClaims(parsed_claims, token);
  return token;
}

absl::Status CheckTokenSignature(const JsonWebToken& token,
                                 const JsonWebKey& key) {
  if (token.algorithm != key.algorithm) {
    return BadIdentityToken("its key is not for its algorithm");
  }
  ASSIGN_OR_RETURN(const UniqueEvpPkey public_key,
                   ParsePublicKey(key.public_key));
  const bool is_rsa = key.algorithm == "RS256";
  const absl::Status checked = VerifyDigest(
      public_key.get(),
      is_rsa ? SignMechanism::kRsaPkcs1 : SignMechanism::kEcdsa,
      SignDigest::kSha256,
      ComputeDigest(DigestKind::kSha256, AsBytes(token.signed_part)),
      is_rsa ? token.signature : EcdsaSignature(token.signature));
  return checked.ok() ? checked
                      : BadIdentityToken("its signature does not verify");
}

}  // namespace codeseal
