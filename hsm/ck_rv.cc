#include "hsm/ck_rv.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "codesign/base/error.h"
#include "hsm/pkcs11.h"

namespace codeseal {
namespace {

using enum TokenAction;
using Code = absl::StatusCode;

// Tokens disagree on what they return for a lost login (0x82, 0x63, 0x60, 0x2
// and 0x101 were all seen), hence kCheckState on codes that sound final.
#define RULE(rv, ...) {rv, #rv, __VA_ARGS__}
constexpr CkRvRule kRules[] = {
    // First: the rule for every code that is not listed.
    RULE(CKR_GENERAL_ERROR, kNewSession, Code::kUnavailable,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_FUNCTION_FAILED, kNewSession, Code::kUnavailable,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_HOST_MEMORY, kNewSession, Code::kUnavailable,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_DEVICE_MEMORY, kNewSession, Code::kUnavailable,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_FUNCTION_CANCELED, kNewSession, Code::kUnavailable,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_OPERATION_ACTIVE, kNewSession, Code::kUnavailable,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_OPERATION_NOT_INITIALIZED, kNewSession, Code::kUnavailable,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_KEY_HANDLE_INVALID, kNewSession, Code::kUnavailable,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_OBJECT_HANDLE_INVALID, kNewSession, Code::kUnavailable,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_BUFFER_TOO_SMALL, kNewSession, Code::kInternal,
         v1::REASON_TOKEN_FUNCTION_FAILED),

    // The token, its sessions or the login are gone.
    RULE(CKR_SESSION_HANDLE_INVALID, kReopen, Code::kUnavailable,
         v1::REASON_TOKEN_DOWN),
    RULE(CKR_SESSION_CLOSED, kReopen, Code::kUnavailable,
         v1::REASON_TOKEN_DOWN),
    RULE(CKR_USER_NOT_LOGGED_IN, kReopen, Code::kUnavailable,
         v1::REASON_TOKEN_DOWN),
    RULE(CKR_DEVICE_REMOVED, kReopen, Code::kUnavailable,
         v1::REASON_TOKEN_DOWN),
    RULE(CKR_DEVICE_ERROR, kReopen, Code::kUnavailable, v1::REASON_TOKEN_DOWN),
    RULE(CKR_TOKEN_NOT_PRESENT, kReopen, Code::kUnavailable,
         v1::REASON_TOKEN_DOWN),
    RULE(CKR_TOKEN_NOT_RECOGNIZED, kReopen, Code::kUnavailable,
         v1::REASON_TOKEN_DOWN),
    RULE(CKR_SLOT_ID_INVALID, kReopen, Code::kUnavailable,
         v1::REASON_TOKEN_DOWN),
    RULE(CKR_CRYPTOKI_NOT_INITIALIZED, kReopen, Code::kUnavailable,
         v1::REASON_TOKEN_DOWN),

    {kKeyVanished, "nothing", kRestart, Code::kUnavailable,
     v1::REASON_TOKEN_DOWN},

    // Busy.
    RULE(CKR_SESSION_COUNT, kFail, Code::kResourceExhausted,
         v1::REASON_TOKEN_BUSY),

    // The PIN. Never tried again.
    RULE(CKR_PIN_INCORRECT, kFail, Code::kFailedPrecondition,
         v1::REASON_PIN_REJECTED),
    RULE(CKR_PIN_INVALID, kFail, Code::kFailedPrecondition,
         v1::REASON_PIN_REJECTED),
    RULE(CKR_PIN_LEN_RANGE, kFail, Code::kFailedPrecondition,
         v1::REASON_PIN_REJECTED),
    RULE(CKR_PIN_LOCKED, kFail, Code::kFailedPrecondition, v1::REASON_PIN_HOLD),
    RULE(CKR_PIN_EXPIRED, kFail, Code::kFailedPrecondition,
         v1::REASON_PIN_HOLD),
    RULE(CKR_USER_PIN_NOT_INITIALIZED, kFail, Code::kFailedPrecondition,
         v1::REASON_PIN_HOLD),

    // The key or the mechanism does not do what is asked.
    RULE(CKR_MECHANISM_INVALID, kCheckState, Code::kFailedPrecondition,
         v1::REASON_KEY_UNSUPPORTED),
    RULE(CKR_MECHANISM_PARAM_INVALID, kCheckState, Code::kFailedPrecondition,
         v1::REASON_KEY_UNSUPPORTED),
    RULE(CKR_KEY_TYPE_INCONSISTENT, kCheckState, Code::kFailedPrecondition,
         v1::REASON_KEY_UNSUPPORTED),
    RULE(CKR_KEY_SIZE_RANGE, kCheckState, Code::kFailedPrecondition,
         v1::REASON_KEY_UNSUPPORTED),
    RULE(CKR_KEY_FUNCTION_NOT_PERMITTED, kCheckState, Code::kFailedPrecondition,
         v1::REASON_KEY_UNSUPPORTED),
    RULE(CKR_CURVE_NOT_SUPPORTED, kCheckState, Code::kFailedPrecondition,
         v1::REASON_KEY_UNSUPPORTED),
    RULE(CKR_FUNCTION_NOT_SUPPORTED, kCheckState, Code::kFailedPrecondition,
         v1::REASON_KEY_UNSUPPORTED),
    RULE(CKR_TOKEN_WRITE_PROTECTED, kFail, Code::kFailedPrecondition,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_SESSION_READ_ONLY, kFail, Code::kFailedPrecondition,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_ACTION_PROHIBITED, kFail, Code::kFailedPrecondition,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_CANT_LOCK, kFail, Code::kFailedPrecondition,
         v1::REASON_MODULE_LOAD),
    RULE(CKR_NEED_TO_CREATE_THREADS, kFail, Code::kFailedPrecondition,
         v1::REASON_MODULE_LOAD),
    RULE(CKR_LIBRARY_LOAD_FAILED, kFail, Code::kFailedPrecondition,
         v1::REASON_MODULE_LOAD),

    // We build these arguments: a refusal is our own fault.
    RULE(CKR_ARGUMENTS_BAD, kFail, Code::kInternal,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_DATA_INVALID, kFail, Code::kInternal,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_DATA_LEN_RANGE, kFail, Code::kInternal,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_ATTRIBUTE_TYPE_INVALID, kFail, Code::kFailedPrecondition,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_ATTRIBUTE_VALUE_INVALID, kFail, Code::kFailedPrecondition,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_ATTRIBUTE_READ_ONLY, kFail, Code::kFailedPrecondition,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_ATTRIBUTE_SENSITIVE, kFail, Code::kFailedPrecondition,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_TEMPLATE_INCOMPLETE, kFail, Code::kFailedPrecondition,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_TEMPLATE_INCONSISTENT, kFail, Code::kFailedPrecondition,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_DOMAIN_PARAMS_INVALID, kFail, Code::kFailedPrecondition,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_USER_ALREADY_LOGGED_IN, kFail, Code::kInternal,
         v1::REASON_TOKEN_FUNCTION_FAILED),
    RULE(CKR_USER_ANOTHER_ALREADY_LOGGED_IN, kReopen, Code::kUnavailable,
         v1::REASON_TOKEN_DOWN),
    RULE(CKR_CRYPTOKI_ALREADY_INITIALIZED, kFail, Code::kInternal,
         v1::REASON_TOKEN_FUNCTION_FAILED),
};
#undef RULE

const CkRvRule* Find(unsigned long rv) {
  const auto* found =
      std::find_if(std::begin(kRules), std::end(kRules),
                   [rv](const CkRvRule& rule) { return rule.rv == rv; });
  return found == std::end(kRules) ? nullptr : found;
}

}  // namespace

const CkRvRule& FindCkRv(unsigned long rv) {
  const CkRvRule* rule = Find(rv);
  return rule == nullptr ? kRules[0] : *rule;
}

std::string CkRvName(unsigned long rv) {
  if (rv == CKR_OK) return "CKR_OK";
  const CkRvRule* rule = Find(rv);
  return rule == nullptr ? absl::StrFormat("CKR_%#x", rv) : rule->name;
}

absl::Status TokenError(unsigned long rv, std::string_view call) {
  const CkRvRule& rule = FindCkRv(rv);
  ErrorDetail detail;
  detail.set_stage(v1::STAGE_TOKEN);
  detail.set_reason(rule.reason);
  detail.set_ck_rv(rv);
  return WithErrorDetail(
      absl::Status(rule.code,
                   absl::StrCat(std::string(call), " returned ", CkRvName(rv))),
      detail);
}

}  // namespace codeseal
