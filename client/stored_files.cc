#include "client/stored_files.h"

#include <fstream>

#include "client/small_file.h"
#include "codesign/base/error.h"

namespace codeseal::client {

absl::StatusOr<StoredCode> OpenStoredCode(const std::string& path,
                                          const std::string& version,
                                          const std::string& detached_path) {
  ASSIGN_OR_RETURN(StoredCode code, StoredCode::Open(path, version));
  if (detached_path.empty()) return code;
  ASSIGN_OR_RETURN(const Bytes signature, ReadSmallFile(detached_path));
  RETURN_IF_ERROR(WithSubject(code.UseDetached(signature), detached_path));
  return code;
}

absl::Status AppendFileList(const std::string& list_path,
                            std::span<const std::string> paths,
                            Reporter& reporter) {
  if (list_path.empty()) return absl::OkStatus();
  std::string text;
  for (const std::string& path : paths) text += path + "\n";
  if (list_path == "-") {
    reporter.Raw(text);
    return absl::OkStatus();
  }
  std::ofstream list(list_path, std::ios::app);
  if (list << text << std::flush) return absl::OkStatus();
  return WithSubject(
      MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                v1::REASON_BAD_OPTION, "cannot append to " + list_path),
      "--file-list");
}

}  // namespace codeseal::client
