// The signature of a file in a file of its own: for file systems without
// extended attributes, for what is copied by tools that leave them behind, and
// for code whose bytes must not change.
//
//   path, signature's path -> [OpenDetached] -> CodeObject -> SigningPlan
//
// Spec: Security, signerutils.cpp. BlobWriter: a SuperBlob (fade0cc0) like that
//       of an executable, and with it the code's identification. BlobEditor,
//       for a Mach-O: such a SuperBlob for each slice, in another one
//       (fade0cc1) under its CPU type; under 0 what slices share.

#ifndef CODESEAL_CODESIGN_DETACHED_SIGNATURE_H_
#define CODESEAL_CODESIGN_DETACHED_SIGNATURE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/mapped_file.h"
#include "codesign/code_object.h"
#include "codesign/macho/mach_o.h"

namespace codeseal {

// The file as code whose signature is at `signature_path`; a file that is there
// counts as its signature.
// Errors: INVALID_ARGUMENT REASON_BAD_OPTION for disk images, and for a Mach-O
// with two slices for one CPU type (arm64 and arm64e); those of
// UniversalFile::Parse().
absl::StatusOr<std::unique_ptr<CodeObject>> OpenDetached(
    MappedFile file, const std::string& signature_path);

// That `signature` is a detached signature, and of a file with these bytes,
// which is no Mach-O. Nothing else of it is looked at.
// Errors: INVALID_ARGUMENT REASON_BAD_DETACHED_SIGNATURE.
absl::Status CheckDetached(ByteView signature, ByteView file);

// The SuperBlob of one slice in the detached signature of a Mach-O; nothing but
// its identification is looked at. Borrows from `signature`.
// Errors: INVALID_ARGUMENT REASON_BAD_DETACHED_SIGNATURE.
absl::StatusOr<ByteView> FindDetached(ByteView signature, const MachO& mach_o);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_DETACHED_SIGNATURE_H_
