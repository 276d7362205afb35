#include "codesign/requirement/default_designated.h"

#include <string>
#include <utility>

#include "codesign/requirement/vocabulary.h"

namespace codeseal {
namespace {

constexpr char kWwdrMarker[] = "1.2.840.113635.100.6.2.1";
constexpr char kDeveloperIdCaMarker[] = "1.2.840.113635.100.6.2.6";
constexpr char kDeveloperIdLeafMarker[] = "1.2.840.113635.100.6.1.13";

using Expression = RequirementExpression;

Expression Join(RequirementOp op, Expression left, Expression right) {
  Expression joined = ExpressionOf(op);
  joined.operands.push_back(std::move(left));
  joined.operands.push_back(std::move(right));
  return joined;
}

Expression And(Expression left, Expression right) {
  return Join(RequirementOp::kAnd, std::move(left), std::move(right));
}

Expression HasMarker(int32_t slot, const char* oid) {
  Expression expression = ExpressionOf(RequirementOp::kCertificateOid);
  expression.number = slot;
  expression.key = *OidFromText(oid);
  return expression;
}

Expression LeafFieldIs(std::string_view key, std::string_view value) {
  Expression expression = ExpressionOf(RequirementOp::kCertificateField);
  expression.number = kLeafCertificate;
  expression.key = ToBytes(key);
  expression.match = {MatchOp::kEqual, ToBytes(value), 0};
  return expression;
}

// When a name holds an attribute more than once, Apple's code sees the last.
std::optional<std::string> SubjectValue(const Certificate& certificate,
                                        std::string_view name) {
  std::vector<std::string> values = certificate.SubjectValues(name);
  if (values.empty()) return std::nullopt;
  return std::move(values.back());
}

Expression AppleAnchor(std::span<const Certificate> chain) {
  // Leaf, one intermediate, root.
  if (chain.size() == 3 && chain[1].HasExtension(kWwdrMarker)) {
    const std::string name = SubjectValue(chain[0], "CN").value_or("");
    return And(ExpressionOf(RequirementOp::kAnchorAppleGeneric),
               And(LeafFieldIs("subject.CN", name), HasMarker(1, kWwdrMarker)));
  }
  if (chain.size() == 3 && chain[1].HasExtension(kDeveloperIdCaMarker)) {
    const std::string team = SubjectValue(chain[0], "OU").value_or("");
    return And(ExpressionOf(RequirementOp::kAnchorAppleGeneric),
               And(HasMarker(1, kDeveloperIdCaMarker),
                   And(HasMarker(kLeafCertificate, kDeveloperIdLeafMarker),
                       LeafFieldIs("subject.OU", team))));
  }
  return ExpressionOf(RequirementOp::kAnchorApple);
}

// The highest certificate in a row, from the leaf on, that belongs to the
// leaf's organization.
Expression OrganizationAnchor(std::span<const Certificate> chain) {
  const std::optional<std::string> organization = SubjectValue(chain[0], "O");
  size_t slot = 0;
  if (organization.has_value()) {
    while (slot + 1 < chain.size() &&
           SubjectValue(chain[slot + 1], "O") == organization) {
      ++slot;
    }
  }
  Expression anchor = ExpressionOf(RequirementOp::kAnchorHash);
  anchor.key = chain[slot].Sha1();
  anchor.number = organization.has_value() && slot + 1 == chain.size()
                      ? kRootCertificate
                      : static_cast<int32_t>(slot);
  return anchor;
}

}  // namespace

std::optional<RequirementExpression> BuildDefaultDesignated(
    std::string_view identifier, std::span<const Certificate> chain,
    bool (*is_apple_root)(const Certificate&)) {
  if (chain.empty()) return std::nullopt;
  Expression same_identifier = ExpressionOf(RequirementOp::kIdentifier);
  same_identifier.key = ToBytes(identifier);
  return And(std::move(same_identifier), is_apple_root(chain.back())
                                             ? AppleAnchor(chain)
                                             : OrganizationAnchor(chain));
}

std::optional<RequirementExpression> BuildImplicitDesignated(
    std::span<const CdHash> cdhashes) {
  std::optional<Expression> any;
  for (const CdHash& cdhash : cdhashes) {
    Expression one = ExpressionOf(RequirementOp::kCdHash);
    one.key = ToBytes(ByteView(cdhash));
    any = any.has_value()
              ? Join(RequirementOp::kOr, *std::move(any), std::move(one))
              : std::move(one);
  }
  return any;
}

}  // namespace codeseal
