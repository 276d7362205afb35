#include "server/client_revocation.h"

#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "gtest/gtest.h"
#include "server/peer.h"
#include "tests/support/forged_cms.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_pki.h"

namespace codeseal {
namespace {

using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::Issue;
using ::codeseal::testing::MakeRevocationList;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::RevocationListSpec;
using ::codeseal::testing::TestIdentity;

CertificateSpec Named(const std::string& name) {
  CertificateSpec spec;
  spec.common_name = name;
  return spec;
}

class ClientRevocationTest : public ::testing::Test {
 protected:
  ClientRevocationTest() { folder_.Write("ca.pem", root_.pem()); }

  void WriteLists(const std::string& der) { folder_.Write("clients.crl", der); }
  void WriteList(const TestIdentity& issuer, const RevocationListSpec& spec) {
    WriteLists(std::string(AsText(MakeRevocationList(issuer, spec))));
  }
  std::unique_ptr<ClientRevocation> Make() {
    return ClientRevocation::Create(tls_).value();
  }
  static Peer PeerOf(const std::vector<Certificate>& chain) {
    Peer peer;
    peer.chain = chain;
    peer.fingerprint = HexEncode(chain.front().Sha256());
    return peer;
  }

  testing::TempFolder folder_;
  const TestIdentity root_ = MakeRoot(Named("clients"));
  const TestIdentity leaf_ = Issue(Named("runner"), root_);
  const TlsConfig tls_ = [this] {
    TlsConfig tls;
    tls.client_ca = folder_.Path("ca.pem");
    tls.client_crl = folder_.Path("clients.crl");
    return tls;
  }();
  absl::Time now_ = absl::Now();
};

TEST_F(ClientRevocationTest, TheRevokedAreRefusedAndTheOthersNot) {
  const TestIdentity other = Issue(Named("other"), root_);
  WriteList(root_, {.revoked = {leaf_.certificate()}});
  const auto revocation = Make();
  for (int twice = 0; twice < 2; ++twice) {  // judged, then remembered
    const absl::Status refused =
        revocation->Check(PeerOf({leaf_.certificate()}), now_);
    EXPECT_THAT(refused, HasReason(v1::REASON_NOT_AUTHORISED));
    EXPECT_THAT(refused, HasMessage("is revoked"));
    EXPECT_THAT(revocation->Check(PeerOf({other.certificate()}), now_), IsOk());
  }
}

TEST_F(ClientRevocationTest, ARevokedAuthorityTakesItsClientsAlong) {
  CertificateSpec spec = Named("between");
  spec.certificate_authority = true;
  const TestIdentity between = Issue(spec, root_);
  const TestIdentity client = Issue(Named("below"), between);
  const Peer peer = PeerOf({client.certificate(), between.certificate()});
  WriteList(root_, {});
  EXPECT_THAT(Make()->Check(peer, now_), IsOk());
  WriteList(root_, {.revoked = {between.certificate()}});
  EXPECT_THAT(Make()->Check(peer, now_), HasMessage("is revoked"));
  // Of the client's own authority, which came with it.
  WriteList(between, {.revoked = {client.certificate()}});
  EXPECT_THAT(Make()->Check(peer, now_), HasMessage("is revoked"));
}

TEST_F(ClientRevocationTest, AListOfSomebodyElseSaysNothing) {
  const TestIdentity impostor = MakeRoot(Named("clients"));
  WriteList(impostor, {.revoked = {leaf_.certificate()}});
  EXPECT_THAT(Make()->Check(PeerOf({leaf_.certificate()}), now_), IsOk());
}

TEST_F(ClientRevocationTest, AListThatEndedRefuses) {
  RevocationListSpec spec;
  spec.until = now_ + absl::Minutes(10);
  WriteList(root_, spec);
  const auto revocation = Make();
  const Peer peer = PeerOf({leaf_.certificate()});
  EXPECT_THAT(revocation->Check(peer, now_), IsOk());
  EXPECT_THAT(revocation->Check(peer, now_ + absl::Minutes(20)),
              HasMessage("nobody knows"));
}

TEST_F(ClientRevocationTest, ListsAreReadAgainWhenTheyChange) {
  WriteList(root_, {});
  const auto revocation = Make();
  const Peer peer = PeerOf({leaf_.certificate()});
  EXPECT_THAT(revocation->Check(peer, now_), IsOk());
  WriteList(root_, {.revoked = {leaf_.certificate()}});
  now_ += absl::Seconds(1);
  EXPECT_THAT(revocation->Check(peer, now_), HasMessage("is revoked"));
  for (const char* const bad : {"", "no list"}) {
    WriteLists(bad);
    now_ += absl::Seconds(20);
    EXPECT_THAT(revocation->Check(peer, now_), HasMessage("is revoked"));
  }
}

TEST_F(ClientRevocationTest, MustBeReadableAtTheStart) {
  EXPECT_THAT(ClientRevocation::Create(tls_),
              HasReason(v1::REASON_FILE_NOT_FOUND));
  WriteLists("no list");
  const auto refused = ClientRevocation::Create(tls_);
  EXPECT_THAT(refused, HasReason(v1::REASON_BAD_REVOCATION_DATA));
  EXPECT_EQ(GetErrorDetail(refused.status())->subject(), tls_.client_crl);
}

}  // namespace
}  // namespace codeseal
