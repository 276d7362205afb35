#include "server/identity_commands.h"

#include <functional>
#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "codeseal/v1/identity.grpc.pb.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "nlohmann/json.hpp"
#include "server/config.h"
#include "server/identity_store.h"
#include "server/opened_token.h"

namespace codeseal {
namespace {

using Json = nlohmann::ordered_json;
using Stub = v1::IdentityService::Stub;

std::string FormatWire(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ",
                          absl::FromUnixSeconds(time.seconds()),
                          absl::UTCTimeZone());
}

Json VersionToJson(const v1::Identity& version) {
  Json json = {{"identity", version.name()},
               {"version", version.version()},
               {"state", StateWord(version.state())},
               {"common_name", version.common_name()},
               {"team_identifier", version.team_identifier()},
               {"sha1", HexEncode(AsBytes(version.leaf_sha1()))},
               {"key_algorithm", version.key_algorithm()},
               {"not_before", FormatWire(version.not_before())},
               {"not_after", FormatWire(version.not_after())},
               {"requirement", version.designated_requirement()},
               {"warnings", Json::array()}};
  if (version.has_since()) json["since"] = FormatWire(version.since());
  if (version.has_activate_at()) {
    json["activate_at"] = FormatWire(version.activate_at());
  }
  if (!version.unavailable_because().empty()) {
    json["unavailable_because"] = version.unavailable_because();
  }
  for (const std::string& each : version.warnings()) {
    json["warnings"].push_back(each);
  }
  return json;
}

void PrintText(const v1::Identity& version, std::ostream& out) {
  out << version.name() << " " << version.version() << " "
      << StateWord(version.state());
  if (version.has_since()) out << " since " << FormatWire(version.since());
  out << "\n  certificate  " << HexEncode(AsBytes(version.leaf_sha1())) << " \""
      << version.common_name() << "\" " << version.key_algorithm()
      << ", expires " << FormatWire(version.not_after()) << "\n  requirement  "
      << version.designated_requirement() << "\n";
  if (version.has_activate_at()) {
    out << "  activates    " << FormatWire(version.activate_at()) << "\n";
  }
  if (!version.unavailable_because().empty()) {
    out << "  unavailable  " << version.unavailable_because() << "\n";
  }
  for (const std::string& each : version.warnings()) {
    out << "  warning      " << each << "\n";
  }
}

void PrintVersions(
    const google::protobuf::RepeatedPtrField<v1::Identity>& versions, bool json,
    std::ostream& out) {
  Json list = Json::array();
  for (const v1::Identity& each : versions) {
    if (json) {
      list.push_back(VersionToJson(each));
    } else {
      PrintText(each, out);
    }
  }
  if (json) {
    out << list.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  }
}

// Makes the call and prints the version that it returns.
absl::Status CallAndPrint(
    const IdentityArguments& arguments, std::ostream& out,
    const std::function<grpc::Status(Stub&, grpc::ClientContext*,
                                     v1::Identity*)>& call) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel,
                   OpenAdminChannel(arguments.connection));
  const std::unique_ptr<Stub> stub = v1::IdentityService::NewStub(channel);
  grpc::ClientContext context;
  SetAdminDeadline(context);
  v1::ListIdentitiesResponse list;
  RETURN_IF_ERROR(StatusFromGrpc(call(*stub, &context, list.add_identities())));
  PrintVersions(list.identities(), arguments.json, out);
  return absl::OkStatus();
}

// Leaves the field absent when no time is given.
template <typename Request>
absl::Status SetActivateAt(const IdentityArguments& arguments,
                           Request& request) {
  if (arguments.at.empty()) return absl::OkStatus();
  absl::Time at;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, arguments.at, &at, &error)) {
    return UsageError("want a time such as 2026-11-01T06:00:00Z, not '" +
                      arguments.at + "'");
  }
  request.mutable_activate_at()->set_seconds(absl::ToUnixSeconds(at));
  return absl::OkStatus();
}

}  // namespace

absl::Status ListVersions(const IdentityArguments& arguments,
                          std::ostream& out) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel,
                   OpenAdminChannel(arguments.connection));
  const std::unique_ptr<Stub> stub = v1::IdentityService::NewStub(channel);
  grpc::ClientContext context;
  SetAdminDeadline(context);
  v1::ListVersionsRequest request;
  request.set_name(arguments.identity);
  v1::ListIdentitiesResponse response;
  RETURN_IF_ERROR(
      StatusFromGrpc(stub->ListVersions(&context, request, &response)));
  PrintVersions(response.identities(), arguments.json, out);
  return absl::OkStatus();
}

absl::Status StageVersion(const IdentityArguments& arguments,
                          std::ostream& out) {
  v1::StageVersionRequest request;
  request.set_name(arguments.identity);
  request.set_version(arguments.version);
  for (const std::string& each : arguments.keys) {
    KeyLocation location;
    if (!ParseKeyLocation(each, location)) {
      return UsageError("--key '" + each +
                        "' is not TOKEN:id=%01 or TOKEN:object=NAME");
    }
    v1::KeyLocation& key = *request.add_keys();
    key.set_token(location.token);
    key.set_id(ToString(location.key.id));
    key.set_label(location.key.label);
  }
  ASSIGN_OR_RETURN(const MappedFile chain, MappedFile::Open(arguments.chain));
  request.set_chain_pem(ToString(chain.bytes()));
  RETURN_IF_ERROR(SetActivateAt(arguments, request));
  request.set_allow_requirement_change(arguments.allow_requirement_change);
  request.set_validate_only(arguments.dry_run);
  return CallAndPrint(
      arguments, out,
      [&](Stub& stub, grpc::ClientContext* context, v1::Identity* version) {
        return stub.Stage(context, request, version);
      });
}

absl::Status ProbeVersion(const IdentityArguments& arguments,
                          std::ostream& out) {
  v1::ProbeVersionRequest request;
  request.set_name(arguments.identity);
  request.set_version(arguments.version);
  return CallAndPrint(
      arguments, out,
      [&](Stub& stub, grpc::ClientContext* context, v1::Identity* version) {
        return stub.Probe(context, request, version);
      });
}

absl::Status ActivateVersion(const IdentityArguments& arguments,
                             std::ostream& out) {
  v1::ActivateVersionRequest request;
  request.set_name(arguments.identity);
  request.set_version(arguments.version);
  request.set_allow_requirement_change(arguments.allow_requirement_change);
  RETURN_IF_ERROR(SetActivateAt(arguments, request));
  return CallAndPrint(
      arguments, out,
      [&](Stub& stub, grpc::ClientContext* context, v1::Identity* version) {
        return stub.Activate(context, request, version);
      });
}

absl::Status RetireVersion(const IdentityArguments& arguments,
                           std::ostream& out) {
  v1::RetireVersionRequest request;
  request.set_name(arguments.identity);
  request.set_version(arguments.version);
  request.set_even_if_active(arguments.even_if_active);
  return CallAndPrint(
      arguments, out,
      [&](Stub& stub, grpc::ClientContext* context, v1::Identity* version) {
        return stub.Retire(context, request, version);
      });
}

absl::Status DisableVersion(const IdentityArguments& arguments,
                            std::ostream& out) {
  v1::DisableVersionRequest request;
  request.set_name(arguments.identity);
  request.set_version(arguments.version);
  request.set_because(arguments.because);
  return CallAndPrint(
      arguments, out,
      [&](Stub& stub, grpc::ClientContext* context, v1::Identity* version) {
        return stub.Disable(context, request, version);
      });
}

std::string AdminHint(v1::Reason reason) {
  // Few of the reasons need one.
  if (reason == v1::REASON_FILE_NOT_FOUND) return "check the path";
  if (reason == v1::REASON_REQUIREMENT_CHANGES) {
    return "stage a certificate of the same team and kind, or, if users may be "
           "asked anew for keychain items and permissions, repeat it with "
           "--allow-requirement-change";
  }
  if (reason == v1::REASON_STATE_STORE) {
    return "give codeseald a folder of its own with state: {folder: ...}, on a "
           "disk with room that it may write to";
  }
  if (reason == v1::REASON_CEREMONY) {
    return "compare the ceremony's file and transcript with what is there "
           "(`codeseald token list`); a ceremony never replaces anything";
  }
  if (reason == v1::REASON_NO_ATTESTATION) {
    return "name the certificates with --attestation and --intermediate, as "
           "the vendor's tool exports them (yubico-piv-tool -a attest)";
  }
  if (reason == v1::REASON_NOT_AUTHORISED) {
    return "name the certificate that you connect with under admin: {allow: "
           "[...]} of the server's configuration";
  }
  if (reason == v1::REASON_SERVER_UNREACHABLE) {
    return "look whether codeseald runs, and whether --server, --ca, --cert "
           "and --key are its";
  }
  return "";
}

}  // namespace codeseal
