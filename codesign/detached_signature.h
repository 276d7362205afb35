// The signature of a file or a bundle in a file of its own: for file systems
// without extended attributes, for what is copied by tools that leave them
// behind, and for code whose bytes must not change.
//
//   path, signature's path -> [OpenDetached] -> CodeObject -> SigningPlan
//
// Spec: Security, signerutils.cpp. BlobWriter: a SuperBlob (fade0cc0) like that
//       of an executable, and with it the code's identification and a bundle's
//       seal. BlobEditor, for a Mach-O: such a SuperBlob for each slice, in
//       another one (fade0cc1) under its CPU type; under 0 what slices share,
//       which is the seal.

#ifndef CODESEAL_CODESIGN_DETACHED_SIGNATURE_H_
#define CODESEAL_CODESIGN_DETACHED_SIGNATURE_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/mapped_file.h"
#include "codesign/code_object.h"
#include "codesign/macho/mach_o.h"

namespace codeseal {

// The file as code whose signature is at `signature_path`; a file that is there
// counts as its signature. `in_bundle`: it is the main file of a bundle, whose
// seal the signature keeps.
// Errors: INVALID_ARGUMENT REASON_BAD_OPTION for a Mach-O with two slices for
// one CPU type (arm64 and arm64e); those of UniversalFile::Parse() and
// DiskImage::Parse().
absl::StatusOr<std::unique_ptr<CodeObject>> OpenDetached(
    MappedFile file, bool in_bundle, const std::string& signature_path);

// That `signature` is a detached signature, and of the code with this
// identification, which is no Mach-O: see CodeObject::Identification(). Nothing
// else of it is looked at.
// Errors: INVALID_ARGUMENT REASON_BAD_DETACHED_SIGNATURE.
absl::Status CheckDetached(ByteView signature, ByteView identification);

// The SuperBlob of one slice in the detached signature of a Mach-O; nothing but
// its identification is looked at. Borrows from `signature`.
// Errors: INVALID_ARGUMENT REASON_BAD_DETACHED_SIGNATURE.
absl::StatusOr<ByteView> FindDetached(ByteView signature, const MachO& mach_o);

// The bundle's seal, the bytes of its CodeResources, that a detached signature
// keeps; nullopt when it has none. Borrows from `signature`.
std::optional<ByteView> FindDetachedSeal(ByteView signature);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_DETACHED_SIGNATURE_H_
