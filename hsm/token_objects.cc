#include "hsm/token_objects.h"

#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "codesign/base/error.h"
#include "hsm/ck_rv.h"
#include "hsm/key_policy.h"
#include "hsm/openssl_ptr.h"
#include "hsm/pkcs11.h"
#include "hsm/public_key.h"

namespace codeseal {
namespace {

CK_ATTRIBUTE Attribute(CK_ATTRIBUTE_TYPE type, ByteView value) {
  return {type, const_cast<uint8_t*>(value.data()),
          static_cast<CK_ULONG>(value.size())};
}
template <typename T>
CK_ATTRIBUTE Value(CK_ATTRIBUTE_TYPE type, const T& value) {
  return {type, const_cast<T*>(&value), sizeof(T)};
}

std::string Describe(const KeyReference& reference) {
  std::string text;
  if (!reference.id.empty()) {
    absl::StrAppend(&text, "id ", HexEncode(reference.id));
  }
  if (!reference.label.empty()) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", "label '", reference.label,
                    "'");
  }
  return text;
}

absl::Status NotFound(const std::string& message) {
  return MakeError(absl::StatusCode::kNotFound, v1::STAGE_TOKEN,
                   v1::REASON_KEY_NOT_FOUND, message);
}

// DER of DigestInfo up to the digest: RFC 8017 section 9.2, note 1.
Bytes DigestInfo(SignDigest kind, ByteView digest) {
  static constexpr std::array<uint8_t, 15> kSha1Prefix = {
      0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e,
      0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14};
  // SHA-2: only the sizes and the last arc differ.
  std::array<uint8_t, 19> sha2 = {0x30, 0,    0x30, 0x0d, 0x06, 0x09, 0x60,
                                  0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
                                  0,    0x05, 0x00, 0x04, 0};
  sha2[1] = static_cast<uint8_t>(17 + digest.size());
  sha2[18] = static_cast<uint8_t>(digest.size());
  Bytes info;
  switch (kind) {
    case SignDigest::kSha1:
      Append(info, kSha1Prefix);
      break;
    case SignDigest::kSha256:
      sha2[14] = 1;
      Append(info, sha2);
      break;
    case SignDigest::kSha384:
      sha2[14] = 2;
      Append(info, sha2);
      break;
    case SignDigest::kSha512:
      sha2[14] = 3;
      Append(info, sha2);
      break;
  }
  Append(info, digest);
  return info;
}

CK_RSA_PKCS_PSS_PARAMS PssParameters(SignDigest kind) {
  const auto salt_size = static_cast<CK_ULONG>(DigestSize(kind));
  switch (kind) {
    case SignDigest::kSha1:
      return {CKM_SHA_1, CKG_MGF1_SHA1, salt_size};
    case SignDigest::kSha256:
      return {CKM_SHA256, CKG_MGF1_SHA256, salt_size};
    case SignDigest::kSha384:
      return {CKM_SHA384, CKG_MGF1_SHA384, salt_size};
    case SignDigest::kSha512:
      return {CKM_SHA512, CKG_MGF1_SHA512, salt_size};
  }
  return {};
}

// r and s side by side, as PKCS#11 returns them, to a DER ECDSA-Sig-Value.
absl::StatusOr<Bytes> EncodeEcdsa(ByteView raw) {
  if (raw.empty() || raw.size() % 2 != 0) {
    return MakeError(absl::StatusCode::kDataLoss, v1::STAGE_TOKEN,
                     v1::REASON_SELF_VERIFY_FAILED,
                     "the token returned an ECDSA signature of odd size");
  }
  const auto half = static_cast<int>(raw.size() / 2);
  UniqueBigNum r(BN_bin2bn(raw.data(), half, nullptr));
  UniqueBigNum s(BN_bin2bn(raw.data() + half, half, nullptr));
  const UniqueEcdsaSignature signature(ECDSA_SIG_new());
  ECDSA_SIG_set0(signature.get(), r.release(), s.release());
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(signature.get(), &der);
  const UniqueBuffer owner(der);
  return Bytes(der, der + std::max(size, 0));
}

struct CertificateParts {
  Bytes subject;
  Bytes issuer;
  Bytes serial_number;
};

absl::StatusOr<CertificateParts> SplitCertificate(ByteView der) {
  const unsigned char* cursor = der.data();
  const UniqueX509 certificate(
      d2i_X509(nullptr, &cursor, static_cast<long>(der.size())));
  if (certificate == nullptr) {
    DrainOpenSslErrors();
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_TOKEN,
                     v1::REASON_BAD_CERTIFICATE,
                     "the certificate is not DER X.509");
  }
  CertificateParts parts;
  const auto name = [](const X509_NAME* from) {
    unsigned char* encoded = nullptr;
    const int size = i2d_X509_NAME(from, &encoded);
    const UniqueBuffer owner(encoded);
    return Bytes(encoded, encoded + std::max(size, 0));
  };
  parts.subject = name(X509_get_subject_name(certificate.get()));
  parts.issuer = name(X509_get_issuer_name(certificate.get()));
  unsigned char* encoded = nullptr;
  const int size =
      i2d_ASN1_INTEGER(X509_get0_serialNumber(certificate.get()), &encoded);
  const UniqueBuffer owner(encoded);
  parts.serial_number = Bytes(encoded, encoded + std::max(size, 0));
  return parts;
}

// Closes a search even when it fails half way.
class Search {
 public:
  Search(const Pkcs11Module& module, CK_SESSION_HANDLE session)
      : module_(module), session_(session) {}
  ~Search() { module_->C_FindObjectsFinal(session_); }
  Search(const Search&) = delete;
  Search& operator=(const Search&) = delete;

 private:
  const Pkcs11Module& module_;
  CK_SESSION_HANDLE session_;
};

// Whether the module looked at the object, and shows all that was asked for or
// not.
bool IsAnswered(CK_RV rv) {
  return rv == CKR_OK || rv == CKR_ATTRIBUTE_TYPE_INVALID ||
         rv == CKR_ATTRIBUTE_SENSITIVE;
}

bool IsShown(const CK_ATTRIBUTE& attribute) {
  constexpr CK_ULONG kMaxValueSize = CK_ULONG{1} << 20;
  return attribute.ulValueLen != CK_UNAVAILABLE_INFORMATION &&
         attribute.ulValueLen <= kMaxValueSize;
}

bool IsNumber(ByteView value, CK_ULONG number) {
  return Equal(value,
               {reinterpret_cast<const uint8_t*>(&number), sizeof(number)});
}

constexpr CK_OBJECT_CLASS kPrivateKeyClass = CKO_PRIVATE_KEY;
constexpr CK_OBJECT_CLASS kPublicKeyClass = CKO_PUBLIC_KEY;
constexpr CK_OBJECT_CLASS kCertificateClass = CKO_CERTIFICATE;
constexpr CK_BBOOL kYes = CK_TRUE;
constexpr CK_BBOOL kNo = CK_FALSE;

}  // namespace

absl::StatusOr<std::vector<CK_OBJECT_HANDLE>> TokenObjects::Find(
    std::span<CK_ATTRIBUTE> search) const {
  CK_RV rv = module_->C_FindObjectsInit(session_, search.data(), search.size());
  if (rv != CKR_OK) return TokenError(rv, "C_FindObjectsInit");
  const Search closer(module_, session_);
  constexpr size_t kMostObjects = 10000;
  std::vector<CK_OBJECT_HANDLE> handles;
  while (handles.size() < kMostObjects) {
    std::array<CK_OBJECT_HANDLE, 64> some{};
    CK_ULONG count = 0;
    rv = module_->C_FindObjects(session_, some.data(), some.size(), &count);
    if (rv != CKR_OK) return TokenError(rv, "C_FindObjects");
    if (count == 0 || count > some.size()) break;
    handles.insert(handles.end(), some.begin(),
                   some.begin() + static_cast<ptrdiff_t>(count));
  }
  return handles;
}

absl::StatusOr<Bytes> TokenObjects::Read(CK_OBJECT_HANDLE handle,
                                         CK_ATTRIBUTE_TYPE type) const {
  CK_ATTRIBUTE attribute = {type, nullptr, 0};
  CK_RV rv = module_->C_GetAttributeValue(session_, handle, &attribute, 1);
  if (!IsAnswered(rv)) return TokenError(rv, "C_GetAttributeValue");
  if (rv != CKR_OK || !IsShown(attribute)) return Bytes();
  Bytes value(attribute.ulValueLen);
  if (value.empty()) return value;
  attribute.pValue = value.data();
  rv = module_->C_GetAttributeValue(session_, handle, &attribute, 1);
  if (rv != CKR_OK) return TokenError(rv, "C_GetAttributeValue");
  value.resize(std::min<size_t>(value.size(), attribute.ulValueLen));
  return value;
}

absl::StatusOr<std::vector<Bytes>> TokenObjects::ReadAll(
    CK_OBJECT_HANDLE handle, std::span<const CK_ATTRIBUTE_TYPE> types) const {
  std::vector<Bytes> values(types.size());
  std::vector<CK_ATTRIBUTE> attributes;
  for (const CK_ATTRIBUTE_TYPE type : types) {
    attributes.push_back({type, nullptr, 0});
  }
  CK_RV rv = module_->C_GetAttributeValue(session_, handle, attributes.data(),
                                          attributes.size());
  if (rv == CKR_OK) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (IsShown(attributes[i])) values[i].resize(attributes[i].ulValueLen);
      attributes[i].pValue = values[i].data();
      attributes[i].ulValueLen = values[i].size();
    }
    rv = module_->C_GetAttributeValue(session_, handle, attributes.data(),
                                      attributes.size());
    if (rv == CKR_OK) {
      for (size_t i = 0; i < values.size(); ++i) {
        values[i].resize(
            std::min<size_t>(values[i].size(), attributes[i].ulValueLen));
      }
      return values;
    }
  }
  if (!IsAnswered(rv)) return TokenError(rv, "C_GetAttributeValue");
  // One of them is not shown. Not every module goes on with the rest then.
  for (size_t i = 0; i < values.size(); ++i) {
    ASSIGN_OR_RETURN(values[i], Read(handle, types[i]));
  }
  return values;
}

absl::StatusOr<Bytes> TokenObjects::ReadPublicParts(
    CK_OBJECT_HANDLE key) const {
  ASSIGN_OR_RETURN(const Bytes type, Read(key, CKA_KEY_TYPE));
  absl::StatusOr<Bytes> spki = Bytes();
  if (IsNumber(type, CKK_RSA)) {
    ASSIGN_OR_RETURN(const std::vector<Bytes> parts,
                     ReadAll(key, {{CKA_MODULUS, CKA_PUBLIC_EXPONENT}}));
    if (!parts[0].empty() && !parts[1].empty()) {
      spki = BuildRsaPublicKey(parts[0], parts[1]);
    }
  } else if (IsNumber(type, CKK_EC)) {
    ASSIGN_OR_RETURN(const std::vector<Bytes> parts,
                     ReadAll(key, {{CKA_EC_PARAMS, CKA_EC_POINT}}));
    if (!parts[0].empty() && !parts[1].empty()) {
      spki = BuildEcPublicKey(parts[0], parts[1]);
    }
  }
  return spki.ok() ? spki : Bytes();  // an odd key shows no public half
}

absl::StatusOr<Bytes> TokenObjects::ReadPublicKey(CK_OBJECT_HANDLE private_key,
                                                  const Bytes& id) const {
  ASSIGN_OR_RETURN(Bytes spki, ReadPublicParts(private_key));
  if (!spki.empty() || id.empty()) return spki;
  std::array<CK_ATTRIBUTE, 2> search = {Value(CKA_CLASS, kPublicKeyClass),
                                        Attribute(CKA_ID, id)};
  ASSIGN_OR_RETURN(const auto public_keys, Find(search));
  for (const CK_OBJECT_HANDLE handle : public_keys) {
    ASSIGN_OR_RETURN(spki, ReadPublicParts(handle));
    if (!spki.empty()) return spki;
  }
  search[0] = Value(CKA_CLASS, kCertificateClass);
  ASSIGN_OR_RETURN(const auto certificates, Find(search));
  for (const CK_OBJECT_HANDLE handle : certificates) {
    ASSIGN_OR_RETURN(const Bytes der, Read(handle, CKA_VALUE));
    absl::StatusOr<Bytes> of_certificate = CertificatePublicKey(der);
    if (of_certificate.ok()) return of_certificate;
  }
  return Bytes();
}

absl::StatusOr<KeyListing> TokenObjects::ReadKey(
    CK_OBJECT_HANDLE handle) const {
  // An attribute that the module does not show counts as the unsafe value.
  KeyListing key;
  KeyAttributes& attributes = key.attributes;
  struct Flag {
    CK_ATTRIBUTE_TYPE type;
    bool& value;
    bool when_absent;
  };
  const std::array flags = {
      Flag{CKA_SENSITIVE, attributes.sensitive, false},
      Flag{CKA_ALWAYS_SENSITIVE, attributes.always_sensitive, false},
      Flag{CKA_EXTRACTABLE, attributes.extractable, true},
      Flag{CKA_NEVER_EXTRACTABLE, attributes.never_extractable, false},
      Flag{CKA_LOCAL, attributes.local, false},
      Flag{CKA_SIGN, attributes.sign, false},
      Flag{CKA_DECRYPT, attributes.decrypt, false},
      Flag{CKA_UNWRAP, attributes.unwrap, false},
      Flag{CKA_ALWAYS_AUTHENTICATE, attributes.always_authenticate, false},
  };
  std::vector<CK_ATTRIBUTE_TYPE> types = {CKA_ID, CKA_LABEL};
  for (const Flag& flag : flags) types.push_back(flag.type);
  ASSIGN_OR_RETURN(std::vector<Bytes> values, ReadAll(handle, types));
  key.id = std::move(values[0]);
  key.label = ToString(values[1]);
  for (size_t i = 0; i < flags.size(); ++i) {
    const Bytes& value = values[i + 2];
    flags[i].value = value.size() == sizeof(CK_BBOOL) ? value[0] != CK_FALSE
                                                      : flags[i].when_absent;
  }
  ASSIGN_OR_RETURN(key.public_key, ReadPublicKey(handle, key.id));
  return key;
}

absl::StatusOr<TokenObject> TokenObjects::FindKey(const KeyReference& reference,
                                                  ByteView public_key) const {
  std::vector<CK_ATTRIBUTE> search = {Value(CKA_CLASS, kPrivateKeyClass)};
  if (!reference.id.empty()) {
    search.push_back(Attribute(CKA_ID, reference.id));
  }
  if (!reference.label.empty()) {
    search.push_back(Attribute(CKA_LABEL, AsBytes(reference.label)));
  }
  ASSIGN_OR_RETURN(const auto handles, Find(search));
  std::vector<TokenObject> fitting;
  for (const CK_OBJECT_HANDLE handle : handles) {
    ASSIGN_OR_RETURN(KeyListing key, ReadKey(handle));
    if (!public_key.empty() && !key.public_key.empty() &&
        !Equal(key.public_key, public_key)) {
      continue;
    }
    fitting.push_back({handle, std::move(key)});
  }
  if (fitting.size() == 1) return std::move(fitting.front());
  if (fitting.size() > 1) {
    return NotFound(absl::StrCat(fitting.size(), " private keys have ",
                                 Describe(reference),
                                 "; name one by both id and label"));
  }
  return NotFound(absl::StrCat(
      "no private key has ", Describe(reference),
      handles.empty() ? "" : " and the public key that it had when loaded"));
}

absl::StatusOr<std::vector<KeyListing>> TokenObjects::ListKeys() const {
  std::array<CK_ATTRIBUTE, 1> search = {Value(CKA_CLASS, kPrivateKeyClass)};
  ASSIGN_OR_RETURN(const auto handles, Find(search));
  std::vector<KeyListing> keys;
  for (const CK_OBJECT_HANDLE handle : handles) {
    ASSIGN_OR_RETURN(keys.emplace_back(), ReadKey(handle));
  }
  return keys;
}

absl::StatusOr<std::vector<CertificateListing>> TokenObjects::ListCertificates()
    const {
  std::array<CK_ATTRIBUTE, 1> search = {Value(CKA_CLASS, kCertificateClass)};
  ASSIGN_OR_RETURN(const auto handles, Find(search));
  std::vector<CertificateListing> certificates;
  for (const CK_OBJECT_HANDLE handle : handles) {
    ASSIGN_OR_RETURN(std::vector<Bytes> values,
                     ReadAll(handle, {{CKA_ID, CKA_LABEL, CKA_VALUE}}));
    certificates.push_back(
        {std::move(values[0]), ToString(values[1]), std::move(values[2])});
  }
  return certificates;
}

absl::StatusOr<Bytes> TokenObjects::Sign(
    CK_OBJECT_HANDLE key, SignMechanism mechanism, SignDigest digest_kind,
    ByteView digest, const std::function<absl::Status()>& login) const {
  Bytes input = ToBytes(digest);
  CK_RSA_PKCS_PSS_PARAMS pss = PssParameters(digest_kind);
  CK_MECHANISM ck_mechanism = {CKM_ECDSA, nullptr, 0};
  switch (mechanism) {
    case SignMechanism::kRsaPkcs1:
      ck_mechanism.mechanism = CKM_RSA_PKCS;
      input = DigestInfo(digest_kind, digest);
      break;
    case SignMechanism::kRsaPss:
      ck_mechanism = {CKM_RSA_PKCS_PSS, &pss, sizeof(pss)};
      break;
    case SignMechanism::kEcdsa:
      break;  // the bare digest
  }
  CK_RV rv = module_->C_SignInit(session_, &ck_mechanism, key);
  if (rv != CKR_OK) return TokenError(rv, "C_SignInit");
  if (login != nullptr) RETURN_IF_ERROR(login());
  Bytes signature(1024);  // RSA-8192
  CK_ULONG size = signature.size();
  rv = module_->C_Sign(session_, input.data(), input.size(), signature.data(),
                       &size);
  if (rv != CKR_OK) return TokenError(rv, "C_Sign");
  signature.resize(std::min<size_t>(size, signature.size()));
  return mechanism == SignMechanism::kEcdsa ? EncodeEcdsa(signature)
                                            : signature;
}

absl::StatusOr<KeyListing> TokenObjects::GenerateKey(
    const KeyReference& reference, KeyAlgorithm algorithm) const {
  for (const CK_OBJECT_CLASS& object_class :
       {kPrivateKeyClass, kPublicKeyClass}) {
    for (const CK_ATTRIBUTE& name :
         {Attribute(CKA_ID, reference.id),
          Attribute(CKA_LABEL, AsBytes(reference.label))}) {
      if (name.ulValueLen == 0) continue;
      std::array<CK_ATTRIBUTE, 2> search = {Value(CKA_CLASS, object_class),
                                            name};
      ASSIGN_OR_RETURN(const auto taken, Find(search));
      if (!taken.empty()) {
        return MakeError(
            absl::StatusCode::kAlreadyExists, v1::STAGE_TOKEN,
            v1::REASON_KEY_EXISTS,
            absl::StrCat("the token has a key with ", Describe(reference)));
      }
    }
  }
  Bytes id = reference.id;
  if (id.empty()) {
    id.resize(16);
    if (RAND_bytes(id.data(), static_cast<int>(id.size())) != 1) {
      return MakeError(absl::StatusCode::kInternal, v1::STAGE_TOKEN,
                       v1::REASON_INTERNAL, DrainOpenSslErrors());
    }
  }

  // The same id and label on both halves. Modules fill in CKA_DECRYPT and
  // CKA_UNWRAP as true unless told otherwise. What the public half may be used
  // for is left to the token, where nobody uses it: tpm2-pkcs11 refuses a
  // template that says CKA_VERIFY true and CKA_DECRYPT false.
  std::vector<CK_ATTRIBUTE> public_template = {
      Value(CKA_TOKEN, kYes), Value(CKA_PRIVATE, kNo), Attribute(CKA_ID, id),
      Attribute(CKA_LABEL, AsBytes(reference.label))};
  std::vector<CK_ATTRIBUTE> private_template = {
      Value(CKA_TOKEN, kYes),
      Value(CKA_PRIVATE, kYes),
      Value(CKA_SENSITIVE, kYes),
      Value(CKA_SIGN, kYes),
      Value(CKA_EXTRACTABLE, kNo),
      Value(CKA_DECRYPT, kNo),
      Value(CKA_UNWRAP, kNo),
      Value(CKA_DERIVE, kNo),
      Attribute(CKA_ID, id),
      Attribute(CKA_LABEL, AsBytes(reference.label))};
  static constexpr std::array<uint8_t, 3> kExponent = {1, 0, 1};
  static constexpr std::array<uint8_t, 10> kP256 = {
      0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
  static constexpr std::array<uint8_t, 7> kP384 = {0x06, 0x05, 0x2b, 0x81,
                                                   0x04, 0x00, 0x22};
  CK_MECHANISM mechanism = {CKM_RSA_PKCS_KEY_PAIR_GEN, nullptr, 0};
  CK_ULONG modulus_bits = 0;
  switch (algorithm) {
    case KeyAlgorithm::kRsa2048:
      modulus_bits = 2048;
      break;
    case KeyAlgorithm::kRsa3072:
      modulus_bits = 3072;
      break;
    case KeyAlgorithm::kRsa4096:
      modulus_bits = 4096;
      break;
    case KeyAlgorithm::kP256:
    case KeyAlgorithm::kP384:
      mechanism.mechanism = CKM_EC_KEY_PAIR_GEN;
      public_template.push_back(Attribute(
          CKA_EC_PARAMS, algorithm == KeyAlgorithm::kP256 ? ByteView(kP256)
                                                          : ByteView(kP384)));
      break;
  }
  if (modulus_bits != 0) {
    public_template.push_back(Value(CKA_MODULUS_BITS, modulus_bits));
    public_template.push_back(Attribute(CKA_PUBLIC_EXPONENT, kExponent));
  }

  CK_OBJECT_HANDLE public_handle = CK_INVALID_HANDLE;
  CK_OBJECT_HANDLE private_handle = CK_INVALID_HANDLE;
  const CK_RV rv = module_->C_GenerateKeyPair(
      session_, &mechanism, public_template.data(), public_template.size(),
      private_template.data(), private_template.size(), &public_handle,
      &private_handle);
  if (rv != CKR_OK) return TokenError(rv, "C_GenerateKeyPair");

  // A module may ignore the template: what it made is judged like any key.
  absl::StatusOr<KeyListing> key = ReadKey(private_handle);
  absl::Status status = key.status();
  if (status.ok()) {
    KeyAttributes attributes = key->attributes;
    attributes.local = true;  // we saw it; NSS does not say so
    status = CheckKeyPolicy(attributes, KeyPolicy::kStrict);
  }
  if (!status.ok()) {
    module_->C_DestroyObject(session_, private_handle);
    module_->C_DestroyObject(session_, public_handle);
    return status;
  }
  return key;
}

absl::Status TokenObjects::ImportCertificate(const KeyReference& reference,
                                             ByteView certificate_der) const {
  ASSIGN_OR_RETURN(const Bytes certified,
                   CertificatePublicKey(certificate_der));
  ASSIGN_OR_RETURN(const CertificateParts parts,
                   SplitCertificate(certificate_der));
  ASSIGN_OR_RETURN(const TokenObject key, FindKey(reference, {}));
  RETURN_IF_ERROR(CheckKeyMatch(key.key.public_key, certified));

  std::vector<CK_ATTRIBUTE> certificate = {
      Value(CKA_CLASS, kCertificateClass), Attribute(CKA_ID, key.key.id),
      Attribute(CKA_VALUE, certificate_der)};
  ASSIGN_OR_RETURN(const auto present, Find(certificate));
  if (!present.empty()) return absl::OkStatus();

  const CK_CERTIFICATE_TYPE type = CKC_X_509;
  certificate.push_back(Value(CKA_CERTIFICATE_TYPE, type));
  certificate.push_back(Value(CKA_TOKEN, kYes));
  certificate.push_back(Value(CKA_PRIVATE, kNo));
  certificate.push_back(Attribute(CKA_LABEL, AsBytes(key.key.label)));
  certificate.push_back(Attribute(CKA_SUBJECT, parts.subject));
  certificate.push_back(Attribute(CKA_ISSUER, parts.issuer));
  certificate.push_back(Attribute(CKA_SERIAL_NUMBER, parts.serial_number));
  CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
  const CK_RV rv = module_->C_CreateObject(session_, certificate.data(),
                                           certificate.size(), &handle);
  return rv == CKR_OK ? absl::OkStatus() : TokenError(rv, "C_CreateObject");
}

}  // namespace codeseal
