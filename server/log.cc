#include "server/log.h"

#include <exception>
#include <memory>

#include "absl/strings/str_format.h"
#include "codesign/base/error.h"
#include "nlohmann/json.hpp"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace codeseal {
namespace {

using Json = nlohmann::ordered_json;

// The time is spdlog's, so that the line order and the clock agree; the rest
// of the line is one JSON object without its opening brace.
spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto made = std::make_shared<spdlog::logger>(
        "codeseald", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ",%v)",
                      spdlog::pattern_time_type::utc);
    return made;
  }();
  return *logger;
}

struct LevelWord {
  spdlog::level::level_enum level;
  const char* word;
};

LevelWord LevelWordOf(LogLevel level) {
  switch (level) {
    case LogLevel::kInfo:
      return {spdlog::level::info, "info"};
    case LogLevel::kWarning:
      return {spdlog::level::warn, "warning"};
    case LogLevel::kError:
      return {spdlog::level::err, "error"};
  }
  return {spdlog::level::err, "error"};
}

// A log line is never worth an exception: a line that can't be written is
// dropped.
void Write(LogLevel level, std::string_view event,
           std::initializer_list<LogField> fields, const Json& more) {
  try {
    const LevelWord word = LevelWordOf(level);
    Json line;
    line["level"] = word.word;
    line["event"] = std::string(event);
    for (const auto& [name, value] : fields) line[std::string(name)] = value;
    line.update(more);
    const std::string text =
        line.dump(-1, ' ', false, Json::error_handler_t::replace);
    Logger().log(word.level, "{}", std::string_view(text).substr(1));
  } catch (const std::exception&) {
  }
}

}  // namespace

void Log(LogLevel level, std::string_view event,
         std::initializer_list<LogField> fields) {
  Write(level, event, fields, Json::object());
}

void LogStatus(LogLevel level, std::string_view event,
               const absl::Status& status,
               std::initializer_list<LogField> fields) {
  Json more = Json::object();
  more["code"] = absl::StatusCodeToString(status.code());
  more["message"] = std::string(Message(status));
  if (const auto detail = GetErrorDetail(status); detail.has_value()) {
    more["stage"] = v1::Stage_Name(detail->stage());
    more["reason"] = v1::Reason_Name(detail->reason());
    if (!detail->subject().empty()) more["subject"] = detail->subject();
    if (!detail->rule().empty()) more["rule"] = detail->rule();
    if (detail->has_byte_offset()) more["byte_offset"] = detail->byte_offset();
    if (detail->has_ck_rv()) {
      more["ck_rv"] = absl::StrFormat("%#x", detail->ck_rv());
    }
  }
  Write(level, event, fields, more);
}

}  // namespace codeseal
