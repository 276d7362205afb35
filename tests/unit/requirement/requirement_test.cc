#include "codesign/requirement/requirement.h"

#include <ostream>
#include <vector>

#include "codesign/base/endian.h"
#include "codesign/requirement/compiler.h"
#include "codesign/super_blob.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;

// A requirement blob around words given by hand.
Bytes Blob(const std::vector<uint32_t>& words) {
  BigEndianWriter out;
  out.U32(1);  // an expression
  for (const uint32_t word : words) out.U32(word);
  return WrapBlob(kRequirementMagic, std::move(out).Take());
}

std::string Dump(const Bytes& blob) {
  const absl::StatusOr<std::string> text = DumpRequirementBlob(blob);
  return text.ok() ? *text : "error: " + std::string(Message(text.status()));
}

// The text must compile to the words, and the words must read back as `dump`.
struct Case {
  const char* text;
  std::vector<uint32_t> words;
  const char* dump;
};

void PrintTo(const Case& each, std::ostream* out) { *out << each.text; }

class RequirementFormTest : public ::testing::TestWithParam<Case> {};

TEST_P(RequirementFormTest, TextAndBytesAgree) {
  const Bytes blob = Blob(GetParam().words);
  const absl::StatusOr<Bytes> compiled =
      CompileRequirementBlob(GetParam().text);
  ASSERT_THAT(compiled, IsOk());
  EXPECT_EQ(HexEncode(*compiled), HexEncode(blob));
  EXPECT_EQ(Dump(blob), GetParam().dump);
  const absl::StatusOr<RequirementExpression> parsed = ParseRequirement(blob);
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(BuildRequirement(*parsed), blob);
}

constexpr uint32_t kAbcd = 0x61626364;
// "0102...14" as a hash.
#define HASH_TEXT "H\"0102030405060708090a0b0c0d0e0f1011121314\""
#define HASH_WORDS \
  20, 0x01020304, 0x05060708, 0x090a0b0c, 0x0d0e0f10, 0x11121314
// 1.2.840.113635.100.6.2.6
#define OID_WORDS 10, 0x2a864886, 0xf7636406, 0x02060000

INSTANTIATE_TEST_SUITE_P(
    Ops, RequirementFormTest,
    ::testing::Values(
        Case{"never", {0}, "never"}, Case{"false", {0}, "never"},
        Case{"always", {1}, "always"}, Case{"true", {1}, "always"},
        Case{"identifier abcd", {2, 4, kAbcd}, "identifier abcd"},
        Case{"identifier = \"abcd\"", {2, 4, kAbcd}, "identifier abcd"},
        Case{"anchor apple", {3}, "anchor apple"},
        Case{"certificate leaf = " HASH_TEXT,
             {4, 0, HASH_WORDS},
             "certificate leaf = " HASH_TEXT},
        Case{"anchor " HASH_TEXT,
             {4, 0xffffffff, HASH_WORDS},
             "certificate root = " HASH_TEXT},
        Case{"cert 2 == " HASH_TEXT,
             {4, 2, HASH_WORDS},
             "certificate 2 = " HASH_TEXT},
        Case{"certificate -2 = " HASH_TEXT,
             {4, 0xfffffffe, HASH_WORDS},
             "certificate -2 = " HASH_TEXT},
        Case{"anchor apple and never", {6, 3, 0}, "anchor apple and never"},
        Case{"always or never", {7, 1, 0}, "always or never"},
        Case{"cdhash " HASH_TEXT, {8, HASH_WORDS}, "cdhash " HASH_TEXT},
        Case{"! always", {9, 1}, "! always"},
        Case{"info[abcd] exists", {10, 4, kAbcd, 0}, "info[abcd] /* exists */"},
        Case{"info[abcd] absent", {10, 4, kAbcd, 14}, "info[abcd] absent "},
        Case{"info[abcd] = abcd",
             {10, 4, kAbcd, 1, 4, kAbcd},
             "info[abcd] = abcd"},
        Case{"info[abcd] ~ abcd",
             {10, 4, kAbcd, 2, 4, kAbcd},
             "info[abcd] ~ abcd"},
        Case{"info[abcd] = *abcd*",
             {10, 4, kAbcd, 2, 4, kAbcd},
             "info[abcd] ~ abcd"},
        Case{"info[abcd] = abcd*",
             {10, 4, kAbcd, 3, 4, kAbcd},
             "info[abcd] = abcd*"},
        Case{"info[abcd] = *abcd",
             {10, 4, kAbcd, 4, 4, kAbcd},
             "info[abcd] = *abcd"},
        Case{"info[abcd] < abcd",
             {10, 4, kAbcd, 5, 4, kAbcd},
             "info[abcd] < abcd"},
        Case{"info[abcd] > abcd",
             {10, 4, kAbcd, 6, 4, kAbcd},
             "info[abcd] > abcd"},
        Case{"info[abcd] <= abcd",
             {10, 4, kAbcd, 7, 4, kAbcd},
             "info[abcd] <= abcd"},
        Case{"info[abcd] >= 0x00",
             {10, 4, kAbcd, 8, 1, 0},
             "info[abcd] >= 0x00"},
        Case{"certificate leaf[subject.CN] = abcd",
             {11, 0, 10, 0x7375626a, 0x6563742e, 0x434e0000, 1, 4, kAbcd},
             "certificate leaf[subject.CN] = abcd"},
        Case{"certificate 1 trusted", {12, 1}, "certificate 1trusted"},
        Case{"anchor trusted", {13}, "anchor trusted"},
        Case{"cert trusted", {13}, "anchor trusted"},
        Case{"certificate 1[field.1.2.840.113635.100.6.2.6]",
             {14, 1, OID_WORDS, 0},
             "certificate 1[field.1.2.840.113635.100.6.2.6] /* exists */"},
        Case{"certificate 1[extension.1.2.840.113635.100.6.2.6] exists",
             {14, 1, OID_WORDS, 0},
             "certificate 1[field.1.2.840.113635.100.6.2.6] /* exists */"},
        Case{"anchor apple generic", {15}, "anchor apple generic"},
        Case{"anchor generic apple", {15}, "anchor apple generic"},
        Case{"entitlement[\"a.b-\"]",
             {16, 4, 0x612e622d, 0},
             "entitlement[\"a.b-\"] /* exists */"},
        Case{"anchor[policy.1.2.840.113635.100.6.2.6] absent",
             {17, 0xffffffff, OID_WORDS, 14},
             "certificate root[policy.1.2.840.113635.100.6.2.6] absent "},
        Case{"anchor apple abcd", {18, 4, kAbcd}, "anchor apple abcd"},
        Case{"(abcd)", {19, 4, kAbcd}, "(abcd)"},
        Case{"platform = 13", {20, 13}, "platform = 13"},
        Case{"notarized", {21}, "notarized"},
        Case{"certificate leaf[timestamp.1.2.840.113635.100.6.2.6] < "
             "timestamp \"20190408000000Z\"",
             {22, 0, OID_WORDS, 10, 0, 0x225ac680},
             "certificate leaf[timestamp.1.2.840.113635.100.6.2.6] < "
             "timestamp \"20190408000000Z\""},
        Case{"legacy", {23}, "legacy"}));

// From Apple's documentation of csreq.
TEST(RequirementTest, AnchorAppleIsTheKnownBlob) {
  EXPECT_EQ(HexEncode(*CompileRequirementBlob("anchor apple")),
            "fade0c00000000100000000100000003");
}

TEST(RequirementTest, ChainsJoinToTheLeft) {
  EXPECT_EQ(*CompileRequirementBlob("always or never or always"),
            Blob({7, 7, 1, 0, 1}));
  EXPECT_EQ(*CompileRequirementBlob("always or never and always"),
            Blob({7, 1, 6, 0, 1}));
  EXPECT_EQ(*CompileRequirementBlob("! always and never"), Blob({6, 9, 1, 0}));
}

// Nesting is visible only where precedence demands it.
TEST(RequirementTest, ParenthesesWherePrecedenceNeedsThem) {
  EXPECT_EQ(Dump(Blob({6, 7, 1, 0, 1})), "(always or never) and always");
  EXPECT_EQ(Dump(Blob({6, 1, 6, 0, 1})), "always and never and always");
  EXPECT_EQ(Dump(Blob({7, 6, 1, 0, 1})), "always and never or always");
  EXPECT_EQ(Dump(Blob({9, 6, 1, 0})), "! (always and never)");
  EXPECT_EQ(Dump(Blob({9, 7, 1, 0})), "! (always or never)");
}

std::string DumpIdentifier(std::string_view identifier) {
  RequirementExpression expression;
  expression.op = RequirementOp::kIdentifier;
  expression.key = ToBytes(identifier);
  return DumpRequirement(expression).substr(sizeof("identifier ") - 1);
}

TEST(RequirementTest, QuotesAsApplesToolsDo) {
  EXPECT_EQ(DumpIdentifier("ABCDE12345"), "ABCDE12345");
  EXPECT_EQ(DumpIdentifier("2ABCDE1234"), "\"2ABCDE1234\"");
  EXPECT_EQ(DumpIdentifier("com.x.y"), "\"com.x.y\"");
  EXPECT_EQ(DumpIdentifier("term-size"), "\"term-size\"");
  EXPECT_EQ(DumpIdentifier("apple"), "\"apple\"");
  EXPECT_EQ(DumpIdentifier("app"), "app");
  EXPECT_EQ(DumpIdentifier("Apple"), "Apple");
  EXPECT_EQ(DumpIdentifier("a\"b\\c"), "\"a\\\"b\\\\c\"");
  EXPECT_EQ(DumpIdentifier("a\tb"), "\"a\tb\"");
  EXPECT_EQ(DumpIdentifier(""), "\"\"");
  EXPECT_EQ(DumpIdentifier("M\xc3\xbcller"), "0x4dc3bc6c6c6572");
  EXPECT_EQ(DumpIdentifier(std::string_view("a\0", 2)), "0x6100");
  EXPECT_EQ(DumpIdentifier(std::string(300, 'a')), std::string(255, 'a'));
  EXPECT_EQ(DumpIdentifier(std::string(300, '-')).size(), 302u);
}

TEST(RequirementTest, KeysMayHaveDotsWithoutQuotes) {
  EXPECT_EQ(Dump(*CompileRequirementBlob("entitlement[com.apple.x] exists")),
            "entitlement[com.apple.x] /* exists */");
  EXPECT_EQ(Dump(*CompileRequirementBlob("info[\"apple\"]")),
            "info[\"apple\"] /* exists */");
}

TEST(RequirementTest, LegacyInfoValueReads) {
  EXPECT_EQ(Dump(Blob({5, 4, kAbcd, 4, kAbcd})), "info[abcd] = abcd");
}

// Opcodes of the future that say what to do with them. Their data is not
// padded.
TEST(RequirementTest, UnknownOpcodesThatSayTheyMayBeIgnored) {
  Bytes skipped = Blob({0x40000063, 1});
  skipped.insert(skipped.end(), {0x7f, 0, 0, 0, 3});
  StoreU32(skipped, 4, static_cast<uint32_t>(skipped.size()), ByteOrder::kBig);
  EXPECT_EQ(Dump(skipped), "/* opcode 99 */ anchor apple");
  EXPECT_EQ(BuildRequirement(*ParseRequirement(skipped)), skipped);
  const Bytes is_false = Blob({0x80000063, 4, kAbcd});
  EXPECT_EQ(Dump(is_false), "false /* opcode 99 */");
  EXPECT_EQ(BuildRequirement(*ParseRequirement(is_false)), is_false);
  // Flags on a known opcode mean nothing, but stay.
  EXPECT_EQ(Dump(Blob({0x80000003})), "anchor apple");
  EXPECT_EQ(BuildRequirement(*ParseRequirement(Blob({0x80000003}))),
            Blob({0x80000003}));
}

TEST(RequirementTest, RejectsEveryTruncation) {
  const Bytes blob = *CompileRequirementBlob(
      "identifier \"a.b\" and certificate leaf[subject.CN] = abcd and "
      "certificate 1[field.1.2.3] exists and cdhash " HASH_TEXT);
  ASSERT_THAT(ParseRequirement(blob), IsOk());
  for (size_t size = 0; size < blob.size(); ++size) {
    Bytes cut(blob.begin(), blob.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(ParseRequirement(cut).ok()) << size;
    if (size < 12) continue;
    // The same with a length that fits.
    StoreU32(cut, 4, static_cast<uint32_t>(size), ByteOrder::kBig);
    EXPECT_FALSE(ParseRequirement(cut).ok()) << size;
  }
}

TEST(RequirementTest, HugeNumbersInEveryWord) {
  const Bytes good = Blob({6, 10, 4, kAbcd, 1, 4, kAbcd, 4, 0, HASH_WORDS});
  ASSERT_THAT(ParseRequirement(good), IsOk());
  int refused_count = 0;
  for (size_t offset = 0; offset < good.size(); offset += 4) {
    Bytes blob = good;
    StoreU32(blob, offset, 0xffffffff, ByteOrder::kBig);
    if (!ParseRequirement(blob).ok()) ++refused_count;
  }
  EXPECT_GE(refused_count, 9);
}

struct RuleCase {
  const char* rule;
  std::vector<uint32_t> words;
  uint64_t byte_offset;
};

void PrintTo(const RuleCase& each, std::ostream* out) { *out << each.rule; }

class RequirementRuleTest : public ::testing::TestWithParam<RuleCase> {};

TEST_P(RequirementRuleTest, IsReported) {
  const absl::StatusOr<RequirementExpression> parsed =
      ParseRequirement(Blob(GetParam().words));
  ASSERT_THAT(parsed, HasReason(v1::REASON_BAD_REQUIREMENT));
  EXPECT_EQ(GetErrorDetail(parsed.status())->rule(), GetParam().rule);
  EXPECT_EQ(GetErrorDetail(parsed.status())->byte_offset(),
            GetParam().byte_offset);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, RequirementRuleTest,
    ::testing::Values(RuleCase{"RQ-1", {2, 5, kAbcd}, 16},
                      RuleCase{"RQ-1", {2, 0xffffffff, kAbcd}, 16},
                      RuleCase{"RQ-1", {0x80000063, 5, kAbcd}, 16},
                      RuleCase{"RQ-2", {8, 4, kAbcd}, 16},
                      RuleCase{"RQ-3", {24}, 12}, RuleCase{"RQ-5", {6, 1}, 20},
                      RuleCase{"RQ-6", {20}, 12},
                      RuleCase{"RQ-6", {10, 4, kAbcd}, 12},
                      RuleCase{"RQ-7", {3, 3}, 16}));

TEST(RequirementTest, RQ4_NestedTooDeep) {
  const auto nested = [](size_t depth) {
    RequirementExpression expression;
    expression.op = RequirementOp::kTrue;
    for (size_t level = 1; level < depth; ++level) {
      RequirementExpression negation;
      negation.op = RequirementOp::kNot;
      negation.operands.push_back(std::move(expression));
      expression = std::move(negation);
    }
    return BuildRequirement(expression);
  };
  EXPECT_THAT(ParseRequirement(nested(kMaxRequirementDepth)), IsOk());
  const absl::StatusOr<RequirementExpression> parsed =
      ParseRequirement(nested(kMaxRequirementDepth + 1));
  ASSERT_THAT(parsed, HasReason(v1::REASON_BAD_REQUIREMENT));
  EXPECT_EQ(GetErrorDetail(parsed.status())->rule(), "RQ-4");
}

TEST(RequirementTest, OtherFormsAreRefused) {
  Bytes blob = Blob({3});
  blob[11] = 2;  // a lightweight code requirement
  EXPECT_THAT(ParseRequirement(blob),
              HasReason(v1::REASON_UNSUPPORTED_VERSION));
}

// ---- Sets

TEST(RequirementSetTest, CompilesBuildsAndDumps) {
  const absl::StatusOr<Bytes> blob = CompileRequirementBlob(
      "library => anchor apple; designated => identifier x\n  // comment\n"
      "host => never; 77 => always");
  ASSERT_THAT(blob, IsOk());
  EXPECT_EQ(Dump(*blob),
            "host => never\n"
            "designated => identifier x\n"
            "library => anchor apple\n"
            "/*unknown type*/ 77 => always\n");
  const absl::StatusOr<RequirementSet> set = ParseRequirementSet(*blob);
  ASSERT_THAT(set, IsOk());
  EXPECT_EQ(set->at(kLibraryRequirement), Blob({3}));
  EXPECT_EQ(BuildRequirementSet(*set), *blob);
}

TEST(RequirementSetTest, EmptySet) {
  const Bytes empty = BuildRequirementSet({});
  EXPECT_EQ(HexEncode(empty), "fade0c010000000c00000000");
  EXPECT_TRUE(ParseRequirementSet(empty)->empty());
  EXPECT_EQ(Dump(empty), "");
}

TEST(RequirementSetTest, EveryRequirementMustParse) {
  Bytes broken = BuildRequirementSet({{kDesignatedRequirement, Blob({3})}});
  broken.back() = 24;  // no such opcode
  const absl::StatusOr<RequirementSet> set = ParseRequirementSet(broken);
  ASSERT_THAT(set, HasReason(v1::REASON_BAD_REQUIREMENT));
  EXPECT_EQ(GetErrorDetail(set.status())->byte_offset(), 20u + 12u);
  EXPECT_THAT(DumpRequirementBlob(broken),
              HasReason(v1::REASON_BAD_REQUIREMENT));
  broken.push_back(0);
  EXPECT_THAT(ParseRequirementSet(broken),
              HasReason(v1::REASON_BLOB_LENGTH_OUT_OF_RANGE));
}

}  // namespace
}  // namespace codeseal
