#include "tests/support/timestamp_authority.h"

#include <openssl/cms.h>
#include <openssl/ts.h>

#include <cstdio>
#include <cstdlib>
#include <optional>

#include "absl/time/clock.h"
#include "codesign/base/digest.h"
#include "codesign/cms/asn1.h"
#include "codesign/cms/openssl.h"

namespace codeseal::testing {
namespace {

using RequestPtr = OpenSslPtr<TS_REQ, TS_REQ_free>;
using ResponsePtr = OpenSslPtr<TS_RESP, TS_RESP_free>;
using ResponderPtr = OpenSslPtr<TS_RESP_CTX, TS_RESP_CTX_free>;
using ImprintPtr = OpenSslPtr<TS_MSG_IMPRINT, TS_MSG_IMPRINT_free>;
using AlgorithmPtr = OpenSslPtr<X509_ALGOR, X509_ALGOR_free>;
using IntegerPtr = OpenSslPtr<ASN1_INTEGER, ASN1_INTEGER_free>;
using CmsPtr = OpenSslPtr<CMS_ContentInfo, CMS_ContentInfo_free>;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "test timestamp authority: %s\n",
               DrainOpenSslErrors(what).c_str());
  std::abort();
}

CertificateSpec StampSpec(const char* common_name) {
  CertificateSpec spec;
  spec.common_name = common_name;
  spec.extended_key_usage = {kTimeStamping};
  // Good at whatever time a test asks about.
  spec.not_before = absl::Now() - absl::Hours(24);
  return spec;
}

TestIdentity MakeStampRoot(const char* common_name) {
  CertificateSpec spec = StampSpec(common_name);
  spec.extended_key_usage.clear();
  return MakeRoot(spec);
}

void SetImprint(TS_REQ* request, int digest_nid, ByteView digest) {
  const AlgorithmPtr algorithm(X509_ALGOR_new());
  X509_ALGOR_set0(algorithm.get(), OBJ_nid2obj(digest_nid), V_ASN1_NULL,
                  nullptr);
  const ImprintPtr imprint(TS_MSG_IMPRINT_new());
  Require(TS_MSG_IMPRINT_set_algo(imprint.get(), algorithm.get()) == 1 &&
              TS_MSG_IMPRINT_set_msg(imprint.get(),
                                     const_cast<unsigned char*>(digest.data()),
                                     static_cast<int>(digest.size())) == 1 &&
              TS_REQ_set_msg_imprint(request, imprint.get()) == 1,
          "imprint");
}

// What the honest responder is asked instead.
void ChangeQuery(TS_REQ* request, TsaLie lie) {
  const IntegerPtr nonce(ASN1_INTEGER_new());
  if (lie == TsaLie::kWrongNonce) {
    ASN1_INTEGER_set(nonce.get(), 4711);
    TS_REQ_set_nonce(request, nonce.get());
  } else if (lie == TsaLie::kWrongImprint) {
    SetImprint(request, NID_sha256,
               ComputeDigest(DigestKind::kSha256, AsBytes("another")));
  } else if (lie == TsaLie::kSha1Imprint) {
    SetImprint(request, NID_sha1,
               ComputeDigest(DigestKind::kSha1, AsBytes("another")));
  }
}

RequestPtr WithoutNonce(TS_REQ* request) {
  RequestPtr copy(TS_REQ_new());
  TS_REQ_set_version(copy.get(), 1);
  TS_REQ_set_msg_imprint(copy.get(), TS_REQ_get_msg_imprint(request));
  TS_REQ_set_cert_req(copy.get(), TS_REQ_get_cert_req(request));
  return copy;
}

bool IsResigned(TsaLie lie) {
  return lie >= TsaLie::kResigned && lie <= TsaLie::kSignerIsAuthority;
}

Bytes Granted(ByteView token) {
  const uint8_t zero[] = {0};
  return asn1::Encode(
      asn1::kSequence,
      {asn1::Encode(asn1::kSequence, {asn1::Encode(asn1::kInteger, {zero})}),
       token});
}

// The same TSTInfo signed by another: OpenSSL's responder does not take the
// certificates that these lies need.
Bytes SignAgain(PKCS7* token, const TestIdentity& signer,
                const TestIdentity& issuer) {
  const OpenSslPtr<TS_TST_INFO, TS_TST_INFO_free> info(
      PKCS7_to_TS_TST_INFO(token));
  const Bytes content =
      EncodeDer<const TS_TST_INFO*>(i2d_TS_TST_INFO, info.get());
  const BioPtr bio(
      BIO_new_mem_buf(content.data(), static_cast<int>(content.size())));
  const X509StackPtr certificates(sk_X509_new_null());
  sk_X509_push(certificates.get(), issuer.certificate().x509());
  constexpr unsigned int kFlags = CMS_BINARY | CMS_CADES | CMS_NOSMIMECAP;
  const CmsPtr cms(CMS_sign(signer.certificate().x509(), signer.key(),
                            certificates.get(), bio.get(),
                            kFlags | CMS_PARTIAL));
  Require(cms != nullptr &&
              CMS_set1_eContentType(
                  cms.get(), OBJ_nid2obj(NID_id_smime_ct_TSTInfo)) == 1 &&
              CMS_final(cms.get(), bio.get(), nullptr, kFlags) == 1,
          "second signature");
  return EncodeDer<const CMS_ContentInfo*>(i2d_CMS_ContentInfo, cms.get());
}

// Who answers, and how.
struct Responder {
  const TestIdentity& signer;
  std::vector<Certificate> more;  // certificates that go into the token
  absl::Time at;
  bool signs_sha1 = false;
  bool takes_sha256 = true;
};

// OpenSSL's honest responder.
ResponsePtr Respond(TS_REQ* request, const Responder& how) {
  const BioPtr query(BIO_new(BIO_s_mem()));
  i2d_TS_REQ_bio(query.get(), request);
  const ResponderPtr responder(TS_RESP_CTX_new());
  const X509StackPtr certificates(sk_X509_new_null());
  for (const Certificate& each : how.more) {
    sk_X509_push(certificates.get(), each.x509());
  }
  const ObjectPtr policy(OBJ_txt2obj(TimestampAuthority::kPolicy, 1));
  Require(
      TS_RESP_CTX_set_signer_cert(responder.get(),
                                  how.signer.certificate().x509()) == 1 &&
          TS_RESP_CTX_set_signer_key(responder.get(), how.signer.key()) == 1 &&
          TS_RESP_CTX_set_signer_digest(
              responder.get(), how.signs_sha1 ? EVP_sha1() : EVP_sha256()) ==
              1 &&
          TS_RESP_CTX_set_certs(responder.get(), certificates.get()) == 1 &&
          TS_RESP_CTX_set_def_policy(responder.get(), policy.get()) == 1 &&
          TS_RESP_CTX_add_md(responder.get(), EVP_sha1()) == 1,
      "responder");
  if (how.takes_sha256) TS_RESP_CTX_add_md(responder.get(), EVP_sha256());
  TS_RESP_CTX_set_serial_cb(
      responder.get(),
      [](TS_RESP_CTX*, void*) {
        ASN1_INTEGER* serial = ASN1_INTEGER_new();
        ASN1_INTEGER_set(serial, 1);
        return serial;
      },
      nullptr);
  long at = static_cast<long>(absl::ToUnixSeconds(how.at));
  TS_RESP_CTX_set_time_cb(
      responder.get(),
      [](TS_RESP_CTX*, void* data, long* seconds, long* microseconds) {
        *seconds = *static_cast<const long*>(data);
        *microseconds = 0;
        return 1;
      },
      &at);
  ResponsePtr response(TS_RESP_create_response(responder.get(), query.get()));
  Require(response != nullptr, "no response");
  return response;
}

}  // namespace

std::vector<TestIdentity> MakeTimestampAuthority() {
  CertificateSpec spec = StampSpec("codeseal test stamps");
  spec.not_before = absl::Now() - absl::Hours(24 * 365);
  spec.not_after = absl::Now() + absl::Hours(24 * 3650);
  CertificateSpec root_spec = spec;
  root_spec.common_name = "codeseal test stamp root";
  root_spec.extended_key_usage.clear();
  const TestIdentity root = MakeRoot(root_spec);
  return {Issue(spec, root), root};
}

Bytes MakeTimestampToken(ByteView stamped,
                         const std::vector<TestIdentity>& authority,
                         absl::Time at) {
  const RequestPtr request(TS_REQ_new());
  TS_REQ_set_version(request.get(), 1);
  TS_REQ_set_cert_req(request.get(), 1);
  SetImprint(request.get(), NID_sha256,
             ComputeDigest(DigestKind::kSha256, stamped));
  Responder how = {.signer = authority.front(), .more = {}, .at = at};
  for (size_t i = 1; i < authority.size(); ++i) {
    how.more.push_back(authority[i].certificate());
  }
  const ResponsePtr response = Respond(request.get(), how);
  PKCS7* const token = TS_RESP_get_token(response.get());
  Require(token != nullptr, "no timestamp token");
  return EncodeDer<const PKCS7*>(i2d_PKCS7, token);
}

TimestampAuthority::TimestampAuthority()
    : root_(MakeStampRoot("test stamp root")),
      signer_(Issue(StampSpec("test stamp signer"), root_)) {}

const TimestampAuthority::Signer& TimestampAuthority::SignerFor(TsaLie lie) {
  const std::lock_guard lock(mutex_);
  const auto found = signers_.find(lie);
  if (found != signers_.end()) return found->second;
  Signer made = {signer_, root_};
  CertificateSpec spec = StampSpec("lying stamp signer");
  if (lie == TsaLie::kForeignRoot) {
    made.issuer = MakeStampRoot("foreign stamp root");
    made.identity = Issue(spec, made.issuer);
  } else if (lie == TsaLie::kExpiredCertificate) {
    spec.not_after = absl::Now() - absl::Hours(1);
    made.identity = Issue(spec, root_);
  } else if (lie == TsaLie::kNoPurpose) {
    spec.extended_key_usage.clear();
    made.identity = Issue(spec, root_);
  } else if (lie == TsaLie::kCodeSigningPurpose) {
    spec.extended_key_usage = {kCodeSigning};
    made.identity = Issue(spec, root_);
  } else if (lie == TsaLie::kSecondPurpose) {
    spec.extended_key_usage.push_back(kCodeSigning);
    made.identity = Issue(spec, root_);
  } else if (lie == TsaLie::kPurposeNotCritical) {
    spec.extended_key_usage_critical = false;
    made.identity = Issue(spec, root_);
  } else if (lie == TsaLie::kSignerIsAuthority) {
    spec.certificate_authority = true;
    made.identity = Issue(spec, root_);
  }
  return signers_.emplace(lie, std::move(made)).first->second;
}

Bytes TimestampAuthority::Answer(ByteView query, TsaLie lie) {
  if (lie == TsaLie::kGarbage) return ToBytes("<html>captive portal</html>");
  const unsigned char* der = query.data();
  RequestPtr request(
      d2i_TS_REQ(nullptr, &der, static_cast<long>(query.size())));
  Require(request != nullptr, "the query does not parse");
  ChangeQuery(request.get(), lie);
  if (lie == TsaLie::kNoNonce) request = WithoutNonce(request.get());

  const Signer& signer = SignerFor(lie);
  const ResponsePtr response = Respond(
      request.get(),
      {.signer = IsResigned(lie) ? signer_ : signer.identity,
       .more = {signer.issuer.certificate()},
       .at = absl::Now() - (lie == TsaLie::kWrongTime ? absl::Hours(1)
                                                      : absl::ZeroDuration()),
       .signs_sha1 = lie == TsaLie::kSha1Signature,
       // Without SHA-256, an honest responder refuses.
       .takes_sha256 = lie != TsaLie::kRefusal});
  Bytes answer = EncodeDer<const TS_RESP*>(i2d_TS_RESP, response.get());
  if (IsResigned(lie)) {
    answer = Granted(SignAgain(TS_RESP_get_token(response.get()),
                               signer.identity, signer.issuer));
  }
  if (lie == TsaLie::kTruncated) answer.resize(answer.size() / 2);
  DrainOpenSslErrors("");
  return answer;
}

}  // namespace codeseal::testing
