// Keys, certificate requests and signatures with four PKCS#11 modules for real.
// A module whose package is missing is skipped by name.

#include "tests/support/pkcs11_modules.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/cms/certificate.h"
#include "gtest/gtest.h"
#include "hsm/certificate_issuer.h"
#include "hsm/certificate_request.h"
#include "hsm/public_key.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_folder.h"

namespace codeseal::testing {
namespace {

absl::Time Soon() { return absl::Now() + absl::Seconds(60); }

class Pkcs11ModulesTest : public ::testing::TestWithParam<ModuleKind> {
 protected:
  void SetUp() override {
    if (const std::string why = GetParam().missing_because(); !why.empty()) {
      GTEST_SKIP() << GetParam().name << ": " << why;
    }
    made_ = GetParam().make();
    TokenConfig config = made_->config();
    config.name = GetParam().name;
    config.session_count = 4;
    // A TPM in software takes seconds for an RSA key.
    config.operation_timeout = absl::Seconds(20);
    auto token = Token::Create(config);
    ASSERT_THAT(token, IsOk());
    token_ = *token;
  }

  // NSS and the TPM do not say that a key is local or was always sensitive.
  absl::StatusOr<std::shared_ptr<KeyBackend>> Load(const KeyReference& key) {
    return token_->LoadKey(key, KeyPolicy::kImportedAllowed, {}, Soon());
  }

  static absl::Status Sign(KeyBackend& key, SignMechanism mechanism) {
    const Bytes digest(32, 0x42);
    ASSIGN_OR_RETURN(const Bytes signature,
                     key.Sign(mechanism, SignDigest::kSha256, digest, Soon()));
    ASSIGN_OR_RETURN(const UniqueEvpPkey verifier,
                     ParsePublicKey(key.public_key()));
    return VerifyDigest(verifier.get(), mechanism, SignDigest::kSha256, digest,
                        signature);
  }

  std::unique_ptr<ModuleToken> made_;
  std::shared_ptr<Token> token_;
};

TEST_P(Pkcs11ModulesTest, MakesKeysAndSignsWithThem) {
  struct Case {
    const char* label;
    KeyAlgorithm algorithm;
    std::vector<SignMechanism> mechanisms;
  };
  const std::array<Case, 2> cases = {
      Case{"ec", KeyAlgorithm::kP256, {SignMechanism::kEcdsa}},
      Case{"rsa",
           KeyAlgorithm::kRsa2048,
           {SignMechanism::kRsaPkcs1, SignMechanism::kRsaPss}}};
  const TempFolder folder;
  uint8_t id = 0;
  for (const Case& each : cases) {
    KeyReference reference = {{++id}, each.label};
    std::optional<KeyReference> ready;
    if (each.algorithm == KeyAlgorithm::kRsa2048) ready = made_->RsaKey();
    absl::StatusOr<Bytes> made = Bytes();
    if (ready.has_value()) {
      reference = *ready;
    } else {
      made = token_->GenerateKey(reference, each.algorithm, Soon());
    }
    ASSERT_THAT(made, IsOk()) << each.label;
    const auto key = Load(reference);
    ASSERT_THAT(key, IsOk()) << each.label;
    if (!made->empty()) {
      EXPECT_EQ(ToBytes((*key)->public_key()), *made);
    }
    for (const SignMechanism mechanism : each.mechanisms) {
      EXPECT_THAT(Sign(**key, mechanism), IsOk())
          << each.label << " " << static_cast<int>(mechanism);
    }

    const auto request = BuildCertificateRequest(*key, "CN=made here", Soon());
    ASSERT_THAT(request, IsOk());
    const auto judged = RunProgram({"openssl", "req", "-verify", "-noout",
                                    "-in", folder.Write("csr", *request)});
    EXPECT_EQ(judged.exit_code, 0) << judged.err;

    const auto pem =
        BuildSelfSignedCertificate(*key, "CN=made here", absl::Now(),
                                   absl::Now() + absl::Hours(1), Soon());
    ASSERT_THAT(pem, IsOk());
    const Bytes certificate = ToBytes(Certificate::ParsePem(*pem)->at(0).der());
    ASSERT_THAT(token_->ImportCertificate(reference, certificate, Soon()),
                IsOk());
    const auto listing = token_->List(Soon());
    ASSERT_THAT(listing, IsOk());
    bool found = false;
    for (const CertificateListing& stored : listing->certificates) {
      found = found || stored.der == certificate;
    }
    EXPECT_TRUE(found) << each.label;
    EXPECT_EQ(std::count_if(listing->keys.begin(), listing->keys.end(),
                            [&](const KeyListing& listed) {
                              return listed.label == each.label &&
                                     Equal(listed.public_key,
                                           (*key)->public_key());
                            }),
              1)
        << each.label;
  }
}

TEST_P(Pkcs11ModulesTest, ManyThreadsSign) {
  ASSERT_THAT(token_->GenerateKey({{1}, "ec"}, KeyAlgorithm::kP256, Soon()),
              IsOk());
  const auto key = Load({{1}, "ec"});
  ASSERT_THAT(key, IsOk());
  std::atomic<int> good_count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 20; ++n) {
        const absl::Status status = Sign(**key, SignMechanism::kEcdsa);
        EXPECT_THAT(status, IsOk());
        if (status.ok()) ++good_count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good_count, 120);
}

// What is behind the module was started anew: its sessions, and for some
// modules the whole library, are worth nothing any more.
TEST_P(Pkcs11ModulesTest, ComesBackAfterARestartBehindIt) {
  ASSERT_THAT(token_->GenerateKey({{1}, "ec"}, KeyAlgorithm::kP256, Soon()),
              IsOk());
  const auto key = Load({{1}, "ec"});
  ASSERT_THAT(key, IsOk());
  for (int i = 0; i < 2; ++i) {
    ASSERT_THAT(Sign(**key, SignMechanism::kEcdsa), IsOk());
    if (!made_->Restart()) {
      GTEST_SKIP() << GetParam().name << ": nothing is behind this module";
    }
    const absl::Time begin = absl::Now();
    absl::Status status = Sign(**key, SignMechanism::kEcdsa);
    while (!status.ok() && absl::Now() - begin < absl::Seconds(20)) {
      absl::SleepFor(absl::Milliseconds(5));  // a client that asks again
      status = Sign(**key, SignMechanism::kEcdsa);
    }
    EXPECT_THAT(status, IsOk());
    EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
  }
}

INSTANTIATE_TEST_SUITE_P(Modules, Pkcs11ModulesTest,
                         ::testing::ValuesIn(kModuleKinds),
                         [](const auto& each) {
                           return std::string(each.param.name);
                         });

}  // namespace
}  // namespace codeseal::testing
