#include "hsm/certificate_parts.h"

#include <openssl/x509.h>

#include <algorithm>
#include <array>

#include "codesign/base/error.h"
#include "hsm/public_key.h"

namespace codeseal {
namespace {

absl::Status BadSubject(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_BAD_OPTION,
                   std::string("subject: ").append(message));
}

constexpr std::array<std::string_view, 9> kNames = {
    "C", "CN", "DC", "emailAddress", "L", "O", "OU", "ST", "UID"};

absl::Status AddEntry(X509_NAME* name, const std::string& part) {
  const size_t equals = part.find('=');
  if (equals == std::string::npos) {
    return BadSubject("'" + part + "' is not NAME=value");
  }
  const std::string type = part.substr(0, equals);
  const std::string value = part.substr(equals + 1);
  if (std::find(kNames.begin(), kNames.end(), type) == kNames.end()) {
    return BadSubject("'" + type + "' is not a name that certificates use");
  }
  if (value.empty() || value.size() > 255 ||
      X509_NAME_add_entry_by_txt(
          name, type.c_str(), MBSTRING_UTF8,
          reinterpret_cast<const unsigned char*>(value.data()),
          static_cast<int>(value.size()), -1, 0) != 1) {
    DrainOpenSslErrors();
    return BadSubject("'" + value + "' cannot be the value of " + type);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UniqueX509Name> ParseSubject(std::string_view subject) {
  UniqueX509Name name(X509_NAME_new());
  std::string part;
  for (size_t i = 0; i < subject.size(); ++i) {
    if (subject[i] == '\\') {
      if (++i == subject.size()) return BadSubject("it ends in a backslash");
      part.push_back(subject[i]);
    } else if (subject[i] == ',') {
      RETURN_IF_ERROR(AddEntry(name.get(), part));
      part.clear();
    } else if (part.empty() && subject[i] == ' ') {
      continue;  // after a comma
    } else {
      part.push_back(subject[i]);
    }
  }
  RETURN_IF_ERROR(AddEntry(name.get(), part));
  return name;
}

const EVP_MD* DigestFor(const EVP_PKEY* key) {
  return PublicKeyAlgorithm(key) == "p384" ? EVP_sha384() : EVP_sha256();
}

// The token's own words when it was the token that failed.
absl::Status SignError(const SignScope& scope, std::string_view what) {
  const absl::Status openssl = OpenSslError(what);
  return scope.token_status().ok() ? openssl : scope.token_status();
}

std::string ReadAll(BIO* bio) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  return size <= 0 ? "" : std::string(text, static_cast<size_t>(size));
}

absl::Status OpenSslError(std::string_view what) {
  return MakeError(absl::StatusCode::kInternal, v1::STAGE_TOKEN,
                   v1::REASON_INTERNAL,
                   std::string(what).append(": ").append(DrainOpenSslErrors()));
}

}  // namespace codeseal
