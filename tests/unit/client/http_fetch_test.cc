// Lists of revoked certificates and OCSP answers over HTTP, from a server on
// the loopback that is in turn honest, slow, endless, broken, or sends
// elsewhere.

#include "client/http_fetch.h"

#include <atomic>
#include <memory>
#include <optional>
#include <sstream>
#include <string>

#include "absl/time/clock.h"
#include "client/commands.h"
#include "gmock/gmock.h"
#include "tests/support/forged_cms.h"
#include "tests/support/http_server.h"
#include "tests/support/made_tree.h"
#include "tests/support/signed_code.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_pki.h"

namespace codeseal::client {
namespace {

using ::codeseal::testing::HasCode;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::HttpRequest;
using ::codeseal::testing::HttpResponse;
using ::codeseal::testing::HttpServer;
using ::codeseal::testing::IsOk;
using ::testing::AllOf;
using ::testing::HasSubstr;

using Connection = HttpServer::Connection;

constexpr absl::Duration kShort = absl::Milliseconds(300);
// What a call that has to end by itself may take on a busy machine.
constexpr absl::Duration kSoon = absl::Seconds(10);

class HttpFetchTest : public ::testing::Test {
 protected:
  void Serve(HttpServer::Handler handler) {
    server_ = std::make_unique<HttpServer>(
        [this, handler = std::move(handler)](const HttpRequest& request,
                                             Connection& connection) {
          ++request_count_;
          return handler(request, connection);
        });
  }
  absl::StatusOr<Bytes> Fetch(const std::string& path, const Bytes& body = {}) {
    return FetchOverHttp(server_->Url(path), body, limits_);
  }
  // The call fails, and is not what everything waits for.
  void ExpectFault(const std::string& path, const std::string& why) {
    const absl::Time begin = absl::Now();
    const absl::StatusOr<Bytes> answer = Fetch(path);
    EXPECT_LT(absl::Now() - begin, kSoon);
    EXPECT_THAT(answer, AllOf(HasCode(absl::StatusCode::kUnavailable),
                              HasReason(v1::REASON_SERVER_UNREACHABLE)));
    EXPECT_THAT(std::string(answer.status().message()), HasSubstr(why));
  }

  std::unique_ptr<HttpServer> server_;
  std::atomic<int> request_count_ = 0;
  FetchLimits limits_;
};

TEST_F(HttpFetchTest, GetsAListAndPostsARequest) {
  Serve([](const HttpRequest& request, Connection& connection) {
    return connection.Send(HttpResponse(
        "200 OK",
        request.method + " " + request.path + " " + request.body +
            (request.head.find("application/ocsp-request") == std::string::npos
                 ? ""
                 : " ocsp")));
  });
  EXPECT_EQ(AsText(Fetch("/list.crl").value()), "GET /list.crl ");
  EXPECT_EQ(AsText(Fetch("/ocsp", ToBytes("question")).value()),
            "POST /ocsp question ocsp");
}

TEST_F(HttpFetchTest, OnlyStatus200IsAnAnswer) {
  for (const char* status : {"404 Not Found", "500 Internal Server Error",
                             "204 No Content", "304 Not Modified"}) {
    Serve([status](const HttpRequest&, Connection& connection) {
      return connection.Send(HttpResponse(status, ""));
    });
    ExpectFault("/list", std::string("HTTP status ") + std::string(status, 3));
  }
  Serve([](const HttpRequest&, Connection&) { return false; });
  ExpectFault("/list", "Empty reply");
  const std::string gone = server_->Url("/list");
  server_.reset();
  EXPECT_THAT(FetchOverHttp(gone, {}, limits_),
              HasReason(v1::REASON_SERVER_UNREACHABLE));
}

TEST_F(HttpFetchTest, RedirectionsAreFollowedUpToALimit) {
  Serve([](const HttpRequest& request, Connection& connection) {
    // "/3" sends to "/2", ..., "/0" answers.
    const char left = request.path.back();
    if (left == '0') return connection.Send(HttpResponse("200 OK", "here"));
    const std::string next =
        "Location: /" + std::string(1, static_cast<char>(left - 1)) + "\r\n";
    return connection.Send(HttpResponse("302 Found", "", next));
  });
  EXPECT_EQ(AsText(Fetch("/3").value()), "here");
  EXPECT_EQ(request_count_, 4);
  ExpectFault("/4", "redirects");
  EXPECT_EQ(request_count_, 8) << "the fifth is not asked for";
}

TEST_F(HttpFetchTest, RedirectionToItselfEnds) {
  Serve([](const HttpRequest&, Connection& connection) {
    return connection.Send(
        HttpResponse("301 Moved Permanently", "", "Location: /list\r\n"));
  });
  ExpectFault("/list", "redirects");
  EXPECT_EQ(request_count_, 4);
}

TEST_F(HttpFetchTest, NoOtherProtocolIsSpoken) {
  testing::MadeTree tree;
  tree.File("secret", "what only this machine should read");
  for (const std::string& url :
       {"file://" + tree.Path("secret"), std::string("ftp://127.0.0.1/x"),
        std::string("gopher://127.0.0.1:1/x"),
        std::string("dict://127.0.0.1/x"), std::string("")}) {
    EXPECT_THAT(FetchOverHttp(url, {}, limits_),
                HasReason(v1::REASON_SERVER_UNREACHABLE))
        << url;
    Serve([&url](const HttpRequest&, Connection& connection) {
      return connection.Send(
          HttpResponse("302 Found", "", "Location: " + url + "\r\n"));
    });
    ExpectFault("/list", url.empty() ? "HTTP status 302" : "Protocol");
  }
}

TEST_F(HttpFetchTest, AnswersAreBounded) {
  limits_.max_answer_size = size_t{1} << 20;
  Serve([](const HttpRequest& request, Connection& connection) {
    const std::string full(size_t{1} << 20, 'x');
    if (request.path == "/full") {
      return connection.Send(HttpResponse("200 OK", full));
    }
    if (request.path == "/over") {
      return connection.Send(HttpResponse("200 OK", full + "x"));
    }
    if (request.path == "/chunks") {
      connection.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      connection.SendEndlessly("1000\r\n" + std::string(0x1000, 'x') + "\r\n");
    } else if (request.path == "/headers") {
      connection.Send("HTTP/1.1 200 OK\r\n");
      connection.SendEndlessly("X-More: " + std::string(1000, 'x') + "\r\n");
    } else {
      connection.Send(
          "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n");
      connection.SendEndlessly(full);
    }
    return false;
  });
  EXPECT_EQ(Fetch("/full").value().size(), size_t{1} << 20);
  ExpectFault("/over", "");
  ExpectFault("/chunks", "");
  ExpectFault("/headers", "headers");
  ExpectFault("/endless", "");
}

TEST_F(HttpFetchTest, SlowServersAreBounded) {
  limits_.timeout = kShort;
  Serve([](const HttpRequest& request, Connection& connection) {
    if (request.path == "/drip") {  // a byte now and then, for ever
      connection.Send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
      while (connection.Wait(absl::Milliseconds(20)) && connection.Send("x")) {
      }
      return false;
    }
    if (request.path == "/loop") {  // each redirection takes its time
      return connection.Wait(absl::Milliseconds(150)) &&
             connection.Send(
                 HttpResponse("302 Found", "", "Location: /loop\r\n"));
    }
    connection.WaitUntilStopped();
    return false;
  });
  ExpectFault("/stall", "timed out");
  ExpectFault("/drip", "timed out");
  ExpectFault("/loop", "timed out");
}

TEST_F(HttpFetchTest, DefaultsAreThoseOfTheManual) {
  EXPECT_EQ(limits_.timeout, absl::Seconds(15));
  EXPECT_EQ(limits_.max_answer_size, size_t{32} << 20);
  EXPECT_EQ(limits_.max_redirections, 3);
}

// --- The whole way: certificate, server, verdict ----------------------------

// A chain whose certificates name the server: the leaf its OCSP responder, the
// intermediate its root's list.
class VerifyOverHttpTest : public HttpFetchTest {
 protected:
  VerifyOverHttpTest() {
    Serve([this](const HttpRequest& request, Connection& connection) {
      return connection.Send(Answer(request));
    });
    testing::CertificateSpec spec;
    spec.common_name = "codeseal test root";
    const testing::TestIdentity root = MakeRoot(spec);
    spec.common_name = "codeseal test intermediate";
    spec.certificate_authority = true;
    spec.list_url = server_->Url("/root.crl");
    const testing::TestIdentity intermediate = Issue(spec, root);
    testing::CertificateSpec leaf;
    leaf.common_name = "codeseal test signer";
    leaf.extended_key_usage = {testing::kCodeSigning};
    leaf.ocsp_url = server_->Url("/ocsp");
    chain_.emplace(
        testing::TestChain{Issue(leaf, intermediate), intermediate, root});
    tree_.File("root.pem", root.pem());
    testing::SignedCode code;
    code.chain = &*chain_;
    tree_.File("code", AsText(BuildSignedCode(code)));
  }

  std::string Answer(const HttpRequest& request) {
    if (is_down_) return HttpResponse("503 Service Unavailable", "");
    if (request.path == "/ocsp" && request.method == "POST") {
      return HttpResponse(
          "200 OK",
          AsText(MakeOcspResponse(
              chain_->leaf.certificate(), chain_->intermediate.certificate(),
              chain_->intermediate, {.is_revoked = is_revoked_})));
    }
    if (request.path == "/root.crl" && request.method == "GET") {
      return HttpResponse("200 OK",
                          AsText(MakeRevocationList(chain_->root, {})));
    }
    return HttpResponse("404 Not Found", "");
  }

  ExitCode Verify(bool is_offline, bool knows_root = true) {
    VerifyCommand command;
    if (knows_root) command.anchors_path = tree_.Path("root.pem");
    command.check_revocation = true;
    command.offline = is_offline;
    command.paths = {tree_.Path("code")};
    std::ostringstream out;
    std::ostringstream err;
    Reporter reporter("verify", {}, out, err, /*terminal=*/false);
    RunVerify(command, reporter);
    err_ = err.str();
    return reporter.Finish();
  }

  testing::MadeTree tree_;
  std::optional<testing::TestChain> chain_;
  std::atomic<bool> is_down_ = false;
  std::atomic<bool> is_revoked_ = false;
  std::string err_;
};

TEST_F(VerifyOverHttpTest, GoodThenRevoked) {
  EXPECT_EQ(Verify(/*is_offline=*/false), ExitCode::kDone) << err_;
  EXPECT_EQ(request_count_, 2) << "one for each certificate below the root";
  is_revoked_ = true;
  EXPECT_EQ(Verify(/*is_offline=*/false), ExitCode::kNo);
  EXPECT_THAT(err_, HasSubstr("CSSMERR_TP_CERT_REVOKED"));
}

TEST_F(VerifyOverHttpTest, SilenceIsANo) {
  is_down_ = true;
  EXPECT_EQ(Verify(/*is_offline=*/false), ExitCode::kNo);
  EXPECT_EQ(request_count_, 1) << "the first silence decides";
  EXPECT_EQ(Verify(/*is_offline=*/true), ExitCode::kNo);
  EXPECT_EQ(request_count_, 1) << "offline, nobody is asked";
}

// Whoever makes a certificate could otherwise make this machine call anybody.
TEST_F(VerifyOverHttpTest, ChainsThatNobodyTrustsCallNobody) {
  Verify(/*is_offline=*/false, /*knows_root=*/false);
  EXPECT_EQ(request_count_, 0);
}

}  // namespace
}  // namespace codeseal::client
