#include "hsm/certificate_issuer.h"

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <array>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "codesign/base/error.h"
#include "hsm/certificate_parts.h"
#include "hsm/key_policy.h"
#include "hsm/openssl_ptr.h"
#include "hsm/provider.h"
#include "hsm/public_key.h"

namespace codeseal {
namespace {

struct Extension {
  int nid;
  const char* value;  // as in openssl.cnf
};

constexpr std::array kLeafExtensions = {
    Extension{NID_basic_constraints, "critical,CA:FALSE"},
    Extension{NID_key_usage, "critical,digitalSignature"},
    Extension{NID_ext_key_usage, "critical,codeSigning"},
    Extension{NID_subject_key_identifier, "hash"},
};
constexpr std::array kRootExtensions = {
    Extension{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
    Extension{NID_key_usage, "critical,keyCertSign,cRLSign"},
    Extension{NID_subject_key_identifier, "hash"},
};

absl::Status BadCertificate(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_BAD_CERTIFICATE, message);
}

absl::Status BadTime(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_BAD_OPTION, message);
}

absl::Status AddExtension(X509* certificate, X509* issuer,
                          const Extension& extension) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const UniqueExtension built(
      X509V3_EXT_conf_nid(nullptr, &context, extension.nid, extension.value));
  if (built == nullptr || X509_add_ext(certificate, built.get(), -1) != 1) {
    return OpenSslError("cannot add an extension");
  }
  return absl::OkStatus();
}

absl::Status SetSerialNumber(X509* certificate) {
  std::array<unsigned char, 16> serial{};
  if (RAND_bytes(serial.data(), serial.size()) != 1) {
    return OpenSslError("no random bytes");
  }
  const UniqueBigNum number(BN_bin2bn(serial.data(), serial.size(), nullptr));
  if (number == nullptr ||
      BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) ==
          nullptr) {
    return OpenSslError("cannot set the serial number");
  }
  return absl::OkStatus();
}

// Everything of a certificate but extensions and signature.
absl::StatusOr<UniqueX509> Begin(const X509_NAME* subject,
                                 const X509_NAME* issuer, EVP_PKEY* public_key,
                                 absl::Time not_before, absl::Time not_after) {
  if (not_after <= not_before) {
    return BadTime("the certificate would end before it begins");
  }
  UniqueX509 certificate(X509_new());
  RETURN_IF_ERROR(SetSerialNumber(certificate.get()));
  if (X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
      ASN1_TIME_set(X509_getm_notBefore(certificate.get()),
                    absl::ToTimeT(not_before)) == nullptr ||
      ASN1_TIME_set(X509_getm_notAfter(certificate.get()),
                    absl::ToTimeT(not_after)) == nullptr ||
      X509_set_subject_name(certificate.get(), subject) != 1 ||
      X509_set_issuer_name(certificate.get(), issuer) != 1 ||
      X509_set_pubkey(certificate.get(), public_key) != 1) {
    return OpenSslError("cannot build the certificate");
  }
  return certificate;
}

absl::Status SignCertificate(X509* certificate, EVP_PKEY* key,
                             absl::Time deadline) {
  const SignScope scope(deadline);
  if (X509_sign(certificate, key, DigestFor(key)) == 0) {
    return SignError(scope, "cannot sign the certificate");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ToPem(X509* certificate) {
  const UniqueBio pem(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(pem.get(), certificate) != 1) {
    return OpenSslError("cannot write the certificate");
  }
  return ReadAll(pem.get());
}

absl::StatusOr<std::string> BuildOwnCertificate(
    std::shared_ptr<KeyBackend> key, std::string_view subject,
    std::span<const Extension> extensions, absl::Time not_before,
    absl::Time not_after, absl::Time deadline) {
  ASSIGN_OR_RETURN(const UniqueX509Name name, ParseSubject(subject));
  ASSIGN_OR_RETURN(const UniqueEvpPkey pkey, MakeTokenPkey(std::move(key)));
  ASSIGN_OR_RETURN(
      const UniqueX509 certificate,
      Begin(name.get(), name.get(), pkey.get(), not_before, not_after));
  for (const Extension& extension : extensions) {
    RETURN_IF_ERROR(
        AddExtension(certificate.get(), certificate.get(), extension));
  }
  RETURN_IF_ERROR(SignCertificate(certificate.get(), pkey.get(), deadline));
  return ToPem(certificate.get());
}

absl::StatusOr<Bytes> NameBytes(const X509_NAME* name) {
  unsigned char* der = nullptr;
  const int size = i2d_X509_NAME(name, &der);
  const UniqueBuffer owned(der);
  if (size <= 0) return OpenSslError("cannot encode the subject");
  return Bytes(der, der + size);
}

absl::StatusOr<UniqueX509Name> ReadName(ByteView der) {
  const unsigned char* at = der.data();
  UniqueX509Name name(
      d2i_X509_NAME(nullptr, &at, static_cast<long>(der.size())));
  if (name == nullptr) {
    DrainOpenSslErrors();
    return BadCertificate("the subject cannot be read");
  }
  return name;
}

// A certificate that may issue leaves, its public key and the time it ends.
struct Authority {
  UniqueX509 certificate;
  Bytes public_key;
  absl::Time not_after;
};

absl::StatusOr<Authority> ReadAuthority(ByteView der) {
  Authority authority;
  const unsigned char* at = der.data();
  authority.certificate.reset(
      d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  if (authority.certificate == nullptr) {
    DrainOpenSslErrors();
    return BadCertificate("the authority's certificate cannot be read");
  }
  X509* const certificate = authority.certificate.get();
  if (X509_check_ca(certificate) != 1 ||
      (X509_get_key_usage(certificate) & KU_KEY_CERT_SIGN) == 0) {
    return BadCertificate(
        "the authority's certificate is not one that may issue others");
  }
  ASSIGN_OR_RETURN(authority.public_key, CertificatePublicKey(der));
  tm end{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1) {
    return BadCertificate("the authority's certificate has no end");
  }
  authority.not_after = absl::FromTM(end, absl::UTCTimeZone());
  return authority;
}

}  // namespace

absl::StatusOr<std::string> BuildSelfSignedCertificate(
    std::shared_ptr<KeyBackend> key, std::string_view subject,
    absl::Time not_before, absl::Time not_after, absl::Time deadline) {
  return BuildOwnCertificate(std::move(key), subject, kLeafExtensions,
                             not_before, not_after, deadline);
}

absl::StatusOr<std::string> BuildRootCertificate(
    std::shared_ptr<KeyBackend> key, std::string_view subject,
    absl::Time not_before, absl::Time not_after, absl::Time deadline) {
  return BuildOwnCertificate(std::move(key), subject, kRootExtensions,
                             not_before, not_after, deadline);
}

absl::StatusOr<CertificateApplicant> DescribeApplicant(std::string_view subject,
                                                       ByteView public_key) {
  ASSIGN_OR_RETURN(const UniqueX509Name name, ParseSubject(subject));
  CertificateApplicant applicant;
  ASSIGN_OR_RETURN(applicant.subject, NameBytes(name.get()));
  applicant.public_key = ToBytes(public_key);
  return applicant;
}

absl::StatusOr<CertificateApplicant> ReadCertificateRequest(
    std::string_view pem) {
  constexpr size_t kLargestRequest = size_t{64} << 10;  // bytes
  if (pem.size() > kLargestRequest) {
    return BadCertificate("the certificate request is larger than 64 KiB");
  }
  const UniqueBio in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  const UniqueX509Req request(
      PEM_read_bio_X509_REQ(in.get(), nullptr, nullptr, nullptr));
  if (request == nullptr) {
    DrainOpenSslErrors();
    return BadCertificate("it holds no certificate request (PEM)");
  }
  unsigned char* der = nullptr;
  const int size =
      i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(request.get()), &der);
  const UniqueBuffer owned(der);
  if (size <= 0) return OpenSslError("cannot encode the public key");
  CertificateApplicant applicant;
  applicant.public_key.assign(der, der + size);
  ASSIGN_OR_RETURN(const UniqueEvpPkey public_key,
                   ParsePublicKey(applicant.public_key));
  if (X509_REQ_verify(request.get(), public_key.get()) != 1) {
    DrainOpenSslErrors();
    return BadCertificate(
        "the request is not signed with the key that it names");
  }
  ASSIGN_OR_RETURN(applicant.subject,
                   NameBytes(X509_REQ_get_subject_name(request.get())));
  return applicant;
}

absl::StatusOr<std::string> IssueCodeSigningCertificate(
    std::shared_ptr<KeyBackend> key, ByteView root,
    const CertificateApplicant& applicant, absl::Time not_before,
    absl::Time not_after, absl::Time deadline) {
  ASSIGN_OR_RETURN(const Authority authority, ReadAuthority(root));
  ASSIGN_OR_RETURN(const UniqueX509Name name, ReadName(applicant.subject));
  const X509_NAME* const issuer =
      X509_get_subject_name(authority.certificate.get());
  if (X509_NAME_get_index_by_NID(name.get(), NID_commonName, -1) < 0) {
    return BadCertificate(
        "the subject has no CN: that is what an identity is called by");
  }
  if (applicant.public_key == authority.public_key ||
      X509_NAME_cmp(name.get(), issuer) == 0) {
    return BadTime("the authority does not issue a leaf to itself");
  }
  if (not_after > authority.not_after) {
    return BadTime(absl::StrCat(
        "the certificate would outlive the authority's, which ends ",
        absl::FormatTime("%Y-%m-%d", authority.not_after,
                         absl::UTCTimeZone())));
  }
  RETURN_IF_ERROR(CheckKeyMatch(key->public_key(), authority.public_key));
  ASSIGN_OR_RETURN(const UniqueEvpPkey public_key,
                   ParsePublicKey(applicant.public_key));
  ASSIGN_OR_RETURN(
      const UniqueX509 certificate,
      Begin(name.get(), issuer, public_key.get(), not_before, not_after));
  X509* const issued = certificate.get();
  for (const Extension& extension : kLeafExtensions) {
    RETURN_IF_ERROR(
        AddExtension(issued, authority.certificate.get(), extension));
  }
  RETURN_IF_ERROR(AddExtension(issued, authority.certificate.get(),
                               {NID_authority_key_identifier, "keyid"}));
  ASSIGN_OR_RETURN(const UniqueEvpPkey pkey, MakeTokenPkey(std::move(key)));
  RETURN_IF_ERROR(SignCertificate(issued, pkey.get(), deadline));
  ASSIGN_OR_RETURN(const UniqueEvpPkey authority_key,
                   ParsePublicKey(authority.public_key));
  if (X509_verify(issued, authority_key.get()) != 1) {
    DrainOpenSslErrors();
    return MakeError(
        absl::StatusCode::kDataLoss, v1::STAGE_TOKEN,
        v1::REASON_SELF_VERIFY_FAILED,
        "the token's signature of the certificate does not verify");
  }
  return ToPem(issued);
}

}  // namespace codeseal
