// Mutual TLS against a server in this process, with certificates of all kinds.

#include "client/connection.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "client/remote_signer.h"
#include "codeseal/v1/identity.grpc.pb.h"
#include "gtest/gtest.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_pki.h"

namespace codeseal::client {
namespace {

using ::codeseal::testing::CertificateSpec;
using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::Issue;
using ::codeseal::testing::MakeRoot;
using ::codeseal::testing::TestIdentity;
using ::testing::AllOf;

class EmptyIdentities : public v1::IdentityService::Service {
  grpc::Status ListIdentities(grpc::ServerContext*,
                              const v1::ListIdentitiesRequest*,
                              v1::ListIdentitiesResponse*) override {
    return grpc::Status::OK;
  }
};

TestIdentity IssueServer(const TestIdentity& root, const std::string& name) {
  CertificateSpec spec;
  spec.common_name = "server";
  spec.dns_names = {name};
  spec.extended_key_usage = {codeseal::testing::kServerAuth};
  return Issue(spec, root);
}

TestIdentity IssueClient(const TestIdentity& root,
                         absl::Duration lifetime = absl::Hours(24)) {
  CertificateSpec spec;
  spec.common_name = "client";
  spec.uris = {"spiffe://test/build-host"};
  spec.extended_key_usage = {codeseal::testing::kClientAuth};
  spec.not_before = absl::Now() - absl::Hours(48);
  spec.not_after = absl::Now() + lifetime;
  return Issue(spec, root);
}

class ConnectionTest : public ::testing::Test {
 protected:
  void StartServer(const TestIdentity& identity) {
    grpc::SslServerCredentialsOptions options(
        GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    options.pem_root_certs = root_.pem();
    options.pem_key_cert_pairs = {{identity.key_pem(), identity.pem()}};
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(options),
                             &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    settings_.server = "localhost:" + std::to_string(port);
  }

  void UseClient(const TestIdentity& client, const TestIdentity& ca) {
    settings_.ca = folder_.Write("ca.pem", ca.pem());
    settings_.cert = folder_.Write("client.pem", client.pem());
    settings_.key = folder_.Write("client.key", client.key_pem());
  }

  absl::Status Call() {
    ASSIGN_OR_RETURN(std::vector<std::shared_ptr<grpc::Channel>> channels,
                     OpenChannels(settings_, clock_));
    const std::unique_ptr<Signer> signer =
        MakeRemoteSigner(std::move(channels),
                         {.limits = {.timeout = absl::Seconds(20),
                                     .attempt_count = 2,
                                     .first_delay = absl::Milliseconds(1)}});
    return signer->ListIdentities().status();
  }

  codeseal::testing::TempFolder folder_;
  const TestIdentity root_ = MakeRoot(CertificateSpec());
  const TestIdentity client_ = IssueClient(root_);
  EmptyIdentities service_;
  std::unique_ptr<grpc::Server> server_;
  ConnectionSettings settings_;
  SystemClock clock_;
};

TEST_F(ConnectionTest, BothSidesProveThemselves) {
  StartServer(IssueServer(root_, "localhost"));
  UseClient(client_, root_);
  EXPECT_THAT(Call(), IsOk());
}

TEST_F(ConnectionTest, ServerOfAnotherCaIsRefused) {
  StartServer(IssueServer(root_, "localhost"));
  UseClient(client_, MakeRoot(CertificateSpec()));
  EXPECT_THAT(Call(), HasReason(v1::REASON_TLS_FAILED));
}

TEST_F(ConnectionTest, ServerOfAnotherNameIsRefused) {
  StartServer(IssueServer(root_, "elsewhere.example"));
  UseClient(client_, root_);
  EXPECT_THAT(Call(), HasReason(v1::REASON_TLS_FAILED));
}

TEST_F(ConnectionTest, ClientThatTheServerDoesNotKnowIsToldSo) {
  StartServer(IssueServer(root_, "localhost"));
  UseClient(IssueClient(MakeRoot(CertificateSpec())), root_);
  // TLS 1.3 lets the server judge our certificate only after the handshake; all
  // that is seen of its verdict is a closed connection.
  EXPECT_THAT(Call(), AllOf(HasReason(v1::REASON_SERVER_UNREACHABLE),
                            HasMessage("does not accept the client")));
}

TEST_F(ConnectionTest, NobodyThereIsNotATlsFault) {
  settings_.server = "127.0.0.1:1";
  UseClient(client_, root_);
  EXPECT_THAT(Call(), HasReason(v1::REASON_SERVER_UNREACHABLE));
}

// What an overloaded codeseald does with connections above its cap.
TEST_F(ConnectionTest, ServerThatHangsUpBeforeTlsMayBeTriedAgain) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(listener, 8), 0);
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  std::thread server([listener] {
    for (;;) {
      const int peer = accept(listener, nullptr, nullptr);
      if (peer < 0) break;
      close(peer);
    }
  });
  settings_.server = "localhost:" + std::to_string(ntohs(address.sin_port));
  UseClient(client_, root_);
  const absl::Status status = Call();
  shutdown(listener, SHUT_RDWR);
  server.join();
  close(listener);
  EXPECT_THAT(status, HasReason(v1::REASON_SERVER_UNREACHABLE));
  EXPECT_TRUE(MayTryAgain(status));
}

TEST_F(ConnectionTest, ExpiredClientCertificateIsNamedBeforeAnyCall) {
  settings_.server = "127.0.0.1:1";
  UseClient(IssueClient(root_, -absl::Hours(1)), root_);
  EXPECT_THAT(Call(), AllOf(HasReason(v1::REASON_CERTIFICATE_EXPIRED),
                            HasMessage("expired on ")));
}

TEST_F(ConnectionTest, FilesThatAreNotPemAreNamed) {
  settings_.server = "127.0.0.1:1";
  UseClient(client_, root_);
  settings_.ca = folder_.Path("missing.pem");
  EXPECT_THAT(Call(), AllOf(HasReason(v1::REASON_FILE_NOT_FOUND),
                            HasMessage(settings_.ca)));
  settings_.ca = folder_.Write("garbage", "garbage");
  EXPECT_THAT(Call(), HasReason(v1::REASON_BAD_CERTIFICATE));
  EXPECT_EQ(GetErrorDetail(Call())->subject(), settings_.ca);
  UseClient(client_, root_);
  settings_.key = settings_.cert;
  EXPECT_THAT(Call(), AllOf(HasReason(v1::REASON_BAD_CERTIFICATE),
                            HasMessage("PRIVATE KEY")));
  UseClient(client_, root_);
  folder_.Write("client.key", IssueClient(root_).key_pem());
  StartServer(IssueServer(root_, "localhost"));
  EXPECT_THAT(Call(), AllOf(HasReason(v1::REASON_TLS_FAILED),
                            HasMessage("does the key belong")));
}

TEST(RetryTest, StopsAtSuccessRefusalAndLimit) {
  const CallLimits limits = {.timeout = absl::Seconds(1),
                             .attempt_count = 3,
                             .first_delay = absl::Milliseconds(1)};
  const auto down = [] {
    return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TOKEN,
                     v1::REASON_TOKEN_DOWN, "down");
  };
  int count = 0;
  EXPECT_THAT(
      CallWithRetry(limits,
                    [&] { return ++count < 3 ? down() : absl::OkStatus(); }),
      IsOk());
  EXPECT_EQ(count, 3);
  count = 0;
  EXPECT_THAT(CallWithRetry(limits,
                            [&] {
                              ++count;
                              return down();
                            }),
              HasReason(v1::REASON_TOKEN_DOWN));
  EXPECT_EQ(count, 3);
  count = 0;
  EXPECT_THAT(CallWithRetry(limits,
                            [&] {
                              ++count;
                              return MakeError(
                                  absl::StatusCode::kFailedPrecondition,
                                  v1::STAGE_TOKEN, v1::REASON_PIN_REJECTED, "");
                            }),
              HasReason(v1::REASON_PIN_REJECTED));
  EXPECT_EQ(count, 1);
}

}  // namespace
}  // namespace codeseal::client
