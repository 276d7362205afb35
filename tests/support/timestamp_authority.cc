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

Bytes Encode(TS_RESP* response) {
  return EncodeDer<const TS_RESP*>(i2d_TS_RESP, response);
}

}  // namespace

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
  const BioPtr changed(BIO_new(BIO_s_mem()));
  i2d_TS_REQ_bio(changed.get(), request.get());

  const Signer& signer = SignerFor(lie);
  const TestIdentity& first = IsResigned(lie) ? signer_ : signer.identity;
  const ResponderPtr responder(TS_RESP_CTX_new());
  const X509StackPtr certificates(sk_X509_new_null());
  sk_X509_push(certificates.get(), signer.issuer.certificate().x509());
  const ObjectPtr policy(OBJ_txt2obj(kPolicy, 1));
  Require(
      TS_RESP_CTX_set_signer_cert(responder.get(),
                                  first.certificate().x509()) == 1 &&
          TS_RESP_CTX_set_signer_key(responder.get(), first.key()) == 1 &&
          TS_RESP_CTX_set_signer_digest(
              responder.get(),
              lie == TsaLie::kSha1Signature ? EVP_sha1() : EVP_sha256()) == 1 &&
          TS_RESP_CTX_set_certs(responder.get(), certificates.get()) == 1 &&
          TS_RESP_CTX_set_def_policy(responder.get(), policy.get()) == 1 &&
          TS_RESP_CTX_add_md(responder.get(), EVP_sha1()) == 1,
      "responder");
  // Without SHA-256, an honest responder refuses.
  if (lie != TsaLie::kRefusal) {
    TS_RESP_CTX_add_md(responder.get(), EVP_sha256());
  }
  TS_RESP_CTX_set_serial_cb(
      responder.get(),
      [](TS_RESP_CTX*, void*) {
        ASN1_INTEGER* serial = ASN1_INTEGER_new();
        ASN1_INTEGER_set(serial, 1);
        return serial;
      },
      nullptr);
  if (lie == TsaLie::kWrongTime) {
    TS_RESP_CTX_set_time_cb(
        responder.get(),
        [](TS_RESP_CTX*, void*, long* seconds, long* microseconds) {
          *seconds = absl::ToUnixSeconds(absl::Now() - absl::Hours(1));
          *microseconds = 0;
          return 1;
        },
        nullptr);
  }
  const ResponsePtr response(
      TS_RESP_create_response(responder.get(), changed.get()));
  Require(response != nullptr, "no response");
  Bytes answer = Encode(response.get());
  if (IsResigned(lie)) {
    answer = Granted(SignAgain(TS_RESP_get_token(response.get()),
                               signer.identity, signer.issuer));
  }
  if (lie == TsaLie::kTruncated) answer.resize(answer.size() / 2);
  DrainOpenSslErrors("");
  return answer;
}

}  // namespace codeseal::testing
