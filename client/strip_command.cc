#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "client/commands.h"
#include "client/package_file.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/bundle/bundle.h"
#include "codesign/image/disk_image.h"
#include "codesign/image/disk_image_code.h"
#include "codesign/macho/universal_file.h"
#include "codesign/signature_attributes.h"
#include "codesign/signing_plan.h"
#include "codesign/strip_bundle.h"

namespace codeseal::client {
namespace {

absl::Status StripFile(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (DiskImage::IsDiskImage(file.bytes())) return StripDiskImage(path);
  return LooksLikeMachO(file.bytes()) ? StripSignature(path)
                                      : StripSignatureAttributes(path);
}

// A package, a bundle, also by the name of its executable, or a file.
absl::Status StripPath(const std::string& path) {
  if (IsPackagePath(path)) return StripPackageFile(path);
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return StripBundle(path);
  if (const auto bundle = FindBundleOfExecutable(path)) {
    return StripBundle(*bundle);
  }
  return StripFile(path);
}

}  // namespace

void RunStrip(const StripCommand& command, Reporter& reporter) {
  for (const std::string& path : command.paths) {
    reporter.Progress("stripping " + path);
    if (const absl::Status status = StripPath(path); !status.ok()) {
      reporter.Fail("strip", path, status);
      continue;
    }
    reporter.Say(1, path + ": signature removed");
    reporter.Succeed({{"path", path}});
  }
}

}  // namespace codeseal::client
