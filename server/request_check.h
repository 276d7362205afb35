// Reads what a signing request really asks for. Nothing that the caller says
// about its CodeDirectories is believed: they are parsed again, every digest is
// computed again, and each blob must be the one that they seal.
//
//   SignRequest -> [CheckSignRequest] -> CheckedRequest -> policy -> token
//
// Spec: Security, codedirectory.h and superblob.h for the slots; rules SR-* are
//       ours.

#ifndef CODESEAL_SERVER_REQUEST_CHECK_H_
#define CODESEAL_SERVER_REQUEST_CHECK_H_

#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codeseal/v1/signing.pb.h"
#include "codesign/base/digest.h"
#include "codesign/bundle/property_list.h"
#include "codesign/cms/apple_cms.h"
#include "codesign/code_directory.h"
#include "server/package_check.h"

namespace codeseal {

// Borrows from the request that it was made of.
struct CheckedRequest {
  // Primary first; empty for a request of digests alone and for a package.
  std::vector<CodeDirectory> code_directories;
  std::vector<CdHash> cdhashes;  // one for each CodeDirectory or digest
  std::optional<PlistDict> entitlements;
  std::optional<CheckedPackage> package;
  CmsContent content;  // what the CMS signs
  std::optional<absl::Time> signing_time;
};

// Whether `text` is a UUID in canonical form: 8-4-4-4-12 hexadecimal digits.
bool IsUuid(std::string_view text);

// Checks the whole request but its identity.
// Errors: INVALID_ARGUMENT with the rule broken, REASON_BAD_REQUEST,
// REASON_BAD_CODE_DIRECTORY, or the reason of the parser that refused a
// CodeDirectory or a blob.
absl::StatusOr<CheckedRequest> CheckSignRequest(const v1::SignRequest& request);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_REQUEST_CHECK_H_
