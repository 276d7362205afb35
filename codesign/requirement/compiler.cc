#include "codesign/requirement/compiler.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/requirement/vocabulary.h"

namespace codeseal {
namespace {

bool IsLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool IsHexDigit(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Line, column and text around `offset`, as people count them.
absl::Status SyntaxError(std::string_view text, size_t offset,
                         const std::string& message) {
  const std::string_view before = text.substr(0, offset);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  return ParseError(v1::REASON_REQUIREMENT_SYNTAX, offset,
                    absl::StrFormat("line %d, column %d: %s", line,
                                    offset - line_start + 1, message));
}

// Parentheses and negations around an expression. Less than
// kMaxRequirementDepth, because each level of text takes several calls.
constexpr size_t kMaxNesting = 200;

enum class TokenKind {
  kEnd,
  kWord,    // DOTKEY: letters and digits, with dots; reserved words too
  kString,  // in quotes; `value` has the escapes resolved
  kHash,    // H"..."; `value` has the digits
  kHex,     // 0x...; `value` has the digits
  kInteger,
  kPath,
  kPunctuation,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  size_t offset = 0;
  std::string_view text;  // as written
  std::string value;

  bool Is(std::string_view word) const {
    return (kind == TokenKind::kWord || kind == TokenKind::kPunctuation) &&
           text == word;
  }
  // A word that stands for itself, or a string.
  bool IsString() const {
    return kind == TokenKind::kString ||
           (kind == TokenKind::kWord && !IsReservedWord(text));
  }
};

std::string Describe(const Token& token) {
  if (token.kind == TokenKind::kEnd) return "the end";
  if (token.kind == TokenKind::kWord && IsReservedWord(token.text)) {
    return "the reserved word " + std::string(token.text);
  }
  return std::string(token.text);
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  absl::StatusOr<std::vector<Token>> Tokens();

 private:
  absl::Status Error(size_t offset, const std::string& message) const {
    return SyntaxError(text_, offset, message);
  }
  char At(size_t offset) const {
    return offset < text_.size() ? text_[offset] : '\0';
  }
  template <typename Predicate>
  size_t EndOf(size_t offset, Predicate predicate) const {
    while (offset < text_.size() && predicate(text_[offset])) ++offset;
    return offset;
  }
  size_t EndOfName(size_t offset) const {
    return EndOf(offset, [](char c) { return IsLetter(c) || IsDigit(c); });
  }
  absl::Status SkipSpace();
  absl::StatusOr<Token> Next();
  absl::StatusOr<Token> String();
  Token Take(TokenKind kind, size_t end);
  size_t EndOfWord() const;
  size_t EndOfPath() const;

  std::string_view text_;
  size_t offset_ = 0;
};

Token Lexer::Take(TokenKind kind, size_t end) {
  Token token;
  token.kind = kind;
  token.offset = offset_;
  token.text = text_.substr(offset_, end - offset_);
  token.value = std::string(token.text);
  offset_ = end;
  return token;
}

absl::Status Lexer::SkipSpace() {
  for (;;) {
    offset_ = EndOf(offset_, IsSpace);
    const std::string_view rest = text_.substr(offset_);
    if (rest.starts_with('#') || rest.starts_with("//")) {
      offset_ = EndOf(offset_, [](char c) { return c != '\n'; });
    } else if (rest.starts_with("/*")) {
      const size_t end = rest.find("*/", 2);
      if (end == std::string_view::npos) {
        return Error(offset_, "the comment has no end");
      }
      offset_ += end + 2;
    } else {
      return absl::OkStatus();
    }
  }
}

// IDENT ( "." ( IDENT | INTEGER ) )*
size_t Lexer::EndOfWord() const {
  size_t end = EndOfName(offset_);
  for (;;) {
    if (At(end) != '.') return end;
    if (IsLetter(At(end + 1))) {
      end = EndOfName(end + 1);
    } else if (IsDigit(At(end + 1))) {
      end = EndOf(end + 1, IsDigit);
    } else {
      return end;
    }
  }
}

// "/" IDENT ( "/" IDENT )+; the offset itself when there is no path.
size_t Lexer::EndOfPath() const {
  size_t end = offset_;
  int part_count = 0;
  while (At(end) == '/' && IsLetter(At(end + 1))) {
    end = EndOfName(end + 1);
    ++part_count;
  }
  return part_count < 2 ? offset_ : end;
}

absl::StatusOr<Token> Lexer::String() {
  std::string value;
  for (size_t i = offset_ + 1; i < text_.size(); ++i) {
    char c = text_[i];
    if (c == '"') {
      Token token = Take(TokenKind::kString, i + 1);
      token.value = std::move(value);
      return token;
    }
    if (c == '\\') {
      if (At(i + 1) != '"') {
        return Error(i, "a backslash may only stand before a quote");
      }
      c = text_[++i];
    }
    value += c;
  }
  return Error(offset_, "the string has no end");
}

absl::StatusOr<Token> Lexer::Next() {
  RETURN_IF_ERROR(SkipSpace());
  if (offset_ == text_.size()) return Take(TokenKind::kEnd, offset_);
  const char c = text_[offset_];
  const char following = At(offset_ + 1);
  if (c == 'H' && following == '"') {
    const size_t end = EndOf(offset_ + 2, IsHexDigit);
    if (end == offset_ + 2 || At(end) != '"') {
      return Error(end, "expected hexadecimal digits and a quote");
    }
    Token token = Take(TokenKind::kHash, end + 1);
    token.value = std::string(token.text.substr(2, token.text.size() - 3));
    return token;
  }
  if (c == '"') return String();
  if (IsLetter(c)) return Take(TokenKind::kWord, EndOfWord());
  if (c == '0' && following == 'x') {
    const size_t end = EndOf(offset_ + 2, IsHexDigit);
    if (end == offset_ + 2) return Error(end, "expected hexadecimal digits");
    Token token = Take(TokenKind::kHex, end);
    token.value = std::string(token.text.substr(2));
    return token;
  }
  if (IsDigit(c)) return Take(TokenKind::kInteger, EndOf(offset_, IsDigit));
  if (c == '/') {
    const size_t end = EndOfPath();
    if (end == offset_) {
      return Error(offset_,
                   "put a path in quotes, unless it has two or more "
                   "parts of letters and digits");
    }
    return Take(TokenKind::kPath, end);
  }
  for (const std::string_view two : {"=>", "<=", ">=", "=="}) {
    if (text_.substr(offset_, 2) == two) {
      return Take(TokenKind::kPunctuation, offset_ + 2);
    }
  }
  if (std::string_view(";()[]<>,=~-!*").find(c) != std::string_view::npos) {
    return Take(TokenKind::kPunctuation, offset_ + 1);
  }
  return Error(offset_, "unexpected character");
}

absl::StatusOr<std::vector<Token>> Lexer::Tokens() {
  // Bytes that UTF-8 never uses.
  const auto foreign = std::ranges::find_if(text_, [](char c) {
    const auto byte = static_cast<uint8_t>(c);
    return byte == 0xc0 || byte == 0xc1 || byte > 0xf4;
  });
  if (foreign != text_.end()) {
    return Error(static_cast<size_t>(foreign - text_.begin()),
                 "the text is not UTF-8");
  }
  std::vector<Token> tokens;
  do {
    ASSIGN_OR_RETURN(Token token, Next());
    tokens.push_back(std::move(token));
  } while (tokens.back().kind != TokenKind::kEnd);
  return tokens;
}

Bytes HexDecode(std::string_view digits) {
  Bytes bytes;
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    uint8_t byte = 0;
    std::from_chars(digits.data() + i, digits.data() + i + 2, byte, 16);
    bytes.push_back(byte);
  }
  return bytes;
}

// Recursive descent over the tokens, one function for each rule of the
// grammar.
class Parser {
 public:
  Parser(std::string_view text, std::vector<Token> tokens,
         const CertificateLoader& loader)
      : text_(text), tokens_(std::move(tokens)), loader_(loader) {}

  // Whether the text is a set: a type and an arrow come first.
  bool StartsSet() const { return tokens_.size() > 1 && tokens_[1].Is("=>"); }
  absl::StatusOr<RequirementExpression> Requirement();
  absl::StatusOr<RequirementSet> Set();

 private:
  using Result = absl::StatusOr<RequirementExpression>;

  const Token& Peek() const { return tokens_[position_]; }
  const Token& Take() {
    const Token& token = tokens_[position_];
    if (token.kind != TokenKind::kEnd) ++position_;
    return token;
  }
  bool TakeIf(std::string_view word) {
    if (!Peek().Is(word)) return false;
    Take();
    return true;
  }
  void TakeEqualSign() {
    if (!TakeIf("=")) TakeIf("==");
  }
  absl::Status Error(const Token& at, const std::string& message) const {
    return SyntaxError(text_, at.offset, message);
  }
  absl::Status Expected(const std::string& what) const {
    return Error(Peek(), "expected " + what + ", found " + Describe(Peek()));
  }
  absl::Status Expect(std::string_view word) {
    return TakeIf(word) ? absl::OkStatus() : Expected(std::string(word));
  }

  absl::StatusOr<uint32_t> Type();
  Result Element();
  Result Expr(size_t depth);
  Result Term(size_t depth);
  Result Primary(size_t depth);
  Result Anchor();
  Result Certificate();
  Result CertificateSlot(int32_t slot);
  Result CertificateHash(int32_t slot);
  Result Field(RequirementOp op);
  absl::StatusOr<RequirementMatch> MatchSuffix();
  absl::StatusOr<RequirementMatch> Comparison(MatchOp with_value,
                                              MatchOp with_time);
  absl::StatusOr<std::string> String(const std::string& what);
  absl::StatusOr<std::string> BracketKey();
  absl::StatusOr<Bytes> DataValue();
  absl::StatusOr<Bytes> Hash();
  absl::StatusOr<int32_t> Integer();

  // Joins left to right, as Apple's compiler does: (a or b) or c.
  absl::Status Join(RequirementOp op, RequirementExpression& left,
                    size_t& left_depth, RequirementExpression right) const;
  // Whether a tree of `depth` levels can be evaluated.
  absl::Status CheckDepth(size_t depth) const;

  std::string_view text_;
  std::vector<Token> tokens_;
  const CertificateLoader& loader_;
  size_t position_ = 0;
};

absl::StatusOr<RequirementExpression> Parser::Requirement() {
  ASSIGN_OR_RETURN(RequirementExpression expression, Element());
  if (Peek().kind != TokenKind::kEnd) return Expected("and, or, or the end");
  return expression;
}

absl::StatusOr<RequirementSet> Parser::Set() {
  RequirementSet set;
  do {
    const Token first = Peek();
    ASSIGN_OR_RETURN(const uint32_t type, Type());
    if (set.contains(type)) {
      return Error(first, std::string(first.text) + " is given twice");
    }
    RETURN_IF_ERROR(Expect("=>"));
    ASSIGN_OR_RETURN(const RequirementExpression expression, Element());
    set[type] = BuildRequirement(expression);
  } while (Peek().kind != TokenKind::kEnd);
  return set;
}

absl::StatusOr<uint32_t> Parser::Type() {
  if (Peek().kind == TokenKind::kInteger) {
    ASSIGN_OR_RETURN(const int32_t type, Integer());
    return static_cast<uint32_t>(type);
  }
  if (Peek().kind == TokenKind::kWord) {
    if (const auto type = RequirementTypeFromName(Peek().text)) {
      Take();
      return *type;
    }
  }
  return Expected("host, guest, designated, library, plugin or a number");
}

Parser::Result Parser::Element() {
  ASSIGN_OR_RETURN(RequirementExpression expression, Expr(1));
  while (TakeIf(";")) {
  }
  return expression;
}

absl::Status Parser::CheckDepth(size_t depth) const {
  if (depth <= kMaxRequirementDepth) return absl::OkStatus();
  return Error(Peek(), absl::StrFormat("more than %d levels of operators",
                                       kMaxRequirementDepth));
}

absl::Status Parser::Join(RequirementOp op, RequirementExpression& left,
                          size_t& left_depth,
                          RequirementExpression right) const {
  left_depth = std::max(left_depth, RequirementDepth(right)) + 1;
  RETURN_IF_ERROR(CheckDepth(left_depth));
  RequirementExpression joined = ExpressionOf(op);
  joined.operands.reserve(2);
  joined.operands.push_back(std::move(left));
  joined.operands.push_back(std::move(right));
  left = std::move(joined);
  return absl::OkStatus();
}

Parser::Result Parser::Expr(size_t depth) {
  ASSIGN_OR_RETURN(RequirementExpression left, Term(depth));
  size_t left_depth = RequirementDepth(left);
  while (TakeIf("or")) {
    ASSIGN_OR_RETURN(RequirementExpression right, Term(depth));
    RETURN_IF_ERROR(
        Join(RequirementOp::kOr, left, left_depth, std::move(right)));
  }
  return left;
}

Parser::Result Parser::Term(size_t depth) {
  ASSIGN_OR_RETURN(RequirementExpression left, Primary(depth));
  size_t left_depth = RequirementDepth(left);
  while (TakeIf("and")) {
    ASSIGN_OR_RETURN(RequirementExpression right, Primary(depth));
    RETURN_IF_ERROR(
        Join(RequirementOp::kAnd, left, left_depth, std::move(right)));
  }
  return left;
}

Parser::Result Parser::Primary(size_t depth) {
  if (depth > kMaxNesting) {
    return Error(Peek(),
                 absl::StrFormat("more than %d nested ! and (", kMaxNesting));
  }
  if (TakeIf("(")) {
    // A string can't begin an expression: it names code.
    if (Peek().IsString()) {
      RequirementExpression named = ExpressionOf(RequirementOp::kNamedCode);
      named.key = ToBytes(Take().value);
      RETURN_IF_ERROR(Expect(")"));
      return named;
    }
    ASSIGN_OR_RETURN(RequirementExpression inner, Expr(depth + 1));
    RETURN_IF_ERROR(Expect(")"));
    return inner;
  }
  if (TakeIf("!")) {
    RequirementExpression negation = ExpressionOf(RequirementOp::kNot);
    ASSIGN_OR_RETURN(RequirementExpression operand, Primary(depth + 1));
    RETURN_IF_ERROR(CheckDepth(RequirementDepth(operand) + 1));
    negation.operands.push_back(std::move(operand));
    return negation;
  }
  if (TakeIf("always") || TakeIf("true")) {
    return ExpressionOf(RequirementOp::kTrue);
  }
  if (TakeIf("never") || TakeIf("false")) {
    return ExpressionOf(RequirementOp::kFalse);
  }
  if (TakeIf("notarized")) return ExpressionOf(RequirementOp::kNotarized);
  if (TakeIf("legacy")) return ExpressionOf(RequirementOp::kLegacy);
  if (TakeIf("anchor")) return Anchor();
  if (TakeIf("certificate") || TakeIf("cert")) return Certificate();
  if (TakeIf("info")) return Field(RequirementOp::kInfoField);
  if (TakeIf("entitlement")) return Field(RequirementOp::kEntitlement);
  if (TakeIf("identifier")) {
    TakeEqualSign();
    RequirementExpression expression = ExpressionOf(RequirementOp::kIdentifier);
    ASSIGN_OR_RETURN(const std::string identifier, String("an identifier"));
    expression.key = ToBytes(identifier);
    return expression;
  }
  if (TakeIf("cdhash")) {
    TakeEqualSign();
    RequirementExpression expression = ExpressionOf(RequirementOp::kCdHash);
    ASSIGN_OR_RETURN(expression.key, Hash());
    return expression;
  }
  if (TakeIf("platform")) {
    TakeEqualSign();
    RequirementExpression expression = ExpressionOf(RequirementOp::kPlatform);
    ASSIGN_OR_RETURN(expression.number, Integer());
    return expression;
  }
  return Expected(
      "anchor, certificate, identifier, cdhash, info, entitlement, "
      "platform, notarized, legacy, always, never, ! or (");
}

// After "anchor".
Parser::Result Parser::Anchor() {
  if (TakeIf("apple")) {
    if (TakeIf("generic")) {
      return ExpressionOf(RequirementOp::kAnchorAppleGeneric);
    }
    if (!Peek().IsString()) return ExpressionOf(RequirementOp::kAnchorApple);
    RequirementExpression named = ExpressionOf(RequirementOp::kNamedAnchor);
    named.key = ToBytes(Take().value);
    return named;
  }
  if (TakeIf("generic")) {
    RETURN_IF_ERROR(Expect("apple"));
    return ExpressionOf(RequirementOp::kAnchorAppleGeneric);
  }
  if (TakeIf("trusted")) return ExpressionOf(RequirementOp::kAnchorTrusted);
  return CertificateSlot(kRootCertificate);
}

// After "certificate".
Parser::Result Parser::Certificate() {
  if (TakeIf("trusted")) return ExpressionOf(RequirementOp::kAnchorTrusted);
  int32_t slot = 0;
  if (TakeIf("leaf")) {
    slot = kLeafCertificate;
  } else if (TakeIf("root")) {
    slot = kRootCertificate;
  } else if (TakeIf("-")) {
    ASSIGN_OR_RETURN(slot, Integer());
    slot = -slot;
  } else if (Peek().kind == TokenKind::kInteger) {
    ASSIGN_OR_RETURN(slot, Integer());
  } else {
    return Expected("leaf, root, a number or trusted");
  }
  if (TakeIf("trusted")) {
    RequirementExpression trusted =
        ExpressionOf(RequirementOp::kCertificateTrusted);
    trusted.number = slot;
    return trusted;
  }
  return CertificateSlot(slot);
}

// What is asked of one certificate.
Parser::Result Parser::CertificateSlot(int32_t slot) {
  if (!Peek().Is("[")) return CertificateHash(slot);
  const Token start = tokens_[position_ + 1];
  ASSIGN_OR_RETURN(const std::string key, BracketKey());
  const size_t dot = key.find('.');
  const std::string prefix = key.substr(0, dot);
  RequirementExpression expression;
  if (dot == std::string::npos) {
    return Error(start,
                 "expected subject.X, field.OID, extension.OID, "
                 "policy.OID or timestamp.OID");
  }
  if (prefix == "subject") {
    expression.op = RequirementOp::kCertificateField;
    expression.key = ToBytes(key);
  } else {
    if (prefix == "field" || prefix == "extension") {
      expression.op = RequirementOp::kCertificateOid;
    } else if (prefix == "policy") {
      expression.op = RequirementOp::kCertificatePolicy;
    } else if (prefix == "timestamp") {
      expression.op = RequirementOp::kCertificateDate;
    } else {
      return Error(start,
                   "expected subject.X, field.OID, extension.OID, "
                   "policy.OID or timestamp.OID");
    }
    const std::optional<Bytes> oid =
        OidFromText(std::string_view(key).substr(dot + 1));
    if (!oid) return Error(start, key + " does not name an OID");
    expression.key = *oid;
  }
  expression.number = slot;
  ASSIGN_OR_RETURN(expression.match, MatchSuffix());
  return expression;
}

Parser::Result Parser::CertificateHash(int32_t slot) {
  TakeEqualSign();
  RequirementExpression expression = ExpressionOf(RequirementOp::kAnchorHash);
  expression.number = slot;
  if (Peek().kind == TokenKind::kHash) {
    ASSIGN_OR_RETURN(expression.key, Hash());
    return expression;
  }
  if (Peek().kind != TokenKind::kPath && !Peek().IsString()) {
    return Expected("[, a hash or the path of a certificate");
  }
  const Token path = Take();
  if (!loader_) {
    return Error(path,
                 "certificate files cannot be read here: write H\"...\" "
                 "with the SHA-1 of the certificate");
  }
  ASSIGN_OR_RETURN(const Bytes certificate, loader_(path.value));
  expression.key = ComputeDigest(DigestKind::kSha1, certificate);
  return expression;
}

Parser::Result Parser::Field(RequirementOp op) {
  RequirementExpression expression = ExpressionOf(op);
  ASSIGN_OR_RETURN(const std::string key, BracketKey());
  expression.key = ToBytes(key);
  ASSIGN_OR_RETURN(expression.match, MatchSuffix());
  return expression;
}

absl::StatusOr<RequirementMatch> Parser::MatchSuffix() {
  RequirementMatch match;
  if (TakeIf("absent")) {
    match.op = MatchOp::kAbsent;
    return match;
  }
  if (TakeIf("=") || TakeIf("==")) {
    if (Peek().Is("timestamp")) {
      return Comparison(MatchOp::kEqual, MatchOp::kOn);
    }
    const bool any_before = TakeIf("*");
    ASSIGN_OR_RETURN(match.value, DataValue());
    const bool any_behind = TakeIf("*");
    match.op = any_before
                   ? (any_behind ? MatchOp::kContains : MatchOp::kEndsWith)
                   : (any_behind ? MatchOp::kBeginsWith : MatchOp::kEqual);
    return match;
  }
  if (TakeIf("~")) {
    match.op = MatchOp::kContains;
    ASSIGN_OR_RETURN(match.value, DataValue());
    return match;
  }
  if (TakeIf("<")) return Comparison(MatchOp::kLess, MatchOp::kBefore);
  if (TakeIf(">")) return Comparison(MatchOp::kGreater, MatchOp::kAfter);
  if (TakeIf("<=")) {
    return Comparison(MatchOp::kLessOrEqual, MatchOp::kOnOrBefore);
  }
  if (TakeIf(">=")) {
    return Comparison(MatchOp::kGreaterOrEqual, MatchOp::kOnOrAfter);
  }
  TakeIf("exists");  // may be left out
  return match;
}

absl::StatusOr<RequirementMatch> Parser::Comparison(MatchOp with_value,
                                                    MatchOp with_time) {
  RequirementMatch match;
  if (!TakeIf("timestamp")) {
    match.op = with_value;
    ASSIGN_OR_RETURN(match.value, DataValue());
    return match;
  }
  match.op = with_time;
  if (Peek().kind != TokenKind::kString) {
    return Expected("a time like \"20250131235959Z\"");
  }
  const Token& token = Take();
  const std::optional<int64_t> at = ParseGeneralizedTime(token.value);
  if (!at) return Error(token, "expected a time like \"20250131235959Z\"");
  match.at = *at;
  return match;
}

absl::StatusOr<std::string> Parser::String(const std::string& what) {
  if (!Peek().IsString()) {
    return Expected(what +
                    ", in quotes if it is not just letters, digits and "
                    "dots");
  }
  return Take().value;
}

absl::StatusOr<std::string> Parser::BracketKey() {
  RETURN_IF_ERROR(Expect("["));
  ASSIGN_OR_RETURN(std::string key, String("a key"));
  RETURN_IF_ERROR(Expect("]"));
  return key;
}

absl::StatusOr<Bytes> Parser::DataValue() {
  if (Peek().kind == TokenKind::kHex) {
    if (Peek().value.size() % 2 != 0) {
      return Error(Peek(), "the number of hexadecimal digits is odd");
    }
    return HexDecode(Take().value);
  }
  ASSIGN_OR_RETURN(const std::string value, String("a value"));
  return ToBytes(value);
}

absl::StatusOr<Bytes> Parser::Hash() {
  if (Peek().kind != TokenKind::kHash) {
    return Expected("a hash, H\"...\" with 40 hexadecimal digits");
  }
  if (Peek().value.size() != 2 * kCdHashSize) {
    return Error(Peek(), absl::StrFormat("a hash has %d hexadecimal digits, "
                                         "not %d",
                                         2 * kCdHashSize, Peek().value.size()));
  }
  return HexDecode(Take().value);
}

absl::StatusOr<int32_t> Parser::Integer() {
  if (Peek().kind != TokenKind::kInteger) return Expected("a number");
  const Token& token = Take();
  int32_t value = 0;
  const auto [stop, error] = std::from_chars(
      token.text.data(), token.text.data() + token.text.size(), value);
  if (error != std::errc()) return Error(token, "the number is too large");
  return value;
}

absl::StatusOr<Parser> MakeParser(std::string_view text,
                                  const CertificateLoader& loader) {
  ASSIGN_OR_RETURN(std::vector<Token> tokens, Lexer(text).Tokens());
  return Parser(text, std::move(tokens), loader);
}

}  // namespace

absl::StatusOr<RequirementExpression> CompileRequirement(
    std::string_view text, const CertificateLoader& loader) {
  ASSIGN_OR_RETURN(Parser parser, MakeParser(text, loader));
  return parser.Requirement();
}

absl::StatusOr<RequirementSet> CompileRequirementSet(
    std::string_view text, const CertificateLoader& loader) {
  ASSIGN_OR_RETURN(Parser parser, MakeParser(text, loader));
  return parser.Set();
}

absl::StatusOr<Bytes> CompileRequirementBlob(std::string_view text,
                                             const CertificateLoader& loader) {
  ASSIGN_OR_RETURN(Parser parser, MakeParser(text, loader));
  if (parser.StartsSet()) {
    ASSIGN_OR_RETURN(const RequirementSet set, parser.Set());
    return BuildRequirementSet(set);
  }
  ASSIGN_OR_RETURN(const RequirementExpression expression,
                   parser.Requirement());
  return BuildRequirement(expression);
}

std::string SubstituteSelf(std::string_view text, std::string_view identifier) {
  constexpr std::string_view kVariable = "$self.identifier";
  std::string result;
  for (;;) {
    const size_t at = text.find(kVariable);
    result += text.substr(0, at);
    if (at == std::string_view::npos) return result;
    result += identifier;
    text.remove_prefix(at + kVariable.size());
  }
}

}  // namespace codeseal
