#include "server/admin_client.h"

#include <cstdlib>
#include <utility>

#include "absl/time/clock.h"
#include "codeseal/v1/status.pb.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "server/opened_token.h"

namespace codeseal {
namespace {

constexpr absl::Duration kAnswerPatience = absl::Seconds(90);

absl::Status Complete(std::string& value, const char* option,
                      const char* variable) {
  if (!value.empty()) return absl::OkStatus();
  const char* const given = std::getenv(variable);
  if (given != nullptr && *given != '\0') {
    value = given;
    return absl::OkStatus();
  }
  return UsageError(std::string("how to reach the server: give ") + option +
                    " or set " + variable);
}

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return ToString(file.bytes());
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenAdminChannel(
    AdminConnection connection) {
  RETURN_IF_ERROR(Complete(connection.server, "--server", "CODESEAL_SERVER"));
  RETURN_IF_ERROR(Complete(connection.ca, "--ca", "CODESEAL_CA"));
  RETURN_IF_ERROR(Complete(connection.certificate, "--cert", "CODESEAL_CERT"));
  RETURN_IF_ERROR(Complete(connection.key, "--key", "CODESEAL_KEY"));
  grpc::SslCredentialsOptions options;
  ASSIGN_OR_RETURN(options.pem_root_certs, ReadPem(connection.ca));
  ASSIGN_OR_RETURN(options.pem_cert_chain, ReadPem(connection.certificate));
  ASSIGN_OR_RETURN(options.pem_private_key, ReadPem(connection.key));
  grpc::ChannelArguments arguments;
  std::string target = connection.server;
  // This machine's name needs no resolver, which a container may not have.
  if (constexpr std::string_view kLocalhost = "localhost:";
      target.starts_with(kLocalhost)) {
    arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, target);
    target = "ipv4:127.0.0.1:" + target.substr(kLocalhost.size());
  }
  return grpc::CreateCustomChannel(target, grpc::SslCredentials(options),
                                   arguments);
}

void SetAdminDeadline(grpc::ClientContext& context) {
  context.set_deadline(absl::ToChronoTime(absl::Now() + kAnswerPatience));
}

absl::Status StatusFromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const absl::Status plain(static_cast<absl::StatusCode>(status.error_code()),
                           status.error_message());
  v1::Status wire;
  ErrorDetail detail;
  if (wire.ParseFromString(status.error_details()) &&
      wire.details_size() == 1 && wire.details(0).UnpackTo(&detail)) {
    return WithErrorDetail(plain, detail);
  }
  const bool unreachable = absl::IsUnavailable(plain);
  return MakeError(
      plain.code(), v1::STAGE_TRANSPORT,
      unreachable ? v1::REASON_SERVER_UNREACHABLE : v1::REASON_INTERNAL,
      "the server: " + status.error_message());
}

}  // namespace codeseal
