#include "codesign/cms/timestamp.h"

#include <openssl/pkcs7.h>
#include <openssl/rand.h>
#include <openssl/ts.h>

#include <algorithm>
#include <ctime>
#include <string_view>
#include <utility>

#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/cms/asn1.h"
#include "codesign/cms/openssl.h"
#include "codesign/cms/trust.h"

namespace codeseal {
namespace {

using Pkcs7Ptr = OpenSslPtr<PKCS7, PKCS7_free>;
using TimestampInfoPtr = OpenSslPtr<TS_TST_INFO, TS_TST_INFO_free>;
using TimestampRequestPtr = OpenSslPtr<TS_REQ, TS_REQ_free>;
using TimestampVerifierPtr = OpenSslPtr<TS_VERIFY_CTX, TS_VERIFY_CTX_free>;
using AlgorithmPtr = OpenSslPtr<X509_ALGOR, X509_ALGOR_free>;
using ImprintPtr = OpenSslPtr<TS_MSG_IMPRINT, TS_MSG_IMPRINT_free>;
using IntegerPtr = OpenSslPtr<ASN1_INTEGER, ASN1_INTEGER_free>;

constexpr size_t kMaxTokenSize = size_t{256} << 10;
constexpr size_t kNonceSize = 8;

absl::Status BadTimestamp(std::string_view message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
                   v1::REASON_BAD_TIMESTAMP, DrainOpenSslErrors(message));
}

std::string DottedOid(const ASN1_OBJECT* object) {
  char text[128] = {};
  OBJ_obj2txt(text, sizeof(text), object, 1);
  return text;
}

// A token's outside and inside.
struct ParsedToken {
  Pkcs7Ptr pkcs7;  // perhaps without its certificates
  std::vector<Certificate> certificates;
  TimestampInfoPtr info;
};

struct BareToken {
  Bytes token;
  std::vector<Certificate> certificates;
};

// The token and its certificates, which nothing signs, apart, if `known` has
// them all: OpenSSL takes longer to parse one than to verify with it.
// Errors: any, when it has not.
absl::StatusOr<BareToken> TakeCertificatesOut(
    ByteView token, std::span<const Certificate> known) {
  asn1::Reader outer(token);
  ASSIGN_OR_RETURN(const asn1::Element content_info,
                   outer.Take(asn1::kSequence, "ContentInfo"));
  asn1::Reader content_fields(content_info);
  ASSIGN_OR_RETURN(const asn1::Element content_type,
                   content_fields.Take(asn1::kObjectIdentifier, "contentType"));
  ASSIGN_OR_RETURN(const asn1::Element content,
                   content_fields.Take(asn1::kContext0, "content"));
  asn1::Reader content_reader(content);
  ASSIGN_OR_RETURN(const asn1::Element signed_data,
                   content_reader.Take(asn1::kSequence, "SignedData"));
  asn1::Reader fields(signed_data);
  BareToken bare;
  Bytes rest;
  for (const uint8_t tag : {asn1::kInteger, asn1::kSet, asn1::kSequence}) {
    ASSIGN_OR_RETURN(const asn1::Element field, fields.Take(tag, "field"));
    Append(rest, field.raw);
  }
  ASSIGN_OR_RETURN(const asn1::Element certificates,
                   fields.Take(asn1::kContext0, "certificates"));
  asn1::Reader stored(certificates);
  while (!stored.at_end()) {
    ASSIGN_OR_RETURN(const asn1::Element each, stored.Next("certificate"));
    const auto same = std::find_if(
        known.begin(), known.end(),
        [&](const Certificate& one) { return Equal(one.der(), each.raw); });
    if (same == known.end()) {
      return asn1::Malformed(each.offset, "an unknown certificate");
    }
    bare.certificates.push_back(*same);
  }
  while (!fields.at_end()) {
    ASSIGN_OR_RETURN(const asn1::Element field, fields.Next("field"));
    if (field.tag == asn1::kContext0) {
      return asn1::Malformed(field.offset, "certificates once more");
    }
    Append(rest, field.raw);
  }
  if (!content_reader.at_end() || !content_fields.at_end() || !outer.at_end()) {
    return asn1::Malformed(outer.offset(), "an unknown field");
  }
  bare.token = asn1::Encode(
      asn1::kSequence,
      {content_type.raw,
       asn1::Encode(asn1::kContext0, {asn1::Encode(asn1::kSequence, {rest})})});
  return bare;
}

absl::StatusOr<ParsedToken> ParseToken(ByteView token,
                                       std::span<const Certificate> known) {
  if (token.size() > kMaxTokenSize) {
    return BadTimestamp("the timestamp token is larger than 256 KiB");
  }
  ParsedToken parsed;
  absl::StatusOr<BareToken> bare = TakeCertificatesOut(token, known);
  if (bare.ok()) {
    token = bare->token;
    parsed.certificates = std::move(bare->certificates);
  }
  const unsigned char* der = token.data();
  parsed.pkcs7.reset(d2i_PKCS7(nullptr, &der, static_cast<long>(token.size())));
  if (parsed.pkcs7 == nullptr || der != token.data() + token.size()) {
    return BadTimestamp("the timestamp token does not parse");
  }
  // Of any other type, PKCS7_to_TS_TST_INFO() would look where nothing is.
  if (PKCS7_type_is_signed(parsed.pkcs7.get()) != 1 ||
      parsed.pkcs7->d.sign == nullptr) {
    return BadTimestamp("the timestamp token is no SignedData");
  }
  const STACK_OF(X509)* stored = parsed.pkcs7->d.sign->cert;
  for (int i = 0; i < sk_X509_num(stored); ++i) {
    absl::StatusOr<Certificate> certificate =
        Certificate::Share(sk_X509_value(stored, i));
    if (certificate.ok()) {
      parsed.certificates.push_back(*std::move(certificate));
    }
  }
  parsed.info.reset(PKCS7_to_TS_TST_INFO(parsed.pkcs7.get()));
  if (parsed.info == nullptr) {
    return BadTimestamp("the timestamp token holds no TSTInfo");
  }
  return parsed;
}

X509StackPtr StackOf(std::span<const Certificate> certificates) {
  X509StackPtr stack(sk_X509_new_null());
  for (const Certificate& each : certificates) {
    sk_X509_push(stack.get(), each.x509());
  }
  return stack;
}

// The one signer of the token and its chain.
absl::StatusOr<std::vector<Certificate>> ChainOf(
    const ParsedToken& token, std::span<const Certificate> candidates) {
  std::vector<Certificate> pool(candidates.begin(), candidates.end());
  pool.insert(pool.end(), token.certificates.begin(), token.certificates.end());
  const X509StackPtr helpers = StackOf(pool);
  const X509StackPtr signers(
      PKCS7_get0_signers(token.pkcs7.get(), helpers.get(), 0));
  if (signers == nullptr || sk_X509_num(signers.get()) != 1) {
    return BadTimestamp("the timestamp token has not one signer");
  }
  const absl::StatusOr<Certificate> signer =
      Certificate::Share(sk_X509_value(signers.get(), 0));
  if (!signer.ok()) return BadTimestamp(Message(signer.status()));
  absl::StatusOr<std::vector<Certificate>> chain = BuildChain(*signer, pool);
  if (!chain.ok()) return BadTimestamp(Message(chain.status()));
  return chain;
}

// Signature, ESS attribute, chain, version and imprint: the part of the rules
// that OpenSSL has.
absl::Status CheckWithOpenSsl(const ParsedToken& token, ByteView stamped,
                              std::span<const Certificate> chain) {
  X509StorePtr store(X509_STORE_new());
  X509_STORE_add_cert(store.get(), chain.back().x509());
  // Dates are judged at the token's time, by CheckValidityDates().
  X509_STORE_set_flags(store.get(),
                       X509_V_FLAG_IGNORE_CRITICAL | X509_V_FLAG_NO_CHECK_TIME);
  // The verifier owns the store, the data and references to the certificates.
  const TimestampVerifierPtr verifier(TS_VERIFY_CTX_new());
  TS_VERIFY_CTX_set_flags(verifier.get(),
                          TS_VFY_SIGNATURE | TS_VFY_VERSION | TS_VFY_DATA);
  TS_VERIFY_CTX_set_store(verifier.get(), store.release());
  X509StackPtr helpers = StackOf(chain);
  for (const Certificate& each : chain) X509_up_ref(each.x509());
  TS_VERIFY_CTX_set_certs(verifier.get(), helpers.release());
  TS_VERIFY_CTX_set_data(
      verifier.get(),
      BIO_new_mem_buf(stamped.data(), static_cast<int>(stamped.size())));
  if (TS_RESP_verify_token(verifier.get(), token.pkcs7.get()) != 1) {
    return BadTimestamp("the timestamp token does not verify");
  }
  DrainOpenSslErrors("");
  return absl::OkStatus();
}

bool IsSha1(const X509_ALGOR* algorithm) {
  const ASN1_OBJECT* object = nullptr;
  X509_ALGOR_get0(&object, nullptr, nullptr, algorithm);
  return OBJ_obj2nid(object) == NID_sha1;
}

absl::StatusOr<Timestamp> Verify(const ParsedToken& token, ByteView stamped,
                                 std::span<const Certificate> candidates) {
  Timestamp timestamp;
  std::tm broken_down = {};
  if (ASN1_TIME_to_tm(TS_TST_INFO_get_time(token.info.get()), &broken_down) !=
      1) {
    return BadTimestamp("the timestamp token names no time");
  }
  timestamp.time = absl::FromTM(broken_down, absl::UTCTimeZone());
  timestamp.policy = DottedOid(TS_TST_INFO_get_policy_id(token.info.get()));
  timestamp.sha1_imprint = IsSha1(
      TS_MSG_IMPRINT_get_algo(TS_TST_INFO_get_msg_imprint(token.info.get())));
  ASSIGN_OR_RETURN(timestamp.chain, ChainOf(token, candidates));
  const PKCS7_SIGNER_INFO* const signer_info =
      sk_PKCS7_SIGNER_INFO_value(token.pkcs7->d.sign->signer_info, 0);
  timestamp.sha1_signature = IsSha1(signer_info->digest_alg);

  const Certificate& leaf = timestamp.chain.front();
  if (X509_check_ca(leaf.x509()) != 0) {
    return BadTimestamp("the timestamp's signer " + leaf.CommonName() +
                        " is a certificate authority");
  }
  // RFC 3161 section 2.3: sole and critical. OpenSSL checks it again below,
  // but does not say what it dislikes.
  if (X509_check_purpose(leaf.x509(), X509_PURPOSE_TIMESTAMP_SIGN, 0) != 1) {
    return BadTimestamp("the timestamp's signer " + leaf.CommonName() +
                        " has another purpose than timestamps");
  }
  const absl::Status dates =
      CheckValidityDates(timestamp.chain, timestamp.time);
  if (!dates.ok()) return BadTimestamp(Message(dates));
  RETURN_IF_ERROR(CheckWithOpenSsl(token, stamped, timestamp.chain));
  return timestamp;
}

// Content octets of a positive INTEGER.
Bytes RandomNonce() {
  Bytes nonce(kNonceSize);
  if (RAND_bytes(nonce.data(), static_cast<int>(nonce.size())) != 1) return {};
  // Shortest form, not negative: 62 random bits.
  nonce[0] = static_cast<uint8_t>((nonce[0] & 0x3f) | 0x40);
  return nonce;
}

absl::Status CheckNonce(const ParsedToken& token, const TimestampQuery& query) {
  const ASN1_INTEGER* const nonce = TS_TST_INFO_get_nonce(token.info.get());
  if (nonce == nullptr) {
    return BadTimestamp("the timestamp token does not repeat the nonce");
  }
  const unsigned char* const octets = ASN1_STRING_get0_data(nonce);
  const ByteView got(octets, static_cast<size_t>(ASN1_STRING_length(nonce)));
  // The sign is kept apart from the octets.
  if (ASN1_STRING_type(nonce) != V_ASN1_INTEGER || !Equal(got, query.nonce)) {
    return BadTimestamp("the timestamp token has another nonce: it answers " +
                        std::string("another query"));
  }
  return absl::OkStatus();
}

absl::Status CheckRules(const Timestamp& timestamp,
                        const TimestampRules& rules) {
  if (timestamp.sha1_imprint) {
    return BadTimestamp("the timestamp token's imprint is SHA-1");
  }
  if (timestamp.sha1_signature && rules.profile != TimestampProfile::kApple) {
    return BadTimestamp("the timestamp token is signed over a SHA-1 digest");
  }
  if (!rules.policy.empty() && timestamp.policy != rules.policy) {
    return BadTimestamp("the timestamp token follows policy " +
                        timestamp.policy + ", want " + rules.policy);
  }
  const Certificate& root = timestamp.chain.back();
  const bool known = std::find(rules.roots.begin(), rules.roots.end(), root) !=
                     rules.roots.end();
  if (!known &&
      !(rules.profile == TimestampProfile::kApple && IsAppleRoot(root))) {
    return BadTimestamp("the timestamp's chain ends in " + root.CommonName() +
                        ", which is not among the authority's roots");
  }
  return absl::OkStatus();
}

// The words of a response that grants nothing.
absl::Status Refused(TS_STATUS_INFO* status) {
  std::string words;
  const STACK_OF(ASN1_UTF8STRING)* texts = TS_STATUS_INFO_get0_text(status);
  for (int i = 0; i < sk_ASN1_UTF8STRING_num(texts); ++i) {
    const ASN1_UTF8STRING* text = sk_ASN1_UTF8STRING_value(texts, i);
    words += words.empty() ? ": " : "; ";
    words.append(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                 static_cast<size_t>(ASN1_STRING_length(text)));
  }
  return BadTimestamp(
      "the timestamp authority grants none (status " +
      std::to_string(ASN1_INTEGER_get(TS_STATUS_INFO_get0_status(status))) +
      ")" + words.substr(0, 256));
}

}  // namespace

absl::StatusOr<Timestamp> VerifyTimestampToken(
    ByteView token, ByteView stamped, std::span<const Certificate> candidates) {
  ASSIGN_OR_RETURN(const ParsedToken parsed, ParseToken(token, candidates));
  return Verify(parsed, stamped, candidates);
}

absl::StatusOr<TimestampQuery> MakeTimestampQuery(ByteView stamped,
                                                  const TimestampRules& rules) {
  const auto fail = [] {
    return MakeError(absl::StatusCode::kInternal, v1::STAGE_CMS,
                     v1::REASON_INTERNAL,
                     DrainOpenSslErrors("cannot make a timestamp query"));
  };
  TimestampQuery query = {ToBytes(stamped), RandomNonce(), {}};
  if (query.nonce.empty()) return fail();
  const Bytes digest = ComputeDigest(DigestKind::kSha256, stamped);
  const AlgorithmPtr algorithm(X509_ALGOR_new());
  const ImprintPtr imprint(TS_MSG_IMPRINT_new());
  const TimestampRequestPtr request(TS_REQ_new());
  const IntegerPtr nonce(ASN1_INTEGER_new());
  if (X509_ALGOR_set0(algorithm.get(), OBJ_nid2obj(NID_sha256), V_ASN1_NULL,
                      nullptr) != 1 ||
      TS_MSG_IMPRINT_set_algo(imprint.get(), algorithm.get()) != 1 ||
      TS_MSG_IMPRINT_set_msg(imprint.get(),
                             const_cast<unsigned char*>(digest.data()),
                             static_cast<int>(digest.size())) != 1 ||
      TS_REQ_set_version(request.get(), 1) != 1 ||
      TS_REQ_set_msg_imprint(request.get(), imprint.get()) != 1 ||
      ASN1_STRING_set(nonce.get(), query.nonce.data(),
                      static_cast<int>(query.nonce.size())) != 1 ||
      TS_REQ_set_nonce(request.get(), nonce.get()) != 1 ||
      TS_REQ_set_cert_req(request.get(), 1) != 1) {
    return fail();
  }
  if (!rules.policy.empty()) {
    const ObjectPtr policy(OBJ_txt2obj(rules.policy.c_str(), 1));
    if (policy == nullptr) {
      return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                       v1::REASON_BAD_OPTION,
                       DrainOpenSslErrors("timestamp policy " + rules.policy +
                                          " is no OID such as 1.2.3.4"));
    }
    if (TS_REQ_set_policy_id(request.get(), policy.get()) != 1) return fail();
  }
  query.der = EncodeDer<const TS_REQ*>(i2d_TS_REQ, request.get());
  if (query.der.empty()) return fail();
  return query;
}

absl::StatusOr<NewTimestamp> OpenTimestampResponse(
    ByteView response, const TimestampQuery& query, const TimestampRules& rules,
    std::span<const Certificate> known) {
  // The token is taken as it lies in the response: it is stored as it came.
  // TimeStampResp ::= SEQUENCE { status PKIStatusInfo, timeStampToken OPTIONAL
  // }
  asn1::Reader outer(response);
  const absl::StatusOr<asn1::Element> whole =
      outer.Take(asn1::kSequence, "TimeStampResp");
  if (!whole.ok() || !outer.at_end()) {
    return BadTimestamp("the answer is no timestamp response");
  }
  asn1::Reader fields(*whole);
  const absl::StatusOr<asn1::Element> status =
      fields.Take(asn1::kSequence, "PKIStatusInfo");
  if (!status.ok()) return BadTimestamp("the timestamp response has no status");
  const unsigned char* der = status->raw.data();
  const OpenSslPtr<TS_STATUS_INFO, TS_STATUS_INFO_free> status_info(
      d2i_TS_STATUS_INFO(nullptr, &der, static_cast<long>(status->raw.size())));
  if (status_info == nullptr) {
    return BadTimestamp("the timestamp response's status does not parse");
  }
  const long granted =
      ASN1_INTEGER_get(TS_STATUS_INFO_get0_status(status_info.get()));
  if (granted != TS_STATUS_GRANTED && granted != TS_STATUS_GRANTED_WITH_MODS) {
    return Refused(status_info.get());
  }
  const absl::StatusOr<asn1::Element> token =
      fields.Take(asn1::kSequence, "timeStampToken");
  if (!token.ok() || !fields.at_end()) {
    return BadTimestamp("the timestamp response has no token");
  }

  ASSIGN_OR_RETURN(const ParsedToken parsed, ParseToken(token->raw, known));
  // Cheap questions first: whose answer is it?
  RETURN_IF_ERROR(CheckNonce(parsed, query));
  NewTimestamp result = {ToBytes(token->raw), {}};
  ASSIGN_OR_RETURN(result.timestamp,
                   Verify(parsed, query.stamped, rules.roots));
  RETURN_IF_ERROR(CheckRules(result.timestamp, rules));
  return result;
}

}  // namespace codeseal
