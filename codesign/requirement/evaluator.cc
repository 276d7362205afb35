#include "codesign/requirement/evaluator.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "codesign/base/error.h"
#include "codesign/requirement/requirement.h"
#include "codesign/requirement/vocabulary.h"

namespace codeseal {
namespace {

constexpr char kMacOsSoftwareMarker[] = "1.2.840.113635.100.6.22";
constexpr std::string_view kAppleIntermediateName =
    "Apple Code Signing Certification Authority";
constexpr std::string_view kAppleIntermediateOrganization = "Apple Inc.";

Truth ToTruth(bool value) { return value ? Truth::kTrue : Truth::kFalse; }

// Takes the digits off the front, without leading zeros.
std::string_view TakeDigits(std::string_view& text) {
  size_t size = 0;
  while (size < text.size() && IsDigit(text[size])) ++size;
  std::string_view digits = text.substr(0, size);
  text.remove_prefix(size);
  digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
  return digits;
}

// <0, 0 or >0. Runs of digits compare as numbers: "10.9" is less than "10.10".
// Spec: CFStringCompare with kCFCompareNumerically, for ASCII.
int CompareNumerically(std::string_view a, std::string_view b) {
  while (!a.empty() && !b.empty()) {
    if (IsDigit(a.front()) && IsDigit(b.front())) {
      const std::string_view number_a = TakeDigits(a);
      const std::string_view number_b = TakeDigits(b);
      if (number_a.size() != number_b.size()) {
        return number_a.size() < number_b.size() ? -1 : 1;
      }
      if (const int order = number_a.compare(number_b)) return order;
    } else {
      if (a.front() != b.front()) {
        return static_cast<uint8_t>(a.front()) < static_cast<uint8_t>(b.front())
                   ? -1
                   : 1;
      }
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
  }
  return static_cast<int>(!a.empty()) - static_cast<int>(!b.empty());
}

bool MatchesText(const RequirementMatch& match, std::string_view text) {
  const std::string_view value = AsText(match.value);
  switch (match.op) {
    case MatchOp::kEqual:
      return text == value;
    case MatchOp::kContains:
      return text.find(value) != std::string_view::npos;
    case MatchOp::kBeginsWith:
      return text.starts_with(value);
    case MatchOp::kEndsWith:
      return text.ends_with(value);
    case MatchOp::kLess:
      return CompareNumerically(text, value) < 0;
    case MatchOp::kGreater:
      return CompareNumerically(text, value) > 0;
    case MatchOp::kLessOrEqual:
      return CompareNumerically(text, value) <= 0;
    case MatchOp::kGreaterOrEqual:
      return CompareNumerically(text, value) >= 0;
    case MatchOp::kExists:
    case MatchOp::kAbsent:
    case MatchOp::kOn:
    case MatchOp::kBefore:
    case MatchOp::kAfter:
    case MatchOp::kOnOrBefore:
    case MatchOp::kOnOrAfter:
      break;
  }
  return false;
}

absl::Time TimeOf(int64_t seconds_since_2001) {
  return absl::FromCivil(absl::CivilSecond(2001), absl::UTCTimeZone()) +
         absl::Seconds(seconds_since_2001);
}

bool MatchesTime(const RequirementMatch& match, absl::Time time) {
  const absl::Time other = TimeOf(match.at);
  switch (match.op) {
    case MatchOp::kOn:
      return time == other;
    case MatchOp::kBefore:
      return time < other;
    case MatchOp::kAfter:
      return time > other;
    case MatchOp::kOnOrBefore:
      return time <= other;
    case MatchOp::kOnOrAfter:
      return time >= other;
    case MatchOp::kExists:
    case MatchOp::kEqual:
    case MatchOp::kContains:
    case MatchOp::kBeginsWith:
    case MatchOp::kEndsWith:
    case MatchOp::kLess:
    case MatchOp::kGreater:
    case MatchOp::kLessOrEqual:
    case MatchOp::kGreaterOrEqual:
    case MatchOp::kAbsent:
      break;
  }
  return false;
}

// `value` is null when there is none.
bool Matches(const RequirementMatch& match, const PlistValue* value) {
  if (value == nullptr) return match.op == MatchOp::kAbsent;
  if (const auto* array = value->As<PlistArray>()) {
    for (const PlistValue& element : *array) {
      // An array in an array is not searched: hostile input can't choose the
      // depth of this recursion.
      if (element.As<PlistArray>() == nullptr && Matches(match, &element)) {
        return true;
      }
    }
  }
  if (match.op == MatchOp::kAbsent) return false;
  if (match.op == MatchOp::kExists) {
    const bool* boolean = value->As<bool>();
    return boolean == nullptr || *boolean;
  }
  if (const auto* text = value->As<std::string>()) {
    return MatchesText(match, *text);
  }
  if (const auto* time = value->As<absl::Time>()) {
    return MatchesTime(match, *time);
  }
  return false;
}

const PlistValue* FindValue(const PlistDict* dictionary, std::string_view key) {
  if (dictionary == nullptr) return nullptr;
  const auto found = dictionary->find(key);
  return found == dictionary->end() ? nullptr : &found->second;
}

// Names come from the code and may be of any length.
std::string Shortened(std::string_view text) {
  constexpr size_t kMaxSize = 120;
  if (text.size() <= kMaxSize) return std::string(text);
  return std::string(text.substr(0, kMaxSize)) + "...";
}

class Evaluator {
 public:
  Evaluator(const RequirementContext& context, Evaluation& evaluation)
      : context_(context), evaluation_(evaluation) {}

  Truth Evaluate(const RequirementExpression& expression);

 private:
  Truth And(const RequirementExpression& expression);
  Truth Or(const RequirementExpression& expression);
  Truth Not(const RequirementExpression& expression);
  Truth Term(const RequirementExpression& expression) const;
  Truth AnchorApple() const;
  Truth CertificateField(const RequirementExpression& expression) const;
  Truth CertificateDate(const RequirementExpression& expression) const;
  // A property that the certificate has or has not.
  Truth CertificateHas(const RequirementExpression& expression,
                       bool (Certificate::*property)(std::string_view oid)
                           const) const;
  const Certificate* CertificateAt(int32_t slot) const;
  bool HasAppleRoot() const {
    return !context_.chain.empty() &&
           context_.is_apple_root(context_.chain.back());
  }
  // What the code has where the term asks for something else.
  std::string Found(const RequirementExpression& expression) const;
  std::string FoundInCertificate(const RequirementExpression& expression) const;
  void Fail(const RequirementExpression& expression, std::string found) const {
    evaluation_.failed.push_back(DumpRequirement(expression));
    evaluation_.found.push_back(std::move(found));
  }

  const RequirementContext& context_;
  Evaluation& evaluation_;
};

const Certificate* Evaluator::CertificateAt(int32_t slot) const {
  const auto count = static_cast<int64_t>(context_.chain.size());
  const int64_t index = slot < 0 ? count + slot : slot;
  if (index < 0 || index >= count) return nullptr;
  return &context_.chain[static_cast<size_t>(index)];
}

// Terms that a true expression did not need explain nothing: they are
// forgotten.
Truth Evaluator::And(const RequirementExpression& expression) {
  const Truth left = Evaluate(expression.operands[0]);
  const Truth right = Evaluate(expression.operands[1]);
  if (left == Truth::kFalse || right == Truth::kFalse) return Truth::kFalse;
  if (left == Truth::kUnknown || right == Truth::kUnknown) {
    return Truth::kUnknown;
  }
  return Truth::kTrue;
}

Truth Evaluator::Or(const RequirementExpression& expression) {
  const size_t failed_count = evaluation_.failed.size();
  const size_t undecided_count = evaluation_.undecided.size();
  const Truth left = Evaluate(expression.operands[0]);
  const Truth right = Evaluate(expression.operands[1]);
  if (left == Truth::kTrue || right == Truth::kTrue) {
    evaluation_.failed.resize(failed_count);
    evaluation_.found.resize(failed_count);
    evaluation_.undecided.resize(undecided_count);
    return Truth::kTrue;
  }
  if (left == Truth::kUnknown || right == Truth::kUnknown) {
    return Truth::kUnknown;
  }
  return Truth::kFalse;
}

Truth Evaluator::Not(const RequirementExpression& expression) {
  Evaluation inner;
  const Truth operand =
      Evaluator(context_, inner).Evaluate(expression.operands[0]);
  switch (operand) {
    case Truth::kFalse:
      return Truth::kTrue;
    case Truth::kTrue:
      Fail(expression, "");
      return Truth::kFalse;
    case Truth::kUnknown:
      break;
  }
  evaluation_.undecided.push_back(DumpRequirement(expression));
  return Truth::kUnknown;
}

Truth Evaluator::AnchorApple() const {
  // Ad-hoc code may be in the trust cache of a Mac.
  if (context_.chain.empty()) return Truth::kUnknown;
  const Certificate* intermediate = CertificateAt(-2);
  if (!HasAppleRoot() || intermediate == nullptr) return Truth::kFalse;
  const std::vector<std::string> names = intermediate->SubjectValues("CN");
  const std::vector<std::string> owners = intermediate->SubjectValues("O");
  return ToTruth(!names.empty() && names.back() == kAppleIntermediateName &&
                 !owners.empty() &&
                 owners.back() == kAppleIntermediateOrganization &&
                 context_.chain.front().HasExtension(kMacOsSoftwareMarker));
}

Truth Evaluator::CertificateField(
    const RequirementExpression& expression) const {
  const Certificate* certificate = CertificateAt(expression.number);
  if (certificate == nullptr) return Truth::kFalse;
  constexpr std::string_view kPrefix = "subject.";
  std::string_view key = AsText(expression.key);
  if (!key.starts_with(kPrefix)) return Truth::kUnknown;  // "email", say
  key.remove_prefix(kPrefix.size());
  std::vector<std::string> values = certificate->SubjectValues(key);
  // Not even "absent" holds for a missing field. Of several, Apple's code sees
  // the last.
  if (values.empty()) return Truth::kFalse;
  const PlistValue value{std::move(values.back())};
  return ToTruth(Matches(expression.match, &value));
}

Truth Evaluator::CertificateHas(
    const RequirementExpression& expression,
    bool (Certificate::*property)(std::string_view oid) const) const {
  const Certificate* certificate = CertificateAt(expression.number);
  if (certificate == nullptr) return Truth::kFalse;
  const std::string oid = OidToText(expression.key);
  // An OID that does not survive the way to text and back is no extension's.
  const bool has =
      OidFromText(oid) == expression.key && (certificate->*property)(oid);
  const PlistValue value{true};
  return ToTruth(Matches(expression.match, has ? &value : nullptr));
}

// The extension holds a UTF8String with a GeneralizedTime in it.
Truth Evaluator::CertificateDate(
    const RequirementExpression& expression) const {
  constexpr uint8_t kUtf8StringTag = 0x0c;
  constexpr size_t kHeaderSize = 2;  // a time is too short for a longer one
  const Certificate* certificate = CertificateAt(expression.number);
  std::optional<Bytes> extension;
  if (certificate != nullptr) {
    extension = certificate->ExtensionValue(OidToText(expression.key));
  }
  std::optional<int64_t> at;
  if (extension.has_value() && extension->size() >= kHeaderSize &&
      (*extension)[0] == kUtf8StringTag &&
      (*extension)[1] == extension->size() - kHeaderSize) {
    at =
        ParseGeneralizedTime(AsText(ByteView(*extension).subspan(kHeaderSize)));
  }
  if (!at.has_value()) return ToTruth(Matches(expression.match, nullptr));
  const PlistValue value{TimeOf(*at)};
  return ToTruth(Matches(expression.match, &value));
}

Truth Evaluator::Term(const RequirementExpression& expression) const {
  switch (expression.op) {
    case RequirementOp::kFalse:
      return Truth::kFalse;
    case RequirementOp::kTrue:
      return Truth::kTrue;
    case RequirementOp::kIdentifier:
      return ToTruth(AsText(expression.key) == context_.identifier);
    case RequirementOp::kAnchorApple:
      return AnchorApple();
    case RequirementOp::kAnchorAppleGeneric:
      return ToTruth(HasAppleRoot());
    case RequirementOp::kAnchorHash: {
      const Certificate* certificate = CertificateAt(expression.number);
      return ToTruth(certificate != nullptr &&
                     certificate->Sha1() == expression.key);
    }
    case RequirementOp::kCdHash:
      return ToTruth(std::ranges::any_of(
          context_.cdhashes,
          [&](const CdHash& cdhash) { return Equal(cdhash, expression.key); }));
    case RequirementOp::kInfoValue:
    case RequirementOp::kInfoField:
    case RequirementOp::kEntitlement: {
      const PlistDict* dictionary = expression.op == RequirementOp::kEntitlement
                                        ? context_.entitlements
                                        : context_.info;
      return ToTruth(Matches(expression.match,
                             FindValue(dictionary, AsText(expression.key))));
    }
    case RequirementOp::kCertificateField:
      return CertificateField(expression);
    case RequirementOp::kCertificateOid:
      return CertificateHas(expression, &Certificate::HasExtension);
    case RequirementOp::kCertificatePolicy:
      return CertificateHas(expression, &Certificate::HasPolicy);
    case RequirementOp::kCertificateDate:
      return CertificateDate(expression);
    case RequirementOp::kPlatform:
      return ToTruth(expression.number == context_.platform);
    // Trust settings, files of the system, tickets and receipts of a Mac.
    case RequirementOp::kCertificateTrusted:
    case RequirementOp::kAnchorTrusted:
    case RequirementOp::kNamedAnchor:
    case RequirementOp::kNamedCode:
    case RequirementOp::kNotarized:
    case RequirementOp::kLegacy:
      return Truth::kUnknown;
    case RequirementOp::kAnd:
    case RequirementOp::kOr:
    case RequirementOp::kNot:
      break;
  }
  return Truth::kFalse;  // an opcode that counts as false when not known
}

std::string Evaluator::FoundInCertificate(
    const RequirementExpression& expression) const {
  if (context_.chain.empty()) return "the code has no certificates";
  const Certificate* certificate = CertificateAt(expression.number);
  if (certificate == nullptr) {
    return "the chain has only " + std::to_string(context_.chain.size()) +
           " certificates";
  }
  const std::string name = "\"" + Shortened(certificate->CommonName()) + "\"";
  if (expression.op == RequirementOp::kAnchorHash) {
    return "it is " + name + ", H\"" + HexEncode(certificate->Sha1()) + "\"";
  }
  if (expression.op != RequirementOp::kCertificateField) {
    return "it is " + name;
  }
  std::string_view key = AsText(expression.key);
  key.remove_prefix(std::min(key.find('.') + 1, key.size()));
  const std::vector<std::string> values = certificate->SubjectValues(key);
  return values.empty() ? name + " has none"
                        : "it is " + Shortened(values.back());
}

std::string Evaluator::Found(const RequirementExpression& expression) const {
  switch (expression.op) {
    case RequirementOp::kIdentifier:
      return "it is " + Shortened(context_.identifier);
    case RequirementOp::kAnchorApple:
    case RequirementOp::kAnchorAppleGeneric:
      if (context_.chain.empty()) return "the code has no certificates";
      return "the root is \"" + Shortened(context_.chain.back().CommonName()) +
             "\"";
    case RequirementOp::kAnchorHash:
    case RequirementOp::kCertificateField:
    case RequirementOp::kCertificateOid:
    case RequirementOp::kCertificatePolicy:
    case RequirementOp::kCertificateDate:
      return FoundInCertificate(expression);
    case RequirementOp::kCdHash:
      return context_.cdhashes.empty()
                 ? ""
                 : "it is " + HexEncode(context_.cdhashes.front());
    case RequirementOp::kInfoValue:
    case RequirementOp::kInfoField:
    case RequirementOp::kEntitlement: {
      const PlistDict* dictionary = expression.op == RequirementOp::kEntitlement
                                        ? context_.entitlements
                                        : context_.info;
      const PlistValue* value = FindValue(dictionary, AsText(expression.key));
      if (value == nullptr) return "there is none";
      const auto* text = value->As<std::string>();
      return text == nullptr ? "" : "it is " + Shortened(*text);
    }
    case RequirementOp::kPlatform:
      return "it is " + std::to_string(context_.platform);
    case RequirementOp::kFalse:
    case RequirementOp::kTrue:
    case RequirementOp::kAnd:
    case RequirementOp::kOr:
    case RequirementOp::kNot:
    case RequirementOp::kCertificateTrusted:
    case RequirementOp::kAnchorTrusted:
    case RequirementOp::kNamedAnchor:
    case RequirementOp::kNamedCode:
    case RequirementOp::kNotarized:
    case RequirementOp::kLegacy:
      break;
  }
  return "";
}

Truth Evaluator::Evaluate(const RequirementExpression& expression) {
  if (expression.op == RequirementOp::kAnd) return And(expression);
  if (expression.op == RequirementOp::kOr) return Or(expression);
  if (expression.op == RequirementOp::kNot) return Not(expression);
  if (!IsKnownOp(expression.op) && !expression.operands.empty()) {
    return Evaluate(expression.operands[0]);  // skip if unknown
  }
  const Truth truth = Term(expression);
  if (truth == Truth::kFalse) {
    Fail(expression, Found(expression));
  } else if (truth == Truth::kUnknown) {
    evaluation_.undecided.push_back(DumpRequirement(expression));
  }
  return truth;
}

std::string Joined(const std::vector<std::string>& terms) {
  std::string text;
  for (const std::string& term : terms) {
    if (!text.empty()) text += "; ";
    text += term;
  }
  return text;
}

}  // namespace

Evaluation EvaluateRequirement(const RequirementExpression& expression,
                               const RequirementContext& context) {
  Evaluation evaluation;
  evaluation.truth = Evaluator(context, evaluation).Evaluate(expression);
  return evaluation;
}

std::string ExplainFailure(const Evaluation& evaluation) {
  if (evaluation.truth != Truth::kFalse) {
    return evaluation.truth == Truth::kTrue ? "" : Joined(evaluation.undecided);
  }
  std::vector<std::string> clauses;
  for (size_t i = 0; i < evaluation.failed.size(); ++i) {
    const std::string& found = evaluation.found[i];
    clauses.push_back(evaluation.failed[i] +
                      (found.empty() ? "" : " (" + found + ")"));
  }
  return Joined(clauses);
}

absl::Status CheckRequirement(const RequirementExpression& expression,
                              const RequirementContext& context) {
  const Evaluation evaluation = EvaluateRequirement(expression, context);
  if (evaluation.truth == Truth::kTrue) return absl::OkStatus();
  const bool is_false = evaluation.truth == Truth::kFalse;
  const std::vector<std::string>& clauses =
      is_false ? evaluation.failed : evaluation.undecided;
  return WithRule(
      MakeError(
          absl::StatusCode::kFailedPrecondition, v1::STAGE_VERIFY,
          v1::REASON_REQUIREMENT_NOT_SATISFIED,
          (is_false ? "not satisfied: " : "cannot be decided outside macOS: ") +
              ExplainFailure(evaluation)),
      clauses.empty() ? "" : clauses.front());
}

}  // namespace codeseal
