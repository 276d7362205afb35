// All signatures of a file or bundle in one file, apart from the code: two
// builders that make the same code can so share one signature, and anybody can
// build the code again and compare it, signature and all.
//
//   signed code -> [DetachSignatures] -> archive
//   the same code unsigned + archive -> [AttachSignatures] -> signed code
//
// The archive is an XML property list, made to be read by other programs:
//
//   format   "codeseal signatures"
//   version  1
//   files    array, in the order of their paths:
//     path       below the folder, "/" between parts; "" for a single file
//     sha256     data: of the file when it is signed
//     slices     array, for a Mach-O, in the file's order:
//       architecture  "arm64"
//       size          bytes of the signature's place in the slice
//       signature     data: what is there, without padding at its end
//     content    data, for a file of a _CodeSignature folder: all of it
//
// Rules SA-*.

#ifndef CODESEAL_CODESIGN_SIGNATURE_ARCHIVE_H_
#define CODESEAL_CODESIGN_SIGNATURE_ARCHIVE_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"

namespace codeseal {

// The signatures of the Mach-O file, or of everything in the folder, at `path`.
// Files that a linker signed count as unsigned; symbolic links are not
// followed. The signatures are not verified, and nothing is changed.
// Errors: FAILED_PRECONDITION REASON_NOT_SIGNED when there is none,
// REASON_RESOURCE_NAME_NOT_UTF8 for a name that no archive can hold; those of
// MappedFile and EmbeddedSignature::Parse(), with the path as subject.
absl::StatusOr<std::string> DetachSignatures(const std::string& path);

// Puts the signatures of `archive` into the code at `path`, which may be
// unsigned, signed by a linker or signed otherwise. Every file must become, bit
// for bit, what was detached; then all are renamed into place, and folders that
// are missing are made. What a folder has beyond the archive is not looked at:
// verify the result. Returns the number of files written.
// Errors: INVALID_ARGUMENT REASON_BAD_DETACHED_SIGNATURE for the archive;
// FAILED_PRECONDITION REASON_CODE_MODIFIED when the code is not the code that
// was signed; those of signing. Nothing is changed after any of them.
absl::StatusOr<size_t> AttachSignatures(ByteView archive,
                                        const std::string& path);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_SIGNATURE_ARCHIVE_H_
