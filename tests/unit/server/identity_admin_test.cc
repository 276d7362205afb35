// Rotation over tokens that are software keys; the real ones are in
// tests/integration/promise_40_rotation_test.cc.

#include "server/identity_admin.h"

#include <filesystem>
#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_pki.h"
#include "tests/unit/server/fake_token.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::FakeClock;
using ::codeseal::testing::FakeToken;
using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::Issue;
using ::codeseal::testing::IssueForKey;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::SoftwareKey;
using ::codeseal::testing::TempFolder;
using ::codeseal::testing::TestIdentity;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kAdmin[] = "spiffe://test/admin";
constexpr char kDeveloperIdCa[] = "1.2.840.113635.100.6.2.6";
constexpr char kDeveloperIdLeaf[] = "1.2.840.113635.100.6.1.13";

CertificateSpec Authority(const std::string& common_name) {
  CertificateSpec spec;
  spec.common_name = common_name;
  spec.organization = "Apple Inc.";
  spec.certificate_authority = true;
  return spec;
}

const TestIdentity& Root() {
  static const TestIdentity* const root =
      new TestIdentity(MakeRoot(Authority("Test Apple Root CA")));
  return *root;
}

bool IsTestAppleRoot(const Certificate& certificate) {
  return certificate == Root().certificate();
}

// Built like Apple's Developer ID authorities.
TestIdentity DeveloperIdCa(const std::string& common_name) {
  CertificateSpec spec = Authority(common_name);
  spec.markers = {kDeveloperIdCa};
  return Issue(spec, Root());
}

// The identity "dev" whose configured version "v1" has its key on token "one";
// the tokens "two" and "three" have keys of their own.
class IdentityAdminTest : public ::testing::Test {
 protected:
  struct Leaf {
    std::string team = "ABCDE12345";
    std::vector<std::string> markers = {kDeveloperIdLeaf};
    absl::Duration lifetime = absl::Hours(24 * 365);
  };

  IdentityAdminTest() {
    for (const char* const name : {"one", "two", "three"}) {
      TokenConfig token;
      token.name = name;
      config_.tokens.push_back(token);
      tokens_[name] =
          std::make_shared<FakeToken>(token, SoftwareKey::Generate("p256"));
    }
    IdentityVersionConfig version;
    version.id = "v1";
    version.keys = {{"one", {{1}, ""}}};
    version.chain = folder_.Write("v1.pem", Chain("one", g1_));
    IdentityConfig identity;
    identity.name = "dev";
    identity.versions = {version};
    identity.allow = {{"", "builder", ""}};
    config_.identities = {identity};
    peer_ = {{}, {"builder"}, std::string(64, 'a'), absl::InfiniteFuture()};
  }

  // Starts the server's part anew, as after a restart.
  void Open() {
    ASSERT_THAT(TryOpen(), IsOk());
    store_->LoadKeys(absl::Seconds(30));
    admin_ = std::make_unique<IdentityAdmin>(*store_, clock_);
  }
  absl::Status TryOpen() {
    admin_.reset();
    store_.reset();
    IdentityStoreOptions options;
    options.clock = &clock_;
    options.is_apple_root = &IsTestAppleRoot;
    if (with_state_) {
      auto state = OpenIdentityState(folder_.Path("state"), true);
      if (!state.ok()) return state.status();
      options.state = *std::move(state);
    }
    auto store = IdentityStore::Create(
        config_,
        [this](const TokenConfig& token) { return tokens_.at(token.name); },
        std::move(options));
    if (store.ok()) store_ = *std::move(store);
    return store.status();
  }

  // PEM of a certificate for the token's key.
  std::string Chain(const std::string& token, const TestIdentity& authority,
                    const Leaf& leaf) {
    CertificateSpec spec;
    spec.common_name = "Developer ID Application: Example";
    spec.organizational_unit = leaf.team;
    spec.markers = leaf.markers;
    spec.not_after = clock_.Now() + leaf.lifetime;
    const Certificate certificate =
        IssueForKey(tokens_.at(token)->key().public_key(), spec, authority);
    return certificate.Pem() + authority.pem() + Root().pem();
  }
  std::string Chain(const std::string& token, const TestIdentity& authority) {
    return Chain(token, authority, Leaf());
  }

  v1::StageVersionRequest StageRequest(const std::string& version,
                                       const std::string& token,
                                       const std::string& chain) {
    v1::StageVersionRequest request;
    request.set_name("dev");
    request.set_version(version);
    request.add_keys()->set_token(token);
    request.mutable_keys(0)->set_id(std::string(1, '\1'));
    request.set_chain_pem(chain);
    return request;
  }
  absl::StatusOr<v1::Identity> Stage(const std::string& version,
                                     const std::string& token) {
    return admin_->Stage(StageRequest(version, token, Chain(token, g2_)),
                         kAdmin);
  }
  absl::StatusOr<v1::Identity> Probe(const std::string& version) {
    v1::ProbeVersionRequest request;
    request.set_name("dev");
    request.set_version(version);
    return admin_->Probe(request, kAdmin);
  }
  absl::StatusOr<v1::Identity> Activate(const std::string& version,
                                        bool allow_change = false) {
    v1::ActivateVersionRequest request;
    request.set_name("dev");
    request.set_version(version);
    request.set_allow_requirement_change(allow_change);
    return admin_->Activate(request, kAdmin);
  }
  absl::StatusOr<v1::Identity> Retire(const std::string& version,
                                      bool even_if_active = false) {
    v1::RetireVersionRequest request;
    request.set_name("dev");
    request.set_version(version);
    request.set_even_if_active(even_if_active);
    return admin_->Retire(request, kAdmin);
  }
  absl::StatusOr<v1::Identity> Disable(const std::string& version) {
    v1::DisableVersionRequest request;
    request.set_name("dev");
    request.set_version(version);
    request.set_because("a test");
    return admin_->Disable(request, kAdmin);
  }

  // "v1 active", "v2 staged", ...
  std::vector<std::string> States() const {
    std::vector<std::string> states;
    for (const IdentityVersion* each : store_->Versions("dev")) {
      states.push_back(each->id() + " " + StateWord(each->state()));
    }
    return states;
  }
  absl::StatusOr<IdentityVersion*> Find(const std::string& version = "") const {
    return store_->FindForSigning("dev", version, peer_);
  }
  // The version that signs for those who name none; empty for none.
  std::string Signs() const {
    const auto found = Find();
    return found.ok() ? (*found)->id() : "";
  }

  TempFolder folder_;
  FakeClock clock_{absl::Now()};
  const TestIdentity g1_ =
      DeveloperIdCa("Developer ID Certification Authority");
  const TestIdentity g2_ =
      DeveloperIdCa("Developer ID Certification Authority G2");
  bool with_state_ = true;
  ServerConfig config_;
  std::map<std::string, std::shared_ptr<FakeToken>> tokens_;
  Peer peer_;
  std::unique_ptr<IdentityStore> store_;
  std::unique_ptr<IdentityAdmin> admin_;
};

TEST_F(IdentityAdminTest, FromG1ToG2AndThroughEveryState) {
  Open();
  const auto staged = Stage("v2", "two");
  ASSERT_THAT(staged, IsOk());
  EXPECT_EQ(staged->state(), v1::IDENTITY_STATE_STAGED);
  EXPECT_EQ(staged->designated_requirement(),
            "anchor apple generic and certificate "
            "1[field.1.2.840.113635.100.6.2.6] exists and certificate "
            "leaf[field.1.2.840.113635.100.6.1.13] exists and certificate "
            "leaf[subject.OU] = ABCDE12345");
  EXPECT_THAT(Find("v2"), HasReason(v1::REASON_IDENTITY_DISABLED));
  EXPECT_EQ(Signs(), "v1");
  const int signed_before = tokens_["two"]->key().sign_count();
  EXPECT_THAT(Probe("v2"), IsOk());
  EXPECT_EQ(tokens_["two"]->key().sign_count(), signed_before + 1);

  const auto active = Activate("v2");
  ASSERT_THAT(active, IsOk());
  EXPECT_EQ(active->state(), v1::IDENTITY_STATE_ACTIVE);
  EXPECT_THAT(States(), ElementsAre("v1 retired", "v2 active"));
  EXPECT_EQ(Signs(), "v2");
  EXPECT_THAT(Retire("v1"), IsOk());
  EXPECT_THAT(Disable("v1"), IsOk());
  EXPECT_THAT(States(), ElementsAre("v1 disabled", "v2 active"));
  // There is no way back from there.
  EXPECT_THAT(Activate("v1"), HasReason(v1::REASON_IDENTITY_STATE));
  EXPECT_THAT(Retire("v1"), HasReason(v1::REASON_IDENTITY_STATE));
  EXPECT_EQ(Signs(), "v2");
}

TEST_F(IdentityAdminTest, ARetiredVersionSignsForThoseWhoNameItForAWhile) {
  Open();
  ASSERT_THAT(Stage("v2", "two"), IsOk());
  ASSERT_THAT(Activate("v2"), IsOk());
  const std::string sha1 = HexEncode(store_->Versions("dev")[0]->leaf_sha1());
  EXPECT_EQ((*Find("v1"))->id(), "v1");
  EXPECT_EQ((*store_->FindForSigning(sha1, "", peer_))->id(), "v1");
  EXPECT_EQ((*store_->FindForDisplay(sha1, peer_))->id(), "v1");
  EXPECT_EQ((*store_->FindForDisplay("dev", peer_))->id(), "v2");
  clock_.Advance(config_.identities[0].overlap + absl::Seconds(1));
  EXPECT_THAT(Find("v1"), HasMessage("version v1 is retired"));
  EXPECT_THAT(store_->FindForSigning(sha1, "", peer_),
              HasReason(v1::REASON_IDENTITY_DISABLED));
  EXPECT_EQ(Signs(), "v2");
  // Back again: v1 has no time limit any more.
  EXPECT_THAT(Activate("v1"), IsOk());
  clock_.Advance(absl::Hours(1));
  EXPECT_EQ((*Find("v1"))->id(), "v1");
  EXPECT_THAT(States(), ElementsAre("v1 active", "v2 retired"));
}

TEST_F(IdentityAdminTest, ATakenBackVersionNeverSigns) {
  Open();
  ASSERT_THAT(Stage("v2", "two"), IsOk());
  EXPECT_THAT(Retire("v2"), IsOk());
  EXPECT_THAT(Find("v2"), HasReason(v1::REASON_IDENTITY_DISABLED));
  EXPECT_THAT(States(), ElementsAre("v1 active", "v2 retired"));
}

TEST_F(IdentityAdminTest, NobodyStopsAnIdentityBySlip) {
  Open();
  EXPECT_THAT(Retire("v1"), HasReason(v1::REASON_IDENTITY_STATE));
  EXPECT_EQ(Signs(), "v1");
  EXPECT_THAT(Retire("v1", /*even_if_active=*/true), IsOk());
  EXPECT_EQ(Signs(), "");
}

// Even what was admitted before.
TEST_F(IdentityAdminTest, ADisabledVersionGivesItsKeyToNobody) {
  Open();
  IdentityVersion* const admitted = *Find();
  ASSERT_THAT(admitted->key(), IsOk());
  ASSERT_THAT(Disable("v1"), IsOk());
  EXPECT_THAT(admitted->key(), HasReason(v1::REASON_IDENTITY_DISABLED));
  EXPECT_THAT(Find("v1"), HasMessage("version v1 is disabled"));
}

TEST_F(IdentityAdminTest, AnotherTeamIsRefusedWithTheClause) {
  Open();
  Leaf other;
  other.team = "ZYXWV98765";
  v1::StageVersionRequest request =
      StageRequest("v2", "two", Chain("two", g2_, other));
  const auto refused = admin_->Stage(request, kAdmin);
  EXPECT_THAT(refused, HasReason(v1::REASON_REQUIREMENT_CHANGES));
  EXPECT_EQ(GetErrorDetail(refused.status())->rule(),
            "certificate leaf[subject.OU] = ABCDE12345");
  EXPECT_THAT(refused, HasMessage("(it is ZYXWV98765)"));
  EXPECT_THAT(States(), ElementsAre("v1 active"));
  // The override.
  request.set_allow_requirement_change(true);
  EXPECT_THAT(admin_->Stage(request, kAdmin), IsOk());
  EXPECT_THAT(Activate("v2"), IsOk());
  // And back is a change, too.
  EXPECT_THAT(Activate("v1"), HasReason(v1::REASON_REQUIREMENT_CHANGES));
  EXPECT_EQ(Signs(), "v2");
  EXPECT_THAT(Activate("v1", /*allow_change=*/true), IsOk());
}

TEST_F(IdentityAdminTest, AnAuthorityWithoutTheMarkerIsRefused) {
  Open();
  const TestIdentity plain = Issue(Authority("Plain Authority"), Root());
  const auto refused =
      admin_->Stage(StageRequest("v2", "two", Chain("two", plain)), kAdmin);
  EXPECT_THAT(refused, HasReason(v1::REASON_REQUIREMENT_CHANGES));
  EXPECT_EQ(GetErrorDetail(refused.status())->rule(),
            "certificate 1[field.1.2.840.113635.100.6.2.6] exists");
}

// Two versions may be staged at once: each is judged again when its turn comes.
TEST_F(IdentityAdminTest, ContinuityIsCheckedAgainAtActivation) {
  with_state_ = true;
  config_.identities[0].versions[0].state = v1::IDENTITY_STATE_STAGED;
  Open();
  Leaf other;
  other.team = "ZYXWV98765";
  ASSERT_THAT(admin_->Stage(StageRequest("v2", "two", Chain("two", g2_, other)),
                            kAdmin),
              IsOk());
  ASSERT_THAT(Activate("v1"), IsOk());
  EXPECT_THAT(Activate("v2"), HasReason(v1::REASON_REQUIREMENT_CHANGES));
}

TEST_F(IdentityAdminTest, AKeyOfAnotherCertificateIsRefused) {
  Open();
  EXPECT_THAT(
      admin_->Stage(StageRequest("v2", "three", Chain("two", g2_)), kAdmin),
      HasReason(v1::REASON_KEY_MISMATCH));
  EXPECT_THAT(States(), ElementsAre("v1 active"));
}

TEST_F(IdentityAdminTest, WhatDoesNotSignIsNotActivated) {
  Open();
  ASSERT_THAT(Stage("v2", "two"), IsOk());
  tokens_["two"]->SetSignHook([](const auto& /*sign*/) {
    return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TOKEN,
                     v1::REASON_TOKEN_DOWN, "pulled out");
  });
  EXPECT_THAT(Probe("v2"), HasReason(v1::REASON_TOKEN_DOWN));
  EXPECT_THAT(Activate("v2"), HasReason(v1::REASON_TOKEN_DOWN));
  EXPECT_EQ(Signs(), "v1");
  // Another key's signature is none.
  tokens_["two"]->SetSignHook([this](const auto& /*sign*/) {
    return tokens_["three"]->key().Sign(SignMechanism::kEcdsa,
                                        SignDigest::kSha256, Bytes(32, 7),
                                        absl::Now() + absl::Seconds(5));
  });
  EXPECT_THAT(Activate("v2"),
              ::testing::AllOf(HasReason(v1::REASON_SELF_VERIFY_FAILED),
                               HasCode(absl::StatusCode::kDataLoss)));
  EXPECT_THAT(States(), ElementsAre("v1 active", "v2 staged"));
  tokens_["two"]->SetSignHook({});
  EXPECT_THAT(Activate("v2"), IsOk());
}

TEST_F(IdentityAdminTest, ARestartChangesNothing) {
  Open();
  ASSERT_THAT(Stage("v2", "two"), IsOk());
  ASSERT_THAT(Stage("v3", "three"), IsOk());
  ASSERT_THAT(Activate("v2"), IsOk());
  Open();
  EXPECT_THAT(States(), ElementsAre("v1 retired", "v2 active", "v3 staged"));
  EXPECT_EQ(Signs(), "v2");
  EXPECT_THAT((*Find())->key(), IsOk());
  // The overlap goes on, too, with its key.
  EXPECT_THAT((*Find("v1"))->key(), IsOk());
  ASSERT_THAT(Disable("v1"), IsOk());
  Open();
  EXPECT_THAT(States(), ElementsAre("v1 disabled", "v2 active", "v3 staged"));
  EXPECT_THAT(Find("v1"), HasReason(v1::REASON_IDENTITY_DISABLED));
}

TEST_F(IdentityAdminTest, TheConfigurationWinsWhereItWasEditedSince) {
  Open();
  ASSERT_THAT(Stage("v2", "two"), IsOk());
  ASSERT_THAT(Activate("v2"), IsOk());
  // Somebody disables v1 in the file, without having edited it before.
  config_.identities[0].versions[0].state = v1::IDENTITY_STATE_DISABLED;
  Open();
  EXPECT_THAT(States(), ElementsAre("v1 disabled", "v2 active"));
  // Or takes v2 into the file and makes it staged there: it stays as it is.
  config_.identities[0].versions[0].state = v1::IDENTITY_STATE_ACTIVE;
  IdentityVersionConfig second = config_.identities[0].versions[0];
  second.id = "v2";
  second.state = v1::IDENTITY_STATE_STAGED;
  second.keys[0].token = "two";
  second.chain = folder_.Write("v2.pem", Chain("two", g2_));
  config_.identities[0].versions.push_back(second);
  Open();
  EXPECT_THAT(States(), ElementsAre("v1 retired", "v2 active"));
}

TEST_F(IdentityAdminTest, WhatCannotBeRememberedIsNotDone) {
  Open();
  ASSERT_THAT(Stage("v2", "two"), IsOk());
  std::filesystem::remove_all(folder_.Path("state"));
  EXPECT_FALSE(Activate("v2").ok());
  EXPECT_FALSE(Stage("v3", "three").ok());
  EXPECT_THAT(States(), ElementsAre("v1 active", "v2 staged"));
  with_state_ = false;
  Open();
  EXPECT_THAT(Stage("v2", "two"), HasReason(v1::REASON_STATE_STORE));
  EXPECT_THAT(Disable("v1"), HasReason(v1::REASON_STATE_STORE));
}

TEST_F(IdentityAdminTest, AskingTwiceIsNoFault) {
  Open();
  const v1::StageVersionRequest request =
      StageRequest("v2", "two", Chain("two", g2_));
  ASSERT_THAT(admin_->Stage(request, kAdmin), IsOk());
  ASSERT_THAT(admin_->Stage(request, kAdmin), IsOk());
  EXPECT_THAT(Stage("v2", "three"), HasReason(v1::REASON_IDENTITY_STATE));
  ASSERT_THAT(Activate("v2"), IsOk());
  ASSERT_THAT(Activate("v2"), IsOk());
  EXPECT_THAT(admin_->Stage(request, kAdmin),
              HasReason(v1::REASON_IDENTITY_STATE));
  EXPECT_THAT(States(), ElementsAre("v1 retired", "v2 active"));
}

TEST_F(IdentityAdminTest, ADryRunStagesNothing) {
  Open();
  v1::StageVersionRequest request =
      StageRequest("v2", "two", Chain("two", g2_));
  request.set_validate_only(true);
  EXPECT_THAT(admin_->Stage(request, kAdmin), IsOk());
  EXPECT_THAT(States(), ElementsAre("v1 active"));
}

TEST_F(IdentityAdminTest, RefusesWhatMakesNoSense) {
  Open();
  EXPECT_THAT(Stage("", "two"), HasReason(v1::REASON_BAD_REQUEST));
  EXPECT_THAT(Stage("v/2", "two"), HasReason(v1::REASON_BAD_REQUEST));
  EXPECT_THAT(
      admin_->Stage(StageRequest("v2", "four", Chain("two", g2_)), kAdmin),
      HasMessage("there is no token four"));
  EXPECT_THAT(
      admin_->Stage(StageRequest("v2", "two", "no certificate"), kAdmin),
      HasReason(v1::REASON_BAD_CERTIFICATE));
  v1::StageVersionRequest unknown =
      StageRequest("v2", "two", Chain("two", g2_));
  unknown.set_name("other");
  EXPECT_THAT(admin_->Stage(unknown, kAdmin),
              HasCode(absl::StatusCode::kNotFound));
  EXPECT_THAT(Probe("v9"), HasReason(v1::REASON_IDENTITY_NOT_FOUND));
  Leaf expired;
  expired.lifetime = -absl::Minutes(1);
  EXPECT_THAT(
      admin_->Stage(StageRequest("v2", "two", Chain("two", g2_, expired)),
                    kAdmin),
      HasReason(v1::REASON_CERTIFICATE_EXPIRED));
}

TEST_F(IdentityAdminTest, TheScheduleActivates) {
  Open();
  v1::StageVersionRequest request =
      StageRequest("v2", "two", Chain("two", g2_));
  const absl::Time due = clock_.Now() + absl::Hours(5);
  request.mutable_activate_at()->set_seconds(absl::ToUnixSeconds(due));
  ASSERT_THAT(admin_->Stage(request, kAdmin), IsOk());
  admin_->RunSchedule();
  EXPECT_EQ(Signs(), "v1");
  clock_.Advance(absl::Hours(4));
  Open();  // A restart forgets nothing.
  admin_->RunSchedule();
  EXPECT_EQ(Signs(), "v1");
  clock_.Advance(absl::Hours(1));
  // Not with a key that does not sign: v1 goes on until it does.
  tokens_["two"]->SetSignHook([](const auto& /*sign*/) {
    return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TOKEN,
                     v1::REASON_TOKEN_DOWN, "pulled out");
  });
  admin_->RunSchedule();
  EXPECT_EQ(Signs(), "v1");
  tokens_["two"]->SetSignHook({});
  clock_.Advance(absl::Seconds(2));
  admin_->RunSchedule();
  EXPECT_EQ(Signs(), "v2");
  EXPECT_THAT(States(), ElementsAre("v1 retired", "v2 active"));
}

TEST_F(IdentityAdminTest, AScheduleCanBeSetLaterAndTakenBack) {
  Open();
  ASSERT_THAT(Stage("v2", "two"), IsOk());
  v1::ActivateVersionRequest request;
  request.set_name("dev");
  request.set_version("v2");
  request.mutable_activate_at()->set_seconds(
      absl::ToUnixSeconds(clock_.Now() + absl::Hours(1)));
  ASSERT_THAT(admin_->Activate(request, kAdmin), IsOk());
  EXPECT_EQ(Signs(), "v1");
  ASSERT_THAT(Retire("v2"), IsOk());
  clock_.Advance(absl::Hours(2));
  admin_->RunSchedule();
  EXPECT_EQ(Signs(), "v1");
}

TEST_F(IdentityAdminTest, TheConfigurationMaySchedule) {
  IdentityVersionConfig second = config_.identities[0].versions[0];
  second.id = "v2";
  second.state = v1::IDENTITY_STATE_STAGED;
  second.keys[0].token = "two";
  second.chain = folder_.Write("v2.pem", Chain("two", g2_));
  second.activate_at = clock_.Now() + absl::Hours(1);
  config_.identities[0].versions.push_back(second);
  with_state_ = false;
  Open();
  admin_->RunSchedule();
  EXPECT_EQ(Signs(), "v1");
  clock_.Advance(absl::Hours(1));
  admin_->RunSchedule();
  EXPECT_EQ(Signs(), "v2");
}

TEST_F(IdentityAdminTest, TheConfigurationIsJudgedLikeAnAdministrator) {
  Leaf other;
  other.team = "ZYXWV98765";
  IdentityVersionConfig second = config_.identities[0].versions[0];
  second.id = "v2";
  second.state = v1::IDENTITY_STATE_STAGED;
  second.keys[0].token = "two";
  second.chain = folder_.Write("v2.pem", Chain("two", g2_, other));
  config_.identities[0].versions.push_back(second);
  const absl::Status refused = TryOpen();
  EXPECT_THAT(refused, HasReason(v1::REASON_BAD_CONFIG));
  EXPECT_THAT(refused, HasMessage("certificate leaf[subject.OU] = ABCDE12345"));
  EXPECT_THAT(refused, HasMessage("requirement_change: allowed"));
  config_.identities[0].versions[1].requirement_change_allowed = true;
  EXPECT_THAT(TryOpen(), IsOk());
}

TEST_F(IdentityAdminTest, SaysWhatExpires) {
  config_.identities[0].expiry_warning = absl::Hours(24 * 30);
  Leaf soon;
  soon.lifetime = absl::Hours(24 * 12) + absl::Hours(1);
  folder_.Write("v1.pem", Chain("one", g1_, soon));
  Open();
  ASSERT_THAT(Stage("v2", "two"), IsOk());
  v1::ListVersionsRequest request;
  request.set_name("dev");
  auto list = admin_->List(request);
  ASSERT_THAT(list, IsOk());
  ASSERT_EQ(list->identities_size(), 2);
  ASSERT_EQ(list->identities(0).warnings_size(), 1);
  EXPECT_THAT(list->identities(0).warnings(0),
              HasSubstr("the certificate expires in 12 days, on "));
  EXPECT_THAT(list->identities(1).warnings(), IsEmpty());
  clock_.Advance(absl::Hours(24 * 13));
  list = admin_->List(request);
  EXPECT_THAT(list->identities(0).warnings(0),
              HasSubstr("the certificate expired on "));
  EXPECT_THAT(Activate("v2"), IsOk());
  EXPECT_THAT(admin_->List(request)->identities(0).warnings(), IsEmpty());
  request.set_name("nobody");
  EXPECT_THAT(admin_->List(request), HasCode(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace codeseal
