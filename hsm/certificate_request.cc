#include "hsm/certificate_request.h"

#include <openssl/pem.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "codesign/base/error.h"
#include "hsm/openssl_ptr.h"
#include "hsm/provider.h"
#include "hsm/public_key.h"

namespace codeseal {
namespace {

absl::Status BadSubject(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_BAD_OPTION,
                   std::string("subject: ").append(message));
}

absl::Status OpenSslError(std::string_view what) {
  return MakeError(absl::StatusCode::kInternal, v1::STAGE_TOKEN,
                   v1::REASON_INTERNAL,
                   std::string(what).append(": ").append(DrainOpenSslErrors()));
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

absl::Status AddExtension(X509* certificate, int nid, const char* value) {
  const UniqueExtension extension(
      X509V3_EXT_conf_nid(nullptr, nullptr, nid, value));
  if (extension == nullptr ||
      X509_add_ext(certificate, extension.get(), -1) != 1) {
    return OpenSslError("cannot add an extension");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> BuildCertificateRequest(
    std::shared_ptr<KeyBackend> key, std::string_view subject,
    absl::Time deadline) {
  ASSIGN_OR_RETURN(const UniqueX509Name name, ParseSubject(subject));
  ASSIGN_OR_RETURN(const UniqueEvpPkey pkey, MakeTokenPkey(std::move(key)));
  const UniqueX509Req request(X509_REQ_new());
  if (X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 ||
      X509_REQ_set_subject_name(request.get(), name.get()) != 1 ||
      X509_REQ_set_pubkey(request.get(), pkey.get()) != 1) {
    return OpenSslError("cannot build the certificate request");
  }
  const SignScope scope(deadline);
  if (X509_REQ_sign(request.get(), pkey.get(), DigestFor(pkey.get())) == 0) {
    return SignError(scope, "cannot sign the certificate request");
  }
  const UniqueBio pem(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509_REQ(pem.get(), request.get()) != 1) {
    return OpenSslError("cannot write the certificate request");
  }
  return ReadAll(pem.get());
}

absl::StatusOr<std::string> BuildSelfSignedCertificate(
    std::shared_ptr<KeyBackend> key, std::string_view subject,
    absl::Time not_before, absl::Time not_after, absl::Time deadline) {
  ASSIGN_OR_RETURN(const UniqueX509Name name, ParseSubject(subject));
  ASSIGN_OR_RETURN(const UniqueEvpPkey pkey, MakeTokenPkey(std::move(key)));
  const UniqueX509 certificate(X509_new());
  // 127 random bits: positive, and never again.
  std::array<unsigned char, 16> serial{};
  if (RAND_bytes(serial.data(), serial.size()) != 1) {
    return OpenSslError("no random bytes");
  }
  serial[0] &= 0x7f;
  const UniqueBigNum number(BN_bin2bn(serial.data(), serial.size(), nullptr));
  if (X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
      BN_to_ASN1_INTEGER(number.get(),
                         X509_get_serialNumber(certificate.get())) == nullptr ||
      ASN1_TIME_set(X509_getm_notBefore(certificate.get()),
                    absl::ToTimeT(not_before)) == nullptr ||
      ASN1_TIME_set(X509_getm_notAfter(certificate.get()),
                    absl::ToTimeT(not_after)) == nullptr ||
      X509_set_subject_name(certificate.get(), name.get()) != 1 ||
      X509_set_issuer_name(certificate.get(), name.get()) != 1 ||
      X509_set_pubkey(certificate.get(), pkey.get()) != 1) {
    return OpenSslError("cannot build the certificate");
  }
  RETURN_IF_ERROR(AddExtension(certificate.get(), NID_basic_constraints,
                               "critical,CA:FALSE"));
  RETURN_IF_ERROR(AddExtension(certificate.get(), NID_key_usage,
                               "critical,digitalSignature"));
  RETURN_IF_ERROR(AddExtension(certificate.get(), NID_ext_key_usage,
                               "critical,codeSigning"));
  const SignScope scope(deadline);
  if (X509_sign(certificate.get(), pkey.get(), DigestFor(pkey.get())) == 0) {
    return SignError(scope, "cannot sign the certificate");
  }
  const UniqueBio pem(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(pem.get(), certificate.get()) != 1) {
    return OpenSslError("cannot write the certificate");
  }
  return ReadAll(pem.get());
}

}  // namespace codeseal
