#include "codesign/requirement/compiler.h"

#include "codesign/base/digest.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasMessage;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Recompiled(std::string_view text) {
  const absl::StatusOr<RequirementExpression> expression =
      CompileRequirement(text);
  return expression.ok() ? DumpRequirement(*expression)
                         : std::string(Message(expression.status()));
}

TEST(CompilerTest, CommentsAndWhiteSpaceSeparateWords) {
  EXPECT_EQ(Recompiled("# shell\n anchor/* C */apple // C++\r\n\tand always;;"),
            "anchor apple and always");
}

TEST(CompilerTest, StringsKeepEverythingButEscapedQuotes) {
  EXPECT_EQ(Recompiled("identifier \"a\\\"b // no comment\""),
            "identifier \"a\\\"b // no comment\"");
  EXPECT_EQ(Recompiled("identifier com.x.y"), "identifier \"com.x.y\"");
  EXPECT_EQ(Recompiled("identifier a.1b"),
            "line 1, column 15: expected and, or, or the end, found b");
  EXPECT_EQ(Recompiled("identifier \"M\xc3\xbcller\""),
            "identifier 0x4dc3bc6c6c6572");
}

TEST(CompilerTest, ParenthesesAndPrecedence) {
  EXPECT_EQ(Recompiled("(always or never) and ! (never or always)"),
            "(always or never) and ! (never or always)");
  EXPECT_EQ(Recompiled("((always))"), "always");
  EXPECT_EQ(Recompiled("!!always"), "! ! always");
}

// What Developer ID code carries.
TEST(CompilerTest, DumpOfAppleRequirementCompiles) {
  const std::string text =
      "identifier \"term-size\" and anchor apple generic and certificate "
      "1[field.1.2.840.113635.100.6.2.6] /* exists */ and certificate "
      "leaf[field.1.2.840.113635.100.6.1.13] /* exists */ and certificate "
      "leaf[subject.OU] = HX7739G8FX";
  EXPECT_EQ(Recompiled(text), text);
}

struct ErrorCase {
  const char* text;
  const char* message;
  uint64_t byte_offset;
};

class CompilerErrorTest : public ::testing::TestWithParam<ErrorCase> {};

TEST_P(CompilerErrorTest, NamesThePlace) {
  const absl::StatusOr<Bytes> blob = CompileRequirementBlob(GetParam().text);
  ASSERT_THAT(blob, HasReason(v1::REASON_REQUIREMENT_SYNTAX));
  const std::string message(Message(blob.status()));
  EXPECT_THAT(message, HasSubstr(GetParam().message));
  const uint64_t offset = GetErrorDetail(blob.status())->byte_offset();
  EXPECT_EQ(offset, GetParam().byte_offset);
  // The same place in words.
  int line = 1;
  int column = 1;
  for (const char c : std::string_view(GetParam().text).substr(0, offset)) {
    column = c == '\n' ? 1 : column + 1;
    line += c == '\n' ? 1 : 0;
  }
  EXPECT_THAT(message, StartsWith("line " + std::to_string(line) + ", column " +
                                  std::to_string(column) + ": "));
}

INSTANTIATE_TEST_SUITE_P(
    Faults, CompilerErrorTest,
    ::testing::Values(
        ErrorCase{"", "line 1, column 1: expected anchor, certificate", 0},
        ErrorCase{"anchor apple\nand foo",
                  "line 2, column 5: expected anchor, certificate", 17},
        ErrorCase{"anchor apple anchor",
                  "column 14: expected and, or, or the end, found the "
                  "reserved word anchor",
                  13},
        ErrorCase{"identifier apple", "found the reserved word apple", 11},
        ErrorCase{"identifier 12", "expected an identifier", 11},
        ErrorCase{"identifier \"x", "the string has no end", 11},
        ErrorCase{"identifier \"a\\n\"", "a backslash may only", 13},
        ErrorCase{"always /* never", "the comment has no end", 7},
        ErrorCase{"(always", "expected ), found the end", 7},
        ErrorCase{"(abcd", "expected ), found the end", 5},
        ErrorCase{"anchor generic", "expected apple, found the end", 14},
        ErrorCase{"cdhash H\"01\"", "40 hexadecimal digits, not 2", 7},
        ErrorCase{"cdhash abc", "expected a hash", 7},
        ErrorCase{"cdhash H\"xyz\"", "expected hexadecimal digits", 9},
        ErrorCase{"platform x", "expected a number", 9},
        ErrorCase{"platform 99999999999", "too large", 9},
        ErrorCase{"certificate = H\"01\"", "expected leaf, root", 12},
        ErrorCase{"certificate leaf", "expected [, a hash or the path", 16},
        ErrorCase{"certificate leaf[subject]", "expected subject.X", 17},
        ErrorCase{"certificate leaf[issuer.CN]", "expected subject.X", 17},
        ErrorCase{"certificate leaf[field.1]", "does not name an OID", 17},
        ErrorCase{"certificate leaf[field.3.1]", "does not name an OID", 17},
        ErrorCase{"certificate leaf = \"x.cer\"", "cannot be read here", 19},
        ErrorCase{"info x", "expected [, found x", 5},
        ErrorCase{"info[x", "expected ], found the end", 6},
        ErrorCase{"info[x] = ", "expected a value", 10},
        ErrorCase{"info[x] = 12", "expected a value", 10},
        ErrorCase{"info[x] = 0x123", "is odd", 10},
        ErrorCase{"info[x] = 0x", "expected hexadecimal digits", 12},
        ErrorCase{"info[x] < timestamp 12", "expected a time", 20},
        ErrorCase{"info[x] < timestamp \"2025\"", "expected a time", 20},
        ErrorCase{"info[x] = timestamp \"20250231000000Z\"", "expected a time",
                  20},
        ErrorCase{"anchor /x", "put a path in quotes", 7},
        ErrorCase{"always @", "unexpected character", 7},
        ErrorCase{"always \xc0", "not UTF-8", 7},
        ErrorCase{"designated => always host", "expected =>", 25},
        ErrorCase{"designated => always designated => never",
                  "designated is given twice", 21},
        ErrorCase{"foo => always", "expected host, guest", 0},
        ErrorCase{"anchor apple and", "expected anchor, certificate", 16},
        ErrorCase{"or always", "found the reserved word or", 0},
        ErrorCase{"always or\n  or never", "line 2, column 3: expected", 12},
        ErrorCase{"always\n\n\n\t@", "line 4, column 2: unexpected", 10},
        ErrorCase{"!", "expected anchor, certificate", 1},
        ErrorCase{"()", "expected anchor, certificate", 1},
        ErrorCase{"(always]", "expected ), found ]", 7},
        ErrorCase{"always)", "expected and, or, or the end, found )", 6},
        ErrorCase{"identifier", "expected an identifier", 10},
        ErrorCase{"identifier = ", "expected an identifier", 13},
        ErrorCase{"identifier \"abc\ndef", "the string has no end", 11},
        ErrorCase{"certificate", "expected leaf, root, a number", 11},
        ErrorCase{"certificate 1", "expected [, a hash or the path", 13},
        ErrorCase{"certificate - leaf", "expected a number", 14},
        ErrorCase{"certificate 99999999999 trusted", "too large", 12},
        ErrorCase{"certificate leaf[]", "expected a key", 17},
        ErrorCase{"certificate leaf[subject.CN", "expected ], found", 27},
        ErrorCase{"certificate leaf[policy.x]", "does not name an OID", 17},
        ErrorCase{"anchor", "expected [, a hash or the path", 6},
        ErrorCase{"anchor = ", "expected [, a hash or the path", 9},
        ErrorCase{"anchor trusted generic", "expected and, or, or", 15},
        ErrorCase{"notarized legacy", "expected and, or, or the end", 10},
        ErrorCase{"info", "expected [, found the end", 4},
        ErrorCase{"info[a.]", "unexpected character", 6},
        ErrorCase{"info[x] < ", "expected a value", 10},
        ErrorCase{"info[x] ~", "expected a value", 9},
        ErrorCase{"info[x] = *", "expected a value", 11},
        ErrorCase{"info[x] >= timestamp", "expected a time", 20},
        ErrorCase{"entitlement", "expected [, found the end", 11},
        ErrorCase{"entitlement[]", "expected a key", 12},
        ErrorCase{"entitlement[and]", "found the reserved word and", 12},
        ErrorCase{"platform", "expected a number", 8},
        ErrorCase{"platform = -1", "expected a number", 11},
        ErrorCase{"cdhash", "expected a hash", 6},
        ErrorCase{"cdhash = 0x00", "expected a hash", 9},
        ErrorCase{"cdhash H\"", "expected hexadecimal digits", 9},
        ErrorCase{"always /", "put a path in quotes", 7},
        ErrorCase{"designated =>", "expected anchor, certificate", 13},
        ErrorCase{"host => always guest", "expected =>, found the end", 20},
        ErrorCase{"host => always; 4294967296 => always", "too large", 16},
        ErrorCase{"=> always", "expected anchor, certificate", 0}));

// A chain of operators may be as deep as a tree; nesting in the text less so.
TEST(CompilerTest, DepthIsLimited) {
  const auto compiles = [](const std::string& text) {
    return CompileRequirement(text).status();
  };
  const auto open = [](size_t count) { return std::string(count, '('); };
  const auto close = [](size_t count) { return std::string(count, ')'); };
  std::string chain = "always";
  for (int i = 1; i < 999; ++i) chain += " or always";
  EXPECT_THAT(compiles(chain), IsOk());
  EXPECT_THAT(compiles(open(1) + chain + close(1)), IsOk());
  EXPECT_THAT(compiles(chain + " or always"),
              HasReason(v1::REASON_REQUIREMENT_SYNTAX));
  EXPECT_THAT(compiles("!(" + chain + ")"),
              HasReason(v1::REASON_REQUIREMENT_SYNTAX));

  EXPECT_THAT(compiles(open(199) + "always" + close(199)), IsOk());
  EXPECT_THAT(compiles(open(200) + "always" + close(200)),
              HasReason(v1::REASON_REQUIREMENT_SYNTAX));
  EXPECT_THAT(compiles(open(100000) + "always"),
              HasReason(v1::REASON_REQUIREMENT_SYNTAX));
  EXPECT_THAT(compiles(std::string(100000, '!') + "always"),
              HasReason(v1::REASON_REQUIREMENT_SYNTAX));
}

TEST(CompilerTest, WhatCompilesParses) {
  std::string chain = "always";
  for (int i = 1; i < 999; ++i) chain += " and always";
  const absl::StatusOr<Bytes> blob = CompileRequirementBlob(chain);
  ASSERT_THAT(blob, IsOk());
  EXPECT_THAT(ParseRequirement(*blob), IsOk());
}

TEST(CompilerTest, CertificateFileBecomesItsSha1) {
  std::string asked;
  const CertificateLoader loader =
      [&](const std::string& path) -> absl::StatusOr<Bytes> {
    asked = path;
    return ToBytes("abc");
  };
  const absl::StatusOr<RequirementExpression> expression =
      CompileRequirement("anchor = /certs/root", loader);
  ASSERT_THAT(expression, IsOk());
  EXPECT_EQ(asked, "/certs/root");
  EXPECT_EQ(DumpRequirement(*expression),
            "certificate root = "
            "H\"a9993e364706816aba3e25717850c26c9cd0d89d\"");
  EXPECT_THAT(CompileRequirement("certificate leaf \"a b.cer\"", loader),
              IsOk());
  EXPECT_EQ(asked, "a b.cer");
  const CertificateLoader broken = [](const std::string&) {
    return absl::StatusOr<Bytes>(absl::NotFoundError("gone"));
  };
  EXPECT_THAT(CompileRequirement("anchor = /certs/root", broken),
              HasMessage("gone"));
}

TEST(CompilerTest, TimesWithZones) {
  const auto at = [](const std::string& time) {
    const absl::StatusOr<RequirementExpression> expression =
        CompileRequirement("info[x] = timestamp \"" + time + "\"");
    return expression.ok() ? expression->match.at : -1;
  };
  EXPECT_EQ(at("20010101000000Z"), 0);
  EXPECT_EQ(at("20010101010000+0100"), 0);
  EXPECT_EQ(at("20001231233000-0030"), 0);
  EXPECT_EQ(at("20240229000000Z"), 730857600);
  EXPECT_EQ(at("20230229000000Z"), -1);
  EXPECT_EQ(at("20230101000000X"), -1);
}

TEST(CompilerTest, SelfIsTheIdentifier) {
  EXPECT_EQ(SubstituteSelf("identifier \"$self.identifier\" or identifier "
                           "$self.identifier",
                           "com.x"),
            "identifier \"com.x\" or identifier com.x");
  EXPECT_EQ(SubstituteSelf("$self.identifier", "$self.identifier"),
            "$self.identifier");
  EXPECT_EQ(SubstituteSelf("always", "x"), "always");
}

}  // namespace
}  // namespace codeseal
