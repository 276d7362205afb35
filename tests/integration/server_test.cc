// codeseald as a process: real mutual TLS, real SoftHSM tokens.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/cms/certificate.h"
#include "codesign/code_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/test_client.h"
#include "tests/support/forged_cms.h"
#include "tests/support/server_process.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildSignRequest;
using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::ClientFiles;
using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::RandomUuid;
using ::codeseal::testing::ServerProcess;
using ::codeseal::testing::ServerWorld;
using ::codeseal::testing::SignRequestSpec;
using ::codeseal::testing::TestClient;
using ::testing::HasSubstr;
using ::testing::SizeIs;

v1::SignRequest NewRequest(const std::string& identity,
                           SignRequestSpec spec = {}) {
  spec.request_id = RandomUuid();
  spec.identity = identity;
  return BuildSignRequest(spec);
}

// On one connection; OK when nothing refuses for 15 seconds.
absl::Status SignUntilRefused(TestClient& client) {
  absl::Status status;
  const absl::Time give_up = absl::Now() + absl::Seconds(15);
  while (status.ok() && absl::Now() < give_up) {
    status = client.Sign(NewRequest("ec")).status();
  }
  return status;
}

class ServerTest : public ::testing::Test {
 protected:
  void Start() { Start(world_.Config()); }
  void Start(const std::string& config,
             const ServerProcess::Options& options = {}) {
    server_ =
        std::make_unique<ServerProcess>(world_.WriteConfig(config), options);
    client_ = std::make_unique<TestClient>(NewClient(world_.client()));
  }
  TestClient NewClient(const ClientFiles& files) const {
    return {server_->address(), world_.tls_ca(), files};
  }
  // What another program says of the signature.
  std::string OpensslVerify(const v1::SignRequest& request,
                            const std::string& cms) {
    const auto& folder = world_.folder();
    return world_.softhsm().Run(
        {"openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in",
         folder.Write("signature", cms), "-content",
         folder.Write("content",
                      request.code_directory_set().code_directories(0)),
         "-CAfile", world_.code_ca(), "-purpose", "any", "-out", "/dev/null"});
  }

  ServerWorld world_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<TestClient> client_;
};

TEST_F(ServerTest, SignsWithRsaAndEcKeysAndOthersAgree) {
  Start();
  for (const char* const identity : {"rsa", "ec"}) {
    SignRequestSpec spec;
    spec.digests = {DigestKind::kSha1, DigestKind::kSha256};
    const v1::SignRequest request = NewRequest(identity, spec);
    const TestClient::Result signed_code = client_->Sign(request);
    ASSERT_THAT(signed_code, IsOk());
    EXPECT_THAT(OpensslVerify(request, signed_code->cms()),
                HasSubstr("successful"));
    EXPECT_EQ(signed_code->request_id(), request.request_id());
    EXPECT_EQ(signed_code->identity_version(), "v1");
    EXPECT_THAT(signed_code->certificate_chain(), SizeIs(2));
    ASSERT_THAT(signed_code->cdhashes(), SizeIs(2));
    const CdHash cdhash = ComputeCdHash(
        DigestKind::kSha256,
        AsBytes(request.code_directory_set().code_directories(1)));
    EXPECT_EQ(HexEncode(AsBytes(signed_code->cdhashes(1))), HexEncode(cdhash));
    const absl::Time at =
        absl::FromUnixSeconds(signed_code->signing_time().seconds());
    EXPECT_LT(absl::AbsDuration(absl::Now() - at), absl::Minutes(1));
  }
}

TEST_F(ServerTest, ValidateOnlyUsesNoKey) {
  Start();
  v1::SignRequest request = NewRequest("rsa");
  request.set_validate_only(true);
  const TestClient::Result judged = client_->Sign(request);
  ASSERT_THAT(judged, IsOk());
  EXPECT_EQ(judged->cms(), "");
  EXPECT_THAT(judged->cdhashes(), SizeIs(1));
}

TEST_F(ServerTest, OneStreamCarriesAWholeApp) {
  Start();
  std::vector<v1::SignRequest> requests;
  for (int i = 0; i < 199; ++i) {
    requests.push_back(NewRequest(i % 2 == 0 ? "" : "ec"));
  }
  SignRequestSpec big;
  big.code_page_count = (16 << 20) / 32;  // 2 GiB of code: 16 MiB of digests
  requests.push_back(NewRequest("", big));
  // One item that can't be signed must not end the stream.
  requests[100].mutable_code_directory_set()->clear_requirements();

  absl::Status end;
  auto results = client_->SignAll(requests, "rsa", &end);
  EXPECT_THAT(end, IsOk());
  ASSERT_THAT(results, SizeIs(200));
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto& result = results.at(requests[i].request_id());
    if (i == 100) {
      EXPECT_THAT(result, HasReason(v1::REASON_BAD_CODE_DIRECTORY));
    } else {
      EXPECT_THAT(result, IsOk()) << i;
    }
  }
  EXPECT_THAT(OpensslVerify(requests.back(),
                            results.at(requests.back().request_id())->cms()),
              HasSubstr("successful"));
}

TEST_F(ServerTest, AStreamOfNonsenseEndsWithAReason) {
  Start();
  const auto end_of = [&](std::vector<v1::SignStreamRequest> messages) {
    grpc::ClientContext context;
    const auto stream = client_->OpenStream(context);
    for (const v1::SignStreamRequest& each : messages) stream->Write(each);
    stream->WritesDone();
    v1::SignStreamResponse ignored;
    while (stream->Read(&ignored)) {
    }
    return testing::Decode(stream->Finish());
  };
  v1::SignStreamRequest open;
  open.mutable_open()->set_identity("rsa");
  v1::SignStreamRequest item;
  *item.mutable_item() = NewRequest("rsa");
  v1::SignStreamRequest chunk;
  chunk.mutable_chunk()->set_request_id(RandomUuid());
  chunk.mutable_chunk()->set_total_size(10);
  chunk.mutable_chunk()->set_data("12345");
  v1::SignStreamRequest other = chunk;
  other.mutable_chunk()->set_request_id(RandomUuid());
  v1::SignStreamRequest too_much = chunk;
  too_much.mutable_chunk()->set_data("123456");
  v1::SignStreamRequest empty_piece = chunk;
  empty_piece.mutable_chunk()->clear_data();

  const auto bad = HasReason(v1::REASON_BAD_REQUEST);
  EXPECT_THAT(end_of({item}), bad);
  EXPECT_THAT(end_of({open, open}), bad);
  EXPECT_THAT(end_of({open, v1::SignStreamRequest()}), bad);
  EXPECT_THAT(end_of({open, chunk, other}), bad);
  EXPECT_THAT(end_of({open, chunk, item}), bad);
  EXPECT_THAT(end_of({open, chunk, too_much}), bad);
  EXPECT_THAT(end_of({open, empty_piece}), bad);
  // An item that never comes whole is nobody's fault, and no harm.
  EXPECT_THAT(end_of({open, chunk}), IsOk());
  EXPECT_THAT(end_of({open}), IsOk());
  EXPECT_THAT(client_->Sign(NewRequest("rsa")), IsOk());
}

TEST_F(ServerTest, WhatIsTooLargeIsRefusedByItself) {
  Start(world_.Config(world_.TokensSection(), world_.IdentitiesSection(),
                      "limits: {item: 1MiB}\n"));
  SignRequestSpec big;
  big.code_page_count = (2 << 20) / 32;
  std::vector<v1::SignRequest> requests = {NewRequest(""), NewRequest("", big),
                                           NewRequest("")};
  absl::Status end;
  const auto results =
      client_->SignAll(requests, "rsa", &end, size_t{256} << 10);
  EXPECT_THAT(end, IsOk());
  ASSERT_THAT(results, SizeIs(3));
  EXPECT_THAT(results.at(requests[0].request_id()), IsOk());
  EXPECT_THAT(results.at(requests[1].request_id()),
              HasReason(v1::REASON_MESSAGE_TOO_LARGE));
  EXPECT_THAT(results.at(requests[2].request_id()), IsOk());
}

TEST_F(ServerTest, TamperedCodeDirectoriesAreRefused) {
  Start();
  v1::SignRequest request = NewRequest("rsa");
  (*request.mutable_code_directory_set()->mutable_requirements())[11] ^= 1;
  const TestClient::Result refused = client_->Sign(request);
  EXPECT_THAT(refused, HasReason(v1::REASON_BAD_CODE_DIRECTORY));
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(GetErrorDetail(refused.status())->request_id(),
            request.request_id());
  EXPECT_THAT(server_->log(), HasSubstr(request.request_id()));

  request = NewRequest("rsa");
  request.mutable_code_directory_set()->mutable_code_directories(0)->resize(60);
  EXPECT_THAT(client_->Sign(request),
              HasCode(absl::StatusCode::kInvalidArgument));
  request = NewRequest("rsa");
  request.set_request_id("not a UUID");
  EXPECT_THAT(client_->Sign(request), HasReason(v1::REASON_BAD_REQUEST));
}

TEST_F(ServerTest, PolicySaysNoWithTheRulesName) {
  Start(world_.Config(
      world_.TokensSection(),
      "identities:\n" + ServerWorld::Identity(
                            "rsa", "main", "01", "main-01.chain.pem",
                            "    rules: {identifiers: [com.example.*]}\n")));
  EXPECT_THAT(client_->Sign(NewRequest("rsa")), IsOk());
  SignRequestSpec other;
  other.identifier = "org.example.demo";
  const TestClient::Result refused = client_->Sign(NewRequest("rsa", other));
  EXPECT_THAT(refused, HasReason(v1::REASON_POLICY_VIOLATION));
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kPermissionDenied));
  EXPECT_EQ(GetErrorDetail(refused.status())->rule(), "rsa/identifiers");
}

// --- who may -----------------------------------------------------------------

TEST_F(ServerTest, promise_27_forbidden_and_unknown_look_the_same) {
  Start();
  const auto list = client_->ListIdentities();
  ASSERT_THAT(list, IsOk());
  ASSERT_THAT(*list, SizeIs(2));
  const v1::Identity& rsa = (*list)[0];
  EXPECT_EQ(rsa.name(), "rsa");
  EXPECT_EQ(rsa.state(), v1::IDENTITY_STATE_ACTIVE);
  EXPECT_EQ(rsa.key_algorithm(), "rsa2048");
  EXPECT_EQ(rsa.common_name(), "codeseal test signer main-01");
  EXPECT_EQ(rsa.unavailable_because(), "");
  EXPECT_THAT(rsa.certificate_chain(), SizeIs(2));
  const auto by_sha1 =
      client_->GetIdentity(HexEncode(AsBytes(rsa.leaf_sha1())));
  ASSERT_THAT(by_sha1, IsOk());
  EXPECT_EQ(by_sha1->name(), "rsa");

  CertificateSpec stranger;
  stranger.uris = {"spiffe://test/other"};
  TestClient other = NewClient(world_.AddClient("other", stranger));
  const auto others = other.ListIdentities();
  ASSERT_THAT(others, IsOk());
  EXPECT_THAT(*others, SizeIs(0));
  // Forbidden and unknown look the same, name apart.
  const absl::Status forbidden = other.GetIdentity("rsa").status();
  const absl::Status unknown = other.GetIdentity("nobody").status();
  EXPECT_THAT(forbidden, HasReason(v1::REASON_IDENTITY_NOT_FOUND));
  EXPECT_EQ(forbidden.code(), unknown.code());
  EXPECT_EQ(Message(forbidden), Message(unknown));
  EXPECT_EQ(GetErrorDetail(unknown)->reason(),
            GetErrorDetail(forbidden)->reason());
  EXPECT_THAT(other.Sign(NewRequest("rsa")),
              HasReason(v1::REASON_IDENTITY_NOT_FOUND));
  EXPECT_THAT(client_->Sign(NewRequest("nobody")),
              HasReason(v1::REASON_IDENTITY_NOT_FOUND));
  v1::SignRequest pinned = NewRequest("rsa");
  pinned.set_identity_version("v2");
  EXPECT_THAT(client_->Sign(pinned), HasReason(v1::REASON_IDENTITY_NOT_FOUND));
}

TEST_F(ServerTest, promise_27_only_the_trusted_authoritys_living_clients) {
  Start();
  CertificateSpec spec;
  spec.uris = {ServerWorld::kClientUri};
  CertificateSpec expired = spec;
  expired.not_before = absl::Now() - absl::Hours(2);
  expired.not_after = absl::Now() - absl::Hours(1);
  EXPECT_THAT(
      NewClient(world_.AddClient("expired", expired)).Sign(NewRequest("rsa")),
      HasCode(absl::StatusCode::kUnavailable));

  // The same names from another authority.
  CertificateSpec authority;
  authority.common_name = "codeseal test TLS CA";
  CertificateSpec rogue = spec;
  rogue.extended_key_usage = {testing::kClientAuth};
  const testing::TestIdentity identity =
      testing::Issue(rogue, testing::MakeRoot(authority));
  const ClientFiles files = {
      world_.folder().Write("rogue.pem", identity.pem()),
      world_.folder().Write("rogue.key", identity.key_pem())};
  EXPECT_THAT(NewClient(files).Sign(NewRequest("rsa")),
              HasCode(absl::StatusCode::kUnavailable));
  EXPECT_THAT(client_->Sign(NewRequest("rsa")), IsOk());
}

TEST_F(ServerTest, promise_27_a_pinned_key_and_no_other) {
  const ClientFiles files = world_.AddClient("pinned", {});
  const auto certificate =
      Certificate::ParsePem(world_.folder().Read("pinned.pem"));
  ASSERT_THAT(certificate, IsOk());
  const std::string pin = HexEncode(ComputeDigest(
      DigestKind::kSha256, certificate->front().SubjectPublicKeyInfo()));
  std::string config = world_.Config();
  const std::string rule =
      "spiffe: \"" + std::string(ServerWorld::kClientUri) + "\"";
  const size_t last = config.rfind(rule);
  ASSERT_NE(last, std::string::npos);
  config.replace(last, rule.size(), "key_fingerprint: " + pin);
  Start(config);
  EXPECT_THAT(NewClient(files).Sign(NewRequest("ec")), IsOk());
  EXPECT_THAT(client_->Sign(NewRequest("ec")),
              HasReason(v1::REASON_IDENTITY_NOT_FOUND));
}

TEST_F(ServerTest, promise_28_expiry_bites_on_an_open_connection) {
  Start();
  CertificateSpec spec;
  spec.uris = {ServerWorld::kClientUri};
  spec.not_after = absl::Now() + absl::Seconds(4);
  TestClient brief = NewClient(world_.AddClient("brief", spec));
  ASSERT_THAT(brief.Sign(NewRequest("ec")), IsOk());
  const absl::Status status = SignUntilRefused(brief);
  EXPECT_THAT(status, HasReason(v1::REASON_NOT_AUTHORISED));
  EXPECT_THAT(status, HasMessage("expired"));
}

TEST_F(ServerTest, promise_28_the_deny_list_bites_on_an_open_connection) {
  world_.folder().Write("deny.yaml", "version: 1\ndeny: []\n");
  std::string config = world_.Config();
  config.replace(config.find("tls-ca.pem}"), 11,
                 "tls-ca.pem, deny_list: deny.yaml}");
  Start(config);
  ASSERT_THAT(client_->Sign(NewRequest("ec")), IsOk());
  world_.folder().Write("deny.yaml",
                        "version: 1\ndeny: [{spiffe: \"spiffe://test/*\"}]\n");
  const absl::Status status = SignUntilRefused(*client_);
  EXPECT_THAT(status, HasReason(v1::REASON_NOT_AUTHORISED));
  EXPECT_THAT(status, HasMessage("deny list"));
}

TEST_F(ServerTest, promise_28_a_revocation_bites_on_an_open_connection) {
  const auto write_list = [&](const std::vector<Certificate>& revoked) {
    world_.folder().Write("clients.crl",
                          AsText(testing::MakeRevocationList(
                              world_.tls_authority(), {.revoked = revoked})));
  };
  write_list({});
  std::string config = world_.Config();
  config.replace(config.find("tls-ca.pem}"), 11,
                 "tls-ca.pem, client_crl: clients.crl}");
  Start(config);
  CertificateSpec spec;
  spec.uris = {ServerWorld::kClientUri};
  const ClientFiles files = world_.AddClient("leaver", spec);
  TestClient leaver = NewClient(files);
  ASSERT_THAT(leaver.Sign(NewRequest("ec")), IsOk());
  const auto certificate =
      Certificate::ParsePem(world_.folder().Read("leaver.pem"));
  ASSERT_THAT(certificate, IsOk());
  write_list({certificate->front()});
  const absl::Status status = SignUntilRefused(leaver);
  EXPECT_THAT(status, HasReason(v1::REASON_NOT_AUTHORISED));
  EXPECT_THAT(status, HasMessage("is revoked"));
  EXPECT_THAT(client_->Sign(NewRequest("ec")), IsOk());
  // A list that cannot be read changes nothing.
  world_.folder().Write("clients.crl", "no list");
  absl::SleepFor(absl::Seconds(1));
  EXPECT_THAT(leaver.Sign(NewRequest("ec")),
              HasReason(v1::REASON_NOT_AUTHORISED));
  EXPECT_THAT(client_->Sign(NewRequest("ec")), IsOk());
  EXPECT_THAT(server_->log(), HasSubstr("client_crl_unreadable"));
}

// --- keys --------------------------------------------------------------------

TEST_F(ServerTest, AnImportedKeyIsRefusedAndTheOthersServe) {
  const auto key = testing::MakeSelfSigned({});
  world_.softhsm().ImportKey("main", "imported", {0x07}, key.key_pem());
  world_.WriteChain("imported", key.certificate().SubjectPublicKeyInfo());
  const std::string entry =
      ServerWorld::Identity("imported", "main", "07", "imported.chain.pem");
  Start(world_.Config(world_.TokensSection(),
                      world_.IdentitiesSection() + entry));
  const TestClient::Result refused = client_->Sign(NewRequest("imported"));
  EXPECT_THAT(refused, HasReason(v1::REASON_KEY_POLICY));
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kFailedPrecondition));
  const auto identity = client_->GetIdentity("imported");
  ASSERT_THAT(identity, IsOk());
  EXPECT_EQ(identity->unavailable_because(), Message(refused.status()));
  EXPECT_NE(identity->unavailable_because(), "");
  EXPECT_THAT(server_->log(), HasSubstr("key_policy: imported-allowed"));
  EXPECT_THAT(client_->Sign(NewRequest("rsa")), IsOk());
  server_->Stop();

  Start(world_.Config(world_.TokensSection(),
                      world_.IdentitiesSection() + entry +
                          "    key_policy: imported-allowed\n"));
  EXPECT_THAT(client_->Sign(NewRequest("imported")), IsOk());
}

TEST_F(ServerTest, ACertificateOfAnotherKeyIsRefused) {
  Start(world_.Config(
      world_.TokensSection(),
      "identities:\n" +
          ServerWorld::Identity("swapped", "main", "01", "main-02.chain.pem")));
  EXPECT_THAT(client_->Sign(NewRequest("swapped")),
              HasReason(v1::REASON_KEY_MISMATCH));
}

// --- the process -------------------------------------------------------------

TEST_F(ServerTest, HealthIsServedAndSigtermEndsItWell) {
  Start();
  EXPECT_EQ(client_->Health(""), "SERVING");
  EXPECT_EQ(client_->Health("codeseal.v1.SigningService"), "SERVING");
  EXPECT_EQ(server_->Stop(), 0);
}

TEST_F(ServerTest, promise_37_drain_answers_whatever_was_taken) {
  Start();
  absl::Notification begun;
  std::atomic<int> signed_count = 0;
  std::atomic<int> refused_count = 0;
  std::vector<std::string> lost;
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      TestClient client = NewClient(world_.client());
      for (;;) {
        const TestClient::Result result = client.Sign(NewRequest("rsa"));
        if (result.ok()) {
          if (++signed_count == 40) begun.Notify();
          continue;
        }
        // Refused with the reason, or not connected any more; nothing else.
        ++refused_count;
        if (!absl::IsUnavailable(result.status())) {
          const std::lock_guard lock(mutex);
          lost.push_back(result.status().ToString());
        }
        return;
      }
    });
  }
  ASSERT_TRUE(begun.WaitForNotificationWithTimeout(absl::Seconds(30)));
  EXPECT_EQ(server_->Stop(), 0);
  for (std::thread& each : threads) each.join();
  EXPECT_EQ(refused_count, 4);  // every thread was told
  EXPECT_THAT(lost, SizeIs(0));
  // Nothing was signed for nobody.
  EXPECT_EQ(signed_count, server_->EventCount("signed"));
}

TEST_F(ServerTest, promise_37_drain_ends_streams_after_their_answers) {
  Start();
  grpc::ClientContext context;
  const auto stream = client_->OpenStream(context);
  v1::SignStreamRequest message;
  message.mutable_open()->set_identity("rsa");
  ASSERT_TRUE(stream->Write(message));
  *message.mutable_item() = NewRequest("");
  ASSERT_TRUE(stream->Write(message));
  v1::SignStreamResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_TRUE(response.has_credit());
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_TRUE(response.result().has_response());
  server_->Terminate();
  EXPECT_FALSE(stream->Read(&response));
  const absl::Status end = testing::Decode(stream->Finish());
  EXPECT_THAT(end, HasReason(v1::REASON_DRAINING));
  EXPECT_THAT(end, HasCode(absl::StatusCode::kUnavailable));
  EXPECT_EQ(server_->Wait(), 0);
}

TEST_F(ServerTest, promise_33_more_connections_than_descriptors) {
  Start(world_.Config(), {.max_descriptors = 64});
  ASSERT_THAT(client_->Sign(NewRequest("ec")), IsOk());
  const std::string& address = server_->address();
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(
      static_cast<uint16_t>(std::stoi(address.substr(address.find(':') + 1))));
  for (int round = 0; round < 2; ++round) {
    std::vector<int> flood;
    for (int i = 0; i < 200; ++i) {
      flood.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      ASSERT_EQ(connect(flood.back(), reinterpret_cast<const sockaddr*>(&to),
                        sizeof to),
                0);
    }
    // The last one is shed: so all were accepted by then.
    pollfd event{flood.back(), POLLIN, 0};
    EXPECT_EQ(poll(&event, 1, 20'000), 1);
    // Whoever is connected already is served.
    EXPECT_THAT(client_->Sign(NewRequest("ec")), IsOk());
    for (const int fd : flood) close(fd);
    absl::Status status = absl::UnknownError("not tried");
    const absl::Time give_up = absl::Now() + absl::Seconds(20);
    while (!status.ok() && absl::Now() < give_up) {
      status = NewClient(world_.client()).Sign(NewRequest("ec")).status();
    }
    EXPECT_THAT(status, IsOk());
  }
}

}  // namespace
}  // namespace codeseal
