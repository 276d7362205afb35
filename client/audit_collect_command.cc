#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "audit/mirror.h"
#include "client/commands.h"
#include "client/connection.h"
#include "client/grpc_to_status.h"
#include "codeseal/v1/audit.grpc.pb.h"
#include "codesign/base/clock.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "grpcpp/grpcpp.h"

namespace codeseal::client {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(30);

void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(absl::ToChronoTime(absl::Now() + kCallTimeout));
}

// A verifier key has two '+'; what looks otherwise is a file.
absl::StatusOr<audit::NoteKey> ReadKey(const std::string& text) {
  if (const auto key = audit::NoteKey::Parse(text); key.ok()) return key;
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(text));
  return audit::NoteKey::Parse(ToString(file.bytes()));
}

// One look at the server; how many entries were new.
absl::StatusOr<uint64_t> Collect(v1::AuditService::Stub& server,
                                 audit::LogMirror& mirror) {
  v1::GetCheckpointResponse latest;
  RETURN_IF_ERROR(CallWithRetry({}, [&] {
    grpc::ClientContext context;
    SetDeadline(context);
    return GrpcToStatus(server.GetCheckpoint(&context, {}, &latest));
  }));
  if (latest.checkpoint().empty()) return uint64_t{0};
  return mirror.Take(
      latest.checkpoint(),
      [&](uint64_t begin,
          size_t max_count) -> absl::StatusOr<std::vector<Bytes>> {
        v1::ReadEntriesRequest request;
        request.set_begin(begin);
        request.set_max_count(static_cast<uint32_t>(max_count));
        v1::ReadEntriesResponse response;
        RETURN_IF_ERROR(CallWithRetry({}, [&] {
          grpc::ClientContext context;
          SetDeadline(context);
          return GrpcToStatus(server.ReadEntries(&context, request, &response));
        }));
        std::vector<Bytes> entries;
        for (const std::string& each : response.entries()) {
          entries.push_back(ToBytes(each));
        }
        return entries;
      });
}

absl::Status Run(const AuditCollectCommand& command, Reporter& reporter) {
  ASSIGN_OR_RETURN(audit::NoteKey key, ReadKey(command.key));
  const Environment environment = ProcessEnvironment();
  ASSIGN_OR_RETURN(const ConnectionSettings settings,
                   ResolveConnection(command.connection, environment,
                                     DefaultSettingsPath(environment)));
  const SystemClock clock;
  ASSIGN_OR_RETURN(const auto channels, OpenChannels(settings, clock));
  if (channels.size() != 1) {
    return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                     v1::REASON_USAGE,
                     "each replica has a log of its own: collect from one "
                     "server, into a folder for it");
  }
  const auto server = v1::AuditService::NewStub(channels.front());
  ASSIGN_OR_RETURN(const auto mirror,
                   audit::LogMirror::Open(command.folder, std::move(key)));
  for (;;) {
    const absl::StatusOr<uint64_t> taken = Collect(*server, *mirror);
    const bool is_last = command.every == absl::ZeroDuration();
    if (taken.ok()) {
      if (is_last || *taken > 0) {
        reporter.Say(0, absl::StrCat(command.folder, ": ", mirror->size(),
                                     " entries, ", *taken, " new"));
      }
    } else if (is_last || !MayTryAgain(taken.status())) {
      return taken.status();
    } else {
      reporter.Complain(
          absl::StrCat("warning: ", std::string(Message(taken.status()))));
    }
    if (is_last) break;
    absl::SleepFor(command.every);
  }
  reporter.Succeed({{"name", command.folder}, {"size", mirror->size()}});
  return absl::OkStatus();
}

}  // namespace

void RunAuditCollect(const AuditCollectCommand& command, Reporter& reporter) {
  const absl::Status status = Run(command, reporter);
  if (!status.ok()) reporter.Fail("collect", command.folder, status);
}

}  // namespace codeseal::client
