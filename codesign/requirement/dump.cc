// The text of requirements. Spec: Security reqdumper.cpp, quirks included.

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "codesign/base/endian.h"
#include "codesign/base/error.h"
#include "codesign/requirement/requirement.h"
#include "codesign/requirement/vocabulary.h"
#include "codesign/super_blob.h"

namespace codeseal {
namespace {

// Apple prints through a buffer of 256 bytes, which cuts long unquoted words.
constexpr size_t kLongestWord = 255;

// ASCII only, whatever the locale says.
bool IsGraphicOrSpace(uint8_t byte) {
  return (byte >= 0x20 && byte <= 0x7e) || (byte >= '\t' && byte <= '\r');
}

enum class Dots { kNeedQuotes, kAllowed };

// A string the shortest way that Apple knows: bare, quoted or hexadecimal.
std::string Word(ByteView data, Dots dots = Dots::kNeedQuotes) {
  const auto is_bare = [&](uint8_t byte) {
    return absl::ascii_isalnum(byte) || (byte == '.' && dots == Dots::kAllowed);
  };
  if (!std::ranges::all_of(data, [&](uint8_t byte) {
        return is_bare(byte) || IsGraphicOrSpace(byte);
      })) {
    return "0x" + HexEncode(data);
  }
  const std::string_view text = AsText(data);
  if (!data.empty() && std::ranges::all_of(data, is_bare) &&
      !absl::ascii_isdigit(data.front()) && !IsReservedWord(text)) {
    return std::string(text.substr(0, kLongestWord));
  }
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

std::string Hash(ByteView data) { return "H\"" + HexEncode(data) + '"'; }

std::string CertificateSlot(int32_t slot) {
  if (slot == kRootCertificate) return "certificate root";
  if (slot == kLeafCertificate) return "certificate leaf";
  return "certificate " + std::to_string(slot);
}

// Apple prints CoreFoundation's description of a date, which varies. This is
// the text that the compiler reads.
std::string Timestamp(int64_t at) {
  // 2001-01-01 is 11323 days after 1970-01-01; civil date from days after
  // H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
  constexpr int64_t kSecondsPerDay = 86400;
  int64_t day = at / kSecondsPerDay;
  int64_t second = at % kSecondsPerDay;
  if (second < 0) {
    second += kSecondsPerDay;
    --day;
  }
  const int64_t shifted = day + 11323 + 719468;  // days since 0000-03-01
  const int64_t era =
      (shifted >= 0 ? shifted : shifted - 146096) / 146097;  // 400 years
  const int64_t day_of_era = shifted - era * 146097;
  const int64_t year_of_era = (day_of_era - day_of_era / 1460 +
                               day_of_era / 36524 - day_of_era / 146096) /
                              365;
  const int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t month_from_march = (5 * day_of_year + 2) / 153;
  const int64_t day_of_month =
      day_of_year - (153 * month_from_march + 2) / 5 + 1;
  const int64_t month = month_from_march + (month_from_march < 10 ? 3 : -9);
  const int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
  return absl::StrFormat("timestamp \"%04d%02d%02d%02d%02d%02dZ\"", year, month,
                         day_of_month, second / 3600, second / 60 % 60,
                         second % 60);
}

std::string Match(const RequirementMatch& match) {
  switch (match.op) {
    case MatchOp::kExists:
      return " /* exists */";
    case MatchOp::kAbsent:
      return " absent ";
    case MatchOp::kEqual:
      return " = " + Word(match.value);
    case MatchOp::kContains:
      return " ~ " + Word(match.value);
    case MatchOp::kBeginsWith:
      return " = " + Word(match.value) + "*";
    case MatchOp::kEndsWith:
      return " = *" + Word(match.value);
    case MatchOp::kLess:
      return " < " + Word(match.value);
    case MatchOp::kGreater:
      return " > " + Word(match.value);
    case MatchOp::kLessOrEqual:
      return " <= " + Word(match.value);
    case MatchOp::kGreaterOrEqual:
      return " >= " + Word(match.value);
    case MatchOp::kOn:
      return " = " + Timestamp(match.at);
    case MatchOp::kBefore:
      return " < " + Timestamp(match.at);
    case MatchOp::kAfter:
      return " > " + Timestamp(match.at);
    case MatchOp::kOnOrBefore:
      return " <= " + Timestamp(match.at);
    case MatchOp::kOnOrAfter:
      return " >= " + Timestamp(match.at);
  }
  return absl::StrFormat("MATCH OPCODE %d NOT UNDERSTOOD",
                         static_cast<uint32_t>(match.op));
}

// How tightly the operator around an expression binds, tightest first.
enum class Binding { kNot, kAnd, kOr };

void Print(std::string& out, const RequirementExpression& expression,
           Binding around);

void PrintChain(std::string& out, const RequirementExpression& expression,
                Binding binding, const char* word, Binding around) {
  if (around < binding) out += '(';
  Print(out, expression.operands[0], binding);
  out += word;
  Print(out, expression.operands[1], binding);
  if (around < binding) out += ')';
}

void Print(std::string& out, const RequirementExpression& expression,
           Binding around) {
  const ByteView key = expression.key;
  if (!IsKnownOp(expression.op)) {
    const bool is_false = (expression.flags & kOpFalseIfUnknown) != 0;
    out += absl::StrFormat(" %s/* opcode %d */", is_false ? "false " : "",
                           static_cast<uint32_t>(expression.op));
    for (const RequirementExpression& operand : expression.operands) {
      out += ' ';
      Print(out, operand, around);
    }
    return;
  }
  switch (expression.op) {
    case RequirementOp::kFalse:
      out += "never";
      break;
    case RequirementOp::kTrue:
      out += "always";
      break;
    case RequirementOp::kIdentifier:
      out += "identifier " + Word(key);
      break;
    case RequirementOp::kAnchorApple:
      out += "anchor apple";
      break;
    case RequirementOp::kAnchorAppleGeneric:
      out += "anchor apple generic";
      break;
    case RequirementOp::kAnchorHash:
      out += CertificateSlot(expression.number) + " = " + Hash(key);
      break;
    case RequirementOp::kInfoValue:
    case RequirementOp::kInfoField:
      out +=
          "info[" + Word(key, Dots::kAllowed) + "]" + Match(expression.match);
      break;
    case RequirementOp::kAnd:
      PrintChain(out, expression, Binding::kAnd, " and ", around);
      break;
    case RequirementOp::kOr:
      PrintChain(out, expression, Binding::kOr, " or ", around);
      break;
    case RequirementOp::kNot:
      out += "! ";
      Print(out, expression.operands[0], Binding::kNot);
      break;
    case RequirementOp::kCdHash:
      out += "cdhash " + Hash(key);
      break;
    case RequirementOp::kEntitlement:
      out += "entitlement[" + Word(key, Dots::kAllowed) + "]" +
             Match(expression.match);
      break;
    case RequirementOp::kCertificateField:
      out += CertificateSlot(expression.number) + "[" +
             Word(key, Dots::kAllowed) + "]" + Match(expression.match);
      break;
    case RequirementOp::kCertificateOid:
      out += CertificateSlot(expression.number) + "[field." + OidToText(key) +
             "]" + Match(expression.match);
      break;
    case RequirementOp::kCertificatePolicy:
      out += CertificateSlot(expression.number) + "[policy." + OidToText(key) +
             "]" + Match(expression.match);
      break;
    case RequirementOp::kCertificateDate:
      out += CertificateSlot(expression.number) + "[timestamp." +
             OidToText(key) + "]" + Match(expression.match);
      break;
    case RequirementOp::kCertificateTrusted:
      out += CertificateSlot(expression.number) + "trusted";  // sic
      break;
    case RequirementOp::kAnchorTrusted:
      out += "anchor trusted";
      break;
    case RequirementOp::kNamedAnchor:
      out += "anchor apple " + Word(key);
      break;
    case RequirementOp::kNamedCode:
      out += "(" + Word(key) + ")";
      break;
    case RequirementOp::kPlatform:
      out += "platform = " + std::to_string(expression.number);
      break;
    case RequirementOp::kNotarized:
      out += "notarized";
      break;
    case RequirementOp::kLegacy:
      out += "legacy";
      break;
  }
}

}  // namespace

std::string DumpRequirement(const RequirementExpression& expression) {
  std::string text;
  Print(text, expression, Binding::kOr);
  if (text.starts_with(' ')) text.erase(0, 1);
  return text;
}

absl::StatusOr<std::string> DumpRequirementBlob(ByteView blob) {
  if (BigEndianReader(blob).U32() == kRequirementMagic) {
    ASSIGN_OR_RETURN(const RequirementExpression expression,
                     ParseRequirement(blob));
    return DumpRequirement(expression);
  }
  ASSIGN_OR_RETURN(const RequirementSet set, ParseRequirementSet(blob));
  std::string text;
  for (const auto& [type, requirement] : set) {
    ASSIGN_OR_RETURN(const RequirementExpression expression,
                     ParseRequirement(requirement));
    const std::optional<std::string_view> name = RequirementTypeName(type);
    text += name.has_value() ? std::string(*name)
                             : absl::StrFormat("/*unknown type*/ %d", type);
    text += " => " + DumpRequirement(expression) + "\n";
  }
  return text;
}

}  // namespace codeseal
