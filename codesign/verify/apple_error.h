// The verdicts of Apple's tools: number, name and words. People compare them
// with what macOS prints, so each failed check says which it is.
//
// Spec: Security CSCommon.h and its error strings.

#ifndef CODESEAL_CODESIGN_VERIFY_APPLE_ERROR_H_
#define CODESEAL_CODESIGN_VERIFY_APPLE_ERROR_H_

#include <cstdint>
#include <string_view>

#include "codesign/base/error.h"

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
inline constexpr AppleError kErrReqUnsupported = {
    -67051, "errSecCSReqUnsupported",
    "unsupported type or version of code requirement(s)"};
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
inline constexpr AppleError kErrNotReadable = {
    -67060, "errSecCSSignatureNotVerifiable",
    "the code cannot be read by the verifier (file system permissions etc.)"};
inline constexpr AppleError kErrBadDictionaryFormat = {
    -67058, "errSecCSBadDictionaryFormat",
    "a required plist file or resource is malformed"};
inline constexpr AppleError kErrResourcesNotFound = {
    -67056, "errSecCSResourcesNotFound",
    "code has no resources but signature indicates they must be present"};
inline constexpr AppleError kErrResourcesInvalid = {
    -67055, "errSecCSResourcesInvalid",
    "the sealed resource directory is invalid"};
inline constexpr AppleError kErrBadResource = {
    -67054, "errSecCSBadResource", "a sealed resource is missing or invalid"};
inline constexpr AppleError kErrResourceRulesInvalid = {
    -67053, "errSecCSResourceRulesInvalid",
    "invalid resource specification rule(s)"};
inline constexpr AppleError kErrBadObjectFormat = {
    -67049, "errSecCSBadObjectFormat",
    "object file format unrecognized, invalid, or unsuitable"};
inline constexpr AppleError kErrBadBundleFormat = {
    -67028, "errSecCSBadBundleFormat",
    "bundle format unrecognized, invalid, or unsuitable"};
inline constexpr AppleError kErrResourceDirectoryFailed = {
    -67023, "errSecCSResourceDirectoryFailed",
    "invalid resource directory (directory or signature have been modified)"};
inline constexpr AppleError kErrBadNestedCode = {
    -67021, "errSecCSBadNestedCode", "nested code is modified or invalid"};
inline constexpr AppleError kErrResourceNotSupported = {
    -67016, "errSecCSResourceNotSupported",
    "unsupported resource found (something not a directory, file or symlink)"};
inline constexpr AppleError kErrRegularFile = {
    -67015, "errSecCSRegularFile",
    "the main executable or Info.plist must be a regular file (no symlinks, "
    "etc.)"};
inline constexpr AppleError kErrUnsealedAppRoot = {
    -67014, "errSecCSUnsealedAppRoot",
    "unsealed contents present in the bundle root"};
inline constexpr AppleError kErrWeakResourceRules = {
    -67013, "errSecCSWeakResourceRules",
    "resource envelope is obsolete (custom omit rules)"};
inline constexpr AppleError kErrDsStoreSymlink = {
    -67012, "errSecCSDSStoreSymlink", ".DS_Store files cannot be a symlink"};
inline constexpr AppleError kErrAmbiguousBundleFormat = {
    -67011, "errSecCSAmbiguousBundleFormat",
    "bundle format is ambiguous (could be app or framework)"};
inline constexpr AppleError kErrBadFrameworkVersion = {
    -67009, "errSecCSBadFrameworkVersion",
    "embedded framework contains modified or invalid version"};
inline constexpr AppleError kErrUnsealedFrameworkRoot = {
    -67008, "errSecCSUnsealedFrameworkRoot",
    "unsealed contents present in the root directory of an embedded "
    "framework"};
inline constexpr AppleError kErrWeakResourceEnvelope = {
    -67007, "errSecCSWeakResourceEnvelope",
    "resource envelope is obsolete (version 1 signature)"};
inline constexpr AppleError kErrInvalidSymlink = {
    -67003, "errSecCSInvalidSymlink",
    "invalid destination for symbolic link in bundle"};
inline constexpr AppleError kErrBadDiskImageFormat = {
    -67001, "errSecCSBadDiskImageFormat",
    "disk image format unrecognized, invalid, or unsuitable"};
inline constexpr AppleError kErrUnknownFormat = {-25257, "errSecUnknownFormat",
                                                 "Unknown format in import."};
inline constexpr AppleError kErrCertificateExpired = {
    -2147409654, "CSSMERR_TP_CERT_EXPIRED", "CSSMERR_TP_CERT_EXPIRED"};
inline constexpr AppleError kErrNotTrusted = {
    -2147409622, "CSSMERR_TP_NOT_TRUSTED", "CSSMERR_TP_NOT_TRUSTED"};
inline constexpr AppleError kErrCertificateRevoked = {
    -2147409652, "CSSMERR_TP_CERT_REVOKED", "CSSMERR_TP_CERT_REVOKED"};
inline constexpr AppleError kErrRevocationIncomplete = {
    -67635, "errSecIncompleteCertRevocationCheck",
    "An incomplete certificate revocation check occurred."};
inline constexpr AppleError kErrTimestampInvalid = {
    -67892, "errSecTimestampInvalid", "The timestamp was not valid."};

// What Apple's tools call a fault of the sections "Bundles" and "bytes that
// cannot be what they claim to be".
const AppleError& AppleErrorOf(Reason reason);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_VERIFY_APPLE_ERROR_H_
