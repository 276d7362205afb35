// Opens what a command was pointed at, and says clearly when it is a kind of
// code that this version does not handle.

#ifndef CODESEAL_CLIENT_CODE_FILE_H_
#define CODESEAL_CLIENT_CODE_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "codesign/base/mapped_file.h"
#include "codesign/verify/stored_code.h"

namespace codeseal::client {

// A regular file; what it is, is for the parser to say. `path` becomes the
// fault's subject.
// Errors: FAILED_PRECONDITION REASON_UNSUPPORTED_CODE for folders (bundles);
// the faults of MappedFile.
absl::StatusOr<MappedFile> OpenCodeFile(const std::string& path);

// A bundle, or a file as above. Of a versioned framework the current version is
// taken, or `version`.
// Errors: those, and those of StoredCode::Open().
absl::StatusOr<StoredCode> OpenStoredCode(const std::string& path,
                                          const std::string& version = "");

// The whole of a small file that an option names.
// Errors: those of MappedFile; INVALID_ARGUMENT REASON_FILE_TOO_BIG above
// 16 MiB.
absl::StatusOr<Bytes> ReadSmallFile(const std::string& path);

// The same; "-" is standard input.
absl::StatusOr<Bytes> ReadInput(const std::string& path);

// Writes a whole file through StagedFile, with mode 0644.
absl::Status WriteWholeFile(const std::string& path, ByteView bytes);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_CODE_FILE_H_
