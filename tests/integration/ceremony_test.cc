// Key ceremonies and attestation, as people type them, over SoftHSM.

#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "codesign/base/error.h"
#include "codesign/cms/certificate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "hsm/certificate_issuer.h"
#include "hsm/token.h"
#include "nlohmann/json.hpp"
#include "tests/support/server_process.h"
#include "tests/support/softhsm.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::Issue;
using ::codeseal::testing::IssueForKey;
using ::codeseal::testing::kCodeSigning;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::RunProgram;
using ::codeseal::testing::ServerProgram;
using ::codeseal::testing::SoftHsm;
using ::codeseal::testing::SubprocessResult;
using ::codeseal::testing::TempFolder;
using ::codeseal::testing::TestIdentity;
using ::testing::HasSubstr;
using ::testing::Not;

class CeremonyTest : public ::testing::Test {
 protected:
  CeremonyTest() { hsm_.AddToken("release"); }

  std::string Uri(const std::string& key = "") const {
    return "pkcs11:token=release" + key +
           "?module-path=" + testing::kSoftHsmModule +
           "&pin-source=file:" + hsm_.pin_file();
  }
  std::string Write(const std::string& steps) const {
    return folder_.Write("ceremony.yaml",
                         "version: 1\n"
                         "ceremony: release 2026b\n"
                         "operators: [Alice, Bob]\n"
                         "token: {uri: \"" +
                             Uri() +
                             "\"}\n"
                             "transcript: transcript.jsonl\n"
                             "steps:\n" +
                             steps);
  }
  SubprocessResult Run(const std::string& steps) const {
    return RunProgram({ServerProgram(), "ceremony", "run", Write(steps)});
  }
  std::vector<nlohmann::json> Transcript() const {
    std::vector<nlohmann::json> entries;
    const std::string text = folder_.Read("transcript.jsonl");
    for (const auto line : absl::StrSplit(text, '\n', absl::SkipWhitespace())) {
      entries.push_back(nlohmann::json::parse(std::string(line)));
    }
    return entries;
  }
  // "generate done", "csr found", ... of the last run.
  std::vector<std::string> LastResults() const {
    std::vector<std::string> results;
    for (const nlohmann::json& each : Transcript()) {
      if (each["event"] == "begin") results.clear();
      if (each.value("result", "begun") == "begun") continue;
      results.push_back(each["action"].get<std::string>() + " " +
                        each["result"].get<std::string>());
    }
    return results;
  }
  TokenListing List() const {
    const auto token = Token::Create(hsm_.Config("release"));
    const auto listing = (*token)->List(absl::Now() + absl::Seconds(60));
    EXPECT_THAT(listing, IsOk());
    return listing.ok() ? *listing : TokenListing();
  }
  Bytes GenerateKey(const KeyReference& key) const {
    const auto token = Token::Create(hsm_.Config("release"));
    const auto public_key = (*token)->GenerateKey(
        key, KeyAlgorithm::kP256, absl::Now() + absl::Seconds(60));
    EXPECT_THAT(public_key, IsOk());
    return public_key.ok() ? *public_key : Bytes();
  }

  TempFolder folder_;
  SoftHsm hsm_;
};

constexpr char kDeveloperId[] =
    "  - generate: {id: \"01\", label: release, algorithm: p256}\n"
    "  - csr: {id: \"01\", subject: \"CN=Example,O=Example\", out: "
    "release.csr}\n"
    "  - import-certificate: {id: \"01\", certificate: release.pem}\n";

TEST_F(CeremonyTest, GoesOnWhereItStoppedAndRepeatsNothing) {
  const SubprocessResult first = Run(kDeveloperId);
  EXPECT_EQ(first.exit_code, 1);
  EXPECT_THAT(first.out, HasSubstr("1 generate id=01 'release': done"));
  EXPECT_THAT(first.out, HasSubstr("2 csr id=01: done"));
  EXPECT_THAT(first.err, HasSubstr("step 3 (import-certificate id=01): waits "
                                   "for"));
  EXPECT_THAT(LastResults(),
              ::testing::ElementsAre("generate done", "csr done",
                                     "import-certificate refused"));

  // The authority answers.
  const auto applicant = ReadCertificateRequest(folder_.Read("release.csr"));
  ASSERT_THAT(applicant, IsOk());
  CertificateSpec spec;
  spec.common_name = "Example";
  spec.extended_key_usage = {kCodeSigning};
  const Certificate leaf =
      IssueForKey(applicant->public_key, spec, MakeRoot(CertificateSpec()));
  folder_.Write("release.pem", leaf.Pem());
  const SubprocessResult second = Run(kDeveloperId);
  EXPECT_EQ(second.exit_code, 0) << second.err;
  EXPECT_THAT(second.out, HasSubstr("complete"));
  EXPECT_THAT(LastResults(),
              ::testing::ElementsAre("generate found", "csr found",
                                     "import-certificate done"));
  EXPECT_EQ(Run(kDeveloperId).exit_code, 0);
  EXPECT_THAT(LastResults(),
              ::testing::ElementsAre("generate found", "csr found",
                                     "import-certificate found"));
  const TokenListing listing = List();
  EXPECT_EQ(listing.keys.size(), 1u);
  EXPECT_EQ(listing.certificates.size(), 1u);

  // Who, what, on which token, with digests; no PIN.
  const std::vector<nlohmann::json> entries = Transcript();
  EXPECT_EQ(entries.front()["operators"].dump(), R"(["Alice","Bob"])");
  EXPECT_EQ(entries.front()["token"]["label"], "release");
  EXPECT_EQ(entries.front()["token"]["serial"], listing.serial);
  EXPECT_EQ(entries[2]["public_key_sha256"].get<std::string>().size(), 64u);
  EXPECT_EQ(entries.back()["event"], "end");
  EXPECT_THAT(folder_.Read("transcript.jsonl"), Not(HasSubstr(SoftHsm::kPin)));
  EXPECT_THAT(folder_.Read("transcript.jsonl"),
              Not(HasSubstr(hsm_.pin_file())));
}

TEST_F(CeremonyTest, SelfSignedCertificatesAreStoredAndWritten) {
  constexpr char kSteps[] =
      "  - generate: {id: \"02\", algorithm: p256}\n"
      "  - self-sign: {id: \"02\", subject: \"CN=Tools,O=Example\", days: 30, "
      "out: tools.pem}\n";
  EXPECT_EQ(Run(kSteps).exit_code, 0);
  const std::string pem = folder_.Read("tools.pem");
  const auto made = Certificate::ParsePem(pem);
  ASSERT_THAT(made, IsOk());
  EXPECT_EQ(made->front().CommonName(), "Tools");
  ASSERT_EQ(List().certificates.size(), 1u);
  // An interruption before the file was written: the stored one is taken.
  std::filesystem::remove(folder_.Path("tools.pem"));
  EXPECT_EQ(Run(kSteps).exit_code, 0);
  EXPECT_EQ(folder_.Read("tools.pem"), pem);
  EXPECT_EQ(List().certificates.size(), 1u);
  EXPECT_THAT(LastResults(),
              ::testing::ElementsAre("generate found", "self-sign found"));
}

TEST_F(CeremonyTest, WhatItDidNotMakeIsRefused) {
  GenerateKey({{1}, "release"});
  SubprocessResult refused = Run(kDeveloperId);
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("this ceremony did not make it"));
  EXPECT_THAT(LastResults(), ::testing::ElementsAre("generate refused"));
  EXPECT_FALSE(std::filesystem::exists(folder_.Path("release.csr")));
  // Another kind of key than the file says.
  refused = Run("  - generate: {id: \"01\", algorithm: rsa2048}\n");
  EXPECT_THAT(refused.err, HasSubstr("and it is p256"));
  // A file of somebody else's.
  folder_.Write("taken.csr", "mine");
  refused =
      Run("  - csr: {id: \"01\", subject: \"CN=Example\", out: taken.csr}\n");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("taken.csr is there already"));
  EXPECT_EQ(folder_.Read("taken.csr"), "mine");
  EXPECT_EQ(List().keys.size(), 1u);
}

TEST_F(CeremonyTest, AChangedTranscriptStopsIt) {
  EXPECT_EQ(Run("  - generate: {id: \"01\", algorithm: p256}\n").exit_code, 0);
  std::string text = folder_.Read("transcript.jsonl");
  text.replace(text.find("Alice"), 5, "Carol");
  folder_.Write("transcript.jsonl", text);
  const SubprocessResult refused =
      Run("  - generate: {id: \"02\", algorithm: p256}\n");
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("transcript.jsonl:2"));
  EXPECT_EQ(List().keys.size(), 1u);
}

TEST_F(CeremonyTest, TheFileIsStrictAndCanBeReadAloud) {
  const SubprocessResult bad =
      Run("  - generate: {id: \"01\", algoritm: p256}\n");
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_THAT(bad.err, HasSubstr("ceremony.yaml:7: steps[0].generate.algoritm: "
                                 "unknown key; did you mean algorithm?"));
  const SubprocessResult aloud = RunProgram(
      {ServerProgram(), "ceremony", "run", "--dry-run", Write(kDeveloperId)});
  EXPECT_EQ(aloud.exit_code, 0) << aloud.err;
  EXPECT_THAT(aloud.out, HasSubstr("1 generate id=01 'release' p256"));
  EXPECT_TRUE(List().keys.empty());
  EXPECT_FALSE(std::filesystem::exists(folder_.Path("transcript.jsonl")));
}

// The vendor is synthetic; the shape is that of a YubiKey's attestation.
TEST_F(CeremonyTest, SyntheticAttestationIsCheckedAndKept) {
  const Bytes public_key = GenerateKey({{1}, "release"});
  CertificateSpec authority;
  authority.certificate_authority = true;
  authority.common_name = "Synthetic vendor root";
  const TestIdentity root = MakeRoot(authority);
  authority.common_name = "Synthetic device f9";
  const TestIdentity device = Issue(authority, root);
  CertificateSpec spec;
  spec.common_name = "Synthetic attestation";
  spec.raw_extensions = {{"1.3.6.1.4.1.41482.3.8", {2, 2}}};
  const Certificate attestation = IssueForKey(public_key, spec, device);
  folder_.Write("root.pem", root.pem());
  folder_.Write("device.pem", device.pem());
  folder_.Write("attestation.pem", attestation.Pem());
  const auto attest = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {ServerProgram(), "key", "attest", "--token-uri",
                               Uri(";object=release"), "--vendor-root",
                               folder_.Path("root.pem"), "--intermediate",
                               folder_.Path("device.pem")});
    return RunProgram(more);
  };
  SubprocessResult result = attest({});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("the token stores no attestation"));
  EXPECT_THAT(result.err, HasSubstr("--attestation"));
  result = attest({"--attestation", folder_.Path("attestation.pem")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("attested by  Synthetic vendor root"));
  EXPECT_THAT(result.out, HasSubstr("touch        always"));
  EXPECT_THAT(result.out, HasSubstr(root.pem()));
  // Of another key.
  folder_.Write("other.pem",
                IssueForKey(MakeRoot(spec).certificate().SubjectPublicKeyInfo(),
                            spec, device)
                    .Pem());
  result = attest({"--attestation", folder_.Path("other.pem")});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("is about another key"));

  // In a ceremony: checked, kept, and in the transcript.
  constexpr char kSteps[] =
      "  - attest: {id: \"01\", vendor_root: root.pem, attestation: "
      "attestation.pem, intermediate: device.pem, out: kept.pem}\n";
  result = Run(kSteps);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(folder_.Read("kept.pem"),
            attestation.Pem() + device.pem() + root.pem());
  EXPECT_THAT(folder_.Read("transcript.jsonl"),
              HasSubstr(HexEncode(attestation.Sha256())));
  EXPECT_EQ(Run(kSteps).exit_code, 0);
  EXPECT_THAT(LastResults(), ::testing::ElementsAre("attest found"));
}

}  // namespace
}  // namespace codeseal
