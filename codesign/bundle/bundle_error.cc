#include "codesign/bundle/bundle_error.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <string>

namespace codeseal {
namespace {

struct Fault {
  Reason reason;
  int32_t code;  // 0: not one of Apple's
  Stage stage;
  std::string_view text;
};

// Spec: Security, CSCommon.h, and the tables of SecErrorMessages.
constexpr Fault kFaults[] = {
    {v1::REASON_BAD_BUNDLE_FORMAT, -67028, v1::STAGE_PLAN,
     "bundle format unrecognized, invalid, or unsuitable"},
    {v1::REASON_AMBIGUOUS_BUNDLE_FORMAT, -67011, v1::STAGE_PLAN,
     "bundle format is ambiguous (could be app or framework)"},
    {v1::REASON_UNSEALED_APP_ROOT, -67014, v1::STAGE_PLAN,
     "unsealed contents present in the bundle root"},
    {v1::REASON_UNSEALED_FRAMEWORK_ROOT, -67008, v1::STAGE_PLAN,
     "unsealed contents present in the root directory of an embedded "
     "framework"},
    {v1::REASON_NOT_REGULAR_FILE, -67015, v1::STAGE_PLAN,
     "the main executable or Info.plist must be a regular file (no symlinks, "
     "etc.)"},
    {v1::REASON_BAD_INFO_PLIST, -67058, v1::STAGE_PARSE,
     "a required plist file or resource is malformed"},
    {v1::REASON_RESOURCE_RULES_INVALID, -67053, v1::STAGE_PARSE,
     "invalid resource specification rule(s)"},
    {v1::REASON_DS_STORE_SYMLINK, -67012, v1::STAGE_PLAN,
     ".DS_Store files cannot be a symlink"},
    {v1::REASON_RESOURCE_NOT_SUPPORTED, -67016, v1::STAGE_PLAN,
     "unsupported resource found (something not a directory, file or "
     "symlink)"},
    {v1::REASON_RESOURCE_NOT_READABLE, -67060, v1::STAGE_PLAN,
     "the code cannot be read by the verifier (file system permissions "
     "etc.)"},
    {v1::REASON_RESOURCE_NAME_NOT_UTF8, 0, v1::STAGE_PLAN,
     "the name of a file is not UTF-8"},
    {v1::REASON_UNSIGNED_NESTED_CODE, -67062, v1::STAGE_PLAN,
     "code object is not signed at all"},
    {v1::REASON_BAD_NESTED_CODE, -67021, v1::STAGE_VERIFY,
     "nested code is modified or invalid"},
    {v1::REASON_RESOURCE_SEAL_INVALID, -67055, v1::STAGE_PARSE,
     "the sealed resource directory is invalid"},
    {v1::REASON_SEALED_RESOURCE_CHANGED, -67054, v1::STAGE_VERIFY,
     "a sealed resource is missing or invalid"},
    {v1::REASON_INVALID_SYMLINK, -67003, v1::STAGE_VERIFY,
     "invalid destination for symbolic link in bundle"},
    {v1::REASON_WEAK_RESOURCE_RULES, -67013, v1::STAGE_VERIFY,
     "resource envelope is obsolete (custom omit rules)"},
    {v1::REASON_WEAK_RESOURCE_ENVELOPE, -67007, v1::STAGE_VERIFY,
     "resource envelope is obsolete (version 1 signature)"},
    {v1::REASON_RESOURCES_NOT_FOUND, -67056, v1::STAGE_VERIFY,
     "code has no resources but signature indicates they must be present"},
};

const Fault* FindFault(Reason reason) {
  const auto* fault = std::find_if(
      std::begin(kFaults), std::end(kFaults),
      [reason](const Fault& each) { return each.reason == reason; });
  return fault == std::end(kFaults) ? nullptr : fault;
}

}  // namespace

std::optional<int32_t> AppleErrorCode(Reason reason) {
  const Fault* fault = FindFault(reason);
  if (fault == nullptr || fault->code == 0) return std::nullopt;
  return fault->code;
}

absl::Status BundleError(Reason reason, std::string_view path,
                         std::string_view detail) {
  const Fault* fault = FindFault(reason);
  assert(fault != nullptr);
  std::string message(fault->text);
  if (!detail.empty()) message.append(": ").append(detail);
  return WithSubject(MakeError(fault->stage == v1::STAGE_PARSE
                                   ? absl::StatusCode::kInvalidArgument
                                   : absl::StatusCode::kFailedPrecondition,
                               fault->stage, reason, message),
                     path);
}

}  // namespace codeseal
