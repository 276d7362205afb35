// A code requirement as a tree: what its text says and its bytes encode.
//
//   text -> [RequirementExpression] <-> blob -> evaluation, text
//
// Spec: Security requirement.h, ExprOp and MatchOperation.

#ifndef CODESEAL_CODESIGN_REQUIREMENT_EXPRESSION_H_
#define CODESEAL_CODESIGN_REQUIREMENT_EXPRESSION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "codesign/base/bytes.h"

namespace codeseal {

// Wire values. What a node of each kind uses is behind it.
enum class RequirementOp : uint32_t {
  kFalse = 0,                // opFalse
  kTrue = 1,                 // opTrue
  kIdentifier = 2,           // opIdent: key
  kAnchorApple = 3,          // opAppleAnchor
  kAnchorHash = 4,           // opAnchorHash: number = slot, key = SHA-1
  kInfoValue = 5,            // opInfoKeyValue, legacy: key, match
  kAnd = 6,                  // opAnd: two operands
  kOr = 7,                   // opOr: two operands
  kCdHash = 8,               // opCDHash: key = cdhash
  kNot = 9,                  // opNot: one operand
  kInfoField = 10,           // opInfoKeyField: key, match
  kCertificateField = 11,    // opCertField: number, key = "subject.CN", match
  kCertificateTrusted = 12,  // opTrustedCert: number
  kAnchorTrusted = 13,       // opTrustedCerts
  kCertificateOid = 14,      // opCertGeneric: number, key = OID, match
  kAnchorAppleGeneric = 15,  // opAppleGenericAnchor
  kEntitlement = 16,         // opEntitlementField: key, match
  kCertificatePolicy = 17,   // opCertPolicy: number, key = OID, match
  kNamedAnchor = 18,         // opNamedAnchor: key
  kNamedCode = 19,           // opNamedCode: key
  kPlatform = 20,            // opPlatform: number
  kNotarized = 21,           // opNotarized
  kCertificateDate = 22,     // opCertFieldDate: number, key = OID, match
  kLegacy = 23,              // opLegacyDevID
};

// High bits of an opcode: what a reader that does not know it may do.
inline constexpr uint32_t kOpFlagMask = 0xff000000;        // opFlagMask
inline constexpr uint32_t kOpFalseIfUnknown = 0x80000000;  // opGenericFalse
inline constexpr uint32_t kOpSkipIfUnknown = 0x40000000;   // opGenericSkip

bool IsKnownOp(RequirementOp op);

// Wire values. kExists and kAbsent have no operand, kOn to kOnOrAfter have a
// time, the others have a value.
enum class MatchOp : uint32_t {
  kExists = 0,
  kEqual = 1,
  kContains = 2,
  kBeginsWith = 3,
  kEndsWith = 4,
  kLess = 5,
  kGreater = 6,
  kLessOrEqual = 7,
  kGreaterOrEqual = 8,
  kOn = 9,
  kBefore = 10,
  kAfter = 11,
  kOnOrBefore = 12,
  kOnOrAfter = 13,
  kAbsent = 14,
};

struct RequirementMatch {
  MatchOp op = MatchOp::kExists;
  Bytes value;
  int64_t at = 0;  // seconds since 2001-01-01 00:00:00 UTC

  bool HasTime() const {
    return op >= MatchOp::kOn && op <= MatchOp::kOnOrAfter;
  }
  bool HasValue() const {
    return op != MatchOp::kExists && op != MatchOp::kAbsent && !HasTime();
  }
  bool operator==(const RequirementMatch&) const = default;
};

// Certificates are counted from the leaf; negative numbers from the root.
inline constexpr int32_t kLeafCertificate = 0;
inline constexpr int32_t kRootCertificate = -1;

// Levels of operators that macOS evaluates, hence the deepest tree that is
// read or compiled. It bounds every recursion over a tree.
// Spec: Security reqinterp.h, stackLimit.
inline constexpr size_t kMaxRequirementDepth = 999;

// A node and what is below it. An opcode that is not known, but says that it
// may be skipped, has its data in `key`, unpadded, and with kOpSkipIfUnknown
// alone one operand.
struct RequirementExpression {
  RequirementOp op = RequirementOp::kFalse;
  uint32_t flags = 0;  // kOpFlagMask bits as read
  int32_t number = 0;  // certificate slot or platform
  Bytes key;
  RequirementMatch match;
  std::vector<RequirementExpression> operands;

  bool operator==(const RequirementExpression&) const = default;
};

// A node of this kind with nothing else in it.
inline RequirementExpression ExpressionOf(RequirementOp op) {
  RequirementExpression expression;
  expression.op = op;
  return expression;
}

// Levels of the tree: 1 for a leaf.
size_t RequirementDepth(const RequirementExpression& expression);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_REQUIREMENT_EXPRESSION_H_
