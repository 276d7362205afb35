// Everything about signing a flat package but the key: the table of contents
// with room for the signatures, its checksum, and, with both signatures, the
// signed file.
//
//   FlatPackage + chain -> [PackagePlan] -> checksum -> RSA and CMS signatures
//   PackagePlan + signatures -> staged file -> signed package
//
// Spec: what productsign(1) writes, as packages that it signed show it.

#ifndef CODESEAL_CODESIGN_IMAGE_PACKAGE_PLAN_H_
#define CODESEAL_CODESIGN_IMAGE_PACKAGE_PLAN_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/base/digest.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/staged_file.h"
#include "codesign/cms/certificate.h"

namespace codeseal {

struct PackageSigningOptions {
  bool force = false;  // -f: replace existing signatures
  // Of the table's checksum; without it the package's own stays.
  std::optional<DigestKind> digest = std::nullopt;
  // Bytes of the heap for the CMS; without it enough for a timestamp.
  std::optional<uint32_t> reserved_cms_size = std::nullopt;
};

// A file of the package that says what is installed. Borrows from the plan.
struct PackageMember {
  std::string path;
  ByteView stored;
};

// Movable; owns the mapped file. Thread-compatible.
class PackagePlan {
 public:
  // Reads the package and checks every file in it against the table: a damaged
  // package is not signed. Writes nothing. `chain` is leaf first, root last; it
  // is stored with both signatures.
  // Errors: those of FlatPackage; FAILED_PRECONDITION REASON_ALREADY_SIGNED,
  // REASON_NOT_INSTALLER_CERTIFICATE; INVALID_ARGUMENT REASON_KEY_UNSUPPORTED
  // for other keys than RSA, REASON_UNSUPPORTED_DIGEST; all with the path as
  // subject.
  static absl::StatusOr<PackagePlan> Create(
      MappedFile file, const PackageSigningOptions& options,
      std::span<const Certificate> chain);

  PackagePlan(PackagePlan&&) noexcept;
  PackagePlan& operator=(PackagePlan&&) noexcept;
  ~PackagePlan();

  const std::string& path() const;
  bool replaces_signature() const;
  // Of the package and its components; empty when it says none.
  const std::vector<std::string>& identifiers() const;

  // What a signer judges and signs: the table as it will be stored, its size
  // once it is inflated, the files that say what is installed.
  ByteView stored_table() const;
  uint64_t table_size() const;
  std::span<const PackageMember> members() const;
  DigestKind checksum_kind() const;
  const Bytes& checksum() const;

  // Writes the signed package beside `path`; nothing is to be seen before it is
  // committed. `rsa` and `cms` are signatures of checksum().
  // Errors: FAILED_PRECONDITION REASON_SIGNATURE_TOO_LARGE; ABORTED
  // REASON_FILE_CHANGED; the file faults of StagedFile.
  absl::StatusOr<StagedFile> Stage(const std::string& path, ByteView rsa,
                                   ByteView cms) const;

 private:
  struct Impl;
  explicit PackagePlan(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Removes the signatures of a flat package, and the notarization ticket that
// goes with them.
// Errors: those of FlatPackage and StagedFile; FAILED_PRECONDITION
// REASON_NOT_SIGNED.
absl::Status StripPackage(const std::string& path);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_IMAGE_PACKAGE_PLAN_H_
