#include "codesign/launch_constraint.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "codesign/base/digest.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "codesign/entitlements.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

// Keys of the blob's dictionary, and what every constraint of an author says.
constexpr char kCategoryKey[] = "ccat";
constexpr char kCompatibilityKey[] = "comp";
constexpr char kRequirementsKey[] = "reqs";
constexpr char kVersionKey[] = "vers";
constexpr int64_t kUserCategory = 0;
constexpr int64_t kCompatibilityVersion = 1;
constexpr int64_t kFormatVersion = 1;

constexpr size_t kMaxDepth = 16;  // of operators

absl::Status ConstraintFault(const char* rule, std::string_view key,
                             std::string_view message) {
  return WithSubject(
      WithRule(ParseError(v1::REASON_BAD_PLIST, 0, message), rule), key);
}

enum class FactType { kBoolean, kInteger, kString, kData, kEntitlements };

struct Fact {
  std::string_view name;
  FactType type;
};
constexpr std::array kFacts = {
    Fact{"cdhash", FactType::kData},
    Fact{"entitlements", FactType::kEntitlements},
    Fact{"is-init-proc", FactType::kBoolean},
    Fact{"is-sip-protected", FactType::kBoolean},
    Fact{"launch-type", FactType::kInteger},
    Fact{"on-authorized-authapfs-volume", FactType::kBoolean},
    Fact{"on-system-volume", FactType::kBoolean},
    Fact{"signing-identifier", FactType::kString},
    Fact{"team-identifier", FactType::kString},
    Fact{"validation-category", FactType::kInteger},
};

// Categories that code of an author, or of the system, can have.
bool IsValidationCategory(int64_t value) {
  return (value >= 1 && value <= 6) || value == 10;
}

std::optional<FactType> TypeOf(std::string_view fact) {
  for (const Fact& each : kFacts) {
    if (each.name == fact) return each.type;
  }
  return std::nullopt;
}

bool IsScalar(const PlistValue& value) {
  return value.As<bool>() != nullptr || value.As<int64_t>() != nullptr ||
         value.As<std::string>() != nullptr || value.As<Bytes>() != nullptr;
}

// LC-4: one value of a fact that we know.
absl::Status CheckFactValue(std::string_view fact, const PlistValue& value) {
  const std::optional<FactType> type = TypeOf(fact);
  if (!type.has_value()) return absl::OkStatus();
  switch (*type) {
    case FactType::kBoolean:
      if (value.As<bool>() == nullptr) {
        return ConstraintFault("LC-4", fact, "the value is a boolean");
      }
      break;
    case FactType::kInteger:
      if (value.As<int64_t>() == nullptr) {
        return ConstraintFault("LC-4", fact, "the value is an integer");
      }
      if (fact == "validation-category" &&
          !IsValidationCategory(*value.As<int64_t>())) {
        return ConstraintFault("LC-4", fact, "the value is 1 to 6, or 10");
      }
      break;
    case FactType::kString:
      if (value.As<std::string>() == nullptr ||
          value.As<std::string>()->empty()) {
        return ConstraintFault("LC-4", fact,
                               "the value is a string that is not empty");
      }
      break;
    case FactType::kData:
      if (value.As<Bytes>() == nullptr ||
          value.As<Bytes>()->size() != kCdHashSize) {
        return ConstraintFault("LC-4", fact, "the value is data of 20 bytes");
      }
      break;
    case FactType::kEntitlements:
      return ConstraintFault("LC-4", fact,
                             "the value is a dictionary with $query");
  }
  return absl::OkStatus();
}

absl::Status CheckDict(const PlistDict& dict, size_t depth);

// LC-5: pairs of an operation's number and its parameter.
absl::Status CheckQuery(const PlistValue& value) {
  const auto* const operations = value.As<PlistArray>();
  if (operations == nullptr || operations->empty()) {
    return ConstraintFault("LC-5", "$query",
                           "the value is an array of operations");
  }
  for (const PlistValue& each : *operations) {
    const auto* const pair = each.As<PlistArray>();
    const int64_t* const number = pair == nullptr || pair->size() != 2
                                      ? nullptr
                                      : pair->front().As<int64_t>();
    if (number == nullptr || *number < 1 || *number > 11) {
      return ConstraintFault(
          "LC-5", "$query",
          "an operation is an array of its number, 1 to 11, and a "
          "parameter");
    }
    const PlistValue& parameter = pair->back();
    const bool wants_integer =
        *number == 2 || *number == 7 || *number == 10 || *number == 11;
    const bool fits = *number == 5    ? parameter.As<bool>() != nullptr
                      : wants_integer ? parameter.As<int64_t>() != nullptr
                                      : parameter.As<std::string>() != nullptr;
    if (!fits) {
      return ConstraintFault("LC-5", "$query",
                             "the parameter of operation " +
                                 std::to_string(*number) +
                                 " has the wrong type");
    }
  }
  return absl::OkStatus();
}

// LC-6: [["$or", {...}], ["$optional", {...}]].
absl::Status CheckOperatorArray(std::string_view key, const PlistValue& value,
                                size_t depth) {
  constexpr char kWanted[] =
      "the value is an array of pairs, each of $and, $or or $optional and a "
      "dictionary";
  const auto* const array = value.As<PlistArray>();
  if (array == nullptr || array->empty()) {
    return ConstraintFault("LC-6", key, kWanted);
  }
  for (const PlistValue& each : *array) {
    const auto* const pair = each.As<PlistArray>();
    if (pair == nullptr || pair->size() != 2) {
      return ConstraintFault("LC-6", key, kWanted);
    }
    const auto* const name = pair->front().As<std::string>();
    const auto* const dict = pair->back().As<PlistDict>();
    if (name == nullptr || dict == nullptr ||
        (*name != "$and" && *name != "$or" && *name != "$optional") ||
        (*name == "$optional" && dict->size() != 1)) {
      return ConstraintFault("LC-6", key, kWanted);
    }
    RETURN_IF_ERROR(CheckDict(*dict, depth + 1));
  }
  return absl::OkStatus();
}

// LC-7: an operator in place of a fact's value.
absl::Status CheckValueOperator(std::string_view fact, std::string_view name,
                                const PlistValue& value) {
  if (name == "$in") {
    const auto* const list = value.As<PlistArray>();
    if (list == nullptr || list->empty()) {
      return ConstraintFault("LC-7", fact,
                             "$in wants an array that is not empty");
    }
    for (const PlistValue& each : *list) {
      if (!IsScalar(each) || each.As<bool>() != nullptr ||
          each.value.index() != list->front().value.index()) {
        return ConstraintFault(
            "LC-7", fact,
            "$in wants strings, data or integers, all of one type");
      }
      RETURN_IF_ERROR(CheckFactValue(fact, each));
    }
    return absl::OkStatus();
  }
  if (name == "$lt" || name == "$lte" || name == "$gt" || name == "$gte") {
    if (value.As<int64_t>() != nullptr) return absl::OkStatus();
    return ConstraintFault("LC-7", fact,
                           std::string(name) + " wants an integer");
  }
  if (name == "$query") {
    if (fact == "entitlements") return CheckQuery(value);
    return ConstraintFault("LC-7", fact, "$query is for entitlements only");
  }
  return ConstraintFault(
      "LC-7", fact,
      "'" + std::string(name) +
          "' is no operator; want $in, $lt, $lte, $gt, $gte or "
          "$query");
}

absl::Status CheckEntry(std::string_view key, const PlistValue& value,
                        size_t depth) {
  if (key == "$and-array" || key == "$or-array") {
    return CheckOperatorArray(key, value, depth);
  }
  const auto* const dict = value.As<PlistDict>();
  if (key == "$and" || key == "$or" || key == "$optional") {
    if (dict == nullptr || (key == "$optional" && dict->size() != 1)) {
      return ConstraintFault(
          "LC-3", key,
          key == "$optional"
              ? "the value is a dictionary with one entry"
              : "the value is a dictionary of facts and operators");
    }
    return CheckDict(*dict, depth + 1);
  }
  if (key.starts_with('$')) {
    return ConstraintFault(
        "LC-3", key,
        "it is no operator that combines facts; want $and, $or, "
        "$and-array, $or-array or $optional");
  }
  if (dict != nullptr) {
    if (dict->empty()) {
      return ConstraintFault("LC-7", key, "the dictionary is empty");
    }
    for (const auto& [name, operand] : *dict) {
      RETURN_IF_ERROR(CheckValueOperator(key, name, operand));
    }
    return absl::OkStatus();
  }
  if (!IsScalar(value)) {
    return ConstraintFault(
        "LC-4", key,
        "the value is a string, integer, boolean, data, or a "
        "dictionary with an operator");
  }
  return CheckFactValue(key, value);
}

absl::Status CheckDict(const PlistDict& dict, size_t depth) {
  if (depth > kMaxDepth) {
    return ConstraintFault("LC-2", "", "operators are nested too deeply");
  }
  if (dict.empty()) {
    return ConstraintFault("LC-1", "",
                           "a constraint without facts is no constraint");
  }
  for (const auto& [key, value] : dict) {
    RETURN_IF_ERROR(CheckEntry(key, value, depth));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Bytes> BuildLaunchConstraint(ByteView plist) {
  if (plist.size() >= kBlobHeaderSize &&
      BigEndianReader(plist).U32() == kLaunchConstraintMagic) {
    ASSIGN_OR_RETURN(const PlistDict facts, ParseLaunchConstraint(plist));
    RETURN_IF_ERROR(CheckDict(facts, 1));
    return ToBytes(plist);
  }
  ASSIGN_OR_RETURN(PlistDict facts, ParsePlistDict(plist));
  RETURN_IF_ERROR(CheckDict(facts, 1));
  PlistDict constraint;
  constraint[kCategoryKey].value = kUserCategory;
  constraint[kCompatibilityKey].value = kCompatibilityVersion;
  constraint[kRequirementsKey].value = std::move(facts);
  constraint[kVersionKey].value = kFormatVersion;
  // The DER form is that of entitlements, under another magic.
  ASSIGN_OR_RETURN(const Bytes der, BuildEntitlementsDer(constraint));
  ASSIGN_OR_RETURN(const ByteView payload,
                   UnwrapBlob(kEntitlementsDerMagic, der));
  Bytes blob = WrapBlob(kLaunchConstraintMagic, payload);
  // Property lists may hold what DER does not.
  RETURN_IF_ERROR(ParseLaunchConstraint(blob).status());
  return blob;
}

absl::StatusOr<PlistDict> ParseLaunchConstraint(ByteView blob) {
  ASSIGN_OR_RETURN(const PlistDict constraint,
                   ParseEntitlementsDer(blob, kLaunchConstraintMagic));
  const auto* const facts = FindInDict<PlistDict>(constraint, kRequirementsKey);
  if (facts == nullptr) {
    return ConstraintFault("LC-8", kRequirementsKey,
                           "the constraint has no facts");
  }
  return *facts;
}

}  // namespace codeseal
