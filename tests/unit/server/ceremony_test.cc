// The ceremony's file; what it does to a token is in
// tests/integration/ceremony_test.cc.

#include "server/ceremony.h"

#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kComplete[] = R"(version: 1
ceremony: developer-id 2026b
operators: [Alice, Bob]
token: {uri: "pkcs11:token=release?module-path=/m.so&pin-source=file:/pin"}
transcript: ceremony.jsonl
steps:
  - generate: {id: "0a", label: release-2026b, algorithm: p256}
  - csr: {id: "0a", subject: "CN=Example,O=Example", out: release.csr}
  - import-certificate: {label: release-2026b, certificate: release.pem}
  - self-sign: {id: "0b", subject: "CN=Tools", days: 30, out: tools.pem}
  - attest: {id: "0a", vendor_root: vendor.pem, attestation: a.pem,
             intermediate: i.pem, out: attested.pem}
)";

class CeremonyFileTest : public ::testing::Test {
 protected:
  CeremonyFileTest() { folder_.Write("vendor.pem", "x"); }

  ParsedCeremony Parse(const std::string& text) const {
    return ParseCeremony(text, folder_.path());
  }
  // The problems of the complete file with the first `from` replaced.
  std::vector<std::string> Problems(const std::string& from,
                                    const std::string& to) const {
    std::string text = kComplete;
    const size_t at = text.find(from);
    EXPECT_NE(at, text.npos) << from;
    text.replace(at, from.size(), to);
    std::vector<std::string> problems;
    for (const ConfigProblem& each : Parse(text).problems) {
      problems.push_back(std::to_string(each.line) + " " + each.key + ": " +
                         each.message);
    }
    return problems;
  }

  TempFolder folder_;
};

TEST_F(CeremonyFileTest, EverythingIsRead) {
  const ParsedCeremony parsed = Parse(kComplete);
  ASSERT_THAT(parsed.problems, IsEmpty());
  const Ceremony& ceremony = parsed.ceremony;
  EXPECT_EQ(ceremony.name, "developer-id 2026b");
  EXPECT_THAT(ceremony.operators, ElementsAre("Alice", "Bob"));
  EXPECT_EQ(ceremony.transcript, folder_.Path("ceremony.jsonl"));
  EXPECT_EQ(ceremony.file_sha256.size(), 64u);
  ASSERT_EQ(ceremony.steps.size(), 5u);
  EXPECT_EQ(ceremony.steps[0].action, CeremonyAction::kGenerate);
  EXPECT_EQ(ceremony.steps[0].key.id, Bytes{0x0a});
  EXPECT_EQ(ceremony.steps[0].key.label, "release-2026b");
  EXPECT_EQ(ceremony.steps[0].algorithm, "p256");
  EXPECT_EQ(ceremony.steps[1].subject, "CN=Example,O=Example");
  EXPECT_EQ(ceremony.steps[1].out, folder_.Path("release.csr"));
  EXPECT_EQ(ceremony.steps[2].certificate, folder_.Path("release.pem"));
  EXPECT_EQ(ceremony.steps[3].days, 30u);
  EXPECT_EQ(ceremony.steps[4].vendor_roots, folder_.Path("vendor.pem"));
  EXPECT_EQ(ceremony.steps[4].intermediates, folder_.Path("i.pem"));
}

TEST_F(CeremonyFileTest, IsReadAloudWithoutTheTokensUri) {
  std::ostringstream out;
  DescribeCeremony(Parse(kComplete).ceremony, out);
  EXPECT_THAT(out.str(), HasSubstr("1 generate id=0a 'release-2026b' p256\n"));
  EXPECT_THAT(out.str(), HasSubstr("2 csr id=0a for 'CN=Example,O=Example'"));
  EXPECT_EQ(out.str().find("/pin"), std::string::npos);
}

TEST_F(CeremonyFileTest, IsStrict) {
  EXPECT_THAT(Problems("algorithm: p256", "algorithm: p255"),
              ElementsAre(HasSubstr("7 steps[0].generate.algorithm: is")));
  EXPECT_THAT(Problems("algorithm:", "algoritm:"),
              ElementsAre(HasSubstr("did you mean algorithm?")));
  EXPECT_THAT(
      Problems("- csr:", "- certify:"),
      ::testing::Contains(HasSubstr("8 steps[1].certify: unknown key")));
  EXPECT_THAT(Problems("id: \"0a\", label", "id: \"a\", label"),
              ElementsAre(HasSubstr("want pairs of hexadecimal digits")));
  EXPECT_THAT(Problems("{id: \"0b\", ", "{"),
              ElementsAre(HasSubstr("want the key's id, its label")));
  EXPECT_THAT(Problems("vendor.pem", "gone.pem"),
              ElementsAre(HasSubstr("steps[4].attest.vendor_root: ")));
  EXPECT_THAT(Problems("version: 1", "version: 2"),
              ElementsAre(HasSubstr("reads version 1")));
  EXPECT_THAT(Problems("days: 30", "days: 0"),
              ElementsAre(HasSubstr("steps[3].self-sign.days")));
  EXPECT_THAT(Problems("token: {uri", "token: {url"),
              ::testing::Contains(HasSubstr("did you mean uri?")));
  EXPECT_THAT(Problems("out: release.csr}\n",
                       "out: release.csr}\n    generate: "
                       "{id: \"0c\"}\n"),
              ElementsAre(HasSubstr("a step is one of generate")));
}

}  // namespace
}  // namespace codeseal
