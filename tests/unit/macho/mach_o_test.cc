#include "codesign/macho/mach_o.h"

#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "tests/support/mach_o_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildMachO;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::MachODescription;

// The smallest slice that says something, laid out by hand so that the builder
// is not the only witness: a 32-bit header and one LC_UUID.
Bytes MinimalSlice() {
  Bytes slice = {0xce, 0xfa, 0xed, 0xfe, 7,  0, 0, 0,   // magic, i386
                 3,    0,    0,    0,    2,  0, 0, 0,   // subtype, MH_EXECUTE
                 1,    0,    0,    0,    24, 0, 0, 0,   // ncmds, sizeofcmds
                 0,    0,    0,    0,                   // flags
                 0x1b, 0,    0,    0,    24, 0, 0, 0};  // LC_UUID
  slice.resize(slice.size() + 16, 0xab);
  return slice;
}

TEST(MachOTest, ReadsSliceLaidOutByHand) {
  const Bytes slice = MinimalSlice();
  const auto mach_o = MachO::Parse(slice);
  ASSERT_THAT(mach_o, IsOk());
  EXPECT_FALSE(mach_o->is_64_bit());
  EXPECT_EQ(mach_o->byte_order(), ByteOrder::kLittle);
  EXPECT_EQ(mach_o->architecture().Name(), "i386");
  EXPECT_TRUE(mach_o->is_main_executable());
  EXPECT_EQ(mach_o->load_commands_end(), 52u);
  ASSERT_TRUE(mach_o->uuid().has_value());
  EXPECT_EQ((*mach_o->uuid())[15], 0xab);
  EXPECT_EQ(mach_o->SigningLimit(), slice.size());
  EXPECT_TRUE(mach_o->Signature().empty());
}

struct Shape {
  const char* name;
  MachODescription description;
};

class MachOShapeTest : public ::testing::TestWithParam<Shape> {};

TEST_P(MachOShapeTest, ReadsEveryField) {
  MachODescription description = GetParam().description;
  description.info_plist = "<plist/>";
  description.uuid.emplace();
  description.uuid->fill(0x5a);
  description.signature = Bytes(48, 0xcd);
  const Bytes slice = BuildMachO(description);
  const auto mach_o = MachO::Parse(slice);
  ASSERT_THAT(mach_o, IsOk());

  EXPECT_EQ(mach_o->architecture(), description.architecture);
  EXPECT_EQ(mach_o->is_64_bit(), description.is_64_bit);
  EXPECT_EQ(mach_o->byte_order(), description.byte_order);
  EXPECT_EQ(mach_o->file_type(), description.file_type);
  ASSERT_EQ(mach_o->segments().size(), 2u);
  const MachO::Segment& text = mach_o->segments()[0];
  EXPECT_EQ(text.name, "__TEXT");
  EXPECT_EQ(text.file_offset, 0u);
  EXPECT_EQ(text.first_section_offset,
            mach_o->load_commands_end() + description.header_room);
  const MachO::Segment* linkedit = mach_o->FindSegment("__LINKEDIT");
  ASSERT_NE(linkedit, nullptr);
  EXPECT_EQ(linkedit->file_offset, text.file_size);
  EXPECT_EQ(linkedit->file_offset + linkedit->file_size, slice.size());
  EXPECT_EQ(linkedit->vm_size, 0x1000u);
  ASSERT_TRUE(mach_o->string_table().has_value());
  EXPECT_EQ(mach_o->string_table()->size, description.string_table_size);
  ASSERT_TRUE(mach_o->signature_command().has_value());
  EXPECT_EQ(mach_o->signature_command()->data_size, 48u);
  EXPECT_EQ(mach_o->SigningLimit(), slice.size() - 48);
  EXPECT_THAT(mach_o->Signature(), ::testing::Each(0xcd));
  ASSERT_TRUE(mach_o->version().has_value());
  EXPECT_EQ(mach_o->version()->platform, Platform::kMacOs);
  EXPECT_EQ(mach_o->version()->minimum_os, 0x0b0000u);
  EXPECT_EQ(mach_o->version()->sdk, 0x0e0000u);
  ASSERT_TRUE(mach_o->info_plist().has_value());
  EXPECT_EQ(AsText(*mach_o->info_plist()), "<plist/>");
  EXPECT_THAT(mach_o->CheckStrictStructure(), IsOk());
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, MachOShapeTest,
    ::testing::Values(
        Shape{"arm64", {}},
        Shape{"arm64e_dylib",
              {.architecture = testing::kArm64e,
               .file_type = MachOFileType::kDylib}},
        Shape{"x86_64_bundle",
              {.architecture = testing::kX86_64,
               .file_type = MachOFileType::kBundle}},
        Shape{"i386", {.architecture = testing::kI386, .is_64_bit = false}},
        Shape{"arm64_32",
              {.architecture = testing::kArm64_32, .is_64_bit = false}},
        Shape{"ppc_big_endian",
              {.architecture = testing::kPpc,
               .byte_order = ByteOrder::kBig,
               .is_64_bit = false}},
        Shape{"ppc64_big_endian",
              {.architecture = {CpuType::kPpc64, 0},
               .byte_order = ByteOrder::kBig}}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(MachOTest, RejectsEveryTruncation) {
  MachODescription description;
  description.signature = Bytes(48, 0xcd);
  const Bytes slice = BuildMachO(description);
  for (size_t size = 0; size < slice.size(); ++size) {
    EXPECT_FALSE(MachO::Parse(ByteView(slice).first(size)).ok()) << size;
  }
}

// Every 32-bit word of header and load commands becomes 2^32 - 1: an error or
// a slice whose ranges still lie inside; never a crash.
TEST(MachOTest, SurvivesLargestNumberInEveryField) {
  MachODescription description;
  description.signature = Bytes(48, 0xcd);
  description.info_plist = "<plist/>";
  const Bytes good = BuildMachO(description);
  const size_t end = MachO::Parse(good)->load_commands_end();
  size_t refused_count = 0;
  for (size_t at = 0; at + 4 <= end; at += 4) {
    Bytes slice = good;
    StoreU32(slice, at, UINT32_MAX, ByteOrder::kLittle);
    const auto mach_o = MachO::Parse(slice);
    if (!mach_o.ok()) {
      ++refused_count;
      EXPECT_NE(GetReason(mach_o.status()), v1::REASON_UNSPECIFIED) << at;
      continue;
    }
    EXPECT_LE(mach_o->SigningLimit(), slice.size()) << at;
    EXPECT_LE(mach_o->load_commands_end(), slice.size()) << at;
    for (const MachO::Segment& segment : mach_o->segments()) {
      EXPECT_LE(segment.file_size, slice.size()) << at;
      EXPECT_LE(segment.file_offset, slice.size() - segment.file_size) << at;
    }
  }
  EXPECT_GT(refused_count, 20u);
}

// Offsets in BuildMachO({}): header 32, __TEXT at 32 (152 bytes, its section
// at 104), __LINKEDIT at 184 (72), LC_SYMTAB at 256 (24), LC_BUILD_VERSION at
// 280 (24), LC_CODE_SIGNATURE at 304 (16), end 320.
// "MO-4" of "MO4_CommandTooLong".
std::string RuleOf(const std::string& name) {
  const std::string id = name.substr(0, name.find('_'));
  return id.substr(0, 2) + "-" + id.substr(2);
}

struct RuleCase {
  const char* rule;
  size_t offset;
  uint32_t value;
  Reason reason;
};

class MachORuleTest : public ::testing::TestWithParam<RuleCase> {};

TEST_P(MachORuleTest, OneBadFieldIsReportedByReason) {
  MachODescription description;
  description.signature = Bytes(48, 0xcd);
  description.info_plist = "";
  Bytes slice = BuildMachO(description);
  ASSERT_EQ(MachO::Parse(slice)->load_commands_end(), 320u);
  StoreU32(slice, GetParam().offset, GetParam().value, ByteOrder::kLittle);
  const auto result = MachO::Parse(slice);
  ASSERT_THAT(result, HasReason(GetParam().reason));
  EXPECT_EQ(GetErrorDetail(result.status())->rule(), RuleOf(GetParam().rule));
}

INSTANTIATE_TEST_SUITE_P(
    Rules, MachORuleTest,
    ::testing::Values(
        RuleCase{"MO1_Magic", 0, 0x464c457f, v1::REASON_NOT_MACH_O},
        RuleCase{"MO2_SizeOfCommands", 20, 100000, v1::REASON_TRUNCATED},
        RuleCase{"MO3_CommandCount", 16, 41, v1::REASON_BAD_LOAD_COMMAND},
        RuleCase{"MO4_CommandTooLong", 36, 292, v1::REASON_BAD_LOAD_COMMAND},
        RuleCase{"MO4_CommandTooShort", 36, 4, v1::REASON_BAD_LOAD_COMMAND},
        RuleCase{"MO4_CommandUnaligned", 36, 150, v1::REASON_BAD_LOAD_COMMAND},
        RuleCase{"MO4_SegmentTooShort", 36, 68, v1::REASON_BAD_LOAD_COMMAND},
        RuleCase{"MO4_SignatureTooLong", 280, 0x1d,
                 v1::REASON_BAD_LOAD_COMMAND},
        RuleCase{"MO5_SecondSymtab", 280, 0x2, v1::REASON_BAD_LOAD_COMMAND},
        RuleCase{"MO6_StringTable", 272, 100000, v1::REASON_TRUNCATED},
        RuleCase{"MO7_SignatureOffset", 312, 100000, v1::REASON_TRUNCATED},
        RuleCase{"MO7_SignatureSize", 316, 100000, v1::REASON_TRUNCATED},
        RuleCase{"MO8_SignatureInHeader", 312, 319,
                 v1::REASON_BAD_LOAD_COMMAND},
        RuleCase{"MO9_SegmentOffset", 224, 100000, v1::REASON_TRUNCATED},
        RuleCase{"MO9_SegmentSize", 236, 1, v1::REASON_TRUNCATED},
        RuleCase{"MO10_SectionCount", 96, 2, v1::REASON_BAD_SEGMENT},
        RuleCase{"MO12_SlackInCommands", 20, 289, v1::REASON_BAD_LOAD_COMMAND},
        RuleCase{"MO12_CommandLeftOut", 16, 4, v1::REASON_BAD_LOAD_COMMAND}),
    [](const auto& each) { return std::string(each.param.rule); });

TEST(MachOTest, MO5_SecondSignature) {
  MachODescription description;
  description.signature = Bytes(48, 0xcd);
  description.signature_command_first = true;
  description.version_min = description.build_version;  // also 16 bytes
  Bytes slice = BuildMachO(description);
  const size_t last_command = MachO::Parse(slice)->load_commands_end() - 16;
  StoreU32(slice, last_command, 0x1d, ByteOrder::kLittle);
  const auto result = MachO::Parse(slice);
  ASSERT_THAT(result, HasReason(v1::REASON_BAD_LOAD_COMMAND));
  EXPECT_EQ(GetErrorDetail(result.status())->rule(), "MO-5");
}

TEST(MachOTest, MO11_InfoPlistOutsideSlice) {
  MachODescription description;
  description.info_plist = "<plist/>";
  Bytes slice = BuildMachO(description);
  // The second section's size.
  StoreU32(slice, 32 + 72 + 80 + 40, 100000, ByteOrder::kLittle);
  EXPECT_THAT(MachO::Parse(slice), HasReason(v1::REASON_BAD_SEGMENT));
}

TEST(MachOTest, BuildVersionWinsOverVersionMin) {
  MachODescription description;
  description.version_min = MachO::Version{
      .platform = Platform::kMacOs, .minimum_os = 0x0a0900, .sdk = 0x0a0a00};
  const Bytes both = BuildMachO(description);
  EXPECT_EQ(MachO::Parse(both)->version()->minimum_os, 0x0b0000u);
  description.build_version.reset();
  const Bytes old = BuildMachO(description);
  EXPECT_EQ(MachO::Parse(old)->version()->minimum_os, 0x0a0900u);
  description.version_min.reset();
  const Bytes none = BuildMachO(description);
  EXPECT_FALSE(MachO::Parse(none)->version().has_value());
}

TEST(MachOTest, IdentificationIsUuidElseDigestOfHeader) {
  MachODescription description;
  description.uuid.emplace();
  description.uuid->fill(0x5a);
  const Bytes with_uuid = BuildMachO(description);
  EXPECT_EQ(HexEncode(MachO::Parse(with_uuid)->Identification()),
            "55554944"
            "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a");
  description.uuid.reset();
  const Bytes without = BuildMachO(description);
  const auto mach_o = MachO::Parse(without);
  Bytes hashed = ToBytes(ByteView(without).first(28));
  Append(hashed, ByteView(without).subspan(32, mach_o->load_commands_size()));
  EXPECT_EQ(mach_o->Identification(), ComputeDigest(DigestKind::kSha1, hashed));
}

TEST(MachOTest, StrictStructureRefusesTrailingBytes) {
  MachODescription description;
  description.trailing_size = 1;
  const Bytes slice = BuildMachO(description);
  EXPECT_THAT(MachO::Parse(slice)->CheckStrictStructure(),
              HasReason(v1::REASON_UNEXPECTED_DATA));
}

TEST(MachOTest, StrictStructureTakesStringTableWhenItComesFirst) {
  MachODescription description;
  description.has_linkedit = false;
  const Bytes slice = BuildMachO(description);
  EXPECT_THAT(MachO::Parse(slice)->CheckStrictStructure(), IsOk());
  const Bytes minimal = MinimalSlice();
  EXPECT_THAT(MachO::Parse(minimal)->CheckStrictStructure(),
              HasReason(v1::REASON_UNEXPECTED_DATA));
}

}  // namespace
}  // namespace codeseal
