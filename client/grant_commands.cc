// `codeseal grant` and `codeseal approve`: what people must agree to, and their
// signed word.

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "audit/approval/statement.h"
#include "client/commands.h"
#include "client/connection.h"
#include "client/grpc_to_status.h"
#include "client/open_signer.h"
#include "codeseal/v1/approval.grpc.pb.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "hsm/public_key.h"
#include "hsm/token.h"

namespace codeseal::client {
namespace {

using Stub = v1::ApprovalService::Stub;

absl::Status UsageError(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_USAGE, message);
}

// Asks one server after the other until one answers.
template <typename Response>
absl::StatusOr<Response> Call(
    const SignerOptions& options,
    const std::function<grpc::Status(Stub&, grpc::ClientContext&, Response*)>&
        call) {
  ASSIGN_OR_RETURN(const std::vector<std::shared_ptr<grpc::Channel>> channels,
                   OpenServers(options));
  Response response;
  size_t next = 0;
  const absl::Status status = CallWithRetry(CallLimits(), [&] {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + options.timeout));
    const std::unique_ptr<Stub> stub =
        v1::ApprovalService::NewStub(channels[next++ % channels.size()]);
    return GrpcToStatus(call(*stub, context, &response));
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::Grant> GetGrant(const SignerOptions& options,
                                   const std::string& id) {
  v1::GetGrantRequest request;
  request.set_id(id);
  return Call<v1::Grant>(
      options, [&](Stub& stub, grpc::ClientContext& context, v1::Grant* grant) {
        return stub.Get(&context, request, grant);
      });
}

std::string StateWord(v1::GrantState state) {
  switch (static_cast<int>(state)) {  // int: a newer server may have more
    case v1::GRANT_STATE_PENDING:
      return "pending";
    case v1::GRANT_STATE_APPROVED:
      return "approved";
    case v1::GRANT_STATE_REJECTED:
      return "rejected";
    case v1::GRANT_STATE_REVOKED:
      return "revoked";
    default:
      return "unknown";
  }
}

std::string Time(const google::protobuf::Timestamp& time) {
  return FormatUtc(absl::FromUnixSeconds(time.seconds()));
}

nlohmann::json DescribeGrant(const v1::Grant& grant) {
  nlohmann::json json = {{"name", grant.id()},
                         {"identity", grant.identity()},
                         {"state", StateWord(grant.state())},
                         {"requester", grant.requester()},
                         {"reason", grant.reason()},
                         {"quorum", grant.quorum()},
                         {"max_uses", grant.max_uses()},
                         {"use_count", grant.use_count()},
                         {"created_at", Time(grant.created_at())},
                         {"expires_at", Time(grant.expires_at())},
                         {"cdhashes", nlohmann::json::array()},
                         {"identifiers", nlohmann::json::array()},
                         {"approvals", nlohmann::json::array()}};
  if (!grant.release().empty()) json["release"] = grant.release();
  for (const std::string& each : grant.cdhashes()) {
    json["cdhashes"].push_back(HexEncode(AsBytes(each)));
  }
  for (const std::string& each : grant.identifiers()) {
    json["identifiers"].push_back(each);
  }
  for (const v1::Approval& each : grant.approvals()) {
    json["approvals"].push_back(
        {{"approver", each.approver()},
         {"approves", each.approves()},
         {"at", Time(each.at())},
         {"statement", each.statement()},
         {"signature", HexEncode(AsBytes(each.signature()))},
         {"public_key", HexEncode(AsBytes(each.public_key()))}});
  }
  return json;
}

void SayGrant(const v1::Grant& grant, int more, Reporter& reporter) {
  const auto approved =
      std::count_if(grant.approvals().begin(), grant.approvals().end(),
                    [](const v1::Approval& each) { return each.approves(); });
  const auto say = [&](int verbosity, const std::string& line) {
    reporter.Say(verbosity, Printable(line));
  };
  say(0,
      absl::StrCat(grant.id(), " ", StateWord(grant.state()), " ",
                   grant.identity(), ", ", approved, " of ", grant.quorum(),
                   " approvals, ", grant.use_count(), " of ", grant.max_uses(),
                   " uses, until ", Time(grant.expires_at())));
  say(more, "  asked by " + grant.requester() +
                (grant.reason().empty() ? "" : ": " + grant.reason()));
  if (!grant.release().empty()) say(more, "  release " + grant.release());
  for (const std::string& each : grant.identifiers()) {
    say(more, "  identifier " + each);
  }
  for (const std::string& each : grant.cdhashes()) {
    say(more, "  cdhash " + HexEncode(AsBytes(each)));
  }
  for (const v1::Approval& each : grant.approvals()) {
    say(more, absl::StrCat("  ", each.approves() ? "approved" : "rejected",
                           " by ", each.approver(), " at ", Time(each.at())));
  }
}

absl::StatusOr<v1::RequestGrantRequest> BuildRequest(
    const GrantRequestCommand& command) {
  v1::RequestGrantRequest request;
  if (command.identity.empty()) {
    return UsageError("name the identity with -s IDENTITY");
  }
  request.set_identity(command.identity);
  for (const std::string& hex : command.cdhashes) {
    const bool is_hex =
        hex.size() == 2 * kCdHashSize &&
        hex.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
    if (!is_hex)
      return UsageError("a cdhash has 40 hexadecimal digits: " + hex);
    request.add_cdhashes(absl::HexStringToBytes(hex));
  }
  request.set_release(command.release);
  for (const std::string& each : command.identifiers) {
    request.add_identifiers(each);
  }
  request.set_max_uses(command.max_uses);
  request.set_reason(command.reason);
  if (!command.lifetime.empty()) {
    absl::Duration lifetime;
    if (!absl::ParseDuration(command.lifetime, &lifetime) ||
        lifetime <= absl::ZeroDuration()) {
      return UsageError("want a time such as 30m or 2h for --for");
    }
    request.mutable_expires_at()->set_seconds(
        absl::ToUnixSeconds(absl::Now() + lifetime));
  }
  return request;
}

absl::StatusOr<v1::Grant> Decide(const ApproveCommand& command,
                                 Reporter& reporter) {
  if (command.signer.token_uri.empty()) {
    return UsageError(
        "name the key that signs the approval with --token URI "
        "('pkcs11:token=LABEL;object=KEY?module-path=...')");
  }
  ASSIGN_OR_RETURN(const v1::Grant grant, GetGrant(command.signer, command.id));
  SayGrant(grant, 0, reporter);
  ASSIGN_OR_RETURN(
      const LocalToken local,
      OpenLocalToken(command.signer.token_uri, command.signer.timeout));
  const absl::Time deadline = absl::Now() + command.signer.timeout;
  // An engineer's key may have been imported; the server knows which key it is.
  ASSIGN_OR_RETURN(const std::shared_ptr<KeyBackend> key,
                   local.token->LoadKey(local.key, KeyPolicy::kImportedAllowed,
                                        {}, deadline));
  const absl::Time at = absl::FromUnixSeconds(absl::ToUnixSeconds(absl::Now()));
  const std::string text =
      audit::FormatApproval(grant, !command.reject, key->public_key(), at);
  const bool is_rsa = PublicKeyAlgorithm(key->public_key()).starts_with("rsa");
  ASSIGN_OR_RETURN(
      const Bytes signature,
      key->Sign(is_rsa ? SignMechanism::kRsaPkcs1 : SignMechanism::kEcdsa,
                SignDigest::kSha256,
                ComputeDigest(DigestKind::kSha256, AsBytes(text)), deadline));
  v1::DecideGrantRequest request;
  request.set_id(grant.id());
  request.mutable_at()->set_seconds(absl::ToUnixSeconds(at));
  request.set_signature(ToString(signature));
  return Call<v1::Grant>(
      command.signer,
      [&](Stub& stub, grpc::ClientContext& context, v1::Grant* decided) {
        return command.reject ? stub.Reject(&context, request, decided)
                              : stub.Approve(&context, request, decided);
      });
}

}  // namespace

void RunGrantRequest(const GrantRequestCommand& command, Reporter& reporter) {
  const auto ask = [&]() -> absl::StatusOr<v1::Grant> {
    ASSIGN_OR_RETURN(const v1::RequestGrantRequest request,
                     BuildRequest(command));
    return Call<v1::Grant>(
        command.signer,
        [&](Stub& stub, grpc::ClientContext& context, v1::Grant* response) {
          return stub.RequestGrant(&context, request, response);
        });
  };
  const absl::StatusOr<v1::Grant> grant = ask();
  if (!grant.ok()) {
    reporter.Fail("request", "a grant for " + command.identity, grant.status());
    return;
  }
  SayGrant(*grant, 1, reporter);
  reporter.Succeed(DescribeGrant(*grant));
}

void RunGrantList(const GrantListCommand& command, Reporter& reporter) {
  v1::ListGrantsRequest request;
  request.set_identity(command.identity);
  request.set_all(command.all);
  const absl::StatusOr<v1::ListGrantsResponse> grants =
      Call<v1::ListGrantsResponse>(
          command.signer, [&](Stub& stub, grpc::ClientContext& context,
                              v1::ListGrantsResponse* response) {
            return stub.List(&context, request, response);
          });
  if (!grants.ok()) {
    reporter.Fail("list", "grants", grants.status());
    return;
  }
  for (const v1::Grant& grant : grants->grants()) {
    SayGrant(grant, 1, reporter);
    reporter.Succeed(DescribeGrant(grant));
  }
}

void RunGrantShow(const GrantShowCommand& command, Reporter& reporter) {
  absl::StatusOr<v1::Grant> grant;
  if (command.revoke) {
    v1::GetGrantRequest request;
    request.set_id(command.id);
    grant = Call<v1::Grant>(
        command.signer,
        [&](Stub& stub, grpc::ClientContext& context, v1::Grant* response) {
          return stub.Revoke(&context, request, response);
        });
  } else {
    grant = GetGrant(command.signer, command.id);
  }
  if (!grant.ok()) {
    reporter.Fail(command.revoke ? "revoke" : "show", "grant " + command.id,
                  grant.status());
    return;
  }
  SayGrant(*grant, 0, reporter);
  reporter.Succeed(DescribeGrant(*grant));
}

void RunApprove(const ApproveCommand& command, Reporter& reporter) {
  const absl::StatusOr<v1::Grant> grant = Decide(command, reporter);
  if (!grant.ok()) {
    reporter.Fail(command.reject ? "reject" : "approve", "grant " + command.id,
                  grant.status());
    return;
  }
  reporter.Say(0, "now " + StateWord(grant->state()));
  reporter.Succeed(DescribeGrant(*grant));
}

}  // namespace codeseal::client
