// The signature of a file that has no room for one, in its extended attributes,
// one for each blob.
//
//   path -> [SignatureStore] -> PlainCode -> SigningPlan -> signed copy
//
// macOS calls them "com.apple.cs.CodeDirectory", "com.apple.cs.CodeSignature"
// and so on. Linux lets a user name attributes only below "user.", so here they
// are "user.com.apple.cs.CodeDirectory": what a tool makes of that on the way
// to a Mac is its own affair. Copies that leave attributes behind (cp without
// --preserve=xattr, tar without --xattrs, zip, git, uploads) lose the
// signature.
//
// Spec: Security, filediskrep.cpp.

#ifndef CODESEAL_CODESIGN_SIGNATURE_ATTRIBUTES_H_
#define CODESEAL_CODESIGN_SIGNATURE_ATTRIBUTES_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/mapped_file.h"
#include "codesign/code_object.h"

namespace codeseal {

// All of them as one SuperBlob (fade0cc0), as if they were a signature inside
// code; empty when there is no CodeDirectory.
// Errors: INVALID_ARGUMENT REASON_MALFORMED_SIGNATURE for an attribute that is
// not one whole blob.
absl::StatusOr<Bytes> ReadSignatureAttributes(const MappedFile& file);

// Stages a copy of the file with its other attributes and the signature's. A
// signature that cannot be read counts as one.
// Errors of Stage(): FAILED_PRECONDITION REASON_NO_EXTENDED_ATTRIBUTES where
// the file system has none, or no room for so many bytes (ext4: 4 KiB in all).
absl::StatusOr<std::unique_ptr<SignatureStore>> OpenSignatureAttributes(
    const std::string& path);

// Errors: FAILED_PRECONDITION REASON_NOT_SIGNED; the file faults of StagedFile.
absl::Status StripSignatureAttributes(const std::string& path);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_SIGNATURE_ATTRIBUTES_H_
