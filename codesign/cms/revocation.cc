#include "codesign/cms/revocation.h"

#include <openssl/ocsp.h>
#include <openssl/pem.h>

#include <algorithm>
#include <climits>
#include <ctime>
#include <string_view>
#include <utility>

#include "codesign/base/error.h"
#include "codesign/cms/asn1.h"
#include "codesign/cms/openssl.h"

namespace codeseal {
namespace {

using CrlPtr = OpenSslPtr<X509_CRL, X509_CRL_free>;
using OcspResponsePtr = OpenSslPtr<OCSP_RESPONSE, OCSP_RESPONSE_free>;
using OcspBasicPtr = OpenSslPtr<OCSP_BASICRESP, OCSP_BASICRESP_free>;
using OcspRequestPtr = OpenSslPtr<OCSP_REQUEST, OCSP_REQUEST_free>;
using OcspCertIdPtr = OpenSslPtr<OCSP_CERTID, OCSP_CERTID_free>;
using IssuingPointPtr = OpenSslPtr<ISSUING_DIST_POINT, ISSUING_DIST_POINT_free>;
using PointsPtr = OpenSslPtr<CRL_DIST_POINTS, CRL_DIST_POINTS_free>;
using AccessPtr = OpenSslPtr<AUTHORITY_INFO_ACCESS, AUTHORITY_INFO_ACCESS_free>;

// More than any list of a code-signing authority.
constexpr size_t kMaxEvidenceSize = 32 * 1024 * 1024;  // bytes
constexpr size_t kMaxListCount = 256;
// Clocks of authorities and ours.
constexpr absl::Duration kClockSkew = absl::Minutes(5);

// id-ri-ocsp-response, 1.3.6.1.5.5.7.16.2: the whole OBJECT IDENTIFIER.
constexpr uint8_t kOcspInCms[] = {0x06, 0x08, 0x2b, 0x06, 0x01,
                                  0x05, 0x05, 0x07, 0x10, 0x02};

absl::Status BadData(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_PARSE,
                   v1::REASON_BAD_REVOCATION_DATA, DrainOpenSslErrors(message));
}

// nullopt for a time that is absent or malformed.
std::optional<absl::Time> TimeOf(const ASN1_TIME* time) {
  std::tm broken_down = {};
  if (time == nullptr || ASN1_TIME_to_tm(time, &broken_down) != 1) {
    return std::nullopt;
  }
  return absl::FromTM(broken_down, absl::UTCTimeZone());
}

std::string Text(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

// RV-1: evidence from the future, or that should have been replaced by now.
bool IsCurrent(std::optional<absl::Time> from, std::optional<absl::Time> until,
               absl::Time at) {
  return from.has_value() && *from <= at + kClockSkew &&
         (!until.has_value() || at <= *until + kClockSkew);
}

CrlPtr ParseList(ByteView der) {
  const unsigned char* end = der.data();
  CrlPtr list(d2i_X509_CRL(nullptr, &end, static_cast<long>(der.size())));
  if (list != nullptr && end != der.data() + der.size()) list = nullptr;
  return list;
}

// RV-2: only full lists of the issuer's own are understood; of extensions that
// narrow them, the ones about the kind of certificate.
bool CoversCertificate(const X509_CRL* list, const Certificate& certificate) {
  for (int i = 0; i < X509_CRL_get_ext_count(list); ++i) {
    X509_EXTENSION* const extension = X509_CRL_get_ext(list, i);
    if (X509_EXTENSION_get_critical(extension) != 0 &&
        OBJ_obj2nid(X509_EXTENSION_get_object(extension)) !=
            NID_issuing_distribution_point) {
      return false;
    }
  }
  if (X509_CRL_get_ext_by_NID(list, NID_delta_crl, -1) >= 0) return false;
  if (X509_CRL_get_ext_by_NID(list, NID_issuing_distribution_point, -1) < 0) {
    return true;
  }
  const IssuingPointPtr point(
      static_cast<ISSUING_DIST_POINT*>(X509_CRL_get_ext_d2i(
          list, NID_issuing_distribution_point, nullptr, nullptr)));
  if (point == nullptr) return false;
  const bool is_authority = X509_check_ca(certificate.x509()) != 0;
  return point->onlysomereasons == nullptr && point->indirectCRL <= 0 &&
         point->onlyattr <= 0 && !(point->onlyuser > 0 && is_authority) &&
         !(point->onlyCA > 0 && !is_authority);
}

// RV-3: signed by the certificate's issuer, who may sign lists.
bool IsListOf(X509_CRL* list, const Certificate& issuer) {
  if (X509_NAME_cmp(X509_CRL_get_issuer(list),
                    X509_get_subject_name(issuer.x509())) != 0 ||
      (X509_get_key_usage(issuer.x509()) & KU_CRL_SIGN) == 0) {
    return false;
  }
  const bool verified =
      X509_CRL_verify(list, X509_get0_pubkey(issuer.x509())) == 1;
  if (!verified) DrainOpenSslErrors("");
  return verified;
}

absl::Time RevokedAt(const X509_REVOKED* entry) {
  // A date that cannot be read is no excuse.
  absl::Time at = TimeOf(X509_REVOKED_get0_revocationDate(entry))
                      .value_or(absl::InfinitePast());
  const OpenSslPtr<ASN1_GENERALIZEDTIME, ASN1_GENERALIZEDTIME_free> invalid(
      static_cast<ASN1_GENERALIZEDTIME*>(X509_REVOKED_get_ext_d2i(
          entry, NID_invalidity_date, nullptr, nullptr)));
  if (const auto since = TimeOf(invalid.get())) at = std::min(at, *since);
  return at;
}

// What one list says; nullopt when it is not about this certificate.
std::optional<RevocationAnswer> AskList(X509_CRL* list,
                                        const Certificate& certificate,
                                        const Certificate& issuer,
                                        absl::Time at) {
  if (!IsListOf(list, issuer) || !CoversCertificate(list, certificate)) {
    return std::nullopt;
  }
  const std::string who = "the list of " + issuer.CommonName();
  X509_REVOKED* entry = nullptr;
  const int found = X509_CRL_get0_by_serial(
      list, &entry, X509_get0_serialNumber(certificate.x509()));
  if (found == 1) {  // Also by an old list: nobody is taken off again.
    const absl::Time revoked_at = RevokedAt(entry);
    return RevocationAnswer{
        RevocationState::kRevoked, revoked_at,
        who + " has it as revoked since " + Text(revoked_at)};
  }
  const auto until = TimeOf(X509_CRL_get0_nextUpdate(list));
  if (!IsCurrent(TimeOf(X509_CRL_get0_lastUpdate(list)), until, at)) {
    return RevocationAnswer{
        RevocationState::kUnknown, absl::InfinitePast(),
        who + " is not current" +
            (until.has_value() ? "; it ended at " + Text(*until) : "")};
  }
  return RevocationAnswer{RevocationState::kGood, absl::InfinitePast(),
                          who + " does not have it"};
}

OcspBasicPtr ParseOcsp(ByteView der) {
  const unsigned char* end = der.data();
  const OcspResponsePtr response(
      d2i_OCSP_RESPONSE(nullptr, &end, static_cast<long>(der.size())));
  if (response == nullptr || end != der.data() + der.size() ||
      OCSP_response_status(response.get()) != OCSP_RESPONSE_STATUS_SUCCESSFUL) {
    return nullptr;
  }
  return OcspBasicPtr(OCSP_response_get1_basic(response.get()));
}

bool IsAbout(const OCSP_CERTID* id, const Certificate& certificate,
             const Certificate& issuer) {
  ASN1_OBJECT* algorithm = nullptr;
  OCSP_id_get0_info(nullptr, &algorithm, nullptr, nullptr,
                    const_cast<OCSP_CERTID*>(id));
  const EVP_MD* const digest = EVP_get_digestbyobj(algorithm);
  if (digest == nullptr) return false;
  const OcspCertIdPtr own(
      OCSP_cert_to_id(digest, certificate.x509(), issuer.x509()));
  return own != nullptr && OCSP_id_cmp(own.get(), id) == 0;
}

// RV-4: signed by the issuer, or by a responder whose certificate this issuer
// made for that purpose; valid when it answered.
bool IsAnswerOf(OCSP_BASICRESP* answer, const Certificate& issuer) {
  const X509StorePtr store(X509_STORE_new());
  X509_STORE_add_cert(store.get(), issuer.x509());
  X509_VERIFY_PARAM* const parameters = X509_STORE_get0_param(store.get());
  X509_VERIFY_PARAM_set_flags(
      parameters, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_IGNORE_CRITICAL);
  const auto produced = TimeOf(OCSP_resp_get0_produced_at(answer));
  if (!produced.has_value()) return false;
  X509_VERIFY_PARAM_set_time(parameters, absl::ToTimeT(*produced));
  // The issuer may be the signer; other certificates are in the answer.
  const X509StackPtr known(sk_X509_new_null());
  sk_X509_push(known.get(), issuer.x509());
  const bool verified =
      OCSP_basic_verify(answer, known.get(), store.get(), 0) == 1;
  if (!verified) DrainOpenSslErrors("");
  return verified;
}

std::optional<RevocationAnswer> AskOcsp(OCSP_BASICRESP* answer,
                                        const Certificate& certificate,
                                        const Certificate& issuer,
                                        absl::Time at) {
  const std::string who = "the OCSP responder of " + issuer.CommonName();
  for (int i = 0; i < OCSP_resp_count(answer); ++i) {
    OCSP_SINGLERESP* const single = OCSP_resp_get0(answer, i);
    if (!IsAbout(OCSP_SINGLERESP_get0_id(single), certificate, issuer)) {
      continue;
    }
    if (!IsAnswerOf(answer, issuer)) return std::nullopt;
    int reason = 0;
    ASN1_GENERALIZEDTIME* revoked = nullptr;
    ASN1_GENERALIZEDTIME* from = nullptr;
    ASN1_GENERALIZEDTIME* until = nullptr;
    const int state =
        OCSP_single_get0_status(single, &reason, &revoked, &from, &until);
    if (state == V_OCSP_CERTSTATUS_REVOKED) {
      const absl::Time since = TimeOf(revoked).value_or(absl::InfinitePast());
      return RevocationAnswer{RevocationState::kRevoked, since,
                              who + " has it as revoked since " + Text(since)};
    }
    if (!IsCurrent(TimeOf(from), TimeOf(until), at)) {
      return RevocationAnswer{
          RevocationState::kUnknown, absl::InfinitePast(),
          "the answer of " + who.substr(4) + " is not current"};
    }
    if (state != V_OCSP_CERTSTATUS_GOOD) {
      return RevocationAnswer{RevocationState::kUnknown, absl::InfinitePast(),
                              who + " does not know it"};
    }
    return RevocationAnswer{RevocationState::kGood, absl::InfinitePast(),
                            who + " calls it good"};
  }
  return std::nullopt;
}

std::string UrlOf(const GENERAL_NAME* name) {
  if (name->type != GEN_URI) return "";
  const ASN1_IA5STRING* const uri = name->d.uniformResourceIdentifier;
  std::string url(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                  static_cast<size_t>(ASN1_STRING_length(uri)));
  return url.starts_with("http://") ? url : "";
}

// Places of lists that the certificate names.
std::vector<std::string> ListUrls(const Certificate& certificate) {
  std::vector<std::string> urls;
  const PointsPtr points(static_cast<CRL_DIST_POINTS*>(X509_get_ext_d2i(
      certificate.x509(), NID_crl_distribution_points, nullptr, nullptr)));
  for (int i = 0; i < sk_DIST_POINT_num(points.get()); ++i) {
    const DIST_POINT* const point = sk_DIST_POINT_value(points.get(), i);
    if (point->distpoint == nullptr || point->distpoint->type != 0) continue;
    const GENERAL_NAMES* const names = point->distpoint->name.fullname;
    for (int j = 0; j < sk_GENERAL_NAME_num(names); ++j) {
      const std::string url = UrlOf(sk_GENERAL_NAME_value(names, j));
      if (!url.empty()) urls.push_back(url);
    }
  }
  return urls;
}

std::vector<std::string> OcspUrls(const Certificate& certificate) {
  std::vector<std::string> urls;
  const AccessPtr access(static_cast<AUTHORITY_INFO_ACCESS*>(
      X509_get_ext_d2i(certificate.x509(), NID_info_access, nullptr, nullptr)));
  for (int i = 0; i < sk_ACCESS_DESCRIPTION_num(access.get()); ++i) {
    const ACCESS_DESCRIPTION* const each =
        sk_ACCESS_DESCRIPTION_value(access.get(), i);
    if (OBJ_obj2nid(each->method) != NID_ad_OCSP) continue;
    const std::string url = UrlOf(each->location);
    if (!url.empty()) urls.push_back(url);
  }
  return urls;
}

Bytes OcspRequestFor(const Certificate& certificate,
                     const Certificate& issuer) {
  const OcspRequestPtr request(OCSP_REQUEST_new());
  // SHA-1 names the certificate and protects nothing; every responder knows it.
  OcspCertIdPtr id(
      OCSP_cert_to_id(EVP_sha1(), certificate.x509(), issuer.x509()));
  if (request == nullptr || id == nullptr ||
      OCSP_request_add0_id(request.get(), id.get()) == nullptr) {
    DrainOpenSslErrors("");
    return {};
  }
  (void)id.release();  // the request's now
  return EncodeDer<const OCSP_REQUEST*>(i2d_OCSP_REQUEST, request.get());
}

}  // namespace

struct RevocationChecker::Evidence {
  std::vector<std::shared_ptr<X509_CRL>> lists;
  std::vector<std::shared_ptr<OCSP_BASICRESP>> answers;

  bool AddList(ByteView der) {
    CrlPtr list = ParseList(der);
    if (list == nullptr || lists.size() == kMaxListCount) {
      DrainOpenSslErrors("");
      return false;
    }
    lists.emplace_back(std::move(list));
    return true;
  }
  bool AddAnswer(ByteView der) {
    OcspBasicPtr answer = ParseOcsp(der);
    if (answer == nullptr || answers.size() == kMaxListCount) {
      DrainOpenSslErrors("");
      return false;
    }
    answers.emplace_back(std::move(answer));
    return true;
  }
  // A RevocationInfoChoice: a list, or [1] with the format's name.
  void AddStapled(ByteView element) {
    asn1::Reader reader(element);
    if (reader.next_tag() != asn1::kContext1) {
      AddList(element);
      return;
    }
    const auto other = reader.Take(asn1::kContext1, "revocation info");
    if (!other.ok()) return;
    asn1::Reader fields(*other);
    const auto format = fields.Take(asn1::kObjectIdentifier, "its format");
    if (!format.ok() || !Equal(format->raw, kOcspInCms)) return;
    const auto response = fields.Take(asn1::kSequence, "OCSP response");
    if (response.ok()) AddAnswer(response->raw);
  }
};

RevocationChecker::RevocationChecker(Fetch fetch)
    : fetch_(std::move(fetch)), given_(std::make_unique<Evidence>()) {}

RevocationChecker::~RevocationChecker() = default;

absl::Status RevocationChecker::AddLists(ByteView bytes) {
  if (bytes.size() > kMaxEvidenceSize) return BadData("the list is too large");
  const std::lock_guard lock(mutex_);
  if (given_->AddList(bytes)) return absl::OkStatus();
  const BioPtr bio(
      BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())));
  int count = 0;
  for (;; ++count) {
    CrlPtr list(PEM_read_bio_X509_CRL(bio.get(), nullptr, nullptr, nullptr));
    if (list == nullptr) break;
    if (given_->lists.size() == kMaxListCount) {
      return BadData("there are too many lists");
    }
    given_->lists.emplace_back(std::move(list));
  }
  DrainOpenSslErrors("");  // the last "no start line"
  return count > 0 ? absl::OkStatus()
                   : BadData("it holds no X.509 revocation list");
}

absl::Status RevocationChecker::AddOcspResponse(ByteView bytes) {
  if (bytes.size() > kMaxEvidenceSize) return BadData("it is too large");
  const std::lock_guard lock(mutex_);
  return given_->AddAnswer(bytes)
             ? absl::OkStatus()
             : BadData("it is no successful OCSP response");
}

absl::StatusOr<Bytes> RevocationChecker::FetchOnce(const std::string& url,
                                                   Bytes body) {
  const std::string key = url + " " + HexEncode(body);
  {
    const std::lock_guard lock(mutex_);
    const auto known = cache_.find(key);
    if (known != cache_.end()) return known->second;
  }
  absl::StatusOr<Bytes> fetched = fetch_(url, std::move(body));
  if (fetched.ok() && fetched->size() > kMaxEvidenceSize) {
    fetched = BadData("the answer is too large");
  }
  const std::lock_guard lock(mutex_);
  return cache_.emplace(key, std::move(fetched)).first->second;
}

// "Revoked" outranks everything, "good" what is not current.
RevocationAnswer RevocationChecker::Judge(const Evidence& evidence,
                                          const Certificate& certificate,
                                          const Certificate& issuer,
                                          absl::Time at) const {
  RevocationAnswer result;
  const auto weigh = [&result](const std::optional<RevocationAnswer>& answer) {
    if (!answer.has_value()) return;
    const bool is_better = result.state == RevocationState::kNoSource ||
                           (result.state == RevocationState::kUnknown &&
                            answer->state != RevocationState::kUnknown) ||
                           (answer->state == RevocationState::kRevoked &&
                            (result.state != RevocationState::kRevoked ||
                             answer->revoked_at < result.revoked_at));
    if (is_better) result = *answer;
  };
  for (const auto& list : evidence.lists) {
    weigh(AskList(list.get(), certificate, issuer, at));
  }
  for (const auto& answer : evidence.answers) {
    weigh(AskOcsp(answer.get(), certificate, issuer, at));
  }
  return result;
}

RevocationAnswer RevocationChecker::Check(const Certificate& certificate,
                                          const Certificate& issuer,
                                          absl::Time at,
                                          std::span<const Bytes> stapled,
                                          bool may_fetch) {
  Evidence evidence;
  {
    const std::lock_guard lock(mutex_);
    evidence = *given_;  // shares the parsed objects
  }
  for (const Bytes& each : stapled) evidence.AddStapled(each);
  RevocationAnswer answer = Judge(evidence, certificate, issuer, at);
  const auto is_final = [&answer] {
    return answer.state == RevocationState::kGood ||
           answer.state == RevocationState::kRevoked;
  };
  if (is_final()) return answer;

  const std::vector<std::string> ocsp_urls = OcspUrls(certificate);
  const std::vector<std::string> list_urls = ListUrls(certificate);
  const bool has_source = !ocsp_urls.empty() || !list_urls.empty();
  std::string why = answer.text;
  if (has_source && fetch_ && may_fetch) {
    const auto ask = [&](const std::string& url, bool is_ocsp) {
      const absl::StatusOr<Bytes> fetched = FetchOnce(
          url, is_ocsp ? OcspRequestFor(certificate, issuer) : Bytes());
      Evidence one;
      if (!fetched.ok()) {
        why = url + ": " + std::string(Message(fetched.status()));
      } else if (!(is_ocsp ? one.AddAnswer(*fetched) : one.AddList(*fetched))) {
        why = url + " answers with something else";
      } else {
        RevocationAnswer heard = Judge(one, certificate, issuer, at);
        if (heard.state == RevocationState::kNoSource) {
          why = url + " gives nothing that its issuer signed about it";
        } else {
          why = heard.text;
          answer = std::move(heard);
        }
      }
    };
    for (const std::string& url : ocsp_urls) {
      if (!is_final()) ask(url, /*is_ocsp=*/true);
    }
    for (const std::string& url : list_urls) {
      if (!is_final()) ask(url, /*is_ocsp=*/false);
    }
    if (is_final()) return answer;
  }
  if (has_source) answer.state = RevocationState::kUnknown;
  answer.text = !why.empty() ? why
                : has_source ? "nobody was asked over the network"
                             : "it names nobody who would know";
  return answer;
}

}  // namespace codeseal
