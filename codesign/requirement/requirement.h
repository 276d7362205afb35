// Requirement blobs and requirement sets.
//
//   blob <-> [RequirementExpression]; special slot 2 <-> [RequirementSet]
//
// Spec: Security requirement.h, reqreader.cpp, reqmaker.cpp. Rules RQ-*.

#ifndef CODESEAL_CODESIGN_REQUIREMENT_REQUIREMENT_H_
#define CODESEAL_CODESIGN_REQUIREMENT_REQUIREMENT_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/requirement/expression.h"

namespace codeseal {

// Reads a requirement blob (fade0c00) that fills `blob` exactly.
// Errors: INVALID_ARGUMENT REASON_BAD_REQUIREMENT, REASON_TRUNCATED,
// REASON_BAD_MAGIC, REASON_BLOB_LENGTH_OUT_OF_RANGE;
// REASON_UNSUPPORTED_VERSION for other forms than expressions.
absl::StatusOr<RequirementExpression> ParseRequirement(ByteView blob);

// The blob. `expression` must be no deeper than kMaxRequirementDepth.
Bytes BuildRequirement(const RequirementExpression& expression);

// Keys of a requirement set, SecRequirementType.
enum RequirementType : uint32_t {
  kHostRequirement = 1,
  kGuestRequirement = 2,
  kDesignatedRequirement = 3,
  kLibraryRequirement = 4,
  kPluginRequirement = 5,
};

// Requirement blobs by RequirementType.
using RequirementSet = std::map<uint32_t, Bytes>;

// Reads a set (fade0c01) that fills `blob` exactly; each requirement in it must
// parse. Errors as above, and those of SuperBlob.
absl::StatusOr<RequirementSet> ParseRequirementSet(ByteView blob);

Bytes BuildRequirementSet(const RequirementSet& set);

// The text of an expression, byte for byte as Apple's tools print it. It goes
// into the CodeResources of a bundle that contains the code, so it is part of
// what is signed.
std::string DumpRequirement(const RequirementExpression& expression);

// The text of a blob: a set gives "designated => ..." lines, a single
// requirement its text without line end.
absl::StatusOr<std::string> DumpRequirementBlob(ByteView blob);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_REQUIREMENT_REQUIREMENT_H_
