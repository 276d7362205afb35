// Where symbolic links lead.
//
//   path -> [LinkTarget], [RealPath] -> layout of a bundle, seal, verification

#ifndef CODESEAL_CODESIGN_BUNDLE_LINKS_H_
#define CODESEAL_CODESIGN_BUNDLE_LINKS_H_

#include <optional>
#include <string>

namespace codeseal {

// What the symbolic link stores, as it is; nullopt if `path` is none or cannot
// be read.
std::optional<std::string> LinkTarget(const std::string& path);

// Absolute, with every symbolic link followed; nullopt if nothing is there.
std::optional<std::string> RealPath(const std::string& path);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_BUNDLE_LINKS_H_
