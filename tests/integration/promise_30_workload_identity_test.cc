// Promise 30: a CI job proves itself with an OpenID Connect token beside its
// host's certificate; forged, misdirected, stolen and renamed ones are refused.
// tests/unit/server/workload_identity_test.cc has the corpus of bad tokens.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/client_fixture.h"
#include "tests/integration/test_client.h"
#include "tests/support/server_process.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/token_issuer.h"

namespace codeseal::testing {
namespace {

// Answers every HTTP request on the loopback interface with one document.
class DocumentServer {
 public:
  explicit DocumentServer(std::string document)
      : document_(std::move(document)),
        socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(socket_, generic, size) != 0 || listen(socket_, 8) != 0 ||
        getsockname(socket_, generic, &size) != 0) {
      std::abort();
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~DocumentServer() {
    shutdown(socket_, SHUT_RDWR);
    thread_.join();
    close(socket_);
  }
  DocumentServer(const DocumentServer&) = delete;
  DocumentServer& operator=(const DocumentServer&) = delete;

  std::string url() const {
    return "http://127.0.0.1:" + std::to_string(port_) + "/keys";
  }

 private:
  void Serve() {
    for (;;) {
      const int connection = accept(socket_, nullptr, nullptr);
      if (connection < 0) return;
      std::string request;
      char buffer[1024];
      while (request.find("\r\n\r\n") == std::string::npos) {
        const ssize_t count = read(connection, buffer, sizeof buffer);
        if (count <= 0) break;
        request.append(buffer, static_cast<size_t>(count));
      }
      const std::string reply =
          "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " +
          std::to_string(document_.size()) + "\r\n\r\n" + document_;
      if (write(connection, reply.data(), reply.size()) < 0) return;
      close(connection);
    }
  }

  const std::string document_;
  const int socket_;
  uint16_t port_ = 0;
  std::thread thread_;
};

class Promise30Test : public ClientTest {
 protected:
  Promise30Test() {
    CertificateSpec spec;
    spec.uris = {"spiffe://test/other-host"};
    other_ = world_.AddClient("other", spec);
    const std::string allow =
        "    allow:\n      - spiffe: \"spiffe://test/*\"\n"
        "        oidc:\n          provider: ci\n          claims:\n"
        "            repository_id: \"123456\"\n"
        "            job_workflow_ref: "
        "example/tool/.github/workflows/release.yml@refs/heads/main\n";
    std::string identity =
        ServerWorld::Identity("ec", "main", "02", "main-02.chain.pem");
    const size_t at = identity.find("    allow:");
    identity.replace(at, identity.find('\n', at) + 1 - at, allow);
    server_ = std::make_unique<ServerProcess>(world_.WriteConfig(world_.Config(
        world_.TokensSection(), "identities:\n" + identity,
        "oidc:\n  ci: {issuer: \"" + std::string(TokenIssuer::kIssuer) +
            "\", audience: " + TokenIssuer::kAudience +
            ", algorithms: [ES256], keys_url: \"" + keys_.url() +
            "\"}\n"
            "state: {sqlite: {path: ledger.db}}\n")));
    client_ = std::make_unique<TestClient>(server_->address(), world_.tls_ca(),
                                           world_.client());
    other_client_ = std::make_unique<TestClient>(server_->address(),
                                                 world_.tls_ca(), other_);
  }

  static v1::SignRequest NewRequest(const std::string& identity = "ec") {
    SignRequestSpec spec;
    spec.request_id = RandomUuid();
    spec.identity = identity;
    return BuildSignRequest(spec);
  }
  static absl::Status Sign(TestClient& client, const v1::SignRequest& request,
                           const std::string& token) {
    absl::Status status;
    // The server may still fetch its keys.
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    do {
      grpc::ClientContext context;
      context.set_deadline(absl::ToChronoTime(deadline));
      if (!token.empty()) {
        context.AddMetadata("authorization", "Bearer " + token);
      }
      v1::SignResponse response;
      status = Decode(v1::SigningService::NewStub(client.channel())
                          ->Sign(&context, request, &response));
    } while (absl::IsUnavailable(status) && absl::Now() < deadline);
    return status;
  }
  absl::Status Sign(const std::string& token) {
    return Sign(*client_, NewRequest(), token);
  }
  static nlohmann::json Claims() { return TokenIssuer::Claims(absl::Now()); }

  const TokenIssuer issuer_;
  const DocumentServer keys_{issuer_.KeySet()};
  ServerWorld world_;
  ClientFiles other_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<TestClient> client_;
  std::unique_ptr<TestClient> other_client_;
};

TEST_F(Promise30Test, promise_30_the_right_job_signs_and_no_other) {
  EXPECT_THAT(Sign(issuer_.Sign(Claims())), IsOk());
  // Whatever does not fit gets the answer of an identity that is not there.
  const absl::Status unknown =
      Sign(*client_, NewRequest("nobody"), issuer_.Sign(Claims()));
  EXPECT_THAT(unknown, HasReason(v1::REASON_IDENTITY_NOT_FOUND));
  const auto with = [&](const char* name, const nlohmann::json& value) {
    nlohmann::json claims = Claims();
    claims[name] = value;
    return issuer_.Sign(claims);
  };
  for (const std::string& token :
       {std::string(),  // the right host alone
                        // The name was given away: another repository has it
                        // now.
        with("repository_id", "999"), with("repository_id", 123457),
        with("job_workflow_ref",
             "example/tool/.github/workflows/test.yml@refs/heads/main"),
        with("job_workflow_ref",
             "example/tool/.github/workflows/release.yml@refs/pull/1/merge"),
        with("repository_id", nullptr)}) {
    const absl::Status status = Sign(token);
    EXPECT_EQ(status.code(), unknown.code());
    EXPECT_EQ(status.message(), unknown.message());
    EXPECT_EQ(GetReason(status), GetReason(unknown));
  }
}

TEST_F(Promise30Test, promise_30_forged_tokens_open_nothing) {
  const TokenIssuer stranger;
  nlohmann::json elsewhere = Claims();
  elsewhere["aud"] = "another";
  for (const std::string& token :
       {Base64Url(R"({"alg":"none"})") + "." + Base64Url(Claims().dump()) + ".",
        TokenIssuer::SignWithSecret(Claims(), {{"alg", "HS256"}},
                                    issuer_.public_key_pem()),
        stranger.Sign(Claims()), issuer_.Sign(elsewhere)}) {
    EXPECT_THAT(Sign(token), HasReason(v1::REASON_BAD_IDENTITY_TOKEN));
  }
}

TEST_F(Promise30Test, promise_30_a_stolen_token_is_of_no_use_elsewhere) {
  const std::string token = issuer_.Sign(Claims());
  EXPECT_THAT(Sign(*client_, NewRequest(), token), IsOk());
  EXPECT_THAT(Sign(*client_, NewRequest(), token), IsOk());  // an app's rest
  EXPECT_THAT(Sign(*other_client_, NewRequest(), token),
              HasReason(v1::REASON_BAD_IDENTITY_TOKEN));
  EXPECT_THAT(Sign(*other_client_, NewRequest(), issuer_.Sign(Claims())),
              IsOk());
}

TEST_F(Promise30Test, promise_30_codeseal_takes_the_token_from_a_file) {
  const std::string tool = Write("tool", UnsignedUniversal(5000));
  const std::string& address = server_->address();
  environment_["CODESEAL_SERVER"] =
      "localhost" + address.substr(address.rfind(':'));
  environment_["CODESEAL_CA"] = world_.tls_ca();
  environment_["CODESEAL_CERT"] = world_.client().certificate;
  environment_["CODESEAL_KEY"] = world_.client().key;
  EXPECT_EQ(Codeseal({"sign", "-s", "ec", tool}).exit_code, 1);
  const std::string token = issuer_.Sign(Claims());
  folder_.Write("token", token + "\n");
  const SubprocessResult sign = Codeseal(
      {"sign", "-s", "ec", "--oidc-token-file", folder_.Path("token"), tool});
  EXPECT_EQ(sign.exit_code, 0) << sign.err;
  EXPECT_THAT(server_->log(),
              ::testing::Not(::testing::HasSubstr(token.substr(0, 60))));
}

}  // namespace
}  // namespace codeseal::testing
