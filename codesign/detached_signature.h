// The signature of a file that has no room for one, in a file of its own: for
// file systems without extended attributes, and for what is copied by tools
// that leave them behind.
//
//   path, signature's path -> [SignatureStore] -> PlainCode -> SigningPlan
//
// Spec: Security, signerutils.cpp, BlobWriter: a SuperBlob (fade0cc0) like that
//       of an executable, and with it the code's identification.

#ifndef CODESEAL_CODESIGN_DETACHED_SIGNATURE_H_
#define CODESEAL_CODESIGN_DETACHED_SIGNATURE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/mapped_file.h"
#include "codesign/code_object.h"

namespace codeseal {

// The file as code whose signature is at `signature_path`; a file that is there
// counts as its signature.
// Errors: INVALID_ARGUMENT REASON_BAD_OPTION for Mach-O files and disk images,
// which have room for their signature.
absl::StatusOr<std::unique_ptr<CodeObject>> OpenDetached(
    MappedFile file, const std::string& signature_path);

// That `signature` is a detached signature, and of a file with these bytes.
// Nothing else of it is looked at.
// Errors: INVALID_ARGUMENT REASON_BAD_DETACHED_SIGNATURE.
absl::Status CheckDetached(ByteView signature, ByteView file);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_DETACHED_SIGNATURE_H_
