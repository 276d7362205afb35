#include "client/small_file.h"

#include <array>
#include <iostream>
#include <string_view>

#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/staged_file.h"

namespace codeseal::client {
namespace {

constexpr uint64_t kSmallFileSize = uint64_t{16} << 20;  // bytes

}  // namespace

absl::StatusOr<Bytes> ReadSmallFile(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (file.bytes().size() > kSmallFileSize) {
    return WithSubject(
        MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                  v1::REASON_FILE_TOO_BIG,
                  "the file is larger than 16 MiB; is it the right one?"),
        path);
  }
  return ToBytes(file.bytes());
}

absl::StatusOr<Bytes> ReadInput(const std::string& path) {
  if (path != "-") return ReadSmallFile(path);
  Bytes content;
  std::array<char, 16384> buffer;
  while (std::cin.read(buffer.data(), buffer.size()) || std::cin.gcount() > 0) {
    const auto count = static_cast<size_t>(std::cin.gcount());
    Append(content, AsBytes(std::string_view(buffer.data(), count)));
    if (content.size() > kSmallFileSize) {
      return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                       v1::REASON_FILE_TOO_BIG,
                       "standard input is larger than 16 MiB");
    }
  }
  return content;
}

absl::StatusOr<std::vector<Certificate>> ReadCertificates(
    const std::string& path) {
  ASSIGN_OR_RETURN(const Bytes pem, ReadSmallFile(path));
  absl::StatusOr<std::vector<Certificate>> certificates =
      Certificate::ParsePem(AsText(pem));
  if (!certificates.ok()) return WithSubject(certificates.status(), path);
  return certificates;
}

absl::Status WriteWholeFile(const std::string& path, ByteView bytes) {
  ASSIGN_OR_RETURN(StagedFile file, StagedFile::Create(path, 0644));
  RETURN_IF_ERROR(file.Write(bytes, 0));
  return file.Commit();
}

}  // namespace codeseal::client
