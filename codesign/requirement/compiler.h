// Compiles the text of the requirement language.
//
//   "designated => anchor apple" -> [compiler] -> blob
//
// Spec: Security requirements.grammar. Unlike Apple's compiler, this one takes
// a carriage return for white space, and refuses numbers that do not fit and a
// type that is given twice.

#ifndef CODESEAL_CODESIGN_REQUIREMENT_COMPILER_H_
#define CODESEAL_CODESIGN_REQUIREMENT_COMPILER_H_

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/requirement/expression.h"
#include "codesign/requirement/requirement.h"

namespace codeseal {

// The DER certificate in the file `path`. A requirement may name a certificate
// by its file; what is compiled is its SHA-1.
using CertificateLoader =
    std::function<absl::StatusOr<Bytes>(const std::string& path)>;

// Each takes UTF-8 text. Without a loader a certificate path is an error.
// Errors: INVALID_ARGUMENT REASON_REQUIREMENT_SYNTAX that names line, column
// and what was expected, byte_offset counting from the text's start; the
// loader's own.

// One expression: "anchor apple and identifier x".
absl::StatusOr<RequirementExpression> CompileRequirement(
    std::string_view text, const CertificateLoader& loader = {});

// "type => expression" once or more.
absl::StatusOr<RequirementSet> CompileRequirementSet(
    std::string_view text, const CertificateLoader& loader = {});

// Either of them, told apart by "=>": a requirement blob or a set blob.
absl::StatusOr<Bytes> CompileRequirementBlob(
    std::string_view text, const CertificateLoader& loader = {});

// The text with each "$self.identifier" replaced by `identifier`, as codesign
// does with a -r option before it compiles it. No quotes are added.
std::string SubstituteSelf(std::string_view text, std::string_view identifier);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_REQUIREMENT_COMPILER_H_
