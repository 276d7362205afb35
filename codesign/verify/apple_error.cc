#include "codesign/verify/apple_error.h"

namespace codeseal {

const AppleError& AppleErrorOf(Reason reason) {
  switch (static_cast<int>(reason)) {  // int: a choice of some
    case v1::REASON_AMBIGUOUS_BUNDLE_FORMAT:
      return kErrAmbiguousBundleFormat;
    case v1::REASON_UNSEALED_APP_ROOT:
      return kErrUnsealedAppRoot;
    case v1::REASON_UNSEALED_FRAMEWORK_ROOT:
      return kErrUnsealedFrameworkRoot;
    case v1::REASON_NOT_REGULAR_FILE:
      return kErrRegularFile;
    case v1::REASON_BAD_INFO_PLIST:
      return kErrBadDictionaryFormat;
    case v1::REASON_RESOURCE_RULES_INVALID:
      return kErrResourceRulesInvalid;
    case v1::REASON_DS_STORE_SYMLINK:
      return kErrDsStoreSymlink;
    case v1::REASON_RESOURCE_NOT_SUPPORTED:
      return kErrResourceNotSupported;
    case v1::REASON_RESOURCE_NOT_READABLE:
    case v1::REASON_FILE_NOT_READABLE:
    case v1::REASON_FILE_NOT_FOUND:
      return kErrNotReadable;
    case v1::REASON_UNSIGNED_NESTED_CODE:
    case v1::REASON_NOT_SIGNED:
      return kErrUnsigned;
    case v1::REASON_BAD_NESTED_CODE:
      return kErrBadNestedCode;
    case v1::REASON_RESOURCE_SEAL_INVALID:
      return kErrResourcesInvalid;
    case v1::REASON_SEALED_RESOURCE_CHANGED:
      return kErrBadResource;
    case v1::REASON_INVALID_SYMLINK:
      return kErrInvalidSymlink;
    case v1::REASON_WEAK_RESOURCE_RULES:
      return kErrWeakResourceRules;
    case v1::REASON_WEAK_RESOURCE_ENVELOPE:
      return kErrWeakResourceEnvelope;
    case v1::REASON_RESOURCES_NOT_FOUND:
      return kErrResourcesNotFound;
    case v1::REASON_BAD_BUNDLE_FORMAT:
      return kErrBadBundleFormat;
    default:
      return kErrBadObjectFormat;
  }
}

}  // namespace codeseal
