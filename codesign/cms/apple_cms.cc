#include "codesign/cms/apple_cms.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cassert>
#include <string_view>

#include "absl/strings/escaping.h"
#include "codesign/base/error.h"
#include "codesign/cms/asn1.h"
#include "codesign/cms/openssl.h"

namespace codeseal {
namespace {

using asn1::Element;
using asn1::Encode;
using asn1::EncodeSetOf;
using asn1::Malformed;
using asn1::Reader;

constexpr size_t kMaxCmsSize = 1024 * 1024;
constexpr size_t kMaxCertificateCount = 64;
constexpr size_t kMaxAgilityDigestCount = 8;  // more than digests in use
constexpr size_t kMaxSignerCount = 4;
constexpr size_t kMaxRevocationValueCount = 64;

// Whole OBJECT IDENTIFIER elements.
constexpr uint8_t kIdData[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                               0xf7, 0x0d, 0x01, 0x07, 0x01};
constexpr uint8_t kIdSignedData[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                     0xf7, 0x0d, 0x01, 0x07, 0x02};
constexpr uint8_t kContentType[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                    0xf7, 0x0d, 0x01, 0x09, 0x03};
constexpr uint8_t kMessageDigest[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                      0xf7, 0x0d, 0x01, 0x09, 0x04};
constexpr uint8_t kSigningTime[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                    0xf7, 0x0d, 0x01, 0x09, 0x05};
// 1.2.840.113549.1.9.16.2.14, id-aa-timeStampToken
constexpr uint8_t kTimestampToken[] = {0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7,
                                       0x0d, 0x01, 0x09, 0x10, 0x02, 0x0e};
// 1.2.840.113635.100.9.1 and .2
constexpr uint8_t kHashAgilityV1[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                      0xf7, 0x63, 0x64, 0x09, 0x01};
constexpr uint8_t kHashAgilityV2[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                      0xf7, 0x63, 0x64, 0x09, 0x02};
constexpr uint8_t kSha1[] = {0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a};
constexpr uint8_t kSha256[] = {0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                               0x65, 0x03, 0x04, 0x02, 0x01};
constexpr uint8_t kSha384[] = {0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                               0x65, 0x03, 0x04, 0x02, 0x02};
constexpr uint8_t kRsaEncryption[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                      0xf7, 0x0d, 0x01, 0x01, 0x01};
constexpr uint8_t kSha1WithRsa[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                    0xf7, 0x0d, 0x01, 0x01, 0x05};
constexpr uint8_t kSha256WithRsa[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                      0xf7, 0x0d, 0x01, 0x01, 0x0b};
constexpr uint8_t kEcPublicKey[] = {0x06, 0x07, 0x2a, 0x86, 0x48,
                                    0xce, 0x3d, 0x02, 0x01};
constexpr uint8_t kEcdsaWithSha1[] = {0x06, 0x07, 0x2a, 0x86, 0x48,
                                      0xce, 0x3d, 0x04, 0x01};
constexpr uint8_t kEcdsaWithSha256[] = {0x06, 0x08, 0x2a, 0x86, 0x48,
                                        0xce, 0x3d, 0x04, 0x03, 0x02};

constexpr uint8_t kNullElement[] = {asn1::kNull, 0};
constexpr uint8_t kVersion1[] = {asn1::kInteger, 1, 1};
constexpr uint8_t kEndOfContents[] = {0, 0};

ByteView DigestOid(DigestKind kind) {
  switch (kind) {
    case DigestKind::kSha1:
      return kSha1;
    case DigestKind::kSha256:
    case DigestKind::kSha256Truncated:  // the agility digest is not truncated
      return kSha256;
    case DigestKind::kSha384:
      return kSha384;
  }
  return {};
}

std::optional<DigestKind> DigestKindOf(ByteView oid) {
  for (const DigestKind kind :
       {DigestKind::kSha1, DigestKind::kSha256, DigestKind::kSha384}) {
    if (Equal(oid, DigestOid(kind))) return kind;
  }
  return std::nullopt;
}

// --- Building ---------------------------------------------------------------

Bytes EncodeAttribute(ByteView oid, std::vector<Bytes> values) {
  return Encode(asn1::kSequence,
                {oid, EncodeSetOf(asn1::kSet, std::move(values))});
}

Bytes EncodeOctetString(ByteView content) {
  return Encode(asn1::kOctetString, {content});
}

// The value of the V1 attribute, byte for byte as CoreFoundation writes it.
// A cdhash is 28 characters of base64: they fit the line of 52 (76 - 8 * 3)
// that an element of this depth has.
std::string CdHashesPlist(const CmsContent& content) {
  std::string plist =
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
      "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
      "<plist version=\"1.0\">\n"
      "<dict>\n"
      "\t<key>cdhashes</key>\n"
      "\t<array>\n";
  for (const auto& code_directory : content.code_directories) {
    const ByteView cdhash = ByteView(code_directory.digest).first(kCdHashSize);
    plist.append("\t\t<data>\n\t\t");
    plist.append(absl::Base64Escape(
        absl::string_view(AsText(cdhash).data(), cdhash.size())));
    plist.append("\n\t\t</data>\n");
  }
  plist.append(
      "\t</array>\n"
      "</dict>\n"
      "</plist>\n");
  return plist;
}

// The attributes with the SET header that is signed.
Bytes BuildSignedAttributes(const CmsContent& content,
                            std::optional<absl::Time> signing_time) {
  std::vector<Bytes> attributes;
  attributes.push_back(EncodeAttribute(kContentType, {ToBytes(kIdData)}));
  if (signing_time.has_value()) {
    attributes.push_back(
        EncodeAttribute(kSigningTime, {asn1::EncodeTime(*signing_time)}));
  }
  attributes.push_back(EncodeAttribute(
      kMessageDigest, {EncodeOctetString(content.message_digest)}));
  if (!content.is_code) {
    return EncodeSetOf(asn1::kSet, std::move(attributes));
  }
  std::vector<Bytes> agility_digests;
  for (const auto& code_directory : content.code_directories) {
    agility_digests.push_back(
        Encode(asn1::kSequence, {DigestOid(code_directory.kind),
                                 EncodeOctetString(code_directory.digest)}));
  }
  attributes.push_back(
      EncodeAttribute(kHashAgilityV2, std::move(agility_digests)));
  attributes.push_back(EncodeAttribute(
      kHashAgilityV1, {EncodeOctetString(AsBytes(CdHashesPlist(content)))}));
  return EncodeSetOf(asn1::kSet, std::move(attributes));
}

absl::StatusOr<Bytes> Sign(const CmsSigner& signer, ByteView message) {
  const auto fail = [] {
    return MakeError(absl::StatusCode::kInternal, v1::STAGE_CMS,
                     v1::REASON_INTERNAL,
                     DrainOpenSslErrors("the key did not sign"));
  };
  const EvpMdContextPtr context(EVP_MD_CTX_new());
  size_t size = 0;
  if (context == nullptr ||
      EVP_DigestSignInit_ex(context.get(), nullptr, "SHA256", signer.context,
                            nullptr, signer.key, nullptr) != 1 ||
      EVP_DigestSignUpdate(context.get(), message.data(), message.size()) !=
          1 ||
      EVP_DigestSignFinal(context.get(), nullptr, &size) != 1) {
    return fail();
  }
  Bytes signature(size);
  if (EVP_DigestSignFinal(context.get(), signature.data(), &size) != 1) {
    return fail();
  }
  signature.resize(size);
  // A key that finds its provider leaves the refusals of others in the queue.
  DrainOpenSslErrors("");
  return signature;
}

absl::Status CheckContentIsComplete(const CmsContent& content) {
  bool complete = content.message_digest.size() == 32 &&
                  content.code_directories.empty() != content.is_code &&
                  content.code_directories.size() <= kMaxAgilityDigestCount;
  for (const auto& code_directory : content.code_directories) {
    const size_t size = FullDigestSize(code_directory.kind);
    complete = complete && size != 0 && code_directory.digest.size() == size;
  }
  if (complete) return absl::OkStatus();
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_CMS,
                   v1::REASON_BAD_CMS,
                   "a digest to be signed has not the size of its algorithm");
}

// --- Reading ----------------------------------------------------------------

// OBJECT IDENTIFIER of an AlgorithmIdentifier; parameters are ignored.
absl::StatusOr<Element> ReadAlgorithm(Reader& reader, std::string_view what) {
  ASSIGN_OR_RETURN(const Element algorithm, reader.Take(asn1::kSequence, what));
  return Reader(algorithm).Take(asn1::kObjectIdentifier, what);
}

// The single value of an attribute.
absl::StatusOr<Element> ReadSingleValue(const Element& values, uint8_t tag,
                                        std::string_view what) {
  Reader reader(values);
  ASSIGN_OR_RETURN(const Element value, reader.Take(tag, what));
  if (!reader.at_end()) {
    return Malformed(reader.offset(),
                     std::string(what) + " has more than one value");
  }
  return value;
}

// Reads the XML of the V1 attribute: a dictionary whose only key is "cdhashes",
// an array of data. Whitespace is free; nothing else is, and so no general
// plist parser is needed.
class CdHashesPlistReader {
 public:
  explicit CdHashesPlistReader(std::string_view text) : rest_(text) {}

  std::optional<std::vector<Bytes>> Read() {
    SkipSpace();
    SkipTag("<?xml", "?>");
    SkipTag("<!DOCTYPE", ">");
    if (!SkipTag("<plist", ">") || !Take("<dict>") ||
        !Take("<key>cdhashes</key>")) {
      return std::nullopt;
    }
    std::vector<Bytes> cdhashes;
    if (!Take("<array/>")) {
      if (!Take("<array>")) return std::nullopt;
      while (!Take("</array>")) {
        std::optional<Bytes> cdhash = TakeData();
        if (!cdhash.has_value() || cdhashes.size() == kMaxAgilityDigestCount) {
          return std::nullopt;
        }
        cdhashes.push_back(*std::move(cdhash));
      }
    }
    if (!Take("</dict>") || !Take("</plist>") || !rest_.empty()) {
      return std::nullopt;
    }
    return cdhashes;
  }

 private:
  void SkipSpace() {
    rest_.remove_prefix(
        std::min(rest_.find_first_not_of(" \t\r\n"), rest_.size()));
  }
  bool Take(std::string_view word) {
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    SkipSpace();
    return true;
  }
  bool SkipTag(std::string_view start, std::string_view end) {
    const size_t end_offset = rest_.find(end);
    if (!rest_.starts_with(start) || end_offset == std::string_view::npos) {
      return false;
    }
    rest_.remove_prefix(end_offset + end.size());
    SkipSpace();
    return true;
  }
  std::optional<Bytes> TakeData() {
    const size_t end_offset = rest_.find("</data>");
    if (end_offset == std::string_view::npos || !Take("<data>")) {
      return std::nullopt;
    }
    const std::string_view text = rest_.substr(0, rest_.find('<'));
    rest_.remove_prefix(text.size());
    std::string decoded;  // absl skips the whitespace between the lines
    if (!absl::Base64Unescape(absl::string_view(text.data(), text.size()),
                              &decoded) ||
        !Take("</data>")) {
      return std::nullopt;
    }
    return ToBytes(decoded);
  }

  std::string_view rest_;
};

absl::Status ReadAgilityV2(const Element& values, CmsSignature& signature) {
  std::vector<CmsSignature::AgilityDigest> digests;
  Reader reader(values);
  while (!reader.at_end()) {
    if (digests.size() == kMaxAgilityDigestCount) {
      return Malformed(reader.offset(), "too many hash-agility digests");
    }
    ASSIGN_OR_RETURN(const Element entry,
                     reader.Take(asn1::kSequence, "hash-agility digest"));
    Reader fields(entry);
    ASSIGN_OR_RETURN(
        const Element algorithm,
        fields.Take(asn1::kObjectIdentifier, "hash-agility algorithm"));
    ASSIGN_OR_RETURN(const Element digest,
                     fields.Take(asn1::kOctetString, "hash-agility digest"));
    digests.push_back({DigestKindOf(algorithm.raw), ToBytes(digest.content)});
  }
  signature.agility_digests = std::move(digests);
  return absl::OkStatus();
}

absl::Status ReadSignedAttribute(const Element& oid, const Element& values,
                                 CmsSignature& signature) {
  const auto duplicate = [&oid] {
    return Malformed(oid.offset, "a signed attribute appears twice");
  };
  if (Equal(oid.raw, kMessageDigest)) {
    if (!signature.message_digest.empty()) return duplicate();
    ASSIGN_OR_RETURN(
        const Element digest,
        ReadSingleValue(values, asn1::kOctetString, "messageDigest"));
    signature.message_digest = ToBytes(digest.content);
  } else if (Equal(oid.raw, kContentType)) {
    ASSIGN_OR_RETURN(
        const Element type,
        ReadSingleValue(values, asn1::kObjectIdentifier, "contentType"));
    if (!Equal(type.raw, kIdData)) {
      return Malformed(type.offset, "the signed contentType is not id-data");
    }
  } else if (Equal(oid.raw, kSigningTime)) {
    if (signature.signing_time.has_value()) return duplicate();
    const uint8_t tag = Reader(values).next_tag();
    ASSIGN_OR_RETURN(const Element time,
                     ReadSingleValue(values, tag, "signingTime"));
    signature.signing_time = asn1::ReadTime(time);
    if (!signature.signing_time.has_value()) {
      return Malformed(time.offset, "signingTime is not a time in UTC");
    }
  } else if (Equal(oid.raw, kHashAgilityV1)) {
    if (signature.cdhashes.has_value()) return duplicate();
    ASSIGN_OR_RETURN(
        const Element plist,
        ReadSingleValue(values, asn1::kOctetString, "hash agility"));
    signature.cdhashes = CdHashesPlistReader(AsText(plist.content)).Read();
    if (!signature.cdhashes.has_value()) {
      return Malformed(plist.offset, "hash agility is not a plist of cdhashes");
    }
  } else if (Equal(oid.raw, kHashAgilityV2)) {
    if (signature.agility_digests.has_value()) return duplicate();
    RETURN_IF_ERROR(ReadAgilityV2(values, signature));
  }
  return absl::OkStatus();
}

struct Attribute {
  Element oid;
  Element values;
};

absl::StatusOr<Attribute> ReadAttribute(Reader& reader) {
  ASSIGN_OR_RETURN(const Element attribute,
                   reader.Take(asn1::kSequence, "attribute"));
  Reader fields(attribute);
  ASSIGN_OR_RETURN(const Element oid,
                   fields.Take(asn1::kObjectIdentifier, "attribute type"));
  ASSIGN_OR_RETURN(const Element values,
                   fields.Take(asn1::kSet, "attribute values"));
  return Attribute{oid, values};
}

// The certificate that `identifier` names: IssuerAndSerialNumber, or [0] with a
// subject key identifier.
absl::StatusOr<Certificate> FindSigner(
    const Element& identifier, const std::vector<Certificate>& certificates) {
  if (identifier.tag == asn1::kContext0Primitive) {
    for (const Certificate& certificate : certificates) {
      const ASN1_OCTET_STRING* key_identifier =
          X509_get0_subject_key_id(certificate.x509());
      if (key_identifier != nullptr &&
          Equal(
              ByteView(ASN1_STRING_get0_data(key_identifier),
                       static_cast<size_t>(ASN1_STRING_length(key_identifier))),
              identifier.content)) {
        return certificate;
      }
    }
  } else if (identifier.tag == asn1::kSequence) {
    Reader fields(identifier);
    ASSIGN_OR_RETURN(const Element issuer,
                     fields.Take(asn1::kSequence, "signer's issuer"));
    ASSIGN_OR_RETURN(const Element serial,
                     fields.Take(asn1::kInteger, "signer's serial number"));
    for (const Certificate& certificate : certificates) {
      if (Equal(certificate.IssuerName(), issuer.raw) &&
          Equal(certificate.SerialNumber(), serial.content)) {
        return certificate;
      }
    }
  }
  return Malformed(identifier.offset,
                   "the CMS does not hold its signer's certificate");
}

bool AlgorithmFits(ByteView oid, DigestKind digest) {
  struct Entry {
    ByteView oid;
    std::optional<DigestKind> digest;  // nullopt: left to digestAlgorithm
  };
  const Entry entries[] = {
      {kRsaEncryption, std::nullopt},
      {kSha1WithRsa, DigestKind::kSha1},
      {kSha256WithRsa, DigestKind::kSha256},
      {kEcPublicKey, std::nullopt},
      {kEcdsaWithSha1, DigestKind::kSha1},
      {kEcdsaWithSha256, DigestKind::kSha256},
  };
  return std::any_of(std::begin(entries), std::end(entries),
                     [oid, digest](const Entry& entry) {
                       return Equal(entry.oid, oid) &&
                              entry.digest.value_or(digest) == digest;
                     });
}

absl::Status ReadSignerInfo(const Element& signer_info, CmsSignature& signature,
                            Element& signer_identifier) {
  Reader fields(signer_info);
  RETURN_IF_ERROR(fields.Take(asn1::kInteger, "SignerInfo version").status());
  ASSIGN_OR_RETURN(signer_identifier, fields.Next("signer identifier"));
  ASSIGN_OR_RETURN(const Element digest_algorithm,
                   ReadAlgorithm(fields, "digestAlgorithm"));
  const std::optional<DigestKind> digest = DigestKindOf(digest_algorithm.raw);
  if (digest != DigestKind::kSha256 && digest != DigestKind::kSha1) {
    return Malformed(digest_algorithm.offset,
                     "the digest is neither SHA-256 nor SHA-1");
  }
  signature.digest_kind = *digest;

  ASSIGN_OR_RETURN(const Element attributes,
                   fields.Take(asn1::kContext0, "signed attributes"));
  if (attributes.indefinite) {
    return Malformed(attributes.offset,
                     "the signed attributes have no definite length");
  }
  signature.signed_attributes = ToBytes(attributes.raw);
  signature.signed_attributes[0] = asn1::kSet;  // RFC 5652, section 5.4
  Reader attribute_reader(attributes);
  while (!attribute_reader.at_end()) {
    ASSIGN_OR_RETURN(const Attribute attribute,
                     ReadAttribute(attribute_reader));
    RETURN_IF_ERROR(
        ReadSignedAttribute(attribute.oid, attribute.values, signature));
  }
  if (signature.message_digest.empty()) {
    return Malformed(attributes.offset, "messageDigest is missing");
  }

  ASSIGN_OR_RETURN(const Element algorithm,
                   ReadAlgorithm(fields, "signatureAlgorithm"));
  if (!AlgorithmFits(algorithm.raw, *digest)) {
    return Malformed(algorithm.offset,
                     "the signature algorithm is not supported or belongs to "
                     "another digest");
  }
  ASSIGN_OR_RETURN(const Element value,
                   fields.Take(asn1::kOctetString, "signature"));
  signature.signature_value = ToBytes(value.content);

  if (fields.next_tag() == asn1::kContext1) {
    ASSIGN_OR_RETURN(const Element unsigned_attributes,
                     fields.Take(asn1::kContext1, "unsigned attributes"));
    Reader unsigned_reader(unsigned_attributes);
    while (!unsigned_reader.at_end()) {
      ASSIGN_OR_RETURN(const Attribute attribute,
                       ReadAttribute(unsigned_reader));
      if (!Equal(attribute.oid.raw, kTimestampToken)) continue;
      if (signature.timestamp_token.has_value()) {
        return Malformed(attribute.oid.offset,
                         "there are two timestamp tokens");
      }
      ASSIGN_OR_RETURN(const Element token,
                       ReadSingleValue(attribute.values, asn1::kSequence,
                                       "timestamp token"));
      signature.timestamp_token = ToBytes(token.raw);
    }
  }
  if (!fields.at_end()) {
    return Malformed(fields.offset(), "there are bytes behind the SignerInfo");
  }
  return absl::OkStatus();
}

absl::Status DoesNotFit(std::string_view message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_CMS,
                   v1::REASON_CMS_SIGNATURE_INVALID, message);
}

}  // namespace

CmsContent DescribeContent(
    std::span<const CodeDirectoryBlob> code_directories) {
  assert(!code_directories.empty());
  CmsContent content;
  for (const CodeDirectoryBlob& blob : code_directories) {
    content.code_directories.push_back(
        {blob.kind, ComputeFullDigest(blob.kind, blob.raw)});
  }
  // A CodeDirectory may be many megabytes: its SHA-256 is not computed twice.
  const CodeDirectoryBlob& primary = code_directories.front();
  content.message_digest =
      DigestKindOf(DigestOid(primary.kind)) == DigestKind::kSha256
          ? content.code_directories.front().digest
          : ComputeDigest(DigestKind::kSha256, primary.raw);
  std::sort(content.code_directories.begin(), content.code_directories.end(),
            [](const auto& a, const auto& b) { return a.kind < b.kind; });
  return content;
}

CmsContent DescribeBytes(ByteView bytes) {
  CmsContent content;
  content.is_code = false;
  content.message_digest = ComputeDigest(DigestKind::kSha256, bytes);
  content.sha1_message_digest = ComputeDigest(DigestKind::kSha1, bytes);
  return content;
}

absl::StatusOr<Bytes> BuildAppleCms(const CmsSigner& signer,
                                    const CmsContent& content,
                                    std::optional<absl::Time> signing_time) {
  RETURN_IF_ERROR(CheckContentIsComplete(content));
  if (signer.chain.empty() ||
      signer.chain.back().IssuerName() != signer.chain.back().SubjectName()) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_CMS,
                     v1::REASON_INCOMPLETE_CHAIN,
                     "the certificate chain does not end in a root");
  }
  const bool is_rsa = EVP_PKEY_is_a(signer.key, "RSA") == 1;
  if (!is_rsa && EVP_PKEY_is_a(signer.key, "EC") != 1) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_CMS,
                     v1::REASON_KEY_UNSUPPORTED,
                     "code is signed with RSA and EC keys only");
  }
  Bytes attributes = BuildSignedAttributes(content, signing_time);
  ASSIGN_OR_RETURN(const Bytes signature, Sign(signer, attributes));
  attributes[0] = asn1::kContext0;  // stored under [0], signed as SET

  const Bytes sha256 = Encode(asn1::kSequence, {kSha256, kNullElement});
  const Certificate& leaf = signer.chain.front();
  const Bytes signer_info = Encode(
      asn1::kSequence,
      {kVersion1,
       Encode(asn1::kSequence, {leaf.IssuerName(),
                                Encode(asn1::kInteger, {leaf.SerialNumber()})}),
       sha256, attributes,
       is_rsa ? Encode(asn1::kSequence, {kSha256WithRsa, kNullElement})
              : Encode(asn1::kSequence, {kEcdsaWithSha256}),
       EncodeOctetString(signature)});
  std::vector<Bytes> certificates;
  for (const Certificate& certificate : signer.chain) {
    certificates.push_back(ToBytes(certificate.der()));
  }

  // ContentInfo, its [0], SignedData and EncapsulatedContentInfo have
  // indefinite lengths, as Apple's streaming encoder writes them.
  constexpr uint8_t kIndefiniteSequence[] = {asn1::kSequence, 0x80};
  constexpr uint8_t kIndefiniteContext0[] = {asn1::kContext0, 0x80};
  const Bytes digest_algorithms = Encode(asn1::kSet, {sha256});
  const Bytes certificate_set =
      EncodeSetOf(asn1::kContext0, std::move(certificates));
  const Bytes signer_infos = Encode(asn1::kSet, {signer_info});
  Bytes cms;
  for (const ByteView part :
       {ByteView(kIndefiniteSequence), ByteView(kIdSignedData),
        ByteView(kIndefiniteContext0), ByteView(kIndefiniteSequence),
        ByteView(kVersion1), ByteView(digest_algorithms),
        ByteView(kIndefiniteSequence), ByteView(kIdData),
        ByteView(kEndOfContents), ByteView(certificate_set),
        ByteView(signer_infos), ByteView(kEndOfContents),
        ByteView(kEndOfContents), ByteView(kEndOfContents)}) {
    Append(cms, part);
  }
  return cms;
}

absl::StatusOr<Bytes> AddTimestampToken(ByteView cms, ByteView token) {
  const auto take_indefinite = [](Reader& reader, uint8_t tag,
                                  const char* what) -> absl::StatusOr<Element> {
    ASSIGN_OR_RETURN(const Element element, reader.Take(tag, what));
    if (!element.indefinite) {
      return Malformed(element.offset, std::string(what) +
                                           " has a definite length, unlike "
                                           "those that are stamped here");
    }
    return element;
  };
  Reader token_reader(token);
  RETURN_IF_ERROR(
      token_reader.Take(asn1::kSequence, "timestamp token").status());
  if (!token_reader.at_end()) {
    return Malformed(token_reader.offset(), "there are bytes behind the token");
  }

  Reader outer(cms);
  ASSIGN_OR_RETURN(const Element content_info,
                   take_indefinite(outer, asn1::kSequence, "ContentInfo"));
  Reader content_fields(content_info);
  RETURN_IF_ERROR(
      content_fields.Take(asn1::kObjectIdentifier, "contentType").status());
  ASSIGN_OR_RETURN(const Element content,
                   take_indefinite(content_fields, asn1::kContext0, "content"));
  Reader content_reader(content);
  ASSIGN_OR_RETURN(
      const Element signed_data,
      take_indefinite(content_reader, asn1::kSequence, "SignedData"));
  Reader fields(signed_data);
  RETURN_IF_ERROR(fields.Take(asn1::kInteger, "SignedData version").status());
  RETURN_IF_ERROR(fields.Take(asn1::kSet, "digestAlgorithms").status());
  RETURN_IF_ERROR(fields.Take(asn1::kSequence, "encapContentInfo").status());
  RETURN_IF_ERROR(fields.Take(asn1::kContext0, "certificates").status());
  ASSIGN_OR_RETURN(const Element signer_infos,
                   fields.Take(asn1::kSet, "signerInfos"));
  Reader signer_reader(signer_infos);
  ASSIGN_OR_RETURN(const Element signer_info,
                   signer_reader.Take(asn1::kSequence, "SignerInfo"));
  if (signer_infos.indefinite || signer_info.indefinite ||
      !signer_reader.at_end() || !fields.at_end()) {
    return Malformed(signer_infos.offset, "the CMS has not one plain signer");
  }
  Reader signer_fields(signer_info);
  while (!signer_fields.at_end()) {
    if (signer_fields.next_tag() == asn1::kContext1) {
      return Malformed(signer_fields.offset(),
                       "the CMS has unsigned attributes already");
    }
    RETURN_IF_ERROR(signer_fields.Next("field of SignerInfo").status());
  }

  const Bytes stamped_signer_infos = Encode(
      asn1::kSet,
      {Encode(asn1::kSequence,
              {signer_info.content,
               Encode(asn1::kContext1,
                      {EncodeAttribute(kTimestampToken, {ToBytes(token)})})})});
  Bytes stamped = ToBytes(cms.first(signer_infos.offset));
  Append(stamped, stamped_signer_infos);
  Append(stamped, cms.subspan(signer_infos.offset + signer_infos.raw.size()));
  return stamped;
}

absl::StatusOr<CmsSignature> ParseAppleCms(ByteView cms,
                                           std::span<const Certificate> known) {
  if (cms.size() > kMaxCmsSize) {
    return Malformed(0, "the CMS is larger than 1 MiB");
  }
  Reader outer(cms);
  ASSIGN_OR_RETURN(const Element content_info,
                   outer.Take(asn1::kSequence, "ContentInfo"));
  const ByteView behind = cms.subspan(content_info.raw.size());
  if (std::any_of(behind.begin(), behind.end(),
                  [](uint8_t byte) { return byte != 0; })) {
    return Malformed(outer.offset(), "there are bytes behind the CMS");
  }
  Reader content_fields(content_info);
  ASSIGN_OR_RETURN(const Element content_type,
                   content_fields.Take(asn1::kObjectIdentifier, "contentType"));
  if (!Equal(content_type.raw, kIdSignedData)) {
    return Malformed(content_type.offset, "the CMS is no SignedData");
  }
  ASSIGN_OR_RETURN(const Element content,
                   content_fields.Take(asn1::kContext0, "content"));
  Reader content_reader(content);
  ASSIGN_OR_RETURN(const Element signed_data,
                   content_reader.Take(asn1::kSequence, "SignedData"));

  Reader fields(signed_data);
  RETURN_IF_ERROR(fields.Take(asn1::kInteger, "SignedData version").status());
  RETURN_IF_ERROR(fields.Take(asn1::kSet, "digestAlgorithms").status());
  ASSIGN_OR_RETURN(const Element encapsulated,
                   fields.Take(asn1::kSequence, "encapContentInfo"));
  Reader encapsulated_fields(encapsulated);
  ASSIGN_OR_RETURN(
      const Element encapsulated_type,
      encapsulated_fields.Take(asn1::kObjectIdentifier, "eContentType"));
  if (!Equal(encapsulated_type.raw, kIdData)) {
    return Malformed(encapsulated_type.offset, "eContentType is not id-data");
  }
  if (!encapsulated_fields.at_end()) {
    return Malformed(encapsulated_fields.offset(),
                     "the CMS holds content of its own");
  }

  std::vector<Certificate> certificates;
  ASSIGN_OR_RETURN(const Element certificate_set,
                   fields.Take(asn1::kContext0, "certificates"));
  Reader certificate_reader(certificate_set);
  while (!certificate_reader.at_end()) {
    if (certificates.size() == kMaxCertificateCount) {
      return Malformed(certificate_reader.offset(),
                       "the CMS holds more than 64 certificates");
    }
    ASSIGN_OR_RETURN(const Element element,
                     certificate_reader.Take(asn1::kSequence, "certificate"));
    const auto same = std::find_if(known.begin(), known.end(),
                                   [&element](const Certificate& candidate) {
                                     return Equal(candidate.der(), element.raw);
                                   });
    if (same != known.end()) {
      certificates.push_back(*same);
      continue;
    }
    absl::StatusOr<Certificate> certificate = Certificate::Parse(element.raw);
    if (!certificate.ok()) {
      return Malformed(element.offset, Message(certificate.status()));
    }
    certificates.push_back(*std::move(certificate));
  }
  std::vector<Bytes> revocation_values;
  if (fields.next_tag() == asn1::kContext1) {
    ASSIGN_OR_RETURN(const Element crls, fields.Take(asn1::kContext1, "crls"));
    Reader crl_reader(crls);
    while (!crl_reader.at_end()) {
      if (revocation_values.size() == kMaxRevocationValueCount) {
        return Malformed(crl_reader.offset(), "there are too many crls");
      }
      ASSIGN_OR_RETURN(const Element crl, crl_reader.Next("crl"));
      revocation_values.push_back(ToBytes(crl.raw));
    }
  }
  ASSIGN_OR_RETURN(const Element signer_infos,
                   fields.Take(asn1::kSet, "signerInfos"));
  for (const Reader* reader : {&fields, &content_reader, &content_fields}) {
    if (!reader->at_end()) {
      return Malformed(reader->offset(), "the CMS has an unknown field here");
    }
  }

  if (certificates.empty()) {
    return Malformed(certificate_set.offset, "the CMS holds no certificate");
  }
  std::vector<CmsSignature> signers;
  Reader signer_reader(signer_infos);
  do {
    if (signers.size() == kMaxSignerCount) {
      return Malformed(signer_reader.offset(), "there are too many signers");
    }
    ASSIGN_OR_RETURN(const Element signer_info,
                     signer_reader.Take(asn1::kSequence, "SignerInfo"));
    CmsSignature signer(certificates.front());
    Element identifier;
    RETURN_IF_ERROR(ReadSignerInfo(signer_info, signer, identifier));
    ASSIGN_OR_RETURN(signer.signer, FindSigner(identifier, certificates));
    signers.push_back(std::move(signer));
  } while (!signer_reader.at_end());
  CmsSignature signature = std::move(signers.front());
  signers.erase(signers.begin());
  signature.other_signers = std::move(signers);
  signature.certificates = std::move(certificates);
  signature.revocation_values = std::move(revocation_values);
  return signature;
}

namespace {

absl::Status CheckOneSigner(const CmsSignature& signature,
                            const CmsContent& content) {
  const bool is_sha1 = signature.digest_kind == DigestKind::kSha1;

  // The signature over the attributes.
  EVP_PKEY* key = X509_get0_pubkey(signature.signer.x509());
  if (EVP_PKEY_is_a(key, "RSA") != 1 && EVP_PKEY_is_a(key, "EC") != 1) {
    return DoesNotFit("the signer's key is neither RSA nor EC");
  }
  const EvpMdContextPtr context(EVP_MD_CTX_new());
  if (context == nullptr ||
      EVP_DigestVerifyInit_ex(context.get(), nullptr,
                              is_sha1 ? "SHA1" : "SHA256", nullptr, nullptr,
                              key, nullptr) != 1 ||
      EVP_DigestVerify(context.get(), signature.signature_value.data(),
                       signature.signature_value.size(),
                       signature.signed_attributes.data(),
                       signature.signed_attributes.size()) != 1) {
    return DoesNotFit(DrainOpenSslErrors(
        "the CMS signature does not verify with its signer's key"));
  }

  // The attributes against the code.
  const Bytes& message_digest =
      is_sha1 ? content.sha1_message_digest : content.message_digest;
  if (message_digest.empty() || signature.message_digest != message_digest) {
    return DoesNotFit("the CMS signs another CodeDirectory: messageDigest is " +
                      HexEncode(signature.message_digest) + ", want " +
                      HexEncode(message_digest));
  }
  // A forger could add a CodeDirectory that nobody signed, of a better digest
  // than the one that somebody did.
  if (!signature.cdhashes.has_value() &&
      !signature.agility_digests.has_value() &&
      content.code_directories.size() > 1) {
    return DoesNotFit(
        "the CMS signs one CodeDirectory, and there are others beside it");
  }
  if (signature.cdhashes.has_value()) {
    const auto same = [](const Bytes& cdhash, const auto& code_directory) {
      return Equal(cdhash, ByteView(code_directory.digest).first(kCdHashSize));
    };
    if (!std::equal(signature.cdhashes->begin(), signature.cdhashes->end(),
                    content.code_directories.begin(),
                    content.code_directories.end(), same)) {
      return DoesNotFit("the signed list of cdhashes is not this code's");
    }
  }
  if (signature.agility_digests.has_value()) {
    bool fits =
        signature.agility_digests->size() == content.code_directories.size();
    for (const auto& code_directory : content.code_directories) {
      fits =
          fits && std::any_of(signature.agility_digests->begin(),
                              signature.agility_digests->end(),
                              [&code_directory](const auto& entry) {
                                return entry.kind.has_value() &&
                                       Equal(DigestOid(*entry.kind),
                                             DigestOid(code_directory.kind)) &&
                                       entry.digest == code_directory.digest;
                              });
    }
    if (!fits) {
      return DoesNotFit("the signed digests are not those of this code");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckAppleCms(const CmsSignature& signature,
                           const CmsContent& content) {
  RETURN_IF_ERROR(CheckContentIsComplete(content));
  RETURN_IF_ERROR(CheckOneSigner(signature, content));
  for (const CmsSignature& other : signature.other_signers) {
    const absl::Status status = CheckOneSigner(other, content);
    if (!status.ok()) {
      return DoesNotFit("another signer, " + other.signer.CommonName() + ": " +
                        std::string(Message(status)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<CmsSignature> VerifyAppleCms(
    ByteView cms, const CmsContent& content,
    std::span<const Certificate> known) {
  ASSIGN_OR_RETURN(CmsSignature signature, ParseAppleCms(cms, known));
  RETURN_IF_ERROR(CheckAppleCms(signature, content));
  return signature;
}

}  // namespace codeseal
