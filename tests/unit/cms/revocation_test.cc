#include "codesign/cms/revocation.h"

#include <openssl/pem.h>

#include <string>
#include <vector>

#include "codesign/cms/openssl.h"
#include "codesign/cms/signer_verdict.h"
#include "gmock/gmock.h"
#include "tests/support/forged_cms.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::Issue;
using ::codeseal::testing::MakeOcspResponse;
using ::codeseal::testing::MakeRevocationList;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::OcspSpec;
using ::codeseal::testing::RevocationListSpec;
using ::codeseal::testing::TestIdentity;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kOcspSigning[] = "1.3.6.1.5.5.7.3.9";
constexpr char kListUrl[] = "http://lists.example.com/a.crl";
constexpr char kOcspUrl[] = "http://ocsp.example.com/";

CertificateSpec Named(const char* common_name) {
  CertificateSpec spec;
  spec.common_name = common_name;
  return spec;
}

// One authority with a leaf that names no source, and one that names two.
class RevocationTest : public ::testing::Test {
 protected:
  RevocationTest()
      : root_(MakeRoot(Named("root"))),
        leaf_(Issue(CodeLeaf(), root_)),
        online_leaf_(Issue(OnlineLeaf(), root_)) {}

  static CertificateSpec CodeLeaf() {
    CertificateSpec spec = Named("leaf");
    spec.extended_key_usage = {testing::kCodeSigning};
    return spec;
  }
  static CertificateSpec OnlineLeaf() {
    CertificateSpec spec = CodeLeaf();
    spec.common_name = "online leaf";
    spec.list_url = kListUrl;
    spec.ocsp_url = kOcspUrl;
    return spec;
  }

  RevocationAnswer Ask(RevocationChecker& checker, const TestIdentity& leaf,
                       std::vector<Bytes> stapled = {}) const {
    return checker.Check(leaf.certificate(), root_.certificate(), absl::Now(),
                         stapled);
  }
  // The answer when only this list, or this OCSP answer, is known.
  RevocationAnswer WithList(ByteView list) const {
    RevocationChecker checker;
    EXPECT_THAT(checker.AddLists(list), IsOk());
    return Ask(checker, leaf_);
  }
  RevocationAnswer WithAnswer(ByteView answer) const {
    RevocationChecker checker;
    EXPECT_THAT(checker.AddOcspResponse(answer), IsOk());
    return Ask(checker, leaf_);
  }
  Bytes Answer(const OcspSpec& spec, const TestIdentity& responder) const {
    return MakeOcspResponse(leaf_.certificate(), root_.certificate(), responder,
                            spec);
  }

  RevocationListSpec Revoking(const TestIdentity& leaf) const {
    RevocationListSpec spec;
    spec.revoked = {leaf.certificate()};
    return spec;
  }

  const TestIdentity root_;
  const TestIdentity leaf_;
  const TestIdentity online_leaf_;
};

TEST_F(RevocationTest, ListsTellGoodFromRevoked) {
  EXPECT_EQ(WithList(MakeRevocationList(root_, {})).state,
            RevocationState::kGood);
  const RevocationListSpec spec = Revoking(leaf_);
  const RevocationAnswer answer = WithList(MakeRevocationList(root_, spec));
  EXPECT_EQ(answer.state, RevocationState::kRevoked);
  EXPECT_LT(absl::AbsDuration(answer.revoked_at - spec.revoked_at),
            absl::Seconds(1));
  EXPECT_THAT(answer.text, HasSubstr("root"));
  EXPECT_EQ(WithList(MakeRevocationList(root_, Revoking(online_leaf_))).state,
            RevocationState::kGood);
}

TEST_F(RevocationTest, ListsMayBePem) {
  std::string pem;
  for (const Bytes& der : {MakeRevocationList(MakeRoot(Named("other")), {}),
                           MakeRevocationList(root_, Revoking(leaf_))}) {
    const unsigned char* at = der.data();
    const OpenSslPtr<X509_CRL, X509_CRL_free> list(
        d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size())));
    const BioPtr bio(BIO_new(BIO_s_mem()));
    PEM_write_bio_X509_CRL(bio.get(), list.get());
    char* text = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &text);
    pem.append(text, static_cast<size_t>(size));
  }
  EXPECT_EQ(WithList(AsBytes(pem)).state, RevocationState::kRevoked);
}

TEST_F(RevocationTest, RV1_EvidenceMustBeCurrent) {
  RevocationListSpec spec;
  spec.until = absl::Now() - absl::Minutes(30);
  const RevocationAnswer old = WithList(MakeRevocationList(root_, spec));
  EXPECT_EQ(old.state, RevocationState::kUnknown);
  EXPECT_THAT(old.text, HasSubstr("not current"));
  spec.from = absl::Now() + absl::Hours(1);
  spec.until = absl::Now() + absl::Hours(2);
  EXPECT_EQ(WithList(MakeRevocationList(root_, spec)).state,
            RevocationState::kUnknown);
  EXPECT_EQ(
      WithAnswer(Answer({.until = absl::Now() - absl::Minutes(30)}, root_))
          .state,
      RevocationState::kUnknown);
  // What was revoked once stays revoked.
  spec = Revoking(leaf_);
  spec.until = absl::Now() - absl::Minutes(30);
  EXPECT_EQ(WithList(MakeRevocationList(root_, spec)).state,
            RevocationState::kRevoked);
}

TEST_F(RevocationTest, RV2_OnlyFullListsOfKnownFormCount) {
  const auto with_extension = [this](int nid, int critical, ByteView value) {
    const Bytes der = MakeRevocationList(root_, {});
    const unsigned char* at = der.data();
    const OpenSslPtr<X509_CRL, X509_CRL_free> list(
        d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size())));
    ASN1_OCTET_STRING* const octets = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(octets, value.data(), static_cast<int>(value.size()));
    X509_EXTENSION* const extension =
        X509_EXTENSION_create_by_NID(nullptr, nid, critical, octets);
    X509_CRL_add_ext(list.get(), extension, -1);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(octets);
    X509_CRL_sign(list.get(), root_.key(), EVP_sha256());
    return WithList(EncodeDer<const X509_CRL*>(i2d_X509_CRL, list.get())).state;
  };
  constexpr uint8_t kOne[] = {2, 1, 1};
  constexpr uint8_t kOnlyUsers[] = {0x30, 3, 0x81, 1, 0xff};
  constexpr uint8_t kOnlyAuthorities[] = {0x30, 3, 0x82, 1, 0xff};
  constexpr uint8_t kIndirect[] = {0x30, 3, 0x84, 1, 0xff};
  const int point = NID_issuing_distribution_point;
  EXPECT_EQ(with_extension(NID_crl_number, 0, kOne), RevocationState::kGood);
  EXPECT_EQ(with_extension(NID_crl_number, 1, kOne),
            RevocationState::kNoSource);
  EXPECT_EQ(with_extension(NID_delta_crl, 1, kOne), RevocationState::kNoSource);
  EXPECT_EQ(with_extension(point, 1, kOnlyUsers), RevocationState::kGood);
  EXPECT_EQ(with_extension(point, 1, kOnlyAuthorities),
            RevocationState::kNoSource);
  EXPECT_EQ(with_extension(point, 1, kIndirect), RevocationState::kNoSource);
}

TEST_F(RevocationTest, RV3_ListsAreTheIssuersOwn) {
  // The same name, another key.
  const TestIdentity namesake = MakeRoot(Named("root"));
  EXPECT_EQ(WithList(MakeRevocationList(namesake, Revoking(leaf_))).state,
            RevocationState::kNoSource);
  EXPECT_EQ(WithList(MakeRevocationList(namesake, {})).state,
            RevocationState::kNoSource);
}

TEST_F(RevocationTest, OcspTellsGoodFromRevoked) {
  EXPECT_EQ(WithAnswer(Answer({}, root_)).state, RevocationState::kGood);
  const RevocationAnswer answer =
      WithAnswer(Answer({.is_revoked = true}, root_));
  EXPECT_EQ(answer.state, RevocationState::kRevoked);
  EXPECT_THAT(answer.text, HasSubstr("OCSP"));
  // About somebody else.
  EXPECT_EQ(WithAnswer(MakeOcspResponse(online_leaf_.certificate(),
                                        root_.certificate(), root_, OcspSpec{}))
                .state,
            RevocationState::kNoSource);
}

TEST_F(RevocationTest, RV4_RespondersAreNamedByTheIssuer) {
  CertificateSpec spec = Named("responder");
  spec.extended_key_usage = {kOcspSigning};
  EXPECT_EQ(WithAnswer(Answer({}, Issue(spec, root_))).state,
            RevocationState::kGood);
  // Not for that purpose; of another authority; nobody's.
  spec.extended_key_usage = {testing::kCodeSigning};
  EXPECT_EQ(WithAnswer(Answer({}, Issue(spec, root_))).state,
            RevocationState::kNoSource);
  spec.extended_key_usage = {kOcspSigning};
  const TestIdentity other = MakeRoot(Named("root"));
  EXPECT_EQ(WithAnswer(Answer({}, Issue(spec, other))).state,
            RevocationState::kNoSource);
  EXPECT_EQ(WithAnswer(Answer({}, other)).state, RevocationState::kNoSource);
}

TEST_F(RevocationTest, RevokedOutranksGood) {
  RevocationChecker checker;
  EXPECT_THAT(checker.AddOcspResponse(Answer({}, root_)), IsOk());
  EXPECT_EQ(Ask(checker, leaf_).state, RevocationState::kGood);
  EXPECT_THAT(checker.AddLists(MakeRevocationList(root_, Revoking(leaf_))),
              IsOk());
  EXPECT_EQ(Ask(checker, leaf_).state, RevocationState::kRevoked);
}

TEST_F(RevocationTest, StapledValuesCountAndNonsenseDoesNot) {
  RevocationChecker checker;
  EXPECT_EQ(Ask(checker, leaf_, {MakeRevocationList(root_, {})}).state,
            RevocationState::kGood);
  EXPECT_EQ(
      Ask(checker, leaf_,
          {Bytes{0x30, 0}, Bytes{0xa1, 0}, Bytes{1, 2, 3},
           testing::OcspAsRevocationInfo(Answer({.is_revoked = true}, root_))})
          .state,
      RevocationState::kRevoked);
  // They are this CMS's alone.
  EXPECT_EQ(Ask(checker, leaf_).state, RevocationState::kNoSource);
}

TEST_F(RevocationTest, NonsenseInFilesIsRefused) {
  RevocationChecker checker;
  for (const Bytes& bytes : {Bytes(), ToBytes("nonsense"), Bytes{0x30, 0}}) {
    EXPECT_THAT(checker.AddLists(bytes),
                HasReason(v1::REASON_BAD_REVOCATION_DATA));
    EXPECT_THAT(checker.AddOcspResponse(bytes),
                HasReason(v1::REASON_BAD_REVOCATION_DATA));
  }
}

TEST_F(RevocationTest, SourcesAreAskedOnceInOrder) {
  std::vector<std::string> asked;
  RevocationChecker checker(
      [&](const std::string& url, const Bytes& body) -> absl::StatusOr<Bytes> {
        asked.push_back(url + (body.empty() ? " GET" : " POST"));
        if (url == kListUrl) return MakeRevocationList(root_, {});
        return absl::UnavailableError("gone");
      });
  EXPECT_EQ(Ask(checker, leaf_).state, RevocationState::kNoSource);
  EXPECT_THAT(asked, IsEmpty());
  EXPECT_EQ(Ask(checker, online_leaf_).state, RevocationState::kGood);
  EXPECT_EQ(Ask(checker, online_leaf_).state, RevocationState::kGood);
  EXPECT_THAT(asked, ElementsAre(std::string(kOcspUrl) + " POST",
                                 std::string(kListUrl) + " GET"));
}

TEST_F(RevocationTest, SilenceIsNoAnswer) {
  RevocationChecker quiet;
  EXPECT_EQ(Ask(quiet, online_leaf_).state, RevocationState::kUnknown);
  RevocationChecker checker([](const std::string&, const Bytes&) {
    return absl::StatusOr<Bytes>(absl::UnavailableError("gone"));
  });
  const RevocationAnswer answer = Ask(checker, online_leaf_);
  EXPECT_EQ(answer.state, RevocationState::kUnknown);
  EXPECT_THAT(answer.text, HasSubstr("gone"));
  RevocationChecker lying([](const std::string&, const Bytes&) {
    return absl::StatusOr<Bytes>(ToBytes("<html>"));
  });
  EXPECT_EQ(Ask(lying, online_leaf_).state, RevocationState::kUnknown);
}

// --- The judgement ----------------------------------------------------------

class SignerRevocationTest : public RevocationTest {
 protected:
  SignerVerdict Judge(const TestIdentity& leaf,
                      std::optional<Timestamp> timestamp = std::nullopt) {
    const std::vector<Certificate> anchors =
        is_trusted_ ? std::vector<Certificate>{root_.certificate()}
                    : std::vector<Certificate>{};
    SignerPolicy policy;
    policy.anchors = anchors;
    policy.now = absl::Now();
    policy.revocation = &checker_;
    return JudgeSigner({leaf.certificate(),
                        {root_.certificate()},
                        absl::Now() - absl::Minutes(40),
                        std::move(timestamp),
                        {}},
                       policy);
  }

  RevocationChecker checker_{
      [this](const std::string&, const Bytes&) -> absl::StatusOr<Bytes> {
        ++fetch_count_;
        return absl::UnavailableError("gone");
      }};
  int fetch_count_ = 0;
  bool is_trusted_ = true;
};

TEST_F(SignerRevocationTest, TR3_OnlyATrustedTimestampIsOlderThanRevocation) {
  ASSERT_THAT(checker_.AddLists(MakeRevocationList(root_, Revoking(leaf_))),
              IsOk());
  EXPECT_THAT(Judge(leaf_).status(), HasReason(v1::REASON_CERTIFICATE_REVOKED));
  EXPECT_FALSE(Judge(leaf_).holds);
  const std::vector<Certificate> known = {root_.certificate()};
  const std::vector<Certificate> strange = {
      MakeRoot(Named("stranger")).certificate()};
  const auto stamped = [](absl::Time at,
                          const std::vector<Certificate>& chain) {
    Timestamp timestamp;
    timestamp.time = at;
    timestamp.chain = chain;
    return timestamp;
  };
  const absl::Time before = absl::Now() - absl::Minutes(20);
  const absl::Time after = absl::Now() - absl::Minutes(5);
  EXPECT_THAT(Judge(leaf_, stamped(before, known)).status(), IsOk());
  EXPECT_THAT(Judge(leaf_, stamped(after, known)).status(),
              HasReason(v1::REASON_CERTIFICATE_REVOKED));
  EXPECT_THAT(Judge(leaf_, stamped(before, strange)).status(),
              HasReason(v1::REASON_CERTIFICATE_REVOKED));
}

TEST_F(SignerRevocationTest, TR5_RevokedAuthoritiesStampNothing) {
  const TestIdentity authority = MakeRoot(Named("stamp root"));
  const TestIdentity stamps = Issue(Named("stamps"), authority);
  const RevocationListSpec spec = Revoking(stamps);  // ten minutes ago
  ASSERT_THAT(checker_.AddLists(MakeRevocationList(authority, spec)), IsOk());
  Timestamp timestamp;
  timestamp.chain = {stamps.certificate(), authority.certificate()};
  timestamp.time = absl::Now() - absl::Minutes(20);
  EXPECT_THAT(Judge(leaf_, timestamp).status(), IsOk());
  timestamp.time = absl::Now() - absl::Minutes(5);
  EXPECT_THAT(Judge(leaf_, timestamp).status(),
              HasReason(v1::REASON_CERTIFICATE_REVOKED));
}

TEST_F(SignerRevocationTest, TR4_NotKnowingIsANoUnlessNobodyCouldKnow) {
  const SignerVerdict unknown = Judge(online_leaf_);
  EXPECT_THAT(unknown.status(), HasReason(v1::REASON_REVOCATION_UNKNOWN));
  EXPECT_EQ(fetch_count_, 2);
  const SignerVerdict nobody = Judge(leaf_);
  EXPECT_THAT(nobody.status(), IsOk());
  const auto check = std::find_if(
      nobody.checks.begin(), nobody.checks.end(),
      [](const SignerCheck& each) { return each.name == kSignerRevocation; });
  ASSERT_NE(check, nobody.checks.end());
  EXPECT_FALSE(check->made);
}

// Else any file would make its verifier call whom its forger likes.
TEST_F(SignerRevocationTest, UntrustedChainsCallNobody) {
  is_trusted_ = false;
  EXPECT_THAT(Judge(online_leaf_).status(),
              HasReason(v1::REASON_REVOCATION_UNKNOWN));
  EXPECT_EQ(fetch_count_, 0);
}

}  // namespace
}  // namespace codeseal
