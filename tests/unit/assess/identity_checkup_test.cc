// Faults of keys and certificates: each is made, must be found with the right
// rule and a hint, and must be gone once the hint is followed.

#include "codesign/assess/identity_checkup.h"

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/support/apple_like.h"

namespace codeseal {
namespace {

using ::codeseal::testing::AppleLikeRoot;
using ::codeseal::testing::AppleLikeSpec;
using ::codeseal::testing::DeveloperId;
using ::codeseal::testing::kTeam;
using ::codeseal::testing::MakeAppleLikeChain;
using ::codeseal::testing::TestChain;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Collection = IdentityCollection;

Collection::Key KeyOf(const TestChain& chain) {
  return {.label = "release",
          .id = {1},
          .public_key = chain.leaf.certificate().SubjectPublicKeyInfo(),
          .algorithm = "p256"};
}

Collection::Leaf LeafOf(const TestChain& chain) {
  return {.name = chain.leaf.certificate().CommonName(),
          .id = {1},
          .certificate = chain.leaf.certificate()};
}

// A token with one identity that nothing is wrong with.
Collection TokenWith(const TestChain& chain) {
  Collection token;
  token.place = "token Release";
  token.keys = {KeyOf(chain)};
  token.certificates = {LeafOf(chain)};
  token.others = {chain.intermediate.certificate(), chain.root.certificate()};
  return token;
}

TestChain Made(const AppleLikeSpec& spec) { return MakeAppleLikeChain(spec); }

std::vector<Finding> Examine(const Collection& collection,
                             const std::string& team = kTeam) {
  CheckupOptions options;
  options.team = team;
  options.anchors = {AppleLikeRoot().certificate()};
  return ExamineIdentities(collection, options);
}

std::vector<std::string> Rules(const std::vector<Finding>& findings) {
  std::vector<std::string> rules;
  for (const Finding& each : findings) rules.push_back(each.rule);
  return rules;
}

struct Fault {
  const char* name;
  std::string rule;
  std::string hint;  // a part of it
  Severity severity;
  std::function<Collection()> make;
  // What is there once the hint is followed.
  std::function<Collection()> follow;
};

void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

class IdentityFaultTest : public ::testing::TestWithParam<Fault> {};

TEST_P(IdentityFaultTest, IsFoundAndItsHintHelps) {
  const Fault& fault = GetParam();
  const std::vector<Finding> findings = Examine(fault.make());
  ASSERT_THAT(Rules(findings), ::testing::ElementsAre(fault.rule));
  EXPECT_EQ(findings[0].severity, fault.severity);
  EXPECT_THAT(findings[0].fix, HasSubstr(fault.hint));
  EXPECT_FALSE(findings[0].path.empty());
  EXPECT_THAT(Rules(Examine(fault.follow())), IsEmpty());
}

Collection Good() { return TokenWith(DeveloperId()); }

INSTANTIATE_TEST_SUITE_P(
    All, IdentityFaultTest,
    ::testing::Values(
        Fault{"KeyWithoutCertificate", "key-without-certificate",
              "codeseald key csr", Severity::kError,
              [] {
                Collection token = Good();
                token.certificates.clear();
                return token;
              },
              Good},
        Fault{"CertificateWithoutKey", "certificate-without-key",
              "plug in the token", Severity::kError,
              [] {
                Collection token = Good();
                token.keys.clear();
                return token;
              },
              Good},
        Fault{"Expired", "expired", "renewed", Severity::kError,
              [] {
                return TokenWith(
                    Made({.not_before = absl::Now() - absl::Hours(48),
                          .not_after = absl::Now() - absl::Hours(1)}));
              },
              Good},
        Fault{"ExpiresSoon", "expires-soon", "renewed now", Severity::kWarning,
              [] {
                return TokenWith(
                    Made({.not_after = absl::Now() + absl::Hours(24 * 7)}));
              },
              Good},
        Fault{"NotYetValid", "not-yet-valid", "clock", Severity::kError,
              [] {
                return TokenWith(
                    Made({.not_before = absl::Now() + absl::Hours(24)}));
              },
              Good},
        Fault{"ForTlsOnly", "wrong-purpose", "certificate for code signing",
              Severity::kError,
              [] {
                return TokenWith(Made({.purposes = {testing::kServerAuth}}));
              },
              Good},
        Fault{"ForTlsToo", "additional-purpose", "code signing alone",
              Severity::kWarning,
              [] {
                return TokenWith(Made({.purposes = {testing::kCodeSigning,
                                                    testing::kServerAuth}}));
              },
              Good},
        Fault{"OtherTeam", "wrong-team", "identity of team TEAMID1234",
              Severity::kError,
              [] {
                return TokenWith(
                    Made({.common_name = "Developer ID Application: Other",
                          .team = testing::kOtherTeam}));
              },
              Good},
        Fault{"TwoCertificatesForOneKey", "duplicate-key", "SHA-1",
              Severity::kWarning,
              [] {
                Collection token = Good();
                token.certificates.push_back(LeafOf(DeveloperId()));
                return token;
              },
              Good},
        Fault{"TwoCertificatesOfOneName", "duplicate-name", "-s ",
              Severity::kWarning,
              [] {
                Collection token = Good();
                const TestChain other = Made({});
                token.keys.push_back(KeyOf(other));
                token.certificates.push_back(LeafOf(other));
                token.others.push_back(other.intermediate.certificate());
                return token;
              },
              Good},
        Fault{"NameShowsAPersonNotTheTeam", "misleading-name", "TEAMID1234",
              Severity::kNote,
              [] {
                return TokenWith(
                    Made({.common_name = "Apple Development: Jane (PERSONID)",
                          .markers = {testing::kDevelopmentMarker},
                          .issuer_markers = {}}));
              },
              Good},
        Fault{"KeyMayNotSign", "key-cannot-sign", "codeseald key generate",
              Severity::kError,
              [] {
                Collection token = Good();
                token.keys[0].can_sign = false;
                return token;
              },
              Good},
        Fault{"KeyWasImported", "key-not-protected", "inside the token",
              Severity::kWarning,
              [] {
                Collection token = Good();
                token.keys[0].is_protected = false;
                return token;
              },
              Good},
        Fault{"ServerCannotSign", "unavailable", "codeseald token probe",
              Severity::kError,
              [] {
                Collection server = Good();
                server.has_keys = false;
                server.keys.clear();
                server.certificates[0].unavailable_because = "token is gone";
                return server;
              },
              Good}),
    [](const auto& each) { return std::string(each.param.name); });

// The team of a chain with a gap is not known: both are said.
TEST(IdentityCheckupTest, MissingIntermediateIsNamed) {
  Collection token = TokenWith(DeveloperId());
  token.others.clear();
  const std::vector<Finding> findings = Examine(token, "");
  ASSERT_THAT(Rules(findings), ::testing::ElementsAre("missing-intermediate"));
  EXPECT_THAT(findings[0].detail, HasSubstr("Apple-like Intermediate CA"));
  EXPECT_THAT(findings[0].fix, HasSubstr("--chain"));
  token.others = {DeveloperId().intermediate.certificate()};
  EXPECT_THAT(Examine(token, ""), IsEmpty());  // the root is an anchor
}

TEST(IdentityCheckupTest, IssuerThatExpiresSoonIsNamed) {
  CheckupOptions options;
  options.anchors = {AppleLikeRoot().certificate()};
  // Eleven years from now its issuers are over; the leaf is, too.
  options.now = absl::Now() + absl::Hours(24 * 365 * 11);
  const std::vector<std::string> rules =
      Rules(ExamineIdentities(TokenWith(DeveloperId()), options));
  EXPECT_THAT(rules, ::testing::Contains("issuer-expires-soon").Times(2));
}

// A certificate without a readable public key of its key goes by CKA_ID.
TEST(IdentityCheckupTest, IdDecidesWhenThePublicKeyCannotBeRead) {
  Collection token = TokenWith(DeveloperId());
  token.keys[0].public_key.clear();
  EXPECT_THAT(Examine(token), IsEmpty());
  token.keys[0].id = {2};
  EXPECT_THAT(Rules(Examine(token)),
              ::testing::ElementsAre("certificate-without-key",
                                     "key-without-certificate"));
}

TEST(IdentityCheckupTest, AuthoritiesAreNoIdentities) {
  Collection token = TokenWith(DeveloperId());
  token.others.clear();
  for (const Certificate& each : {DeveloperId().intermediate.certificate(),
                                  DeveloperId().root.certificate()}) {
    token.certificates.push_back({.name = each.CommonName(),
                                  .id = {},
                                  .certificate = each,
                                  .is_authority = true});
  }
  EXPECT_THAT(Rules(Examine(token)), IsEmpty());
}

}  // namespace
}  // namespace codeseal
