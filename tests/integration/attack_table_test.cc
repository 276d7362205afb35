// What a hostile caller may try, one row each: refused for the right reason,
// and without effect. The test prints the table.

#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "codeseal/v1/approval.grpc.pb.h"
#include "codesign/base/error.h"
#include "codesign/code_directory.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/integration/raw_connection.h"
#include "tests/integration/test_client.h"
#include "tests/support/fault_shim.h"
#include "tests/support/server_process.h"
#include "tests/support/sign_request_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/token_issuer.h"

namespace codeseal::testing {
namespace {

// What a row's answer may be beside the name of a Reason.
constexpr char kNoConnection[] = "no connection";
constexpr char kHungUp[] = "hung up";

class AttackTableTest : public ::testing::Test {
 protected:
  AttackTableTest() {
    const auto add = [&](const char* name, CertificateSpec spec) {
      clients_[name] = world_.AddClient(name, spec);
    };
    CertificateSpec spec;
    spec.uris = {"spiffe://test/other-host"};
    add("other", spec);
    spec.uris = {"spiffe://test/denied"};
    add("denied", spec);
    spec.uris = {"spiffe://test/*"};
    add("star", spec);
    spec.uris = {std::string(ServerWorld::kClientUri) + "/../build-host"};
    add("dots", spec);
    spec.uris = {"SPIFFE://test/build-host"};
    add("shouting", spec);
    spec.uris = {};
    spec.dns_names = {"spiffe://test/build-host", "test"};
    add("name", spec);
    spec = {};
    spec.uris = {ServerWorld::kClientUri};
    spec.not_before = absl::Now() - absl::Hours(2);
    spec.not_after = absl::Now() - absl::Hours(1);
    add("expired", spec);
    spec.not_before = absl::Now() + absl::Hours(1);
    spec.not_after = absl::Now() + absl::Hours(2);
    add("early", spec);
    // The right name by an authority of one's own.
    spec = {};
    spec.uris = {ServerWorld::kClientUri};
    spec.extended_key_usage = {kClientAuth};
    CertificateSpec rogue;
    rogue.common_name = "codeseal test TLS CA";
    WritePair("rogue", Issue(spec, MakeRoot(rogue)));
    WritePair("self", MakeSelfSigned(spec));

    const std::string claims =
        "{repository_id: \"123456\", job_workflow_ref: "
        "\"example/tool/.github/workflows/release.yml@refs/heads/main\"}";
    const std::string chain = "main-02.chain.pem";
    std::string job = ServerWorld::Identity("job", "main", "02", chain);
    job.replace(job.find("    allow:"), std::string::npos,
                "    allow: [{spiffe: \"spiffe://test/*\", oidc: {provider: "
                "ci, claims: " +
                    claims + "}}]\n");
    const std::string identities =
        "identities:\n" + ServerWorld::Identity("open", "main", "02", chain) +
        ServerWorld::Identity(
            "strict", "main", "02", chain,
            "    rules: {identifiers: [\"com.example.*\"], require_flags: "
            "[runtime], forbid_flags: [library-validation], "
            "entitlements_allow: [\"com.apple.security.*\"], "
            "entitlements_deny: [\"*get-task-allow\", "
            "\"com.apple.security.groups=evil.*\"], min_digest: sha256}\n") +
        ServerWorld::Identity("closed", "main", "02", chain,
                              "    release_windows: [{days: [" + Yesterday() +
                                  "], from: \"10:00\", to: \"10:01\"}]\n") +
        ServerWorld::Identity("rare", "main", "02", chain,
                              "    limits: {per_day: 1}\n") +
        ServerWorld::Identity(
            "agreed", "main", "02", chain,
            "    approvals: {quorum: 1, approvers: [{name: alice, key: " +
                world_.AddKey("main", "40", KeyAlgorithm::kP256) +
                ", peer: {spiffe: \"spiffe://test/other-host\"}}]}\n") +
        job;
    world_.folder().Write(
        "deny.yaml",
        "version: 1\ndeny: [{spiffe: \"spiffe://test/denied\"}]\n");
    std::string config = world_.Config(
        world_.TokensSection(FaultShim::Module()), identities,
        "oidc:\n  ci: {issuer: \"" + std::string(TokenIssuer::kIssuer) +
            "\", audience: " + TokenIssuer::kAudience +
            ", algorithms: [ES256], keys_file: " +
            world_.folder().Write("keys.json", issuer_.KeySet()) +
            "}\nstate: {sqlite: {path: ledger.db}}\n"
            "limits: {message: 64KiB, item: 128KiB}\n");
    config.insert(config.find("client_ca: tls-ca.pem") + 21,
                  ", deny_list: deny.yaml");
    server_ = std::make_unique<ServerProcess>(world_.WriteConfig(config));
    client_ = std::make_unique<TestClient>(server_->address(), world_.tls_ca(),
                                           world_.client());
  }

  static std::string Yesterday() {
    const char* const days[] = {"mon", "tue", "wed", "thu",
                                "fri", "sat", "sun"};
    return days[static_cast<size_t>(absl::GetWeekday(
        absl::ToCivilDay(absl::Now() - absl::Hours(48), absl::UTCTimeZone())))];
  }
  void WritePair(const std::string& name, const TestIdentity& identity) {
    clients_[name] = {world_.folder().Write(name + ".pem", identity.pem()),
                      world_.folder().Write(name + ".key", identity.key_pem())};
  }

  // The reason of a refusal; "signed" for none.
  static std::string Answer(const absl::Status& status) {
    if (status.ok()) return "signed";
    const Reason reason = GetReason(status);
    if (reason != v1::REASON_UNSPECIFIED) return v1::Reason_Name(reason);
    // gRPC's own word.
    return absl::IsUnavailable(status)
               ? kNoConnection
               : absl::StatusCodeToString(status.code());
  }
  static SignRequestSpec Spec(const std::string& identity = "open") {
    SignRequestSpec spec;
    spec.request_id = RandomUuid();
    spec.identity = identity;
    spec.flags = kRuntimeFlag;
    return spec;
  }
  std::string Sign(const v1::SignRequest& request) {
    return Answer(client_->Sign(request).status());
  }
  std::string SignAs(const std::string& who,
                     const std::string& identity = "open") {
    TestClient client(server_->address(), world_.tls_ca(), clients_.at(who));
    return Answer(
        client.Sign(BuildSignRequest(Spec(identity)), absl::Seconds(5))
            .status());
  }
  std::string SignWithToken(const std::vector<std::string>& headers,
                            const ClientFiles& files) {
    const TestClient client(server_->address(), world_.tls_ca(), files);
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    for (const std::string& each : headers) {
      context.AddMetadata("authorization", each);
    }
    v1::SignResponse response;
    return Answer(
        Decode(v1::SigningService::NewStub(client.channel())
                   ->Sign(&context, BuildSignRequest(Spec("job")), &response)));
  }
  std::string SignWithClaim(const char* name, const nlohmann::json& value) {
    nlohmann::json claims = TokenIssuer::Claims(absl::Now());
    claims[name] = value;
    return SignWithToken({"Bearer " + issuer_.Sign(claims)}, world_.client());
  }
  // The answer to bytes that no client of ours would send.
  std::string SendBytes(const std::string& method, const std::string& bytes) {
    grpc::Slice slice(bytes);
    grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    grpc::GenericStub stub(client_->channel());
    grpc::CompletionQueue queue;
    const auto call = stub.PrepareUnaryCall(&context, method, request, &queue);
    grpc::Status status;
    call->StartCall();
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return Answer(Decode(status));
  }
  // How a stream of these messages ends.
  std::string Stream(const std::vector<v1::SignStreamRequest>& messages) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    const auto stream = client_->OpenStream(context);
    for (const v1::SignStreamRequest& each : messages) stream->Write(each);
    stream->WritesDone();
    v1::SignStreamResponse response;
    std::string answer;
    while (stream->Read(&response)) {
      if (response.has_result()) {
        answer = response.result().has_error()
                     ? Answer(Decode(response.result().error()))
                     : "signed";
      }
    }
    const absl::Status end = Decode(stream->Finish());
    return end.ok() && !answer.empty() ? answer : Answer(end);
  }
  std::string SendRaw(const std::string& bytes) {
    RawConnection connection(server_->address(), world_.client());
    connection.Send(bytes);
    return connection.IsEnded() ? kHungUp : "still open";
  }
  std::string Grant(const std::string& id, const std::string& identity) {
    v1::SignRequest request = BuildSignRequest(Spec(identity));
    request.set_grant(id);
    return Sign(request);
  }
  std::string CallApprovals(
      const ClientFiles& files,
      const std::function<grpc::Status(v1::ApprovalService::Stub&,
                                       grpc::ClientContext&, v1::Grant*)>&
          call) {
    const TestClient client(server_->address(), world_.tls_ca(), files);
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    const auto stub = v1::ApprovalService::NewStub(client.channel());
    v1::Grant grant;
    const absl::Status status = Decode(call(*stub, context, &grant));
    last_grant_ = grant;
    return Answer(status);
  }
  std::string RequestGrant(const v1::RequestGrantRequest& request) {
    return CallApprovals(world_.client(),
                         [&](auto& stub, auto& context, auto* grant) {
                           return stub.RequestGrant(&context, request, grant);
                         });
  }

  FaultShim shim_;
  ServerWorld world_;
  const TokenIssuer issuer_;
  std::map<std::string, ClientFiles> clients_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<TestClient> client_;
  v1::Grant last_grant_;
};

std::string Plist(const std::string& entries) {
  return "<plist version=\"1.0\"><dict>" + entries + "</dict></plist>";
}

TEST_F(AttackTableTest, EveryAttackIsRefusedForTheRightReason) {
  ASSERT_EQ(Sign(BuildSignRequest(Spec())), "signed");
  ASSERT_EQ(Sign(BuildSignRequest(Spec("strict"))), "signed");
  const v1::SignRequest used = BuildSignRequest(Spec("rare"));
  ASSERT_EQ(Sign(used), "signed");
  const std::string stolen = issuer_.Sign(TokenIssuer::Claims(absl::Now()));
  ASSERT_EQ(SignWithToken({"Bearer " + stolen}, world_.client()), "signed");
  v1::RequestGrantRequest wanted;
  wanted.set_identity("agreed");
  wanted.add_cdhashes(std::string(20, 'x'));
  ASSERT_EQ(RequestGrant(wanted), "signed");
  const std::string pending = last_grant_.id();

  const auto spec = [](const std::string& identity,
                       const std::function<void(SignRequestSpec&)>& spoil) {
    SignRequestSpec each = Spec(identity);
    spoil(each);
    return BuildSignRequest(each);
  };
  const auto request = [](const std::function<void(v1::SignRequest&)>& spoil) {
    v1::SignRequest each = BuildSignRequest(Spec());
    spoil(each);
    return each;
  };
  const auto decide = [&](const ClientFiles& files, const std::string& id) {
    return CallApprovals(files, [&](auto& stub, auto& context, auto* grant) {
      v1::DecideGrantRequest decision;
      decision.set_id(id);
      decision.mutable_at()->set_seconds(absl::ToUnixSeconds(absl::Now()));
      decision.set_signature("not a signature");
      return stub.Approve(&context, decision, grant);
    });
  };
  v1::SignStreamRequest open;
  open.mutable_open()->set_identity("open");
  v1::SignStreamRequest item;
  *item.mutable_item() = BuildSignRequest(Spec());
  v1::SignStreamRequest chunk;
  chunk.mutable_chunk()->set_request_id(RandomUuid());
  chunk.mutable_chunk()->set_total_size(1 << 20);
  chunk.mutable_chunk()->set_data(std::string(1000, 'x'));
  v1::SignStreamRequest small_chunk = chunk;
  small_chunk.mutable_chunk()->set_total_size(10);
  const std::string good_token = "Bearer " + stolen;
  const std::string headers = Frame(3, 1, 0, 1, "\x82\x86\x84");

  const struct {
    const char* group;
    const char* what;
    std::function<std::string()> run;
    std::string want;
  } rows[] = {
      // Certificates.
      {"certificate", "of an unknown authority",
       [&] { return SignAs("rogue"); }, kNoConnection},
      {"certificate", "signed by itself", [&] { return SignAs("self"); },
       kNoConnection},
      {"certificate", "expired", [&] { return SignAs("expired"); },
       kNoConnection},
      {"certificate", "not valid yet", [&] { return SignAs("early"); },
       kNoConnection},
      {"certificate", "on the deny list", [&] { return SignAs("denied"); },
       "REASON_NOT_AUTHORISED"},
      {"certificate", "of another host", [&] { return SignAs("other"); },
       "REASON_IDENTITY_NOT_FOUND"},
      {"certificate", "with a pattern for a name",
       [&] { return SignAs("star"); }, "REASON_IDENTITY_NOT_FOUND"},
      {"certificate", "with dots in its name", [&] { return SignAs("dots"); },
       "REASON_IDENTITY_NOT_FOUND"},
      {"certificate", "with its name in capitals",
       [&] { return SignAs("shouting"); }, "REASON_IDENTITY_NOT_FOUND"},
      {"certificate", "with the URI as a DNS name",
       [&] { return SignAs("name"); }, "REASON_IDENTITY_NOT_FOUND"},
      // Identity tokens.
      {"token", "none", [&] { return SignWithToken({}, world_.client()); },
       "REASON_IDENTITY_NOT_FOUND"},
      {"token", "alg none",
       [&] {
         return SignWithToken(
             {"Bearer " + Base64Url(R"({"alg":"none"})") + "." +
              Base64Url(TokenIssuer::Claims(absl::Now()).dump()) + "."},
             world_.client());
       },
       "REASON_BAD_IDENTITY_TOKEN"},
      {"token", "HS256 with the public key",
       [&] {
         return SignWithToken(
             {"Bearer " + TokenIssuer::SignWithSecret(
                              TokenIssuer::Claims(absl::Now()),
                              {{"alg", "HS256"}}, issuer_.public_key_pem())},
             world_.client());
       },
       "REASON_BAD_IDENTITY_TOKEN"},
      {"token", "of another key",
       [&] {
         return SignWithToken(
             {"Bearer " + TokenIssuer().Sign(TokenIssuer::Claims(absl::Now()))},
             world_.client());
       },
       "REASON_BAD_IDENTITY_TOKEN"},
      {"token", "for another audience",
       [&] { return SignWithClaim("aud", "else"); },
       "REASON_BAD_IDENTITY_TOKEN"},
      {"token", "expired", [&] { return SignWithClaim("exp", 1); },
       "REASON_BAD_IDENTITY_TOKEN"},
      {"token", "of a renamed repository",
       [&] { return SignWithClaim("repository_id", "999"); },
       "REASON_IDENTITY_NOT_FOUND"},
      {"token", "of a pull request's workflow",
       [&] { return SignWithClaim("job_workflow_ref", "example/tool/x@y"); },
       "REASON_IDENTITY_NOT_FOUND"},
      {"token", "stolen from another client",
       [&] { return SignWithToken({good_token}, clients_.at("other")); },
       "REASON_BAD_IDENTITY_TOKEN"},
      {"token", "twice",
       [&] { return SignWithToken({good_token, good_token}, world_.client()); },
       "REASON_BAD_IDENTITY_TOKEN"},
      {"token", "a password instead",
       [&] { return SignWithToken({"Basic YTpi"}, world_.client()); },
       "REASON_BAD_IDENTITY_TOKEN"},
      // Policies.
      {"policy", "another team",
       [&] {
         return Sign(spec("strict", [](auto& each) {
           each.team_identifier = "OTHERTEAM1";
         }));
       },
       "REASON_POLICY_VIOLATION"},
      {"policy", "another identifier",
       [&] {
         return Sign(spec("strict", [](auto& each) {
           each.identifier = "com.apple.Safari";
         }));
       },
       "REASON_POLICY_VIOLATION"},
      {"policy", "without the hardened runtime",
       [&] { return Sign(spec("strict", [](auto& each) { each.flags = 0; })); },
       "REASON_POLICY_VIOLATION"},
      {"policy", "with a forbidden flag",
       [&] {
         return Sign(spec("strict", [](auto& each) {
           each.flags |= kLibraryValidationFlag;
         }));
       },
       "REASON_POLICY_VIOLATION"},
      {"policy", "with a denied entitlement",
       [&] {
         return Sign(spec("strict", [](auto& each) {
           each.entitlements =
               Plist("<key>com.apple.security.get-task-allow</key><true/>");
         }));
       },
       "REASON_POLICY_VIOLATION"},
      {"policy", "with a denied value",
       [&] {
         return Sign(spec("strict", [](auto& each) {
           each.entitlements = Plist(
               "<key>com.apple.security.groups</key><array><string>evil.a"
               "</string></array>");
         }));
       },
       "REASON_POLICY_VIOLATION"},
      {"policy", "with an entitlement that is not allowed",
       [&] {
         return Sign(spec("strict", [](auto& each) {
           each.entitlements = Plist("<key>com.apple.private.x</key><true/>");
         }));
       },
       "REASON_POLICY_VIOLATION"},
      {"policy", "SHA-1 alone",
       [&] {
         return Sign(spec(
             "strict", [](auto& each) { each.digests = {DigestKind::kSha1}; }));
       },
       "REASON_POLICY_VIOLATION"},
      {"policy", "digests alone",
       [&] {
         return Sign(request([](auto& each) {
           auto& set = *each.mutable_digest_set();
           set.add_digests()->set_hash_type(2);
           set.mutable_digests(0)->set_digest(std::string(32, 'a'));
           set.set_message_digest(std::string(32, 'a'));
         }));
       },
       "REASON_POLICY_VIOLATION"},
      {"policy", "signed yesterday",
       [&] {
         return Sign(request([](auto& each) {
           each.mutable_signing_time()->set_seconds(
               absl::ToUnixSeconds(absl::Now() - absl::Hours(24)));
         }));
       },
       "REASON_POLICY_VIOLATION"},
      {"policy", "outside the release window",
       [&] { return Sign(BuildSignRequest(Spec("closed"))); },
       "REASON_OUTSIDE_RELEASE_WINDOW"},
      {"policy", "above the quota",
       [&] { return Sign(BuildSignRequest(Spec("rare"))); },
       "REASON_QUOTA_EXCEEDED"},
      {"policy", "above the quota, under another path",
       [&] {
         v1::SignRequest each = BuildSignRequest(Spec("rare"));
         each.mutable_artifact()->set_path("other");
         return Sign(each);
       },
       "REASON_QUOTA_EXCEEDED"},
      // Grants.
      {"grant", "none", [&] { return Sign(BuildSignRequest(Spec("agreed"))); },
       "REASON_APPROVAL_REQUIRED"},
      {"grant", "unknown", [&] { return Grant(RandomUuid(), "agreed"); },
       "REASON_GRANT_NOT_FOUND"},
      {"grant", "about other code", [&] { return Grant(pending, "agreed"); },
       "REASON_APPROVAL_REQUIRED"},
      {"grant", "SQL for an id", [&] { return Grant("' OR '1'='1", "agreed"); },
       "REASON_GRANT_NOT_FOUND"},
      {"grant", "a NUL in the id",
       [&] { return Grant(pending + std::string("\0x", 2), "agreed"); },
       "REASON_GRANT_NOT_FOUND"},
      {"grant", "approved by who asked",
       [&] { return decide(world_.client(), pending); },
       "REASON_NOT_AUTHORISED"},
      {"grant", "approved with a false signature",
       [&] { return decide(clients_.at("other"), pending); },
       "REASON_BAD_APPROVAL"},
      {"grant", "looked at by a stranger",
       [&] { return decide(clients_.at("star"), pending); },
       "REASON_GRANT_NOT_FOUND"},
      {"grant", "asked for with too many uses",
       [&] {
         v1::RequestGrantRequest many = wanted;
         many.set_max_uses(4'000'000'000u);
         return RequestGrant(many);
       },
       "REASON_BAD_REQUEST"},
      {"grant", "asked for without end",
       [&] {
         v1::RequestGrantRequest endless = wanted;
         endless.mutable_expires_at()->set_seconds(INT64_MAX);
         return RequestGrant(endless);
       },
       "REASON_BAD_REQUEST"},
      // Replays.
      {"replay", "the id with other code",
       [&] {
         SignRequestSpec other = Spec("rare");
         other.request_id = used.request_id();
         other.identifier = "com.example.other";
         return Sign(BuildSignRequest(other));
       },
       "REASON_REQUEST_ID_REUSED"},
      {"replay", "another client's id",
       [&] {
         TestClient other(server_->address(), world_.tls_ca(),
                          clients_.at("other"));
         return Answer(other.GetSignature(used.request_id()).status());
       },
       "REASON_REQUEST_NOT_FOUND"},
      {"replay", "an id that is none",
       [&] {
         return Sign(request([](auto& each) { each.set_request_id("1"); }));
       },
       "REASON_BAD_REQUEST"},
      {"replay", "no id",
       [&] {
         return Sign(request([](auto& each) { each.clear_request_id(); }));
       },
       "REASON_BAD_REQUEST"},
      // Messages.
      {"message", "no payload",
       [&] { return Sign(request([](auto& each) { each.clear_payload(); })); },
       "REASON_BAD_REQUEST"},
      {"message", "bytes that are no protobuf",
       [&] {
         return SendBytes("/codeseal.v1.SigningService/Sign",
                          std::string(100, '\xff'));
       },
       "UNIMPLEMENTED"},
      {"message", "a method that is not there",
       [&] { return SendBytes("/codeseal.v1.SigningService/Export", ""); },
       "UNIMPLEMENTED"},
      {"message", "larger than a message may be",
       [&] {
         return Sign(request([](auto& each) {
           each.mutable_artifact()->set_path(std::string(100'000, 'x'));
         }));
       },
       "RESOURCE_EXHAUSTED"},
      {"message", "a CodeDirectory cut short",
       [&] {
         return Sign(request([](auto& each) {
           auto& code =
               *each.mutable_code_directory_set()->mutable_code_directories(0);
           code.resize(code.size() - 1);
         }));
       },
       "REASON_BLOB_LENGTH_OUT_OF_RANGE"},
      {"message", "a CodeDirectory with 2^32 slots",
       [&] {
         return Sign(request([](auto& each) {
           each.mutable_code_directory_set()
               ->mutable_code_directories(0)
               ->replace(28, 4, "\xff\xff\xff\xff");
         }));
       },
       "REASON_SLOT_TABLE_OUT_OF_RANGE"},
      {"message", "requirements that are not the sealed ones",
       [&] {
         return Sign(request([](auto& each) {
           each.mutable_code_directory_set()->clear_requirements();
         }));
       },
       "REASON_BAD_CODE_DIRECTORY"},
      {"message", "entitlements that are not sealed",
       [&] {
         return Sign(request([](auto& each) {
           each.mutable_code_directory_set()->set_entitlements(
               std::string("\xfa\xde\x71\x71\0\0\0\x08", 8));
         }));
       },
       "REASON_BAD_CODE_DIRECTORY"},
      {"message", "an item before the stream is opened",
       [&] { return Stream({item}); }, "REASON_BAD_REQUEST"},
      {"message", "a stream opened twice", [&] { return Stream({open, open}); },
       "REASON_BAD_REQUEST"},
      {"message", "an item larger than one may be",
       [&] { return Stream({open, chunk}); }, "REASON_MESSAGE_TOO_LARGE"},
      {"message", "more pieces than were promised",
       [&] { return Stream({open, small_chunk}); }, "REASON_BAD_REQUEST"},
      // HTTP/2.
      {"HTTP/2", "no preface",
       [&] { return SendRaw("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); }, kHungUp},
      {"HTTP/2", "a frame of 16 MiB",
       [&] { return SendRaw(Preface() + Frame(0xffffff, 0, 0, 1, "x")); },
       kHungUp},
      {"HTTP/2", "CONTINUATION without HEADERS",
       [&] { return SendRaw(Preface() + Frame(1, 9, 0, 1, "x")); }, kHungUp},
      {"HTTP/2", "another frame inside a header block",
       [&] { return SendRaw(Preface() + headers + Frame(0, 4, 0, 0, "")); },
       kHungUp},
      {"HTTP/2", "a header table entry that is not there",
       [&] { return SendRaw(Preface() + Frame(1, 1, 5, 1, "\xfe")); }, kHungUp},
      // Names.
      {"injection", "a line of the log as identity",
       [&] {
         return Sign(request([](auto& each) {
           each.set_identity("x\"}\n{\"event\":\"forged\"}");
         }));
       },
       "REASON_IDENTITY_NOT_FOUND"},
      {"injection", "a path as identity",
       [&] {
         return Sign(request(
             [](auto& each) { each.set_identity("../../../../etc/shadow"); }));
       },
       "REASON_IDENTITY_NOT_FOUND"},
      {"injection", "a path as version",
       [&] {
         return Sign(
             request([](auto& each) { each.set_identity_version("../v1"); }));
       },
       "REASON_IDENTITY_NOT_FOUND"},
      {"injection", "somebody's host as timestamp server",
       [&] {
         return Sign(request([](auto& each) {
           each.set_timestamp_url("http://169.254.169.254/latest");
         }));
       },
       "REASON_NO_TIMESTAMP_AUTHORITY"},
      {"descriptors", "200 connections that say nothing",
       [&] {
         std::vector<int> sockets;
         for (int i = 0; i < 200; ++i) {
           sockets.push_back(RawConnection::Connect(server_->address()));
         }
         int ended = 0;
         for (const int each : sockets) {
           pollfd poll_fd = {each, POLLIN, 0};
           char byte = 0;
           if (each < 0 ||
               (poll(&poll_fd, 1, 20) > 0 && recv(each, &byte, 1, 0) <= 0)) {
             ++ended;
           }
           close(each);
         }
         return ended >= 150 ? kHungUp : std::to_string(ended);
       },
       kHungUp},
  };
  EXPECT_GE(std::size(rows), 60u);
  const int before = shim_.CallCount("C_Sign");
  std::ostringstream table;
  for (const auto& row : rows) {
    const std::string got = row.run();
    EXPECT_EQ(got, row.want) << row.group << ": " << row.what;
    char line[160];
    std::snprintf(line, sizeof line, "%-12s %-45s %s\n", row.group, row.what,
                  got.c_str());
    table << line;
  }
  std::printf("%s%zu attacks\n", table.str().c_str(), std::size(rows));
  // No key was used, but for the token's own test signatures.
  EXPECT_LE(shim_.CallCount("C_Sign"), before + 3);
  // Nobody's state has changed, and everybody is served.
  client_ = std::make_unique<TestClient>(server_->address(), world_.tls_ca(),
                                         world_.client());
  EXPECT_EQ(client_->Health("codeseal.v1.SigningService"), "SERVING");
  const TestClient::Result replay = client_->Sign(used);
  ASSERT_THAT(replay, IsOk());
  EXPECT_TRUE(replay->replayed());
  EXPECT_EQ(Sign(BuildSignRequest(Spec("strict"))), "signed");
  // Whatever they called themselves: a line is an event of the server's.
  std::istringstream log(server_->log());
  for (std::string line; std::getline(log, line);) {
    if (!line.starts_with("{")) continue;  // gRPC's own
    const auto event = nlohmann::json::parse(line, nullptr, false);
    ASSERT_TRUE(event.is_object()) << line;
    EXPECT_NE(event.value("event", ""), "forged");
  }
}

}  // namespace
}  // namespace codeseal::testing
