// absl::Status with one typed payload, codeseal.v1.ErrorDetail. The payload
// crosses gRPC unchanged (server and client convert it, nothing else does).
//
// Debian's abseil has its own string_view: conversions from std::string_view
// stay in this file, callers pass std types.

#ifndef CODESEAL_CODESIGN_BASE_ERROR_H_
#define CODESEAL_CODESIGN_BASE_ERROR_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codeseal/v1/error_detail.pb.h"

namespace codeseal {

using v1::ErrorDetail;
using v1::Reason;
using v1::Stage;

// A Status of `code` whose payload has `stage` and `reason`. `message` says
// what is wrong, with the values; who, where and what to do are added by the
// functions below and by the client's hints. In all texts, bytes that are not
// UTF-8 are escaped.
absl::Status MakeError(absl::StatusCode code, Stage stage, Reason reason,
                       std::string_view message);

// INVALID_ARGUMENT, STAGE_PARSE. `byte_offset` counts from the start of the
// object being parsed.
absl::Status ParseError(Reason reason, uint64_t byte_offset,
                        std::string_view message);

// The same for what breaks `rule`.
absl::Status BrokenRule(std::string_view rule, Reason reason,
                        uint64_t byte_offset, std::string_view message);

// The payload; nullopt for OK and for a foreign Status.
std::optional<ErrorDetail> GetErrorDetail(const absl::Status& status);

// REASON_UNSPECIFIED for OK and for a foreign Status.
Reason GetReason(const absl::Status& status);

// The same error with the payload replaced. No effect on OK.
absl::Status WithErrorDetail(absl::Status status, const ErrorDetail& detail);

// The same error with a subject or rule, unless it has one already: the place
// nearest to the fault knows best. No effect on OK.
absl::Status WithSubject(absl::Status status, std::string_view subject);
absl::Status WithRule(absl::Status status, std::string_view rule);

// Adds `base` to the byte offset, when an inner parser counted from the inner
// object's start.
absl::Status WithOffsetBase(absl::Status status, uint64_t base);

// "message" of the Status as std::string_view.
std::string_view Message(const absl::Status& status);

// errno as a Status about `path`: REASON_FILE_NOT_FOUND, _NOT_READABLE or
// _NOT_WRITABLE, _DISK_FULL.
absl::Status FileError(int error_number, Stage stage, std::string_view action,
                       std::string_view path);

// The same in STAGE_WRITE.
absl::Status WriteError(int error_number, std::string_view action,
                        std::string_view path);

}  // namespace codeseal

#define CODESEAL_CONCAT_INNER(a, b) a##b
#define CODESEAL_CONCAT(a, b) CODESEAL_CONCAT_INNER(a, b)

// Returns from the calling function with the Status when it is not OK.
#define RETURN_IF_ERROR(expression)                                           \
  do {                                                                        \
    if (absl::Status codeseal_status = (expression); !codeseal_status.ok()) { \
      return codeseal_status;                                                 \
    }                                                                         \
  } while (false)

// ASSIGN_OR_RETURN(const Type value, Function());
#define ASSIGN_OR_RETURN(declaration, expression)                     \
  ASSIGN_OR_RETURN_INNER(CODESEAL_CONCAT(codeseal_result_, __LINE__), \
                         declaration, expression)
#define ASSIGN_OR_RETURN_INNER(result, declaration, expression) \
  auto result = (expression);                                   \
  if (!result.ok()) return std::move(result).status();          \
  declaration = *std::move(result)

#endif  // CODESEAL_CODESIGN_BASE_ERROR_H_
