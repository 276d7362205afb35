// A bundle's main executable as code. One that is no Mach-O has no room for a
// signature: it goes into files beside the seal, each with one blob.
//
//   Bundle -> [OpenBundleCode] -> CodeObject -> SigningPlan
//
// Spec: Security, bundlediskrep.cpp, BundleDiskRep::Writer.

#ifndef CODESEAL_CODESIGN_BUNDLE_CODE_H_
#define CODESEAL_CODESIGN_BUNDLE_CODE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "codesign/bundle/bundle.h"
#include "codesign/code_object.h"

namespace codeseal {

// Errors: those of OpenMachO() and MappedFile.
absl::StatusOr<std::unique_ptr<CodeObject>> OpenBundleCode(
    const Bundle& bundle);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BUNDLE_CODE_H_
