#include "codesign/code_directory.h"

#include <algorithm>
#include <ostream>

#include "codesign/base/endian.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::testing::Each;

// The smallest valid blob, laid out by hand so that our own writer is never
// the oracle: header, "a\0", one special slot, two code slots; SHA-256, 4 KiB.
Bytes MinimalBlob() {
  Bytes blob = {
      0xfa, 0xde, 0x0c, 0x02, 0,   0, 0, 142,  // magic, length
      0,    2,    0,    1,    0,   0, 0, 0,    // version, flags
      0,    0,    0,    78,   0,   0, 0, 44,   // hashOffset, identOffset
      0,    0,    0,    1,    0,   0, 0, 2,    // nSpecialSlots, nCodeSlots
      0,    0,    0x20, 0,    32,  2, 0, 12,   // codeLimit, hashSize, hashType
      0,    0,    0,    0,    'a', 0};         // spare2, identifier
  blob.resize(78, 0x11);                       // special slot 1
  blob.resize(110, 0x22);                      // code slot 0
  blob.resize(142, 0x33);                      // code slot 1
  return blob;
}

// Version 0x20500 with every field: SHA-1, one page for all, team "T",
// pre-encrypt digest.
Bytes FullBlob() {
  Bytes blob = {
      0xfa, 0xde, 0x0c, 0x02, 0,  0, 0,    160,  // magic, length
      0,    2,    5,    0,    0,  1, 0,    0,    // version, flags
      0,    0,    0,    140,  0,  0, 0,    96,   // hashOffset, identOffset
      0,    0,    0,    1,    0,  0, 0,    1,    // nSpecialSlots, nCodeSlots
      0xff, 0xff, 0xff, 0xff, 20, 1, 7,    0,    // codeLimit ... pageSize
      0,    0,    0,    0,    0,  0, 0,    0,    // spare2, scatterOffset
      0,    0,    0,    98,   0,  0, 0,    0,    // teamOffset, spare3
      0,    0,    0,    1,    0,  0, 0,    2,    // codeLimit64
      0,    0,    0,    0,    0,  0, 0x40, 0,    // execSegBase
      0,    0,    0,    0,    0,  0, 0x80, 0,    // execSegLimit
      0,    0,    0,    0,    0,  0, 0,    1,    // execSegFlags
      0,    10,   14,   0,    0,  0, 0,    100,  // runtime, preEncryptOffset
      'b',  0,    'T',  0};
  blob.resize(120, 0x44);  // pre-encrypt slot 0
  blob.resize(140, 0x11);  // special slot 1
  blob.resize(160, 0x22);  // code slot 0
  return blob;
}

TEST(CodeDirectoryTest, ReadsEveryFieldOfMinimalBlob) {
  const Bytes blob = MinimalBlob();
  const absl::StatusOr<CodeDirectory> directory = CodeDirectory::Parse(blob);
  ASSERT_THAT(directory, IsOk());
  EXPECT_EQ(directory->version(), 0x20001u);
  EXPECT_EQ(directory->identifier(), "a");
  EXPECT_EQ(directory->team_identifier(), "");
  EXPECT_EQ(directory->digest_kind(), DigestKind::kSha256);
  EXPECT_EQ(directory->page_size(), 4096u);
  EXPECT_EQ(directory->code_limit(), 0x2000u);
  EXPECT_EQ(directory->exec_segment().size, 0u);
  EXPECT_EQ(directory->raw().size(), 142u);
  EXPECT_EQ(directory->code_slots().size(), 64u);
  EXPECT_TRUE(directory->pre_encrypt_slots().empty());
  EXPECT_THAT(*directory->SpecialSlotDigest(kInfoPlistSlot), Each(0x11));
  EXPECT_FALSE(directory->SpecialSlotDigest(kEntitlementsSlot));
  EXPECT_FALSE(directory->SpecialSlotDigest(0));
  EXPECT_THAT(*directory->CodeSlotDigest(1), Each(0x33));
  EXPECT_FALSE(directory->CodeSlotDigest(2));
}

TEST(CodeDirectoryTest, ReadsEveryFieldOfFullBlob) {
  const Bytes blob = FullBlob();
  const absl::StatusOr<CodeDirectory> directory = CodeDirectory::Parse(blob);
  ASSERT_THAT(directory, IsOk());
  EXPECT_EQ(directory->version(), 0x20500u);
  EXPECT_TRUE(directory->HasFlag(kRuntimeFlag));
  EXPECT_FALSE(directory->HasFlag(kAdHocFlag));
  EXPECT_EQ(directory->identifier(), "b");
  EXPECT_EQ(directory->team_identifier(), "T");
  EXPECT_EQ(directory->digest_kind(), DigestKind::kSha1);
  EXPECT_EQ(directory->platform(), 7u);
  EXPECT_EQ(directory->page_size(), 0u);
  EXPECT_EQ(directory->code_limit(), 0x100000002u);
  EXPECT_EQ(directory->exec_segment().offset, 0x4000u);
  EXPECT_EQ(directory->exec_segment().size, 0x8000u);
  EXPECT_EQ(directory->exec_segment().flags, 1u);
  EXPECT_EQ(directory->runtime_version(), 0x000a0e00u);
  EXPECT_THAT(directory->pre_encrypt_slots(), Each(0x44));
  EXPECT_EQ(directory->pre_encrypt_slots().size(), 20u);
}

TEST(CodeDirectoryTest, BytesBehindTheBlobAreIgnored) {
  Bytes blob = MinimalBlob();
  blob.push_back(0xff);
  const absl::StatusOr<CodeDirectory> directory = CodeDirectory::Parse(blob);
  ASSERT_THAT(directory, IsOk());
  EXPECT_EQ(directory->raw().size(), 142u);
}

TEST(CodeDirectoryTest, RejectsEveryTruncation) {
  for (const Bytes& blob : {MinimalBlob(), FullBlob()}) {
    for (size_t size = 0; size < blob.size(); ++size) {
      EXPECT_FALSE(CodeDirectory::Parse(ByteView(blob).first(size)).ok())
          << size;
    }
  }
}

// Huge numbers in every 32-bit word of the header: whatever is accepted has
// its views inside the blob.
TEST(CodeDirectoryTest, HugeHeaderFieldsStayInside) {
  int accepted_count = 0;
  for (const Bytes& good : {MinimalBlob(), FullBlob()}) {
    for (size_t offset = 0; offset < 96; offset += 4) {
      for (const uint32_t value : {0xffffffffu, 0x80000000u, 0x01000000u}) {
        Bytes blob = good;
        StoreU32(blob, offset, value, ByteOrder::kBig);
        const absl::StatusOr<CodeDirectory> directory =
            CodeDirectory::Parse(blob);
        if (!directory.ok()) continue;
        ++accepted_count;
        EXPECT_LE(directory->code_slots().size(), 64u);
        EXPECT_LT(directory->identifier().size(), blob.size());
        EXPECT_LE(directory->special_slot_count(), 2u);
      }
    }
  }
  EXPECT_GT(accepted_count, 0);  // flags, for one
}

struct RuleCase {
  const char* name;
  bool full;  // FullBlob() instead of MinimalBlob()
  size_t offset;
  uint8_t value;
  const char* rule;
  Reason reason;
};

void PrintTo(const RuleCase& each, std::ostream* out) { *out << each.rule; }

class CodeDirectoryRuleTest : public ::testing::TestWithParam<RuleCase> {};

TEST_P(CodeDirectoryRuleTest, OneBadByteIsReportedByRule) {
  Bytes blob = GetParam().full ? FullBlob() : MinimalBlob();
  blob[GetParam().offset] = GetParam().value;
  const absl::StatusOr<CodeDirectory> directory = CodeDirectory::Parse(blob);
  ASSERT_THAT(directory, HasReason(GetParam().reason));
  EXPECT_EQ(GetErrorDetail(directory.status())->rule(), GetParam().rule);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, CodeDirectoryRuleTest,
    ::testing::Values(
        RuleCase{"Magic", false, 3, 0xc0, "CD-2", v1::REASON_BAD_MAGIC},
        RuleCase{"OldVersion", false, 11, 0, "CD-3",
                 v1::REASON_UNSUPPORTED_VERSION},
        RuleCase{"NewVersion", false, 9, 3, "CD-3",
                 v1::REASON_UNSUPPORTED_VERSION},
        RuleCase{"Length", false, 4, 0xff, "CD-4",
                 v1::REASON_BLOB_LENGTH_OUT_OF_RANGE},
        RuleCase{"LengthBelowHeader", true, 7, 95, "CD-4",
                 v1::REASON_BLOB_LENGTH_OUT_OF_RANGE},
        RuleCase{"PageSize", false, 39, 13, "CD-5",
                 v1::REASON_UNSUPPORTED_PAGE_SIZE},
        RuleCase{"HashSize", false, 36, 20, "CD-6",
                 v1::REASON_UNSUPPORTED_DIGEST},
        RuleCase{"HashType", false, 37, 9, "CD-6",
                 v1::REASON_UNSUPPORTED_DIGEST},
        RuleCase{"SpecialSlots", false, 24, 0xff, "CD-7",
                 v1::REASON_SLOT_TABLE_OUT_OF_RANGE},
        RuleCase{"CodeSlots", false, 28, 0xff, "CD-7",
                 v1::REASON_SLOT_TABLE_OUT_OF_RANGE},
        RuleCase{"HashOffset", false, 16, 0xff, "CD-7",
                 v1::REASON_SLOT_TABLE_OUT_OF_RANGE},
        RuleCase{"EmptyIdentifier", false, 44, 0, "CD-8",
                 v1::REASON_BAD_IDENTIFIER},
        RuleCase{"IdentOffset", false, 20, 0xff, "CD-8",
                 v1::REASON_BAD_IDENTIFIER},
        RuleCase{"IdentInHeader", false, 23, 36, "CD-8",
                 v1::REASON_BAD_IDENTIFIER},
        RuleCase{"Scatter", true, 47, 96, "CD-9", v1::REASON_UNSUPPORTED_CODE},
        RuleCase{"TeamOffset", true, 48, 0xff, "CD-10",
                 v1::REASON_BAD_TEAM_IDENTIFIER},
        RuleCase{"TeamNotTerminated", true, 51, 141, "CD-10",
                 v1::REASON_BAD_TEAM_IDENTIFIER},
        RuleCase{"TooFewSlots", false, 34, 0x30, "CD-11",
                 v1::REASON_CODE_LIMIT_MISMATCH},
        RuleCase{"TooManySlots", false, 34, 0x10, "CD-11",
                 v1::REASON_CODE_LIMIT_MISMATCH},
        RuleCase{"PreEncryptOffset", true, 92, 0xff, "CD-12",
                 v1::REASON_SLOT_TABLE_OUT_OF_RANGE},
        RuleCase{"PreEncryptByOne", true, 95, 141, "CD-12",
                 v1::REASON_SLOT_TABLE_OUT_OF_RANGE}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(CodeDirectoryTest, CD1_HeaderCutShort) {
  const Bytes blob = MinimalBlob();
  const absl::StatusOr<CodeDirectory> directory =
      CodeDirectory::Parse(ByteView(blob).first(43));
  ASSERT_THAT(directory, HasReason(v1::REASON_TRUNCATED));
  EXPECT_EQ(GetErrorDetail(directory.status())->rule(), "CD-1");
}

TEST(CodeDirectoryTest, CD11_PagesNeedCode) {
  Bytes blob = MinimalBlob();
  blob[34] = 0;  // codeLimit 0
  blob[31] = 0;  // no code slot
  EXPECT_THAT(CodeDirectory::Parse(blob),
              HasReason(v1::REASON_CODE_LIMIT_MISMATCH));
}

TEST(CodeDirectoryTest, ZeroSlotSealsNothing) {
  Bytes blob = MinimalBlob();
  EXPECT_TRUE(CodeDirectory::Parse(blob)->SealsSpecialSlot(1));
  std::fill(blob.begin() + 46, blob.begin() + 78, uint8_t{0});
  EXPECT_FALSE(CodeDirectory::Parse(blob)->SealsSpecialSlot(1));
  EXPECT_FALSE(CodeDirectory::Parse(blob)->SealsSpecialSlot(2));
}

TEST(CodeDirectoryTest, NamesTheFieldAtAnOffset) {
  const Bytes blob = FullBlob();
  const CodeDirectory directory = *CodeDirectory::Parse(blob);
  EXPECT_EQ(directory.DescribeOffset(0), "magic");
  EXPECT_EQ(directory.DescribeOffset(39), "pageSize");
  EXPECT_EQ(directory.DescribeOffset(79), "execSegLimit");
  EXPECT_EQ(directory.DescribeOffset(95), "preEncryptOffset");
  EXPECT_EQ(directory.DescribeOffset(97), "identifier");
  EXPECT_EQ(directory.DescribeOffset(98), "teamIdentifier");
  EXPECT_EQ(directory.DescribeOffset(119), "preEncryptSlot 0");
  EXPECT_EQ(directory.DescribeOffset(120), "specialSlot -1");
  EXPECT_EQ(directory.DescribeOffset(159), "codeSlot 0");
  EXPECT_EQ(directory.DescribeOffset(160), "past the end");
  const Bytes small = MinimalBlob();
  EXPECT_EQ(CodeDirectory::Parse(small)->DescribeOffset(44), "identifier");
  EXPECT_EQ(CodeDirectory::Parse(small)->DescribeOffset(141), "codeSlot 1");
}

TEST(CodeDirectoryTest, BestDigestIsApplesOrder) {
  using enum DigestKind;
  const DigestKind all[] = {kSha1, kSha256, kSha256Truncated, kSha384};
  EXPECT_EQ(BestDigest(all), kSha384);
  EXPECT_EQ(BestDigest(std::span(all).first(3)), kSha256);
  EXPECT_EQ(BestDigest(std::span(all).first(1)), kSha1);
}

// ---- Building

CodeDirectoryFields FullFields() {
  CodeDirectoryFields fields;
  fields.identifier = "b";
  fields.team_identifier = "T";
  fields.flags = kRuntimeFlag;
  fields.digest_kind = DigestKind::kSha1;
  fields.platform = 7;
  fields.code_limit = 0x100000002;
  fields.exec_segment = {0x4000, 0x8000, 1};
  fields.runtime_version = 0x000a0e00;
  fields.pre_encrypt = true;
  fields.special_slots[1] = Bytes(20, 0x11);
  return fields;
}

// With zeros for page digests.
Bytes Build(const CodeDirectoryFields& fields) {
  absl::StatusOr<CodeDirectoryBuilder> builder =
      CodeDirectoryBuilder::Create(fields);
  if (!builder.ok()) return {};
  return std::move(*builder).Build();
}

TEST(CodeDirectoryBuilderTest, BuildsTheBlobLaidOutByHand) {
  absl::StatusOr<CodeDirectoryBuilder> builder =
      CodeDirectoryBuilder::Create(FullFields());
  ASSERT_THAT(builder, IsOk());
  std::ranges::fill(builder->code_slots(), uint8_t{0x22});
  std::ranges::fill(builder->pre_encrypt_slots(), uint8_t{0x44});
  EXPECT_EQ(std::move(*builder).Build(), FullBlob());
}

TEST(CodeDirectoryBuilderTest, SlotsBelowTheHighestAreZero) {
  CodeDirectoryFields fields;
  fields.identifier = "x";
  fields.page_size = 16384;
  fields.code_limit = 16385;
  fields.special_slots[7] = Bytes(32, 0x77);
  fields.special_slots[2] = Bytes(32, 0x22);
  const Bytes blob = Build(fields);
  const absl::StatusOr<CodeDirectory> directory = CodeDirectory::Parse(blob);
  ASSERT_THAT(directory, IsOk());
  EXPECT_EQ(directory->version(), 0x20100u);
  EXPECT_EQ(directory->page_size(), 16384u);
  EXPECT_EQ(directory->code_slot_count(), 2u);
  EXPECT_EQ(directory->special_slot_count(), 7u);
  EXPECT_THAT(*directory->SpecialSlotDigest(7), Each(0x77));
  EXPECT_THAT(*directory->SpecialSlotDigest(2), Each(0x22));
  EXPECT_THAT(*directory->SpecialSlotDigest(5), Each(0));
}

TEST(CodeDirectoryBuilderTest, ChoosesTheLowestVersion) {
  CodeDirectoryFields fields;
  fields.identifier = "x";
  fields.code_limit = 1;
  const auto version = [&] {
    const Bytes blob = Build(fields);
    const absl::StatusOr<CodeDirectory> directory = CodeDirectory::Parse(blob);
    return directory.ok() ? directory->version() : 0;
  };
  EXPECT_EQ(version(), 0x20100u);
  fields.team_identifier = "T";
  EXPECT_EQ(version(), 0x20200u);
  fields.code_limit = 0x100000000;
  EXPECT_EQ(version(), 0x20300u);
  fields.exec_segment.size = 1;
  EXPECT_EQ(version(), 0x20400u);
  fields.runtime_version = 1;
  EXPECT_EQ(version(), 0x20500u);
}

TEST(CodeDirectoryBuilderTest, CodeLimit64OnlyWhenNeeded) {
  CodeDirectoryFields fields;
  fields.identifier = "x";
  fields.exec_segment.size = 1;
  fields.code_limit = 0xffffffff;
  Bytes blob = Build(fields);
  EXPECT_EQ(HexEncode(ByteView(blob).subspan(56, 8)), "0000000000000000");
  EXPECT_EQ(CodeDirectory::Parse(blob)->code_limit(), 0xffffffffu);
  fields.code_limit = 0x100000000;
  blob = Build(fields);
  EXPECT_EQ(HexEncode(ByteView(blob).subspan(32, 4)), "ffffffff");
  EXPECT_EQ(CodeDirectory::Parse(blob)->code_limit(), 0x100000000u);
}

TEST(CodeDirectoryBuilderTest, ReservesTheLongestHeader) {
  CodeDirectoryFields fields = FullFields();
  EXPECT_EQ(fields.ReservedSize(), FullBlob().size());
  fields.runtime_version = 0;
  fields.pre_encrypt = false;  // version 0x20400, 8 bytes shorter
  EXPECT_EQ(fields.ReservedSize(), Build(fields).size() + 8);
}

TEST(CodeDirectoryBuilderTest, RefusesWhatCannotBeWritten) {
  using Fields = CodeDirectoryFields;
  const auto refused = [](void (*change)(Fields&)) {
    Fields fields = FullFields();
    change(fields);
    return CodeDirectoryBuilder::Create(fields).status();
  };
  EXPECT_THAT(refused([](Fields& f) { f.identifier = ""; }),
              HasReason(v1::REASON_BAD_IDENTIFIER));
  EXPECT_THAT(refused([](Fields& f) { f.identifier = std::string("a\0b", 3); }),
              HasReason(v1::REASON_BAD_IDENTIFIER));
  EXPECT_THAT(
      refused([](Fields& f) { f.team_identifier = std::string("\0", 1); }),
      HasReason(v1::REASON_BAD_TEAM_IDENTIFIER));
  EXPECT_THAT(refused([](Fields& f) { f.digest_kind = DigestKind{9}; }),
              HasReason(v1::REASON_UNSUPPORTED_DIGEST));
  EXPECT_THAT(refused([](Fields& f) { f.page_size = 8192; }),
              HasReason(v1::REASON_UNSUPPORTED_PAGE_SIZE));
  EXPECT_THAT(refused([](Fields& f) { f.special_slots[2] = Bytes(32); }),
              HasReason(v1::REASON_UNSUPPORTED_DIGEST));
  EXPECT_THAT(refused([](Fields& f) { f.special_slots[12] = Bytes(20); }),
              HasReason(v1::REASON_UNSUPPORTED_DIGEST));
  EXPECT_THAT(refused([](Fields& f) {
                f.page_size = 4096;
                f.code_limit = ~uint64_t{0};
              }),
              HasReason(v1::REASON_FILE_TOO_BIG));
}

// ---- Flags

TEST(CodeDirectoryFlagsTest, ReadsWordsAbbreviationsAndNumbers) {
  EXPECT_EQ(*ParseCodeDirectoryFlags("runtime"), 0x10000u);
  EXPECT_EQ(*ParseCodeDirectoryFlags("ru,lib,k"), 0x12200u);
  EXPECT_EQ(*ParseCodeDirectoryFlags("hard,host"), 0x101u);
  EXPECT_EQ(*ParseCodeDirectoryFlags("0x10002"), 0x10002u);
  EXPECT_EQ(*ParseCodeDirectoryFlags("256"), 256u);
  EXPECT_EQ(*ParseCodeDirectoryFlags("010"), 8u);
  EXPECT_EQ(*ParseCodeDirectoryFlags("0"), 0u);
}

TEST(CodeDirectoryFlagsTest, RefusesWhatIsNotAFlag) {
  for (const char* text :
       {"", "h", "r", "adhoc", "runtimes", "runtime,", ",runtime", "0x",
        "0x1ffffffff", "08", "-1", "RUN"}) {
    EXPECT_THAT(ParseCodeDirectoryFlags(text), HasReason(v1::REASON_BAD_OPTION))
        << text;
  }
}

TEST(CodeDirectoryFlagsTest, PrintsApplesWords) {
  EXPECT_EQ(FormatCodeDirectoryFlags(0), "0x0(none)");
  EXPECT_EQ(FormatCodeDirectoryFlags(0x10002), "0x10002(adhoc,runtime)");
  EXPECT_EQ(FormatCodeDirectoryFlags(0x20002), "0x20002(adhoc,linker-signed)");
  EXPECT_EQ(FormatCodeDirectoryFlags(0x80000001), "0x80000001(host,?\?\?)");
  EXPECT_EQ(FormatCodeDirectoryFlags(0x4), "0x4(?\?\?)");
}

}  // namespace
}  // namespace codeseal
