#include "tests/support/test_pki.h"

#include <openssl/pem.h>
#include <openssl/rand.h>

#include <cstdio>
#include <cstdlib>

#include "codesign/cms/openssl.h"

namespace codeseal::testing {
namespace {

// A test cannot go on without its keys, and there is nothing to assert yet.
void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "test_pki: %s\n", DrainOpenSslErrors(what).c_str());
  std::abort();
}

void AddName(X509_NAME* name, const char* field, const std::string& value) {
  if (value.empty()) return;
  Require(X509_NAME_add_entry_by_txt(
              name, field, MBSTRING_UTF8,
              reinterpret_cast<const unsigned char*>(value.data()),
              static_cast<int>(value.size()), -1, 0) == 1,
          "subject");
}

void AddExtension(X509* x509, X509V3_CTX* context, int nid,
                  const std::string& value) {
  X509_EXTENSION* extension =
      X509V3_EXT_conf_nid(nullptr, context, nid, value.c_str());
  Require(extension != nullptr && X509_add_ext(x509, extension, -1) == 1,
          "extension");
  X509_EXTENSION_free(extension);
}

void AddRawExtension(X509* x509, const std::string& dotted_oid, ByteView value,
                     bool critical) {
  const ObjectPtr object(OBJ_txt2obj(dotted_oid.c_str(), 1));
  ASN1_OCTET_STRING* octets = ASN1_OCTET_STRING_new();
  ASN1_OCTET_STRING_set(octets, value.data(), static_cast<int>(value.size()));
  X509_EXTENSION* extension = X509_EXTENSION_create_by_OBJ(
      nullptr, object.get(), critical ? 1 : 0, octets);
  Require(extension != nullptr && X509_add_ext(x509, extension, -1) == 1,
          "raw extension");
  X509_EXTENSION_free(extension);
  ASN1_OCTET_STRING_free(octets);
}

void AddMarker(X509* x509, const std::string& dotted_oid) {
  static constexpr uint8_t kNull[] = {0x05, 0x00};
  AddRawExtension(x509, dotted_oid, kNull, /*critical=*/true);
}

std::string Join(const std::vector<std::string>& items,
                 const std::string& prefix) {
  std::string text;
  for (const std::string& item : items) {
    text.append(text.empty() ? "" : ",").append(prefix).append(item);
  }
  return text;
}

// `issuer` null: self-signed with `issuer_key`.
Certificate MakeCertificate(const CertificateSpec& spec, EVP_PKEY* subject_key,
                            X509* issuer, EVP_PKEY* issuer_key) {
  const X509Ptr x509(X509_new());
  X509_set_version(x509.get(), X509_VERSION_3);
  uint64_t serial = spec.serial;
  if (serial == 0) {
    Require(RAND_bytes(reinterpret_cast<unsigned char*>(&serial),
                       sizeof(serial)) == 1,
            "random serial number");
  }
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(x509.get()), serial >> 1);
  ASN1_TIME_set(X509_getm_notBefore(x509.get()),
                absl::ToTimeT(spec.not_before));
  ASN1_TIME_set(X509_getm_notAfter(x509.get()), absl::ToTimeT(spec.not_after));
  X509_NAME* subject = X509_get_subject_name(x509.get());
  AddName(subject, "CN", spec.common_name);
  AddName(subject, "OU", spec.organizational_unit);
  AddName(subject, "O", spec.organization);
  AddName(subject, "C", spec.country);
  X509* authority = issuer != nullptr ? issuer : x509.get();
  X509_set_issuer_name(x509.get(), X509_get_subject_name(authority));
  Require(X509_set_pubkey(x509.get(), subject_key) == 1, "public key");

  X509V3_CTX context;
  X509V3_set_ctx(&context, authority, x509.get(), nullptr, nullptr, 0);
  AddExtension(
      x509.get(), &context, NID_basic_constraints,
      spec.certificate_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
  AddExtension(x509.get(), &context, NID_key_usage,
               spec.certificate_authority ? "critical,keyCertSign,cRLSign"
                                          : "critical,digitalSignature");
  AddExtension(x509.get(), &context, NID_subject_key_identifier, "hash");
  if (!spec.extended_key_usage.empty()) {
    AddExtension(x509.get(), &context, NID_ext_key_usage,
                 (spec.extended_key_usage_critical ? "critical," : "") +
                     Join(spec.extended_key_usage, ""));
  }
  std::string names = Join(spec.dns_names, "DNS:");
  const std::string uris = Join(spec.uris, "URI:");
  if (!names.empty() && !uris.empty()) names += ",";
  names += uris;
  if (!names.empty()) {
    AddExtension(x509.get(), &context, NID_subject_alt_name, names);
  }
  if (!spec.list_url.empty()) {
    AddExtension(x509.get(), &context, NID_crl_distribution_points,
                 "URI:" + spec.list_url);
  }
  if (!spec.ocsp_url.empty()) {
    AddExtension(x509.get(), &context, NID_info_access,
                 "OCSP;URI:" + spec.ocsp_url);
  }
  for (const std::string& marker : spec.markers) AddMarker(x509.get(), marker);
  for (const auto& [oid, value] : spec.raw_extensions) {
    AddRawExtension(x509.get(), oid, value, /*critical=*/false);
  }
  Require(X509_sign(x509.get(), issuer_key, EVP_sha256()) > 0,
          "certificate signature");
  absl::StatusOr<Certificate> certificate =
      Certificate::Parse(EncodeDer<const X509*>(i2d_X509, x509.get()));
  Require(certificate.ok(), "made certificate does not parse");
  return *std::move(certificate);
}

std::shared_ptr<EVP_PKEY> Own(EVP_PKEY* key) {
  Require(key != nullptr, "key generation");
  return std::shared_ptr<EVP_PKEY>(key, EVP_PKEY_free);
}

}  // namespace

std::string TestIdentity::key_pem() const {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  Require(PEM_write_bio_PKCS8PrivateKey(bio.get(), key_.get(), nullptr, nullptr,
                                        0, nullptr, nullptr) == 1,
          "private key as PEM");
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

Bytes TestIdentity::key_der() const {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  Require(i2d_PKCS8PrivateKey_bio(bio.get(), key_.get(), nullptr, nullptr, 0,
                                  nullptr, nullptr) == 1,
          "private key as DER");
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return Bytes(data, data + size);
}

std::shared_ptr<EVP_PKEY> MakeKey(KeyType type) {
  switch (type) {
    case KeyType::kRsa2048:
      return Own(EVP_RSA_gen(2048));
    case KeyType::kRsa3072:
      return Own(EVP_RSA_gen(3072));
    case KeyType::kRsa4096:
      return Own(EVP_RSA_gen(4096));
    case KeyType::kP256:
      return Own(EVP_EC_gen("P-256"));
    case KeyType::kP384:
      return Own(EVP_EC_gen("P-384"));
  }
  std::abort();
}

TestIdentity MakeSelfSigned(const CertificateSpec& spec) {
  std::shared_ptr<EVP_PKEY> key = MakeKey(spec.key);
  Certificate certificate =
      MakeCertificate(spec, key.get(), nullptr, key.get());
  return {std::move(certificate), std::move(key)};
}

TestIdentity MakeRoot(CertificateSpec spec) {
  spec.certificate_authority = true;
  return MakeSelfSigned(spec);
}

TestIdentity Issue(const CertificateSpec& spec, const TestIdentity& issuer) {
  std::shared_ptr<EVP_PKEY> key = MakeKey(spec.key);
  Certificate certificate = MakeCertificate(
      spec, key.get(), issuer.certificate().x509(), issuer.key());
  return {std::move(certificate), std::move(key)};
}

Certificate IssueForKey(ByteView subject_public_key_info,
                        const CertificateSpec& spec,
                        const TestIdentity& issuer) {
  const unsigned char* der = subject_public_key_info.data();
  const std::shared_ptr<EVP_PKEY> key = Own(d2i_PUBKEY(
      nullptr, &der, static_cast<long>(subject_public_key_info.size())));
  return MakeCertificate(spec, key.get(), issuer.certificate().x509(),
                         issuer.key());
}

TestChain MakeCodeSigningChain(KeyType type) {
  CertificateSpec root_spec;
  root_spec.common_name = "codeseal test root";
  root_spec.organization = "codeseal test authority";
  const TestIdentity root = MakeRoot(root_spec);

  CertificateSpec intermediate_spec = root_spec;
  intermediate_spec.common_name = "codeseal test intermediate";
  intermediate_spec.certificate_authority = true;
  const TestIdentity intermediate = Issue(intermediate_spec, root);

  CertificateSpec leaf_spec;
  leaf_spec.key = type;
  leaf_spec.common_name = "codeseal test signer";
  leaf_spec.organization = "codeseal test team";
  leaf_spec.organizational_unit = "TESTTEAM01";
  leaf_spec.extended_key_usage = {kCodeSigning};
  return {Issue(leaf_spec, intermediate), intermediate, root};
}

}  // namespace codeseal::testing
