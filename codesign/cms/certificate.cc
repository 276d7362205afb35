#include "codesign/cms/certificate.h"

#include <openssl/obj_mac.h>
#include <openssl/pem.h>

#include <algorithm>
#include <array>
#include <climits>
#include <ctime>

#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/cms/openssl.h"

namespace codeseal {
namespace {

constexpr size_t kMaxCertificateSize = 64 * 1024;
constexpr size_t kMaxChainSize = 10;  // certificates

constexpr char kCodeSigningUsage[] = "1.3.6.1.5.5.7.3.3";
constexpr char kMacInstallerUsage[] = "1.2.840.113635.100.4.9";
constexpr char kDeveloperIdInstallerUsage[] = "1.2.840.113635.100.4.13";

absl::Status BadCertificate(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PARSE,
                   v1::REASON_BAD_CERTIFICATE, DrainOpenSslErrors(message));
}

absl::Status CheckSize(size_t size) {
  if (size > 0 && size <= kMaxCertificateSize) return absl::OkStatus();
  return BadCertificate("a certificate of " + std::to_string(size) + " bytes");
}

// Whether keyUsage allows signatures; all bits are set when it is absent.
bool MaySign(X509* x509) {
  constexpr uint32_t kSigning = KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION;
  return (X509_get_key_usage(x509) & kSigning) != 0;
}

ObjectPtr ObjectFromDotted(std::string_view dotted_oid) {
  ObjectPtr object(OBJ_txt2obj(std::string(dotted_oid).c_str(), 1));
  if (object == nullptr) DrainOpenSslErrors("");
  return object;
}

X509_EXTENSION* FindExtension(const X509* x509, std::string_view dotted_oid) {
  const ObjectPtr object = ObjectFromDotted(dotted_oid);
  if (object == nullptr) return nullptr;
  const int index = X509_get_ext_by_OBJ(x509, object.get(), -1);
  return index < 0 ? nullptr : X509_get_ext(x509, index);
}

// OpenSSL's NID of a `subject.` key of the requirement language.
int SubjectNid(std::string_view name) {
  struct Entry {
    std::string_view name;
    int nid;
  };
  static constexpr Entry kEntries[] = {
      {"C", NID_countryName},
      {"CN", NID_commonName},
      {"D", NID_description},
      {"L", NID_localityName},
      {"O", NID_organizationName},
      {"OU", NID_organizationalUnitName},
      {"ST", NID_stateOrProvinceName},
      {"STREET", NID_streetAddress},
      {"UID", NID_userId},
  };
  const auto* entry = std::find_if(
      std::begin(kEntries), std::end(kEntries),
      [name](const Entry& candidate) { return candidate.name == name; });
  return entry == std::end(kEntries) ? NID_undef : entry->nid;
}

absl::Time ToAbslTime(const ASN1_TIME* time) {
  std::tm broken_down = {};
  // Parse() refused certificates whose dates do not convert.
  if (ASN1_TIME_to_tm(time, &broken_down) != 1) return absl::InfinitePast();
  return absl::FromTM(broken_down, absl::UTCTimeZone());
}

}  // namespace

absl::StatusOr<Certificate> Certificate::Parse(ByteView der) {
  RETURN_IF_ERROR(CheckSize(der.size()));
  const unsigned char* end = der.data();
  X509Ptr x509(d2i_X509(nullptr, &end, static_cast<long>(der.size())));
  if (x509 == nullptr) return BadCertificate("not an X.509 certificate");
  if (end != der.data() + der.size()) {
    return BadCertificate("there are bytes behind the certificate");
  }
  return Make(std::move(x509), ToBytes(der));
}

absl::StatusOr<Certificate> Certificate::Share(x509_st* x509) {
  Bytes der = EncodeDer<const X509*>(i2d_X509, x509);
  RETURN_IF_ERROR(CheckSize(der.size()));
  X509_up_ref(x509);
  return Make(X509Ptr(x509), std::move(der));
}

absl::StatusOr<Certificate> Certificate::Make(std::shared_ptr<x509_st> x509,
                                              Bytes der) {
  std::tm unused = {};
  if (ASN1_TIME_to_tm(X509_get0_notBefore(x509.get()), &unused) != 1 ||
      ASN1_TIME_to_tm(X509_get0_notAfter(x509.get()), &unused) != 1) {
    return BadCertificate("the validity dates are malformed");
  }
  if (X509_get0_pubkey(x509.get()) == nullptr) {
    return BadCertificate("the public key is malformed or unsupported");
  }
  // Fills OpenSSL's cache of extensions now, so that later const uses from
  // several threads only read it.
  X509_check_purpose(x509.get(), -1, 0);
  DrainOpenSslErrors("");

  Certificate certificate;
  certificate.object_ = std::make_shared<Object>();
  certificate.object_->x509 = std::move(x509);
  certificate.object_->der = std::move(der);
  return certificate;
}

absl::StatusOr<std::vector<Certificate>> Certificate::ParsePem(
    std::string_view pem) {
  if (pem.size() > INT_MAX) return BadCertificate("the PEM text is too large");
  const BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  std::vector<Certificate> certificates;
  char* name = nullptr;
  char* header = nullptr;
  unsigned char* contents = nullptr;
  long size = 0;
  while (PEM_read_bio(bio.get(), &name, &header, &contents, &size) == 1) {
    const std::string block_name = name;
    const Bytes block(contents, contents + size);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_clear_free(contents, static_cast<size_t>(size));
    if (block_name != PEM_STRING_X509) continue;
    ASSIGN_OR_RETURN(Certificate certificate, Parse(block));
    certificates.push_back(std::move(certificate));
  }
  if (certificates.empty()) {
    return BadCertificate("the text holds no PEM certificate");
  }
  DrainOpenSslErrors("");  // the loop's last "no start line"
  return certificates;
}

absl::Status Certificate::CheckPrivateKeyPem(std::string_view pem) const {
  if (pem.size() > INT_MAX) return BadCertificate("the PEM text is too large");
  const BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  // Without a callback OpenSSL would ask for a passphrase on the terminal.
  const EvpPkeyPtr key(PEM_read_bio_PrivateKey(
      bio.get(), nullptr, [](char*, int, int, void*) { return -1; }, nullptr));
  if (key == nullptr) {
    return BadCertificate("the text holds no private key that can be read");
  }
  if (X509_check_private_key(x509(), key.get()) != 1) {
    DrainOpenSslErrors("");  // says no more than we do
    return BadCertificate("the private key belongs to another certificate");
  }
  return absl::OkStatus();
}

std::string Certificate::Pem() const {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio(bio.get(), PEM_STRING_X509, "", der().data(),
                static_cast<long>(der().size()));
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

Bytes Certificate::Sha1() const {
  return ComputeDigest(DigestKind::kSha1, der());
}

Bytes Certificate::Sha256() const {
  return ComputeDigest(DigestKind::kSha256, der());
}

Bytes Certificate::SubjectPublicKeyInfo() const {
  return EncodeDer<const X509_PUBKEY*>(i2d_X509_PUBKEY,
                                       X509_get_X509_PUBKEY(x509()));
}

Bytes Certificate::SerialNumber() const {
  const Bytes der = EncodeDer<const ASN1_INTEGER*>(
      i2d_ASN1_INTEGER, X509_get0_serialNumber(x509()));
  const unsigned char* content = der.data();
  long size = 0;
  int tag = 0;
  int tag_class = 0;
  if (der.empty() || (ASN1_get_object(&content, &size, &tag, &tag_class,
                                      static_cast<long>(der.size())) &
                      0x80) != 0) {
    return {};
  }
  return Bytes(content, content + size);
}

Bytes Certificate::IssuerName() const {
  return EncodeDer<const X509_NAME*>(i2d_X509_NAME,
                                     X509_get_issuer_name(x509()));
}

Bytes Certificate::SubjectName() const {
  return EncodeDer<const X509_NAME*>(i2d_X509_NAME,
                                     X509_get_subject_name(x509()));
}

std::vector<std::string> Certificate::SubjectValues(
    std::string_view name) const {
  std::vector<std::string> values;
  const int nid = SubjectNid(name);
  if (nid == NID_undef) return values;
  const X509_NAME* subject = X509_get_subject_name(x509());
  int index = -1;
  while ((index = X509_NAME_get_index_by_NID(subject, nid, index)) >= 0) {
    const ASN1_STRING* value =
        X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index));
    unsigned char* utf8 = nullptr;
    const int size = ASN1_STRING_to_UTF8(&utf8, value);
    if (size < 0) {
      DrainOpenSslErrors("");
      continue;  // a string type that has no text
    }
    values.emplace_back(reinterpret_cast<const char*>(utf8),
                        static_cast<size_t>(size));
    OPENSSL_free(utf8);
  }
  return values;
}

std::string Certificate::CommonName() const {
  const std::vector<std::string> names = SubjectValues("CN");
  return names.empty() ? std::string() : names.front();
}

bool Certificate::HasExtension(std::string_view dotted_oid) const {
  return FindExtension(x509(), dotted_oid) != nullptr;
}

std::optional<Bytes> Certificate::ExtensionValue(
    std::string_view dotted_oid) const {
  X509_EXTENSION* extension = FindExtension(x509(), dotted_oid);
  if (extension == nullptr) return std::nullopt;
  const ASN1_OCTET_STRING* value = X509_EXTENSION_get_data(extension);
  const unsigned char* data = ASN1_STRING_get0_data(value);
  return Bytes(data, data + ASN1_STRING_length(value));
}

bool Certificate::HasPolicy(std::string_view dotted_oid) const {
  const ObjectPtr wanted = ObjectFromDotted(dotted_oid);
  const OpenSslPtr<CERTIFICATEPOLICIES, CERTIFICATEPOLICIES_free> policies(
      static_cast<CERTIFICATEPOLICIES*>(X509_get_ext_d2i(
          x509(), NID_certificate_policies, nullptr, nullptr)));
  if (wanted == nullptr || policies == nullptr) return false;
  for (int i = 0; i < sk_POLICYINFO_num(policies.get()); ++i) {
    const POLICYINFO* policy = sk_POLICYINFO_value(policies.get(), i);
    if (OBJ_cmp(policy->policyid, wanted.get()) == 0) return true;
  }
  return false;
}

bool Certificate::HasExtendedKeyUsage(std::string_view dotted_oid) const {
  const ObjectPtr wanted = ObjectFromDotted(dotted_oid);
  const OpenSslPtr<EXTENDED_KEY_USAGE, EXTENDED_KEY_USAGE_free> usages(
      static_cast<EXTENDED_KEY_USAGE*>(
          X509_get_ext_d2i(x509(), NID_ext_key_usage, nullptr, nullptr)));
  if (wanted == nullptr || usages == nullptr) return false;
  for (int i = 0; i < sk_ASN1_OBJECT_num(usages.get()); ++i) {
    if (OBJ_cmp(sk_ASN1_OBJECT_value(usages.get(), i), wanted.get()) == 0) {
      return true;
    }
  }
  return false;
}

bool Certificate::IsSuitableForCodeSigning() const {
  return HasExtendedKeyUsage(kCodeSigningUsage) && MaySign(x509());
}

bool Certificate::IsSuitableForPackageSigning() const {
  return (HasExtendedKeyUsage(kDeveloperIdInstallerUsage) ||
          HasExtendedKeyUsage(kMacInstallerUsage)) &&
         MaySign(x509());
}

absl::Time Certificate::not_before() const {
  return ToAbslTime(X509_get0_notBefore(x509()));
}

absl::Time Certificate::not_after() const {
  return ToAbslTime(X509_get0_notAfter(x509()));
}

bool Certificate::IsSelfSigned() const {
  std::call_once(object_->verified,
                 [this] { object_->is_self_signed = IsIssuedBy(*this); });
  return object_->is_self_signed;
}

bool Certificate::IsIssuedBy(const Certificate& issuer) const {
  if (X509_NAME_cmp(X509_get_issuer_name(x509()),
                    X509_get_subject_name(issuer.x509())) != 0) {
    return false;
  }
  const bool verified =
      X509_verify(x509(), X509_get0_pubkey(issuer.x509())) == 1;
  if (!verified) DrainOpenSslErrors("");
  return verified;
}

std::string Certificate::KeyAlgorithm() const {
  const EVP_PKEY* key = X509_get0_pubkey(x509());
  if (EVP_PKEY_is_a(key, "RSA")) {
    return "rsa" + std::to_string(EVP_PKEY_get_bits(key));
  }
  if (EVP_PKEY_is_a(key, "EC")) {
    std::array<char, 64> group = {};
    size_t size = 0;
    EVP_PKEY_get_group_name(key, group.data(), group.size(), &size);
    const std::string_view name(group.data(), size);
    if (name == SN_X9_62_prime256v1) return "p256";
    if (name == SN_secp384r1) return "p384";
    return std::string(name);
  }
  const char* name = EVP_PKEY_get0_type_name(key);
  return name != nullptr ? name : "unknown";
}

absl::StatusOr<std::vector<Certificate>> BuildChain(
    const Certificate& leaf, std::span<const Certificate> candidates) {
  std::vector<Certificate> chain = {leaf};
  while (!chain.back().IsSelfSigned()) {
    const Certificate& last = chain.back();
    const Certificate* issuer = nullptr;
    for (const Certificate& candidate : candidates) {
      if (std::find(chain.begin(), chain.end(), candidate) != chain.end() ||
          X509_check_ca(candidate.x509()) == 0 || !last.IsIssuedBy(candidate)) {
        continue;
      }
      const bool is_root = candidate.IsSelfSigned();
      if (issuer == nullptr || is_root) issuer = &candidate;
      if (is_root) break;
    }
    if (issuer == nullptr || chain.size() == kMaxChainSize) {
      std::array<char, 512> name = {};
      X509_NAME_oneline(X509_get_issuer_name(last.x509()), name.data(),
                        static_cast<int>(name.size()));
      return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_CMS,
                       v1::REASON_INCOMPLETE_CHAIN,
                       "the issuer of " + last.CommonName() +
                           " is missing: " + std::string(name.data()));
    }
    chain.push_back(*issuer);
  }
  return chain;
}

bool IsAppleRoot(const Certificate& certificate) {
  // SHA-256 of Apple Root CA, Apple Root CA - G2, Apple Root CA - G3.
  static constexpr std::string_view kAppleRoots[] = {
      "b0b1730ecbc7ff4505142c49f1295e6eda6bcaed7e2c68c5be91b5a11001f024",
      "c2b9b042dd57830e7d117dac55ac8ae19407d38e41d88f3215bc3a890444a050",
      "63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179",
  };
  return std::find(std::begin(kAppleRoots), std::end(kAppleRoots),
                   HexEncode(certificate.Sha256())) != std::end(kAppleRoots);
}

bool IsAppleDeveloperChain(std::span<const Certificate> chain) {
  if (chain.empty() || !IsAppleRoot(chain.back())) return false;
  // Apple Development, Mac Developer, 3rd Party Mac Developer Application,
  // Apple Distribution.
  static constexpr std::string_view kDeveloperMarkers[] = {
      "1.2.840.113635.100.6.1.2",
      "1.2.840.113635.100.6.1.12",
      "1.2.840.113635.100.6.1.7",
      "1.2.840.113635.100.6.1.4",
  };
  for (const std::string_view marker : kDeveloperMarkers) {
    if (chain.front().HasExtension(marker)) return true;
  }
  // Developer ID Application, issued by the Developer ID CA.
  return chain.size() > 1 &&
         chain.front().HasExtension("1.2.840.113635.100.6.1.13") &&
         chain[1].HasExtension("1.2.840.113635.100.6.2.6");
}

std::optional<std::string> TeamIdentifier(std::span<const Certificate> chain) {
  if (!IsAppleDeveloperChain(chain)) return std::nullopt;
  std::vector<std::string> units = chain.front().SubjectValues("OU");
  if (units.empty()) return std::nullopt;
  return std::move(units.front());
}

}  // namespace codeseal
