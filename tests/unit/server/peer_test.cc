#include "server/peer.h"

#include <filesystem>

#include "gtest/gtest.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace codeseal {
namespace {

using ::codeseal::testing::FakeClock;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

Peer Runner() {
  return {{"spiffe://corp/ci/runner"},
          {"runner.ci.example.com"},
          std::string(64, 'a'),
          kNow + absl::Hours(1)};
}

TEST(PeerRuleTest, EveryGivenFieldMustFit) {
  const Peer peer = Runner();
  const auto fits = [&](const PeerRule& rule) {
    return AnyRuleFits(std::vector<PeerRule>{rule}, peer);
  };
  EXPECT_TRUE(fits({"spiffe://corp/ci/*", "", ""}));
  EXPECT_TRUE(fits({"", "*.ci.example.com", ""}));
  EXPECT_TRUE(fits({"", "", std::string(64, 'a')}));
  EXPECT_TRUE(
      fits({"spiffe://corp/**", "*.ci.example.com", std::string(64, 'a')}));
  EXPECT_FALSE(fits({"spiffe://corp/*", "", ""}));
  EXPECT_FALSE(fits({"", "*.example.com", ""}));
  EXPECT_FALSE(fits({"spiffe://corp/ci/*", "other.ci.example.com", ""}));
  EXPECT_FALSE(fits({"spiffe://corp/ci/*", "", std::string(64, 'b')}));
  EXPECT_FALSE(fits({}));
  EXPECT_FALSE(AnyRuleFits({}, peer));
}

TEST(PeerRuleTest, APinnedKeyIsTheKeyAndNothingElse) {
  Peer peer = Runner();
  peer.key_fingerprint = std::string(64, 'c');
  PeerRule rule;
  rule.key_fingerprint = std::string(64, 'c');
  EXPECT_TRUE(AnyRuleFits(std::vector<PeerRule>{rule}, peer));
  rule.key_fingerprint = peer.fingerprint;
  EXPECT_FALSE(AnyRuleFits(std::vector<PeerRule>{rule}, peer));
}

TEST(PeerTest, NameIsTheFirstThatExists) {
  Peer peer = Runner();
  EXPECT_EQ(peer.Name(), "spiffe://corp/ci/runner");
  peer.uris.clear();
  EXPECT_EQ(peer.Name(), "runner.ci.example.com");
  peer.dns_names.clear();
  EXPECT_EQ(peer.Name(), "sha256:" + std::string(64, 'a'));
}

TEST(PeerGateTest, ExpiryIsCheckedAtEveryCall) {
  FakeClock clock(kNow);
  const auto gate = PeerGate::Create(TlsConfig(), clock);
  ASSERT_THAT(gate, IsOk());
  EXPECT_THAT((*gate)->Check(Runner()), IsOk());
  clock.Advance(absl::Hours(1));
  EXPECT_THAT((*gate)->Check(Runner()), HasReason(v1::REASON_NOT_AUTHORISED));
}

class DenyListTest : public ::testing::Test {
 protected:
  // Writes the list with a time of its own, however fast the test is.
  void Write(const std::string& text) {
    folder_.Write("deny.yaml", text);
    ++write_count_;
    std::filesystem::last_write_time(
        path_,
        std::filesystem::file_time_type{} + std::chrono::seconds(write_count_));
  }

  testing::TempFolder folder_;
  const std::string path_ = folder_.Path("deny.yaml");
  const TlsConfig tls_ = [this] {
    TlsConfig tls;
    tls.deny_list = path_;
    return tls;
  }();
  int write_count_ = 0;
  FakeClock clock_{kNow};
};

TEST_F(DenyListTest, IsReadAgainWhenItChanges) {
  Write("version: 1\ndeny: []\n");
  const auto gate = PeerGate::Create(tls_, clock_);
  ASSERT_THAT(gate, IsOk());
  EXPECT_THAT((*gate)->Check(Runner()), IsOk());
  Write("version: 1\ndeny: [{dns: runner.ci.example.com}]\n");
  clock_.Advance(absl::Seconds(1));
  EXPECT_THAT((*gate)->Check(Runner()), HasMessage("on the deny list"));
  Write("version: 1\ndeny: []\n");
  clock_.Advance(absl::Seconds(1));
  EXPECT_THAT((*gate)->Check(Runner()), IsOk());
}

TEST_F(DenyListTest, ABadListLeavesTheLastGoodOneInForce) {
  Write("version: 1\ndeny: [{dns: runner.ci.example.com}]\n");
  const auto gate = PeerGate::Create(tls_, clock_);
  ASSERT_THAT(gate, IsOk());
  for (const char* const bad : {"deny: [", "", "version: 1\ndeny: {}\n"}) {
    Write(bad);
    clock_.Advance(absl::Seconds(1));
    EXPECT_THAT((*gate)->Check(Runner()), HasMessage("on the deny list"));
  }
  std::filesystem::remove(path_);
  clock_.Advance(absl::Seconds(1));
  EXPECT_THAT((*gate)->Check(Runner()), HasMessage("on the deny list"));
}

TEST_F(DenyListTest, MustBeReadableAtTheStart) {
  EXPECT_THAT(PeerGate::Create(tls_, clock_),
              HasReason(v1::REASON_FILE_NOT_FOUND));
}

}  // namespace
}  // namespace codeseal
