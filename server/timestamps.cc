#include "server/timestamps.h"

#include <algorithm>
#include <utility>

#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "server/log.h"

namespace codeseal {
namespace {

void LogEvent(const TimestamperEvent& event) {
  LogLevel level = LogLevel::kWarning;
  const char* name = "tsa_query_failed";
  switch (event.kind) {
    case TimestamperEvent::Kind::kQueryFailed:
      break;
    case TimestamperEvent::Kind::kBreakerOpened:
      level = LogLevel::kError;
      name = "tsa_breaker_opened";
      break;
    case TimestamperEvent::Kind::kBreakerClosed:
      level = LogLevel::kInfo;
      name = "tsa_breaker_closed";
      break;
    case TimestamperEvent::Kind::kClockApart:
      level = LogLevel::kError;
      name = "tsa_clock_apart";
      break;
  }
  Log(level, name,
      {{"tsa", event.tsa}, {"url", event.url}, {"message", event.message}});
}

absl::StatusOr<std::vector<Certificate>> ReadRoots(const std::string& path) {
  if (path.empty()) return std::vector<Certificate>();
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return Certificate::ParsePem(AsText(file.bytes()));
}

absl::Status RefuseTimestamp(const char* rule, const std::string& message) {
  return WithRule(
      MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_POLICY,
                v1::REASON_POLICY_VIOLATION, message),
      rule);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TimestampAuthorities>>
TimestampAuthorities::Create(const std::vector<TsaConfig>& authorities,
                             const Clock& clock) {
  auto made = std::unique_ptr<TimestampAuthorities>(new TimestampAuthorities());
  std::vector<ConfigProblem> problems;
  for (const TsaConfig& each : authorities) {
    TimestamperOptions options;
    options.name = each.name;
    options.urls = each.urls;
    options.timeout = each.timeout;
    options.attempts = each.attempts;
    options.concurrency = each.concurrency;
    options.rules.profile = each.profile;
    options.rules.policy = each.policy;
    absl::StatusOr<std::vector<Certificate>> roots = ReadRoots(each.roots);
    const std::string key = "tsa." + each.name;
    if (!roots.ok()) {
      problems.push_back(
          {0, key + ".roots",
           each.roots + ": " + std::string(Message(roots.status()))});
      continue;
    }
    options.rules.roots = *std::move(roots);
    // A policy that is no OID would fail every request.
    const absl::Status query = MakeTimestampQuery({}, options.rules).status();
    if (!query.ok()) {
      problems.push_back({0, key + ".policy", std::string(Message(query))});
      continue;
    }
    made->by_name_[each.name] =
        std::make_unique<Timestamper>(std::move(options), clock, LogEvent);
  }
  if (!problems.empty()) return ConfigError("configuration", problems);
  return made;
}

absl::StatusOr<TimestampPlan> TimestampAuthorities::Plan(
    const v1::SignRequest& request,
    const IdentityTimestampConfig& identity) const {
  const bool asks_for_none = request.timestamp() == v1::TIMESTAMP_MODE_NONE;
  if (asks_for_none && identity.mode == TimestampPolicy::kRequired) {
    return RefuseTimestamp(
        "timestamp-required",
        "signatures of this identity carry a timestamp; the request "
        "wants none");
  }
  const bool asks_for_one =
      request.timestamp() == v1::TIMESTAMP_MODE_REQUIRED ||
      !request.timestamp_url().empty();
  if (asks_for_none ||
      (!asks_for_one && identity.mode == TimestampPolicy::kNone)) {
    return TimestampPlan();
  }
  if (identity.tsa.empty()) {
    return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_POLICY,
                     v1::REASON_NO_TIMESTAMP_AUTHORITY,
                     "this server has no timestamp authority for the identity");
  }
  std::vector<std::string> names = {identity.tsa};
  if (!request.timestamp_url().empty()) {
    names.insert(names.end(), identity.also.begin(), identity.also.end());
  }
  for (const std::string& name : names) {
    Timestamper* const tsa = by_name_.at(name).get();
    const std::vector<std::string>& urls = tsa->options().urls;
    if (request.timestamp_url().empty() ||
        std::find(urls.begin(), urls.end(), request.timestamp_url()) !=
            urls.end()) {
      return TimestampPlan{
          tsa, asks_for_one || identity.mode == TimestampPolicy::kRequired};
    }
  }
  return RefuseTimestamp("timestamp-url",
                         "the identity may not use the timestamp server " +
                             request.timestamp_url().substr(0, 256));
}

}  // namespace codeseal
