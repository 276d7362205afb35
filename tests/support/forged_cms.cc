#include "tests/support/forged_cms.h"

#include <openssl/ocsp.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "codesign/cms/apple_cms.h"
#include "codesign/cms/asn1.h"
#include "codesign/cms/openssl.h"
#include "tests/support/timestamp_authority.h"

namespace codeseal::testing {
namespace {

using asn1::Element;
using asn1::Encode;
using asn1::Reader;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "forged_cms: %s\n", DrainOpenSslErrors(what).c_str());
  std::abort();
}

Element Take(Reader& reader, uint8_t tag) {
  const absl::StatusOr<Element> element = reader.Take(tag, "");
  Require(element.ok(), "a part of the CMS is missing");
  return *element;
}

std::vector<Bytes> Members(const Element& set) {
  std::vector<Bytes> members;
  Reader reader(set);
  while (!reader.at_end()) members.push_back(ToBytes(reader.Next("")->raw));
  return members;
}

Bytes Join(const std::vector<Bytes>& members) {
  Bytes joined;
  for (const Bytes& member : members) Append(joined, member);
  return joined;
}

// Dotted OID as a whole element.
Bytes Oid(const char* dotted) {
  const ObjectPtr object(OBJ_txt2obj(dotted, 1));
  return EncodeDer<const ASN1_OBJECT*>(i2d_ASN1_OBJECT, object.get());
}

OpenSslPtr<ASN1_TIME, ASN1_TIME_free> ToAsn1(absl::Time at) {
  return OpenSslPtr<ASN1_TIME, ASN1_TIME_free>(
      ASN1_TIME_set(nullptr, absl::ToTimeT(at)));
}

OpenSslPtr<ASN1_TIME, ASN1_TIME_free> ToGeneralized(absl::Time at) {
  return OpenSslPtr<ASN1_TIME, ASN1_TIME_free>(
      ASN1_GENERALIZEDTIME_set(nullptr, absl::ToTimeT(at)));
}

}  // namespace

CmsParts TakeApart(ByteView cms) {
  Reader outer(cms);
  Reader info(Take(outer, asn1::kSequence));
  Take(info, asn1::kObjectIdentifier);
  Reader content(Take(info, asn1::kContext0));
  Reader fields(Take(content, asn1::kSequence));
  Take(fields, asn1::kInteger);
  Take(fields, asn1::kSet);
  Take(fields, asn1::kSequence);
  CmsParts parts;
  parts.certificates = Members(Take(fields, asn1::kContext0));
  if (fields.next_tag() == asn1::kContext1) {
    parts.crls = Members(Take(fields, asn1::kContext1));
  }
  parts.signer_infos = Members(Take(fields, asn1::kSet));
  return parts;
}

Bytes PutTogether(const CmsParts& parts) {
  static constexpr uint8_t kVersion1[] = {asn1::kInteger, 1, 1};
  const Bytes sha256 =
      Encode(asn1::kSequence, {Oid("2.16.840.1.101.3.4.2.1"), Bytes{5, 0}});
  const Bytes signed_data =
      Encode(asn1::kSequence,
             {kVersion1, Encode(asn1::kSet, {sha256}),
              Encode(asn1::kSequence, {Oid("1.2.840.113549.1.7.1")}),
              Encode(asn1::kContext0, {Join(parts.certificates)}),
              parts.crls.empty() ? Bytes()
                                 : Encode(asn1::kContext1, {Join(parts.crls)}),
              Encode(asn1::kSet, {Join(parts.signer_infos)})});
  return Encode(asn1::kSequence, {Oid("1.2.840.113549.1.7.2"),
                                  Encode(asn1::kContext0, {signed_data})});
}

Bytes ChangeCms(ByteView cms, const std::function<void(CmsParts&)>& change) {
  CmsParts parts = TakeApart(cms);
  change(parts);
  return PutTogether(parts);
}

Bytes WithTimestamp(ByteView signer_info, ByteView token) {
  Reader outer(signer_info);
  const Element info = Take(outer, asn1::kSequence);
  const Bytes attribute =
      Encode(asn1::kSequence,
             {Oid("1.2.840.113549.1.9.16.2.14"), Encode(asn1::kSet, {token})});
  Bytes fields;
  Bytes unsigned_attributes;
  Reader reader(info);
  while (!reader.at_end()) {
    const Element field = *reader.Next("");
    if (field.tag == asn1::kContext1) {
      unsigned_attributes = ToBytes(field.content);
    } else {
      Append(fields, field.raw);
    }
  }
  Append(unsigned_attributes, attribute);
  return Encode(asn1::kSequence,
                {fields, Encode(asn1::kContext1, {unsigned_attributes})});
}

Bytes StampCms(ByteView cms, const std::vector<TestIdentity>& authority,
               absl::Time at) {
  const absl::StatusOr<CmsSignature> parsed = ParseAppleCms(cms);
  Require(parsed.ok(), "the CMS to be stamped does not parse");
  const Bytes token =
      MakeTimestampToken(parsed->signature_value, authority, at);
  return ChangeCms(cms, [&token](CmsParts& parts) {
    parts.signer_infos[0] = WithTimestamp(parts.signer_infos[0], token);
  });
}

Bytes MakeRevocationList(const TestIdentity& issuer,
                         const RevocationListSpec& spec) {
  const OpenSslPtr<X509_CRL, X509_CRL_free> list(X509_CRL_new());
  X509_CRL_set_version(list.get(), X509_CRL_VERSION_2);
  X509_CRL_set_issuer_name(list.get(),
                           X509_get_subject_name(issuer.certificate().x509()));
  X509_CRL_set1_lastUpdate(list.get(), ToAsn1(spec.from).get());
  X509_CRL_set1_nextUpdate(list.get(), ToAsn1(spec.until).get());
  for (const Certificate& each : spec.revoked) {
    X509_REVOKED* const entry = X509_REVOKED_new();
    X509_REVOKED_set_serialNumber(
        entry, const_cast<ASN1_INTEGER*>(X509_get0_serialNumber(each.x509())));
    X509_REVOKED_set_revocationDate(entry, ToAsn1(spec.revoked_at).get());
    X509_CRL_add0_revoked(list.get(), entry);
  }
  X509_CRL_sort(list.get());
  Require(X509_CRL_sign(list.get(), issuer.key(), EVP_sha256()) > 0,
          "the list is not signed");
  return EncodeDer<const X509_CRL*>(i2d_X509_CRL, list.get());
}

Bytes MakeOcspResponse(const Certificate& certificate,
                       const Certificate& issuer, const TestIdentity& responder,
                       const OcspSpec& spec) {
  const OpenSslPtr<OCSP_BASICRESP, OCSP_BASICRESP_free> basic(
      OCSP_BASICRESP_new());
  const OpenSslPtr<OCSP_CERTID, OCSP_CERTID_free> id(
      OCSP_cert_to_id(EVP_sha1(), certificate.x509(), issuer.x509()));
  OCSP_basic_add1_status(
      basic.get(), id.get(),
      spec.is_revoked ? V_OCSP_CERTSTATUS_REVOKED : V_OCSP_CERTSTATUS_GOOD,
      OCSP_REVOKED_STATUS_CESSATIONOFOPERATION,
      spec.is_revoked ? ToGeneralized(spec.revoked_at).get() : nullptr,
      ToGeneralized(spec.from).get(), ToGeneralized(spec.until).get());
  Require(OCSP_basic_sign(basic.get(), responder.certificate().x509(),
                          responder.key(), EVP_sha256(), nullptr, 0) == 1,
          "the OCSP answer is not signed");
  const OpenSslPtr<OCSP_RESPONSE, OCSP_RESPONSE_free> response(
      OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic.get()));
  return EncodeDer<const OCSP_RESPONSE*>(i2d_OCSP_RESPONSE, response.get());
}

Bytes OcspAsRevocationInfo(ByteView response) {
  return Encode(asn1::kContext1, {Oid("1.3.6.1.5.5.7.16.2"), response});
}

}  // namespace codeseal::testing
