// Installer packages on the command line: what sign, verify, show and strip do
// to one, in the words of productsign and pkgutil.
//
//   path -> IsPackagePath -> a function below -> Reporter

#ifndef CODESEAL_CLIENT_PACKAGE_FILE_H_
#define CODESEAL_CLIENT_PACKAGE_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "client/commands.h"
#include "client/render.h"
#include "client/signer.h"
#include "codesign/image/package_plan.h"
#include "codesign/image/package_verifier.h"
#include "codesign/signing_options.h"

namespace codeseal::client {

// A flat package by its content, or a bundle-style package, which is a folder
// and which every function below refuses.
bool IsPackagePath(const std::string& path);

// Why --detached cannot go with a package: INVALID_ARGUMENT REASON_BAD_OPTION.
absl::Status NoDetachedPackage();

// Signs in place. `signer` is null for an ad-hoc identity, which packages do
// not have. Of `options`, those are used that packages have: force, one digest,
// reserved_cms_size.
void SignPackageFile(const std::string& path, const SigningOptions& options,
                     bool dry_run, const SigningIdentity& identity,
                     Signer* signer, Reporter& reporter);

void VerifyPackageFile(const std::string& path,
                       const PackageVerifyOptions& options, Reporter& reporter);

// Certificates go to PREFIX0, PREFIX1, ... when `certificates_prefix` is not
// empty, the checksum and both signatures to PREFIX.checksum, .rsa and .cms
// when `signature_prefix` is not.
void ShowPackageFile(const std::string& path,
                     const std::string& certificates_prefix,
                     const std::string& signature_prefix, Reporter& reporter);

absl::Status StripPackageFile(const std::string& path);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_PACKAGE_FILE_H_
