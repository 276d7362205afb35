// What an installer package says about itself, in the files that its tools
// write: PackageInfo of each component, Distribution of a product.
//
//   table of contents -> PackageInfo, Distribution -> [identifiers] -> policy
//
// Spec: what pkgbuild(1) and productbuild(1) write.

#ifndef CODESEAL_CODESIGN_IMAGE_PACKAGE_INFO_H_
#define CODESEAL_CODESIGN_IMAGE_PACKAGE_INFO_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"

namespace codeseal {

// Larger ones are refused: bytes, unpacked.
inline constexpr uint64_t kMaxPackageInfoSize = uint64_t{4} << 20;

// Whether the file at this path of the archive is one that says what is
// installed.
bool DescribesPackage(std::string_view path);

// The package identifiers in such a file, each once, in its order: of
// <pkg-info>, of <product> and every <pkg-ref>.
// Errors: INVALID_ARGUMENT REASON_BAD_PACKAGE with `path` as subject, also when
// a PackageInfo has no identifier.
absl::StatusOr<std::vector<std::string>> ReadPackageIdentifiers(
    std::string_view path, ByteView xml);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_IMAGE_PACKAGE_INFO_H_
