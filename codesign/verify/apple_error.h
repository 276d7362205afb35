// The verdicts of Apple's tools: number, name and words. People compare them
// with what macOS prints, so each failed check says which it is.
//
// Spec: Security CSCommon.h and its error strings.

#ifndef CODESEAL_CODESIGN_VERIFY_APPLE_ERROR_H_
#define CODESEAL_CODESIGN_VERIFY_APPLE_ERROR_H_

#include <cstdint>
#include <string_view>

namespace codeseal {

struct AppleError {
  int32_t code = 0;       // OSStatus
  std::string_view name;  // "errSecCSUnsigned"
  std::string_view text;  // what codesign prints behind the path

  bool operator==(const AppleError&) const = default;
};

inline constexpr AppleError kErrUnsigned = {-67062, "errSecCSUnsigned",
                                            "code object is not signed at all"};
inline constexpr AppleError kErrSignatureFailed = {
    -67061, "errSecCSSignatureFailed",
    "invalid signature (code or signature have been modified)"};
inline constexpr AppleError kErrSignatureUnsupported = {
    -67059, "errSecCSSignatureUnsupported",
    "unsupported type or version of signature"};
inline constexpr AppleError kErrReqInvalid = {
    -67052, "errSecCSReqInvalid", "invalid or corrupted code requirement(s)"};
inline constexpr AppleError kErrReqFailed = {
    -67050, "errSecCSReqFailed",
    "code failed to satisfy specified code requirement(s)"};
inline constexpr AppleError kErrSignatureInvalid = {
    -67045, "errSecCSSignatureInvalid",
    "invalid or unsupported format for signature"};
inline constexpr AppleError kErrNotSupported = {
    -67037, "errSecCSNotSupported",
    "operation inapplicable or not supported for this type of code"};
inline constexpr AppleError kErrInfoPlistFailed = {
    -67030, "errSecCSInfoPlistFailed",
    "invalid Info.plist (plist or signature have been modified)"};
inline constexpr AppleError kErrBadMainExecutable = {
    -67010, "errSecCSBadMainExecutable",
    "main executable failed strict validation"};
inline constexpr AppleError kErrBadTeamIdentifier = {
    -66997, "errSecCSBadTeamIdentifier",
    "a Team Identifier is wrong or inappropriate"};
inline constexpr AppleError kErrSignatureUntrusted = {
    -66996, "errSecCSSignatureUntrusted",
    "signature is valid but signer is not trusted"};
inline constexpr AppleError kErrInvalidEntitlements = {
    -66994, "errSecCSInvalidEntitlements", "invalid entitlement plist"};
inline constexpr AppleError kErrUnknownFormat = {-25257, "errSecUnknownFormat",
                                                 "Unknown format in import."};
inline constexpr AppleError kErrCertificateExpired = {
    -2147409654, "CSSMERR_TP_CERT_EXPIRED", "CSSMERR_TP_CERT_EXPIRED"};
inline constexpr AppleError kErrNotTrusted = {
    -2147409622, "CSSMERR_TP_NOT_TRUSTED", "CSSMERR_TP_NOT_TRUSTED"};
inline constexpr AppleError kErrTimestampInvalid = {
    -67892, "errSecTimestampInvalid", "The timestamp was not valid."};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_VERIFY_APPLE_ERROR_H_
