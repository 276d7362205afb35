// Structured logs: one JSON object a line on stderr. The full form of every
// error is written here, under the request id that the caller is told.

#ifndef CODESEAL_SERVER_LOG_H_
#define CODESEAL_SERVER_LOG_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"

namespace codeseal {

enum class LogLevel : uint8_t { kInfo, kWarning, kError };

using LogField = std::pair<std::string_view, std::string>;

// Writes {"time":...,"level":...,"event":event, fields...}. `event` is a
// stable word for programs ("signed", "identity_unavailable"). Values are
// escaped; bytes that are not UTF-8 are replaced. Thread-safe.
void Log(LogLevel level, std::string_view event,
         std::initializer_list<LogField> fields);

// As Log(), with the code, message and every field of the ErrorDetail.
void LogStatus(LogLevel level, std::string_view event,
               const absl::Status& status,
               std::initializer_list<LogField> fields = {});

}  // namespace codeseal

#endif  // CODESEAL_SERVER_LOG_H_
