// Takes the signature of a bundle away: of its main executable and the seal.
//
//   Bundle -> [StripBundle] -> StagedTree -> unsigned bundle
//
// Spec: Security, bundlediskrep.cpp, BundleDiskRep::Writer::remove.

#ifndef CODESEAL_CODESIGN_STRIP_BUNDLE_H_
#define CODESEAL_CODESIGN_STRIP_BUNDLE_H_

#include <string>

#include "absl/status/status.h"

namespace codeseal {

// Nested code stays as it is. Everything takes effect at once: see StagedTree.
// Errors: FAILED_PRECONDITION REASON_NOT_SIGNED; those of Bundle::Open() and
// StageStripped().
absl::Status StripBundle(const std::string& path);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_STRIP_BUNDLE_H_
