#include "client/connection.h"

#include <grpc/grpc.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "codesign/base/bytes.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/cms/certificate.h"

namespace codeseal::client {
namespace {

constexpr uint64_t kMaxPemSize = 1 << 20;  // bytes

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (file.bytes().size() > kMaxPemSize) {
    return WithSubject(
        MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                  v1::REASON_BAD_CERTIFICATE, "the file is too big for PEM"),
        path);
  }
  return ToString(file.bytes());
}

absl::Status CheckDates(const Certificate& certificate, absl::Time now,
                        const std::string& path) {
  const auto date = [](absl::Time time) {
    return absl::FormatTime("%Y-%m-%d %H:%M UTC", time, absl::UTCTimeZone());
  };
  std::string message;
  if (now > certificate.not_after()) {
    message =
        "the client certificate expired on " + date(certificate.not_after());
  } else if (now < certificate.not_before()) {
    message = "the client certificate is not valid before " +
              date(certificate.not_before());
  } else {
    return absl::OkStatus();
  }
  return WithSubject(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_TRANSPORT,
                v1::REASON_CERTIFICATE_EXPIRED, message),
      path);
}

// The name of this machine needs no resolver; a container may have neither one
// nor /etc/hosts. The server's certificate must still have the name.
// Spec: RFC 6761, section 6.3.
std::string ChannelTarget(const std::string& server,
                          grpc::ChannelArguments& arguments) {
  constexpr std::string_view kLocalhost = "localhost:";
  if (!server.starts_with(kLocalhost)) return server;
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, server);
  return "ipv4:127.0.0.1:" + server.substr(kLocalhost.size());
}

std::shared_ptr<grpc::Channel> MakeChannel(
    const std::string& server,
    const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  // We try again ourselves, so that a request keeps its id.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  return grpc::CreateCustomChannel(ChannelTarget(server, arguments),
                                   credentials, arguments);
}

}  // namespace

absl::StatusOr<std::vector<std::shared_ptr<grpc::Channel>>> OpenChannels(
    const ConnectionSettings& settings, const Clock& clock) {
  ASSIGN_OR_RETURN(std::string ca, ReadPem(settings.ca));
  ASSIGN_OR_RETURN(std::string cert, ReadPem(settings.cert));
  ASSIGN_OR_RETURN(std::string key, ReadPem(settings.key));
  // gRPC would say only that no handshake was possible.
  for (const auto& [pem, path] :
       {std::pair<const std::string&, const std::string&>{ca, settings.ca},
        {cert, settings.cert}}) {
    const absl::StatusOr<std::vector<Certificate>> certificates =
        Certificate::ParsePem(pem);
    if (!certificates.ok()) return WithSubject(certificates.status(), path);
    if (&pem == &cert) {
      RETURN_IF_ERROR(CheckDates(certificates->front(), clock.Now(), path));
    }
  }
  if (key.find("PRIVATE KEY-----") == std::string::npos) {
    return WithSubject(
        MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                  v1::REASON_BAD_CERTIFICATE,
                  "no PRIVATE KEY block in the file of the client's key"),
        settings.key);
  }

  std::shared_ptr<grpc::ChannelCredentials> credentials =
      grpc::SslCredentials({std::move(ca), std::move(key), std::move(cert)});
  if (!settings.identity_token.empty()) {
    // "authorization: Bearer TOKEN", never over anything but TLS.
    credentials = grpc::CompositeChannelCredentials(
        credentials, grpc::AccessTokenCredentials(settings.identity_token));
  }
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (const absl::string_view server :
       absl::StrSplit(settings.server, ',', absl::SkipWhitespace())) {
    channels.push_back(MakeChannel(
        std::string(absl::StripAsciiWhitespace(server)), credentials));
  }
  if (!channels.empty()) return channels;
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_USAGE, "--server names no address");
}

bool MayTryAgain(const absl::Status& status) {
  const Reason reason = GetReason(status);
  return (absl::IsUnavailable(status) || reason == v1::REASON_OVERLOADED ||
          reason == v1::REASON_IN_PROGRESS ||
          reason == v1::REASON_INDETERMINATE) &&
         reason != v1::REASON_TLS_FAILED;
}

absl::Status CallWithRetry(const CallLimits& limits,
                           const std::function<absl::Status()>& attempt) {
  absl::Duration delay = limits.first_delay;
  for (int attempt_number = 1;; ++attempt_number) {
    absl::Status status = attempt();
    if (attempt_number >= limits.attempt_count || !MayTryAgain(status)) {
      return status;
    }
    absl::SleepFor(delay);
    delay *= 2;
  }
}

std::string NewRequestId() {
  std::array<uint8_t, 16> id{};
  // Up to 256 bytes come at once or not at all.
  while (getrandom(id.data(), id.size(), 0) !=
         static_cast<ssize_t>(id.size())) {
    if (errno != EINTR) std::abort();
  }
  id[6] = static_cast<uint8_t>((id[6] & 0x0f) | 0x40);  // version 4
  id[8] = static_cast<uint8_t>((id[8] & 0x3f) | 0x80);  // variant 10
  std::string text = HexEncode(id);
  for (const size_t place : {8u, 13u, 18u, 23u}) text.insert(place, 1, '-');
  return text;
}

}  // namespace codeseal::client
