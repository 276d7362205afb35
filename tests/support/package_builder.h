// Small flat packages (xar archives), written by hand, so that our own code is
// never the oracle.

#ifndef CODESEAL_TESTS_SUPPORT_PACKAGE_BUILDER_H_
#define CODESEAL_TESTS_SUPPORT_PACKAGE_BUILDER_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace codeseal::testing {

struct PackageEntry {
  std::string path;  // at most one folder deep: "Tool.pkg/PackageInfo"
  std::string content;
  bool deflated = true;
};

// PackageInfo and Payload of one component, and the Distribution of a product.
std::vector<PackageEntry> ToolPackageEntries(
    const std::string& identifier = "com.example.tool");

struct PackageSpec {
  std::vector<PackageEntry> entries = ToolPackageEntries();
  bool sha256 = false;  // of the table; the files' digests are SHA-1
};

// What the archive is made of, so that a test can change a part of it.
struct PackageParts {
  std::string xml;   // the table of contents
  std::string heap;  // without the checksum
  bool sha256 = false;
};
PackageParts MakePackageParts(const PackageSpec& spec = {});

// Header, compressed table, checksum, heap.
std::string JoinPackage(const PackageParts& parts);

inline std::string MakePackage(const PackageSpec& spec = {}) {
  return JoinPackage(MakePackageParts(spec));
}

// As a zlib stream.
std::string Compress(const std::string& bytes);

}  // namespace codeseal::testing

#endif  // CODESEAL_TESTS_SUPPORT_PACKAGE_BUILDER_H_
