#include "codesign/requirement/requirement.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "codesign/base/digest.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

constexpr uint32_t kExpressionForm = 1;  // Requirement::exprForm
constexpr size_t kAlignment = 4;         // of data

absl::Status Fault(const char* rule, uint64_t offset,
                   const std::string& message) {
  return WithRule(ParseError(v1::REASON_BAD_REQUIREMENT, offset, message),
                  rule);
}

absl::Status DataFault(uint64_t offset, uint32_t size) {
  return Fault("RQ-1", offset,
               absl::StrFormat("%d bytes of data run out of the blob", size));
}

size_t PaddingSize(size_t size) {
  return (kAlignment - size % kAlignment) % kAlignment;
}

// Reads one expression in prefix order. Offsets count from the blob's start.
class ExpressionReader {
 public:
  explicit ExpressionReader(ByteView blob) : in_(blob) {
    in_.Skip(kBlobHeaderSize + 4);  // and the kind
  }

  absl::StatusOr<RequirementExpression> Expression(size_t depth);
  // Whether the blob was read whole and nothing is left of it.
  absl::Status CheckEnd();

 private:
  absl::StatusOr<Bytes> Data();
  absl::Status Hash(RequirementExpression& expression);
  absl::Status Match(RequirementMatch& match);
  absl::Status Operands(RequirementExpression& expression, size_t count,
                        size_t depth);
  absl::Status Unknown(RequirementExpression& expression, size_t depth);
  int32_t Number() { return static_cast<int32_t>(in_.U32()); }

  BigEndianReader in_;
};

absl::StatusOr<Bytes> ExpressionReader::Data() {
  const size_t offset = in_.offset();
  const uint32_t size = in_.U32();
  const ByteView data = in_.Raw(size);
  in_.Skip(PaddingSize(size));
  if (!in_.ok()) {
    return DataFault(offset, size);
  }
  return ToBytes(data);
}

absl::Status ExpressionReader::Hash(RequirementExpression& expression) {
  const size_t offset = in_.offset();
  ASSIGN_OR_RETURN(expression.key, Data());
  if (expression.key.size() != kCdHashSize) {
    return Fault("RQ-2", offset,
                 absl::StrFormat("a hash has %d bytes, not %d",
                                 expression.key.size(), kCdHashSize));
  }
  return absl::OkStatus();
}

absl::Status ExpressionReader::Match(RequirementMatch& match) {
  match.op = MatchOp{in_.U32()};
  if (match.HasTime()) match.at = static_cast<int64_t>(in_.U64());
  // Apple's readers take an unknown match for one with a value.
  if (match.HasValue()) {
    ASSIGN_OR_RETURN(match.value, Data());
  }
  return absl::OkStatus();
}

absl::Status ExpressionReader::Operands(RequirementExpression& expression,
                                        size_t count, size_t depth) {
  for (size_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(RequirementExpression operand, Expression(depth + 1));
    expression.operands.push_back(std::move(operand));
  }
  return absl::OkStatus();
}

absl::Status ExpressionReader::Unknown(RequirementExpression& expression,
                                       size_t depth) {
  const size_t offset = in_.offset() - 4;
  const bool is_false = (expression.flags & kOpFalseIfUnknown) != 0;
  const bool is_skipped = (expression.flags & kOpSkipIfUnknown) != 0;
  if (!is_false && !is_skipped) {
    return Fault("RQ-3", offset,
                 absl::StrFormat(
                     "opcode %#x is not known",
                     static_cast<uint32_t>(expression.op) | expression.flags));
  }
  // Apple's interpreter steps over the data without padding.
  const uint32_t size = in_.U32();
  expression.key = ToBytes(in_.Raw(size));
  if (!in_.ok()) {
    return DataFault(offset + 4, size);
  }
  return Operands(expression, is_false ? 0 : 1, depth);
}

absl::StatusOr<RequirementExpression> ExpressionReader::Expression(
    size_t depth) {
  if (depth > kMaxRequirementDepth) {
    return Fault(
        "RQ-4", in_.offset(),
        absl::StrFormat("nested deeper than %d levels", kMaxRequirementDepth));
  }
  RequirementExpression expression;
  const size_t offset = in_.offset();
  const uint32_t opcode = in_.U32();
  if (!in_.ok()) {
    return Fault("RQ-5", offset, "an expression is missing at the end");
  }
  expression.op = RequirementOp{opcode & ~kOpFlagMask};
  expression.flags = opcode & kOpFlagMask;
  if (!IsKnownOp(expression.op)) {
    RETURN_IF_ERROR(Unknown(expression, depth));
    return expression;
  }
  switch (expression.op) {
    case RequirementOp::kFalse:
    case RequirementOp::kTrue:
    case RequirementOp::kAnchorApple:
    case RequirementOp::kAnchorAppleGeneric:
    case RequirementOp::kAnchorTrusted:
    case RequirementOp::kNotarized:
    case RequirementOp::kLegacy:
      break;
    case RequirementOp::kIdentifier:
    case RequirementOp::kNamedAnchor:
    case RequirementOp::kNamedCode: {
      ASSIGN_OR_RETURN(expression.key, Data());
      break;
    }
    case RequirementOp::kCdHash:
      RETURN_IF_ERROR(Hash(expression));
      break;
    case RequirementOp::kAnchorHash:
      expression.number = Number();
      RETURN_IF_ERROR(Hash(expression));
      break;
    case RequirementOp::kInfoValue: {
      ASSIGN_OR_RETURN(expression.key, Data());
      expression.match.op = MatchOp::kEqual;
      ASSIGN_OR_RETURN(expression.match.value, Data());
      break;
    }
    case RequirementOp::kAnd:
    case RequirementOp::kOr:
      RETURN_IF_ERROR(Operands(expression, 2, depth));
      break;
    case RequirementOp::kNot:
      RETURN_IF_ERROR(Operands(expression, 1, depth));
      break;
    case RequirementOp::kInfoField:
    case RequirementOp::kEntitlement: {
      ASSIGN_OR_RETURN(expression.key, Data());
      RETURN_IF_ERROR(Match(expression.match));
      break;
    }
    case RequirementOp::kCertificateField:
    case RequirementOp::kCertificateOid:
    case RequirementOp::kCertificatePolicy:
    case RequirementOp::kCertificateDate: {
      expression.number = Number();
      ASSIGN_OR_RETURN(expression.key, Data());
      RETURN_IF_ERROR(Match(expression.match));
      break;
    }
    case RequirementOp::kCertificateTrusted:
    case RequirementOp::kPlatform:
      expression.number = Number();
      break;
  }
  if (!in_.ok()) {
    return Fault("RQ-6", offset, "an operand runs out of the blob");
  }
  return expression;
}

absl::Status ExpressionReader::CheckEnd() {
  if (in_.remaining_size() == 0) return absl::OkStatus();
  return Fault(
      "RQ-7", in_.offset(),
      absl::StrFormat("%d bytes follow the expression", in_.remaining_size()));
}

void WriteData(BigEndianWriter& out, ByteView data) {
  out.U32(static_cast<uint32_t>(data.size()));
  out.Raw(data);
  out.Zeros(PaddingSize(data.size()));
}

void WriteMatch(BigEndianWriter& out, const RequirementMatch& match) {
  out.U32(static_cast<uint32_t>(match.op));
  if (match.HasTime()) out.U64(static_cast<uint64_t>(match.at));
  if (match.HasValue()) WriteData(out, match.value);
}

void WriteExpression(BigEndianWriter& out,
                     const RequirementExpression& expression) {
  out.U32(static_cast<uint32_t>(expression.op) | expression.flags);
  if (!IsKnownOp(expression.op)) {
    out.U32(static_cast<uint32_t>(expression.key.size()));
    out.Raw(expression.key);
  } else {
    switch (expression.op) {
      case RequirementOp::kFalse:
      case RequirementOp::kTrue:
      case RequirementOp::kAnchorApple:
      case RequirementOp::kAnchorAppleGeneric:
      case RequirementOp::kAnchorTrusted:
      case RequirementOp::kNotarized:
      case RequirementOp::kLegacy:
      case RequirementOp::kAnd:
      case RequirementOp::kOr:
      case RequirementOp::kNot:
        break;
      case RequirementOp::kIdentifier:
      case RequirementOp::kNamedAnchor:
      case RequirementOp::kNamedCode:
      case RequirementOp::kCdHash:
        WriteData(out, expression.key);
        break;
      case RequirementOp::kAnchorHash:
        out.U32(static_cast<uint32_t>(expression.number));
        WriteData(out, expression.key);
        break;
      case RequirementOp::kInfoValue:
        WriteData(out, expression.key);
        WriteData(out, expression.match.value);
        break;
      case RequirementOp::kInfoField:
      case RequirementOp::kEntitlement:
        WriteData(out, expression.key);
        WriteMatch(out, expression.match);
        break;
      case RequirementOp::kCertificateField:
      case RequirementOp::kCertificateOid:
      case RequirementOp::kCertificatePolicy:
      case RequirementOp::kCertificateDate:
        out.U32(static_cast<uint32_t>(expression.number));
        WriteData(out, expression.key);
        WriteMatch(out, expression.match);
        break;
      case RequirementOp::kCertificateTrusted:
      case RequirementOp::kPlatform:
        out.U32(static_cast<uint32_t>(expression.number));
        break;
    }
  }
  for (const RequirementExpression& operand : expression.operands) {
    WriteExpression(out, operand);
  }
}

}  // namespace

bool IsKnownOp(RequirementOp op) { return op <= RequirementOp::kLegacy; }

size_t RequirementDepth(const RequirementExpression& expression) {
  size_t depth = 0;
  for (const RequirementExpression& operand : expression.operands) {
    depth = std::max(depth, RequirementDepth(operand));
  }
  return depth + 1;
}

absl::StatusOr<RequirementExpression> ParseRequirement(ByteView blob) {
  ASSIGN_OR_RETURN(const ByteView payload, UnwrapBlob(kRequirementMagic, blob));
  BigEndianReader in(payload);
  const uint32_t kind = in.U32();
  if (!in.ok()) {
    return ParseError(v1::REASON_TRUNCATED, kBlobHeaderSize,
                      "the requirement has no kind");
  }
  if (kind != kExpressionForm) {
    return ParseError(
        v1::REASON_UNSUPPORTED_VERSION, kBlobHeaderSize,
        absl::StrFormat("requirement kind %d is not an expression", kind));
  }
  ExpressionReader reader(blob);
  ASSIGN_OR_RETURN(RequirementExpression expression, reader.Expression(1));
  RETURN_IF_ERROR(reader.CheckEnd());
  return expression;
}

Bytes BuildRequirement(const RequirementExpression& expression) {
  BigEndianWriter out;
  out.U32(kExpressionForm);
  WriteExpression(out, expression);
  return WrapBlob(kRequirementMagic, std::move(out).Take());
}

absl::StatusOr<RequirementSet> ParseRequirementSet(ByteView blob) {
  RETURN_IF_ERROR(UnwrapBlob(kRequirementSetMagic, blob).status());
  ASSIGN_OR_RETURN(const SuperBlob super_blob,
                   SuperBlob::Parse(blob, kRequirementSetMagic));
  RequirementSet set;
  for (const SuperBlob::Entry& entry : super_blob.entries()) {
    const absl::StatusOr<RequirementExpression> expression =
        ParseRequirement(entry.blob);
    if (!expression.ok()) {
      return WithOffsetBase(expression.status(), entry.offset);
    }
    set[entry.slot] = ToBytes(entry.blob);
  }
  return set;
}

Bytes BuildRequirementSet(const RequirementSet& set) {
  return BuildSuperBlob(kRequirementSetMagic, set);
}

}  // namespace codeseal
