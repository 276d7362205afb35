#include "codesign/cms/timestamp.h"

#include "absl/time/clock.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/cms/asn1.h"
#include "gmock/gmock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"
#include "tests/support/timestamp_authority.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::MakeCodeSigningChain;
using ::codeseal::testing::TestChain;
using ::codeseal::testing::TimestampAuthority;
using ::codeseal::testing::TsaLie;

class TimestampTest : public ::testing::Test {
 protected:
  // Making keys takes long: one authority for all tests.
  static TimestampAuthority& authority() {
    static auto* const authority = new TimestampAuthority;
    return *authority;
  }

  static TimestampRules Rules() {
    TimestampRules rules;
    rules.roots = {authority().root()};
    return rules;
  }

  absl::StatusOr<NewTimestamp> Ask(const TimestampRules& rules,
                                   TsaLie lie = TsaLie::kNone) const {
    const absl::StatusOr<TimestampQuery> query =
        MakeTimestampQuery(stamped_, rules);
    if (!query.ok()) return query.status();
    return OpenTimestampResponse(authority().Answer(query->der, lie), *query,
                                 rules);
  }

  Bytes Token(TsaLie lie = TsaLie::kNone) const {
    TimestampRules rules = Rules();
    rules.profile = TimestampProfile::kApple;
    const absl::StatusOr<NewTimestamp> stamp = Ask(rules, lie);
    EXPECT_THAT(stamp, IsOk());
    return stamp.ok() ? stamp->token : Bytes();
  }

  const Bytes stamped_ = ToBytes("a signature value");
};

// --- Asking for one ---------------------------------------------------------

TEST_F(TimestampTest, QueryIsWhatOpenSslReads) {
  TimestampRules rules = Rules();
  rules.policy = TimestampAuthority::kPolicy;
  const absl::StatusOr<TimestampQuery> query =
      MakeTimestampQuery(stamped_, rules);
  ASSERT_THAT(query, IsOk());
  // Laid out by hand: version, imprint, policy, nonce, certReq.
  Bytes want = {0x02, 0x01, 0x01, 0x30, 0x31, 0x30, 0x0d, 0x06,
                0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04,
                0x02, 0x01, 0x05, 0x00, 0x04, 0x20};
  Append(want, ComputeDigest(DigestKind::kSha256, stamped_));
  Append(want, Bytes{0x06, 0x05, 0x2a, 0x03, 0x04, 0x05, 0x06, 0x02, 0x08});
  Append(want, query->nonce);
  Append(want, Bytes{0x01, 0x01, 0xff});
  EXPECT_EQ(HexEncode(query->der),
            HexEncode(asn1::Encode(asn1::kSequence, {want})));
  EXPECT_NE(MakeTimestampQuery(stamped_, rules)->nonce, query->nonce);
}

TEST_F(TimestampTest, PolicyMustBeAnOid) {
  TimestampRules rules = Rules();
  rules.policy = "apple";
  EXPECT_THAT(MakeTimestampQuery(stamped_, rules),
              HasReason(v1::REASON_BAD_OPTION));
}

TEST_F(TimestampTest, HonestAnswerIsTaken) {
  const absl::StatusOr<NewTimestamp> stamp = Ask(Rules());
  ASSERT_THAT(stamp, IsOk());
  EXPECT_LT(absl::AbsDuration(stamp->timestamp.time - absl::Now()),
            absl::Minutes(1));
  EXPECT_EQ(stamp->timestamp.chain.front(), authority().signer());
  EXPECT_EQ(stamp->timestamp.chain.back(), authority().root());
  EXPECT_EQ(stamp->timestamp.policy, TimestampAuthority::kPolicy);
  EXPECT_FALSE(stamp->timestamp.sha1_imprint);
  EXPECT_FALSE(stamp->timestamp.sha1_signature);
  // The lies below that need another signature are lies for that alone.
  EXPECT_THAT(Ask(Rules(), TsaLie::kResigned), IsOk());
}

struct LieCase {
  const char* name;
  TsaLie lie;
  const char* message;
};

class TimestampLieTest : public TimestampTest,
                         public ::testing::WithParamInterface<LieCase> {};

TEST_P(TimestampLieTest, IsRefused) {
  const absl::StatusOr<NewTimestamp> stamp = Ask(Rules(), GetParam().lie);
  EXPECT_THAT(stamp, HasReason(v1::REASON_BAD_TIMESTAMP));
  EXPECT_THAT(stamp.status(), HasMessage(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Lies, TimestampLieTest,
    ::testing::Values(
        LieCase{"WrongNonce", TsaLie::kWrongNonce, "another nonce"},
        LieCase{"NoNonce", TsaLie::kNoNonce, "does not repeat the nonce"},
        LieCase{"WrongImprint", TsaLie::kWrongImprint, "does not verify"},
        LieCase{"Sha1Imprint", TsaLie::kSha1Imprint, "does not verify"},
        LieCase{"Sha1Signature", TsaLie::kSha1Signature, "SHA-1"},
        LieCase{"Refusal", TsaLie::kRefusal, "grants none (status 2)"},
        LieCase{"ForeignRoot", TsaLie::kForeignRoot, "not among"},
        LieCase{"Expired", TsaLie::kExpiredCertificate, "is valid from"},
        LieCase{"NoPurpose", TsaLie::kNoPurpose, "purpose"},
        LieCase{"CodeSigning", TsaLie::kCodeSigningPurpose, "purpose"},
        LieCase{"SecondPurpose", TsaLie::kSecondPurpose, "purpose"},
        LieCase{"NotCritical", TsaLie::kPurposeNotCritical, "purpose"},
        LieCase{"Authority", TsaLie::kSignerIsAuthority,
                "is a certificate authority"},
        LieCase{"Garbage", TsaLie::kGarbage, "no timestamp response"},
        LieCase{"Truncated", TsaLie::kTruncated, "no timestamp response"}),
    [](const auto& each) { return std::string(each.param.name); });

TEST_F(TimestampTest, Sha1ImprintOfTheRightBytesIsRefusedToo) {
  // Who asks with SHA-1 gets SHA-1; we never ask so, but a responder that
  // hashes anew could answer so.
  TimestampRules rules = Rules();
  absl::StatusOr<TimestampQuery> query = MakeTimestampQuery(stamped_, rules);
  ASSERT_THAT(query, IsOk());
  // version, SHA-1 imprint of the same bytes, nonce, certReq
  Bytes fields = {0x02, 0x01, 0x01, 0x30, 0x21, 0x30, 0x09, 0x06, 0x05,
                  0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14};
  Append(fields, ComputeDigest(DigestKind::kSha1, stamped_));
  Append(fields, asn1::Encode(asn1::kInteger, {query->nonce}));
  Append(fields, Bytes{0x01, 0x01, 0xff});
  const Bytes answer =
      authority().Answer(asn1::Encode(asn1::kSequence, {fields}));
  const auto stamp = OpenTimestampResponse(answer, *query, rules);
  EXPECT_THAT(stamp, HasReason(v1::REASON_BAD_TIMESTAMP));
  EXPECT_THAT(stamp.status(), HasMessage("imprint is SHA-1"));
}

TEST_F(TimestampTest, AppleIsForgivenSha1InTheSignatureAlone) {
  TimestampRules rules = Rules();
  rules.profile = TimestampProfile::kApple;
  const absl::StatusOr<NewTimestamp> stamp = Ask(rules, TsaLie::kSha1Signature);
  ASSERT_THAT(stamp, IsOk());
  EXPECT_TRUE(stamp->timestamp.sha1_signature);
  EXPECT_THAT(Ask(rules, TsaLie::kSha1Imprint),
              HasReason(v1::REASON_BAD_TIMESTAMP));
  EXPECT_THAT(Ask(rules, TsaLie::kPurposeNotCritical),
              HasReason(v1::REASON_BAD_TIMESTAMP));
}

TEST_F(TimestampTest, PolicyIsAskedForAndHeld) {
  TimestampRules rules = Rules();
  rules.policy = TimestampAuthority::kPolicy;
  EXPECT_THAT(Ask(rules), IsOk());
  // The responder itself refuses another.
  rules.policy = "1.2.3.99";
  EXPECT_THAT(Ask(rules), HasReason(v1::REASON_BAD_TIMESTAMP));
  // And one that ignores what was asked for is found out.
  const absl::StatusOr<TimestampQuery> query =
      MakeTimestampQuery(stamped_, Rules());
  const auto stamp =
      OpenTimestampResponse(authority().Answer(query->der), *query, rules);
  EXPECT_THAT(stamp, HasReason(v1::REASON_BAD_TIMESTAMP));
  EXPECT_THAT(stamp.status(), HasMessage("follows policy 1.2.3.4.5.6"));
}

TEST_F(TimestampTest, AnswerToAnotherQueryIsRefused) {
  const absl::StatusOr<TimestampQuery> first =
      MakeTimestampQuery(stamped_, Rules());
  const absl::StatusOr<TimestampQuery> second =
      MakeTimestampQuery(stamped_, Rules());
  EXPECT_THAT(
      OpenTimestampResponse(authority().Answer(first->der), *second, Rules()),
      HasReason(v1::REASON_BAD_TIMESTAMP));
}

// Whether or not the certificates are known from an earlier answer.
TEST_F(TimestampTest, AnyFlippedByteOfAnAnswerIsNoticed) {
  const absl::StatusOr<TimestampQuery> query =
      MakeTimestampQuery(stamped_, Rules());
  const Bytes answer = authority().Answer(query->der);
  const auto original = OpenTimestampResponse(answer, *query, Rules());
  ASSERT_THAT(original, IsOk());
  const std::vector<Certificate>& chain = original->timestamp.chain;
  for (const std::vector<Certificate>& known : {{}, chain}) {
    int refused_count = 0;
    for (size_t offset = 0; offset < answer.size(); offset += 3) {
      Bytes changed = answer;
      changed[offset] ^= 0x01;
      const auto stamp = OpenTimestampResponse(changed, *query, Rules(), known);
      // Bytes that nobody signed (the certificates' order, a status of "granted
      // with modifications") may change; what the token says may not.
      if (!stamp.ok()) {
        ++refused_count;
        continue;
      }
      EXPECT_EQ(stamp->timestamp.time, original->timestamp.time) << offset;
      EXPECT_EQ(stamp->timestamp.chain, chain) << offset;
    }
    EXPECT_GT(refused_count, 100);
  }
}

TEST_F(TimestampTest, KnownCertificatesChangeNothing) {
  const absl::StatusOr<TimestampQuery> query =
      MakeTimestampQuery(stamped_, Rules());
  const Bytes answer = authority().Answer(query->der);
  const auto parsed = OpenTimestampResponse(answer, *query, Rules());
  ASSERT_THAT(parsed, IsOk());
  const std::vector<Certificate>& chain = parsed->timestamp.chain;
  const auto spared = OpenTimestampResponse(answer, *query, Rules(), chain);
  ASSERT_THAT(spared, IsOk());
  EXPECT_EQ(spared->token, parsed->token);
  EXPECT_EQ(spared->timestamp.time, parsed->timestamp.time);
  EXPECT_EQ(spared->timestamp.chain, chain);
}

// macOS has only what is in the token.
TEST_F(TimestampTest, KnownCertificatesStandForNoneThatIsMissing) {
  absl::StatusOr<TimestampQuery> query = MakeTimestampQuery(stamped_, Rules());
  const auto stamp =
      OpenTimestampResponse(authority().Answer(query->der), *query, Rules());
  ASSERT_THAT(stamp, IsOk());
  // The last field is certReq, BOOLEAN TRUE: without it none are sent.
  query->der.resize(query->der.size() - 3);
  query->der[1] = static_cast<uint8_t>(query->der[1] - 3);
  EXPECT_THAT(OpenTimestampResponse(authority().Answer(query->der), *query,
                                    Rules(), stamp->timestamp.chain),
              HasReason(v1::REASON_BAD_TIMESTAMP));
}

// --- Finding one ------------------------------------------------------------

TEST_F(TimestampTest, StoredTokenTellsTimeAndAuthority) {
  const absl::StatusOr<Timestamp> timestamp =
      VerifyTimestampToken(Token(), stamped_, {});
  ASSERT_THAT(timestamp, IsOk());
  EXPECT_LT(absl::AbsDuration(timestamp->time - absl::Now()), absl::Minutes(1));
  EXPECT_EQ(timestamp->chain.front(), authority().signer());
  EXPECT_EQ(timestamp->chain.back(), authority().root());
}

TEST_F(TimestampTest, StoredTokenBelongsToOneSignature) {
  EXPECT_THAT(VerifyTimestampToken(Token(), ToBytes("another signature"), {}),
              HasReason(v1::REASON_BAD_TIMESTAMP));
}

TEST_F(TimestampTest, AnyFlippedByteOfAStoredTokenIsNoticed) {
  const Bytes token = Token();
  const absl::StatusOr<Timestamp> original =
      VerifyTimestampToken(token, stamped_, {});
  ASSERT_THAT(original, IsOk());
  // A low bit: the digits of the time stay digits.
  for (size_t offset = 0; offset < token.size(); offset += 3) {
    Bytes changed = token;
    changed[offset] ^= 0x01;
    const absl::StatusOr<Timestamp> timestamp =
        VerifyTimestampToken(changed, stamped_, {});
    EXPECT_EQ(timestamp.ok() ? timestamp->time : original->time, original->time)
        << offset;
  }
  EXPECT_THAT(VerifyTimestampToken(ByteView(token).first(100), stamped_, {}),
              HasReason(v1::REASON_BAD_TIMESTAMP));
  EXPECT_THAT(VerifyTimestampToken({}, stamped_, {}),
              HasReason(v1::REASON_BAD_TIMESTAMP));
}

TEST_F(TimestampTest, StoredTokenSaysWhenItIsWeak) {
  const absl::StatusOr<Timestamp> timestamp =
      VerifyTimestampToken(Token(TsaLie::kSha1Signature), stamped_, {});
  ASSERT_THAT(timestamp, IsOk());
  EXPECT_TRUE(timestamp->sha1_signature);
  EXPECT_FALSE(timestamp->sha1_imprint);
}

// A CMS of another type has no signers to ask.
TEST_F(TimestampTest, TokenMustBeSignedData) {
  const Bytes oid = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                     0xf7, 0x0d, 0x01, 0x07, 0x01};
  const Bytes data = asn1::Encode(
      asn1::kSequence,
      {oid, asn1::Encode(asn1::kContext0,
                         {asn1::Encode(asn1::kOctetString, {stamped_})})});
  EXPECT_THAT(VerifyTimestampToken(data, stamped_, {}),
              HasReason(v1::REASON_BAD_TIMESTAMP));
  EXPECT_THAT(
      VerifyTimestampToken(asn1::Encode(asn1::kSequence, {oid}), stamped_, {}),
      HasReason(v1::REASON_BAD_TIMESTAMP));
}

// --- Storing one ------------------------------------------------------------

TEST_F(TimestampTest, IsAddedToASignatureThatIsKept) {
  const TestChain chain = MakeCodeSigningChain();
  const std::vector<Certificate> certificates = chain.certificates();
  const Bytes directory = ToBytes("a CodeDirectory");
  const CodeDirectoryBlob blob = {DigestKind::kSha256, directory};
  const CmsContent content = DescribeContent({&blob, 1});
  const absl::StatusOr<Bytes> cms = BuildAppleCms(
      {chain.leaf.key(), nullptr, certificates}, content, absl::Now());
  ASSERT_THAT(cms, IsOk());
  const absl::StatusOr<CmsSignature> before = ParseAppleCms(*cms);
  ASSERT_THAT(before, IsOk());

  const TimestampRules rules = Rules();
  const auto query = MakeTimestampQuery(before->signature_value, rules);
  const auto stamp =
      OpenTimestampResponse(authority().Answer(query->der), *query, rules);
  ASSERT_THAT(stamp, IsOk());
  const absl::StatusOr<Bytes> stamped = AddTimestampToken(*cms, stamp->token);
  ASSERT_THAT(stamped, IsOk());

  const absl::StatusOr<CmsSignature> after = VerifyAppleCms(*stamped, content);
  ASSERT_THAT(after, IsOk());
  EXPECT_EQ(after->signature_value, before->signature_value);
  EXPECT_EQ(after->signed_attributes, before->signed_attributes);
  EXPECT_EQ(after->certificates, before->certificates);
  EXPECT_EQ(after->timestamp_token, stamp->token);
  EXPECT_THAT(
      VerifyTimestampToken(*after->timestamp_token, after->signature_value, {}),
      IsOk());

  // Once is enough, and neither part may be something else.
  EXPECT_THAT(AddTimestampToken(*stamped, stamp->token),
              HasReason(v1::REASON_BAD_CMS));
  EXPECT_THAT(AddTimestampToken(stamp->token, stamp->token),
              HasReason(v1::REASON_BAD_CMS));
  EXPECT_THAT(AddTimestampToken(*cms, *cms),
              IsOk());  // well-formed; what it is was checked before
  Bytes two = stamp->token;
  Append(two, stamp->token);
  EXPECT_THAT(AddTimestampToken(*cms, two), HasReason(v1::REASON_BAD_CMS));
  for (size_t size = 0; size < cms->size(); size += 7) {
    EXPECT_THAT(AddTimestampToken(ByteView(*cms).first(size), stamp->token),
                HasReason(v1::REASON_BAD_CMS))
        << size;
  }
}

}  // namespace
}  // namespace codeseal
