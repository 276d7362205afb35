// Reads what an installer package asks to be signed: its table of contents, and
// the files in it that say what is installed.
//
//   SignRequest.package -> [CheckPackage] -> CheckedPackage -> policy -> token
//
// Rules PR-* are ours.

#ifndef CODESEAL_SERVER_PACKAGE_CHECK_H_
#define CODESEAL_SERVER_PACKAGE_CHECK_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codeseal/v1/signing.pb.h"
#include "codesign/base/bytes.h"
#include "codesign/cms/certificate.h"
#include "codesign/image/table_of_contents.h"

namespace codeseal {

struct CheckedPackage {
  TableOfContents table;
  Bytes checksum;  // of the table as it is stored: what is signed
  std::vector<std::string> identifiers;  // never empty, each once
};

// Nothing that the caller says is believed: the checksum is computed from the
// table, and a member must be the one that the table states. A zlib stream
// cannot pass for anything else that the key signs. The payload itself stays
// with the caller: the table has only its digest.
// Errors: INVALID_ARGUMENT REASON_BAD_REQUEST with the rule broken; those of
// TableOfContents and UnpackFile().
absl::StatusOr<CheckedPackage> CheckPackage(const v1::Package& package);

// The table tells who signs it: it must be this chain, leaf first.
// Errors: INVALID_ARGUMENT REASON_BAD_REQUEST.
absl::Status CheckPackageSigner(const CheckedPackage& package,
                                std::span<const Certificate> chain);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_PACKAGE_CHECK_H_
