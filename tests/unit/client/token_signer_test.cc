// The local signer over a token that is a map in memory; the real one has its
// tests in tests/integration.

#include "client/token_signer.h"

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "gtest/gtest.h"
#include "tests/support/fake_clock.h"
#include "tests/support/software_key.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal::client {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::SoftwareKey;
using ::testing::AllOf;

class MemoryToken : public Token {
 public:
  absl::StatusOr<std::shared_ptr<KeyBackend>> LoadKey(const KeyReference& key,
                                                      KeyPolicy policy,
                                                      ByteView certificate_der,
                                                      absl::Time) override {
    loaded_policy = policy;
    loaded_certificate = ToBytes(certificate_der);
    const auto found = keys.find(key.id);
    if (found == keys.end()) return absl::NotFoundError("no such key");
    return std::shared_ptr<KeyBackend>(found->second);
  }
  absl::StatusOr<TokenListing> List(absl::Time) override {
    ++list_count;
    if (!list_status.ok()) return list_status;
    return listing;
  }
  absl::Status Probe(const KeyReference&, absl::Time) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<Bytes> GenerateKey(const KeyReference&, KeyAlgorithm,
                                    absl::Time) override {
    return absl::UnimplementedError("");
  }
  absl::Status ImportCertificate(const KeyReference&, ByteView,
                                 absl::Time) override {
    return absl::UnimplementedError("");
  }
  absl::Status ClearPinHold(absl::Time) override {
    return absl::UnimplementedError("");
  }
  const TokenConfig& config() const override { return config_; }

  TokenListing listing;
  std::map<Bytes, std::shared_ptr<SoftwareKey>> keys;
  absl::Status list_status;
  int list_count = 0;
  KeyPolicy loaded_policy{};
  Bytes loaded_certificate;

 private:
  TokenConfig config_ = [] {
    TokenConfig config;
    config.name = "memory";
    return config;
  }();
};

class TokenSignerTest : public ::testing::Test {
 protected:
  // A key on the token and a certificate for it; also on the token when
  // `store`.
  Certificate AddKey(uint8_t id, const std::string& common_name,
                     bool store = true,
                     absl::Duration lifetime = absl::Hours(24)) {
    const auto key = SoftwareKey::Generate("p256");
    token_->keys[{id}] = key;
    KeyListing listed;
    listed.id = {id};
    listed.label = "key " + std::to_string(id);
    listed.public_key = ToBytes(key->public_key());
    token_->listing.keys.push_back(listed);
    codeseal::testing::CertificateSpec spec;
    spec.common_name = common_name;
    spec.extended_key_usage = {codeseal::testing::kCodeSigning};
    spec.not_after = absl::Now() + lifetime;
    spec.not_before = absl::Now() - absl::Hours(48);
    Certificate leaf =
        codeseal::testing::IssueForKey(key->public_key(), spec, root_);
    if (store) {
      token_->listing.certificates.push_back(
          {{id}, "label " + std::to_string(id), ToBytes(leaf.der())});
    }
    return leaf;
  }

  std::unique_ptr<Signer> MakeSigner(TokenSignerOptions options = {}) {
    options.certificates.push_back(root_.certificate());
    return MakeTokenSigner(token_, std::move(options), clock_);
  }

  codeseal::testing::TestIdentity root_ =
      codeseal::testing::MakeRoot(codeseal::testing::CertificateSpec());
  std::shared_ptr<MemoryToken> token_ = std::make_shared<MemoryToken>();
  SystemClock clock_;
};

SlicePlan SomeSlice() {
  SlicePlan plan;
  plan.architecture = "arm64";
  plan.code_directories = {Bytes(100, 0x11), Bytes(120, 0x22)};
  plan.digests = {DigestKind::kSha1, DigestKind::kSha256};
  return plan;
}

TEST_F(TokenSignerTest, IdentityHasThreeNames) {
  const Certificate leaf = AddKey(1, "Release");
  AddKey(2, "Debug");
  const std::unique_ptr<Signer> signer = MakeSigner();
  for (const std::string& name :
       {std::string("Release"), std::string("label 1"),
        HexEncode(leaf.Sha1())}) {
    const absl::StatusOr<SigningIdentity> identity = signer->GetIdentity(name);
    ASSERT_THAT(identity, IsOk()) << name;
    EXPECT_EQ(identity->name, "Release");
    ASSERT_EQ(identity->chain.size(), 2u);
    EXPECT_TRUE(Equal(identity->chain[0].der(), leaf.der()));
    EXPECT_TRUE(Equal(identity->chain[1].der(), root_.der()));
  }
  EXPECT_EQ(signer->ListIdentities()->size(), 2u);
  EXPECT_EQ(token_->list_count, 1) << "the token was read again";
}

TEST_F(TokenSignerTest, SignatureFitsAndIsCheckedAgainstTheLeaf) {
  AddKey(1, "Release");
  AddKey(2, "Other");
  const std::unique_ptr<Signer> signer = MakeSigner();
  const absl::StatusOr<SigningIdentity> identity =
      signer->GetIdentity("Release");
  ASSERT_THAT(identity, IsOk());
  const SlicePlan plan = SomeSlice();
  const std::vector<SliceToSign> slices = {{"a", &plan}, {"b", &plan}};
  size_t done = 0;
  const auto results = signer->Sign(*identity, slices,
                                    [&](size_t done_count, size_t total_count) {
                                      done = done_count;
                                      EXPECT_EQ(total_count, 2u);
                                    });
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(done, 2u);
  for (const auto& result : results) {
    ASSERT_THAT(result, IsOk());
    EXPECT_THAT(CheckSignature(plan, *identity, result->cms), IsOk());
  }
  EXPECT_EQ(token_->loaded_policy, KeyPolicy::kStrict);
  EXPECT_TRUE(Equal(token_->loaded_certificate, identity->chain[0].der()));

  // Nothing of it is taken on trust: other bytes, another leaf.
  SlicePlan changed = plan;
  changed.code_directories[1][7] ^= 1;
  EXPECT_THAT(CheckSignature(changed, *identity, results[0]->cms),
              HasReason(v1::REASON_SELF_VERIFY_FAILED));
  const absl::StatusOr<SigningIdentity> other = signer->GetIdentity("Other");
  EXPECT_THAT(CheckSignature(plan, *other, results[0]->cms),
              AllOf(HasReason(v1::REASON_SELF_VERIFY_FAILED),
                    HasMessage("it is by Release, not by Other")));
  EXPECT_THAT(CheckSignature(plan, *identity, Bytes{1, 2, 3}),
              HasReason(v1::REASON_SELF_VERIFY_FAILED));
  EXPECT_THAT(CheckSignature(plan, *identity, {}),
              HasReason(v1::REASON_SELF_VERIFY_FAILED));
}

TEST_F(TokenSignerTest, TokensOwnFaultComesThrough) {
  AddKey(1, "Release");
  const std::unique_ptr<Signer> signer = MakeSigner();
  const absl::StatusOr<SigningIdentity> identity =
      signer->GetIdentity("Release");
  ASSERT_THAT(identity, IsOk());
  token_->keys[{1}]->Fail(MakeError(absl::StatusCode::kUnavailable,
                                    v1::STAGE_TOKEN, v1::REASON_TOKEN_DOWN,
                                    "gone"));
  const SlicePlan plan = SomeSlice();
  const std::vector<SliceToSign> slices = {{"a", &plan}};
  EXPECT_THAT(signer->Sign(*identity, slices, nullptr)[0],
              HasReason(v1::REASON_TOKEN_DOWN));
}

TEST_F(TokenSignerTest, SaysThatTheTokenWaits) {
  AddKey(1, "Release");
  TokenSignerOptions options;
  std::mutex mutex;
  std::vector<std::string> heard;
  absl::Notification waits;
  options.hint_after = absl::Milliseconds(1);
  options.on_wait = [&](const std::string& what) {
    const std::lock_guard lock(mutex);
    heard.push_back(what);
    if (what.find("to sign a") == 0) waits.Notify();
  };
  // The finger comes after the hint.
  token_->keys[{1}]->SetDelay([&] { waits.WaitForNotification(); });
  const std::unique_ptr<Signer> signer = MakeSigner(options);
  const absl::StatusOr<SigningIdentity> identity =
      signer->GetIdentity("Release");
  ASSERT_THAT(identity, IsOk());
  const SlicePlan plan = SomeSlice();
  const std::vector<SliceToSign> slices = {{"a", &plan}};
  EXPECT_THAT(signer->Sign(*identity, slices, nullptr)[0], IsOk());
  EXPECT_EQ(heard.back(), "to sign a (1 of 1)");
}

TEST_F(TokenSignerTest, AQuickTokenIsNotSpokenOf) {
  AddKey(1, "Release");
  TokenSignerOptions options;
  options.hint_after = absl::Hours(1);
  bool spoken = false;
  options.on_wait = [&](const std::string&) { spoken = true; };
  const std::unique_ptr<Signer> signer = MakeSigner(options);
  const SlicePlan plan = SomeSlice();
  const std::vector<SliceToSign> slices = {{"a", &plan}};
  EXPECT_THAT(signer->Sign(*signer->GetIdentity("Release"), slices, nullptr)[0],
              IsOk());
  EXPECT_FALSE(spoken);
}

TEST_F(TokenSignerTest, DryRunUsesNoKey) {
  AddKey(1, "Release");
  TokenSignerOptions options;
  options.validate_only = true;
  const std::unique_ptr<Signer> signer = MakeSigner(options);
  const absl::StatusOr<SigningIdentity> identity =
      signer->GetIdentity("Release");
  ASSERT_THAT(identity, IsOk());
  const SlicePlan plan = SomeSlice();
  const std::vector<SliceToSign> slices = {{"a", &plan}};
  const auto results = signer->Sign(*identity, slices, nullptr);
  EXPECT_THAT(results[0], IsOk());
  EXPECT_TRUE(results[0]->cms.empty());
  EXPECT_EQ(token_->keys[{1}]->sign_count(), 0);
}

TEST_F(TokenSignerTest, LeafMayComeFromTheChainFile) {
  const Certificate leaf = AddKey(1, "Release", /*store=*/false);
  EXPECT_THAT(MakeSigner()->GetIdentity("Release"),
              HasReason(v1::REASON_IDENTITY_NOT_FOUND));
  TokenSignerOptions options;
  options.certificates = {leaf};
  EXPECT_THAT(MakeSigner(options)->GetIdentity("Release"), IsOk());
}

TEST_F(TokenSignerTest, UriMayNameTheOnlyKey) {
  AddKey(1, "Release");
  AddKey(2, "Release");
  EXPECT_THAT(MakeSigner()->GetIdentity("Release"),
              AllOf(HasReason(v1::REASON_IDENTITY_NOT_FOUND),
                    HasMessage("name one by its SHA-1")));
  TokenSignerOptions options;
  options.key.id = {2};
  const auto identity = MakeSigner(options)->GetIdentity("Release");
  ASSERT_THAT(identity, IsOk());
  EXPECT_EQ(ToBytes(identity->chain[0].SubjectPublicKeyInfo()),
            ToBytes(token_->keys[{2}]->public_key()));
}

TEST_F(TokenSignerTest, ExpiredCertificateIsRefused) {
  AddKey(1, "Old", /*store=*/true, -absl::Hours(1));
  EXPECT_THAT(MakeSigner()->GetIdentity("Old"),
              HasReason(v1::REASON_CERTIFICATE_EXPIRED));
}

TEST_F(TokenSignerTest, MissingIssuerIsNamedNotGuessed) {
  AddKey(1, "Release");
  const std::unique_ptr<Signer> signer =
      MakeTokenSigner(token_, TokenSignerOptions(), clock_);
  EXPECT_THAT(signer->GetIdentity("Release"),
              HasReason(v1::REASON_INCOMPLETE_CHAIN));
  // A listing still shows it, with the reason.
  const auto identities = signer->ListIdentities();
  ASSERT_THAT(identities, IsOk());
  ASSERT_EQ(identities->size(), 1u);
  EXPECT_FALSE(identities->front().unavailable_because.empty());
}

TEST_F(TokenSignerTest, TokenThatIsGoneIsATokenFault) {
  token_->list_status = MakeError(absl::StatusCode::kUnavailable,
                                  v1::STAGE_TOKEN, v1::REASON_TOKEN_DOWN, "");
  EXPECT_THAT(MakeSigner()->GetIdentity("Release"),
              HasReason(v1::REASON_TOKEN_DOWN));
}

}  // namespace
}  // namespace codeseal::client
