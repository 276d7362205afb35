// Finds out what a file is, and opens it as the code that it is.
//
//   path -> MappedFile -> [OpenCode] -> CodeObject -> SigningPlan

#ifndef CODESEAL_CODESIGN_OPEN_CODE_H_
#define CODESEAL_CODESIGN_OPEN_CODE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "codesign/base/mapped_file.h"
#include "codesign/code_object.h"

namespace codeseal {

// A loose file: everything but the main executable of a bundle without code,
// whose signature lies in the bundle.
// Errors: INVALID_ARGUMENT REASON_TRUNCATED for an empty file; those of
// OpenDiskImage(), OpenMachO() and OpenSignatureAttributes().
absl::StatusOr<std::unique_ptr<CodeObject>> OpenCode(MappedFile file);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_OPEN_CODE_H_
