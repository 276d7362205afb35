#include "tests/support/apple_like.h"

#include <openssl/cms.h>
#include <openssl/ts.h>

#include <cstdio>
#include <cstdlib>

#include "codesign/cms/openssl.h"

namespace codeseal::testing {
namespace {

constexpr absl::Duration kYears = absl::Hours(24 * 3650);

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "apple_like: %s\n", what);
  std::abort();
}

using CmsPtr = OpenSslPtr<CMS_ContentInfo, CMS_ContentInfo_free>;

struct Authority {
  TestIdentity root;
  TestIdentity leaf;
};

const Authority& TimestampAuthority() {
  static const Authority* const authority = [] {
    CertificateSpec root;
    root.common_name = "Timestamp Root";
    root.not_before = absl::Now() - kYears;
    root.not_after = absl::Now() + kYears;
    CertificateSpec leaf = root;
    leaf.common_name = "Timestamp Signer";
    leaf.extended_key_usage = {kTimeStamping};
    const TestIdentity made = MakeRoot(root);
    return new Authority{made, Issue(leaf, made)};
  }();
  return *authority;
}

// DER of the token over `stamped`.
Bytes Stamp(ByteView stamped) {
  const Authority& authority = TimestampAuthority();
  std::array<uint8_t, 32> imprint{};
  EVP_Digest(stamped.data(), stamped.size(), imprint.data(), nullptr,
             EVP_sha256(), nullptr);
  const OpenSslPtr<TS_MSG_IMPRINT, TS_MSG_IMPRINT_free> message(
      TS_MSG_IMPRINT_new());
  const OpenSslPtr<X509_ALGOR, X509_ALGOR_free> algorithm(X509_ALGOR_new());
  X509_ALGOR_set_md(algorithm.get(), EVP_sha256());
  TS_MSG_IMPRINT_set_algo(message.get(), algorithm.get());
  TS_MSG_IMPRINT_set_msg(message.get(), imprint.data(),
                         static_cast<int>(imprint.size()));
  const OpenSslPtr<TS_REQ, TS_REQ_free> request(TS_REQ_new());
  TS_REQ_set_version(request.get(), 1);
  TS_REQ_set_msg_imprint(request.get(), message.get());
  TS_REQ_set_cert_req(request.get(), 1);
  const BioPtr bio(BIO_new(BIO_s_mem()));
  i2d_TS_REQ_bio(bio.get(), request.get());

  const OpenSslPtr<TS_RESP_CTX, TS_RESP_CTX_free> responder(TS_RESP_CTX_new());
  const X509StackPtr certificates(sk_X509_new_null());
  sk_X509_push(certificates.get(), authority.root.certificate().x509());
  const ObjectPtr policy(OBJ_txt2obj("1.2.3.4.5.6", 1));
  TS_RESP_CTX_set_signer_cert(responder.get(),
                              authority.leaf.certificate().x509());
  TS_RESP_CTX_set_signer_key(responder.get(), authority.leaf.key());
  TS_RESP_CTX_set_signer_digest(responder.get(), EVP_sha256());
  TS_RESP_CTX_set_certs(responder.get(), certificates.get());
  TS_RESP_CTX_set_def_policy(responder.get(), policy.get());
  TS_RESP_CTX_add_md(responder.get(), EVP_sha256());
  TS_RESP_CTX_set_serial_cb(
      responder.get(),
      [](TS_RESP_CTX*, void*) {
        ASN1_INTEGER* serial = ASN1_INTEGER_new();
        ASN1_INTEGER_set(serial, 1);
        return serial;
      },
      nullptr);
  const OpenSslPtr<TS_RESP, TS_RESP_free> response(
      TS_RESP_create_response(responder.get(), bio.get()));
  Require(response != nullptr && TS_RESP_get_token(response.get()) != nullptr,
          "no timestamp");
  return EncodeDer<const PKCS7*>(i2d_PKCS7, TS_RESP_get_token(response.get()));
}

}  // namespace

const TestIdentity& AppleLikeRoot() {
  static const TestIdentity* const root = [] {
    CertificateSpec spec;
    spec.common_name = "Apple-like Root CA";
    spec.not_before = absl::Now() - kYears;
    spec.not_after = absl::Now() + kYears;
    return new TestIdentity(MakeRoot(spec));
  }();
  return *root;
}

TestChain MakeAppleLikeChain(const AppleLikeSpec& spec) {
  CertificateSpec issuer;
  issuer.common_name = "Apple-like Intermediate CA";
  issuer.certificate_authority = true;
  issuer.markers = spec.issuer_markers;
  issuer.not_before = absl::Now() - kYears;
  issuer.not_after = absl::Now() + kYears;
  CertificateSpec leaf;
  leaf.key = spec.key;
  leaf.common_name = spec.common_name;
  leaf.organization = "Example";
  leaf.organizational_unit = spec.team;
  leaf.extended_key_usage = spec.purposes;
  leaf.markers = spec.markers;
  leaf.not_before = spec.not_before;
  leaf.not_after = spec.not_after;
  const TestIdentity intermediate = Issue(issuer, AppleLikeRoot());
  return {Issue(leaf, intermediate), intermediate, AppleLikeRoot()};
}

const TestChain& DeveloperId() {
  static const TestChain* const chain = new TestChain(MakeAppleLikeChain());
  return *chain;
}

Bytes AddTimestamp(ByteView cms_bytes) {
  const unsigned char* in = cms_bytes.data();
  const CmsPtr cms(
      d2i_CMS_ContentInfo(nullptr, &in, static_cast<long>(cms_bytes.size())));
  Require(cms != nullptr, "no CMS to stamp");
  CMS_SignerInfo* signer =
      sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(cms.get()), 0);
  const ASN1_OCTET_STRING* value = CMS_SignerInfo_get0_signature(signer);
  const Bytes token = Stamp({ASN1_STRING_get0_data(value),
                             static_cast<size_t>(ASN1_STRING_length(value))});
  Require(CMS_unsigned_add1_attr_by_NID(signer, NID_id_smime_aa_timeStampToken,
                                        V_ASN1_SEQUENCE, token.data(),
                                        static_cast<int>(token.size())) == 1,
          "no attribute");
  return EncodeDer<const CMS_ContentInfo*>(i2d_CMS_ContentInfo, cms.get());
}

Bytes MakeProfile(const ProfileSpec& spec) {
  PlistDict granted = spec.entitlements;
  granted["com.apple.application-identifier"].value =
      spec.application_identifier;
  PlistArray certificates;
  for (const Certificate& each : spec.certificates) {
    certificates.push_back({ToBytes(each.der())});
  }
  PlistDict profile;
  profile["Name"].value = std::string("Demo");
  profile["TeamIdentifier"].value = PlistArray{{spec.team}};
  profile["Platform"].value = PlistArray{{std::string("OSX")}};
  profile["ExpirationDate"].value =
      absl::FromUnixSeconds(absl::ToUnixSeconds(spec.expires_at));
  profile["Entitlements"].value = granted;
  profile["DeveloperCertificates"].value = certificates;
  profile["ProvisionsAllDevices"].value = true;
  for (const auto& [key, value] : spec.changes) profile[key] = value;
  const std::string content = BuildXmlPlist(profile);

  const BioPtr in(
      BIO_new_mem_buf(content.data(), static_cast<int>(content.size())));
  const TestIdentity& signer = AppleLikeRoot();
  const CmsPtr cms(CMS_sign(signer.certificate().x509(), signer.key(), nullptr,
                            in.get(), CMS_BINARY | CMS_NOSMIMECAP));
  Require(cms != nullptr, "no profile");
  return EncodeDer<const CMS_ContentInfo*>(i2d_CMS_ContentInfo, cms.get());
}

}  // namespace codeseal::testing
