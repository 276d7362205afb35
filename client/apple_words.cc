#include "client/apple_words.h"

#include <optional>

#include "client/fix_hints.h"
#include "client/render.h"
#include "codesign/base/error.h"

namespace codeseal::client {
namespace {

// Spec: Security's error strings, and those of codesign itself.
std::optional<std::string_view> WordsOf(Reason reason) {
  switch (static_cast<int>(reason)) {  // int: a choice of some
    case v1::REASON_ALREADY_SIGNED:
      return "is already signed";
    case v1::REASON_NOT_SIGNED:
      return "code object is not signed at all";
    case v1::REASON_IDENTITY_NOT_FOUND:
      return "no identity found";
    case v1::REASON_FILE_NOT_FOUND:
      return "No such file or directory";
    case v1::REASON_FILE_NOT_READABLE:
    case v1::REASON_FILE_NOT_WRITABLE:
      return "Permission denied";
    case v1::REASON_DISK_FULL:
      return "No space left on device";
    case v1::REASON_SIGNATURE_TOO_LARGE:
      return "signature too large to embed (size limitation of on-disk "
             "representation)";
    case v1::REASON_BAD_ENTITLEMENTS:
      return "invalid entitlement plist";
    case v1::REASON_BAD_REQUIREMENT:
    case v1::REASON_REQUIREMENT_SYNTAX:
      return "invalid or corrupted code requirement(s)";
    case v1::REASON_LIBRARY_VALIDATION_I386:
      return "library validation flag cannot be used with an i386 binary";
    case v1::REASON_FILE_TOO_BIG:
      return "code is too big for current signing format";
    case v1::REASON_UNSUPPORTED_DIGEST:
      return "a requested signature digest algorithm is not supported";
    case v1::REASON_BAD_TEAM_IDENTIFIER:
      return "a Team Identifier string is invalid";
    case v1::REASON_INCOMPLETE_CHAIN:
      return "unable to build chain to self-signed root for signer";
    case v1::REASON_NOT_MACH_O:
    case v1::REASON_BAD_LOAD_COMMAND:
    case v1::REASON_BAD_SEGMENT:
    case v1::REASON_BAD_FAT_HEADER:
    case v1::REASON_OVERLAPPING_RANGES:
    case v1::REASON_UNSUPPORTED_FILE_TYPE:
      return "object file format unrecognized, invalid, or unsuitable";
    case v1::REASON_MALFORMED_SIGNATURE:
      return "invalid or unsupported format for signature";
    default:
      return std::nullopt;
  }
}

// The message of a bundle's fault begins with Apple's words.
bool IsOfBundles(Reason reason) {
  return reason >= v1::REASON_BAD_BUNDLE_FORMAT && reason < 800;
}

// "DIR/App.app/Contents/MacOS/App (arm64)".
struct Place {
  std::string path;
  std::string architecture;
};

Place ReadPlace(const std::string& subject) {
  if (const size_t open = subject.rfind(" (");
      open != std::string::npos && subject.ends_with(')')) {
    return {subject.substr(0, open),
            subject.substr(open + 2, subject.size() - open - 3)};
  }
  return {subject, ""};
}

}  // namespace

std::string AppleWords(const absl::Status& status) {
  const Reason reason = GetReason(status);
  const std::string message(Message(status));
  if (reason == v1::REASON_IDENTITY_NOT_FOUND &&
      message.starts_with("ambiguous")) {
    return message;
  }
  if (const auto words = WordsOf(reason)) return std::string(*words);
  return IsOfBundles(reason) ? message.substr(0, message.find(": ")) : message;
}

std::string RenderAppleError(std::string_view object,
                             const absl::Status& status) {
  const ErrorDetail detail = GetErrorDetail(status).value_or(ErrorDetail());
  const std::string words = AppleWords(status);
  std::string shown(object);
  Place place = ReadPlace(detail.subject());
  // "NAME: no identity found", whatever was to be signed.
  if (detail.reason() == v1::REASON_IDENTITY_NOT_FOUND &&
      !detail.subject().empty() && !detail.subject().starts_with(object)) {
    constexpr std::string_view kIdentity = "identity ";
    shown = detail.subject();
    if (shown.starts_with(kIdentity)) shown.erase(0, kIdentity.size());
    place = {};
  }
  std::string text = Printable(shown) + ": " + Printable(words) + "\n";
  if (place.path.starts_with(shown + "/")) {
    text += "In subcomponent: " + Printable(place.path) + "\n";
    place.path.clear();
  }
  if (place.path == shown) place.path.clear();
  if (!place.architecture.empty()) {
    text += "In architecture: " + Printable(place.architecture) + "\n";
  }
  std::string why(Message(status));
  if (why.starts_with(words)) {
    why.erase(0, words.size());
    if (why.starts_with(": ")) why.erase(0, 2);
  }
  if (!place.path.empty() && why.find(place.path) == std::string::npos) {
    why = why.empty() ? "in " + place.path : place.path + ": " + why;
  }
  if (!detail.rule().empty() && why.find(detail.rule()) == std::string::npos) {
    why += (why.empty() ? "(rule " : " (rule ") + detail.rule() + ")";
  }
  if (!why.empty()) text += "  why    " + Printable(why) + "\n";
  text += "  fix    " + std::string(FixHint(detail.reason())) + "\n";
  if (!detail.request_id().empty()) {
    text += "  id     " + Printable(detail.request_id()) +
            " (quote this to the signing team)\n";
  }
  return text;
}

}  // namespace codeseal::client
