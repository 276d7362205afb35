// The small files that options name.

#ifndef CODESEAL_CLIENT_SMALL_FILE_H_
#define CODESEAL_CLIENT_SMALL_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/cms/certificate.h"

namespace codeseal::client {

// The whole of a small file that an option names.
// Errors: those of MappedFile; INVALID_ARGUMENT REASON_FILE_TOO_BIG above
// 16 MiB.
absl::StatusOr<Bytes> ReadSmallFile(const std::string& path);

// The same; "-" is standard input.
absl::StatusOr<Bytes> ReadInput(const std::string& path);

// The certificates of a PEM file.
// Errors: those of ReadSmallFile() and Certificate::ParsePem().
absl::StatusOr<std::vector<Certificate>> ReadCertificates(
    const std::string& path);

// Writes a whole file through StagedFile, with mode 0644.
absl::Status WriteWholeFile(const std::string& path, ByteView bytes);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_SMALL_FILE_H_
