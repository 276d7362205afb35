// Signed code as options name it, and the files that make it up.

#ifndef CODESEAL_CLIENT_STORED_FILES_H_
#define CODESEAL_CLIENT_STORED_FILES_H_

#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/render.h"
#include "codesign/verify/stored_code.h"

namespace codeseal::client {

// The code with its own signature, or with the one in the file
// `detached_path` unless that is empty. `version`: of a framework.
// Errors: those of StoredCode.
absl::StatusOr<StoredCode> OpenStoredCode(const std::string& path,
                                          const std::string& version,
                                          const std::string& detached_path);

// Appends the paths to the file `list_path`, one in a line; "-" is standard
// output, "" means that no list is wanted.
// Spec: codesign(1), --file-list.
absl::Status AppendFileList(const std::string& list_path,
                            std::span<const std::string> paths,
                            Reporter& reporter);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_STORED_FILES_H_
