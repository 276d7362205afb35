#include "codesign/macho/layout.h"

#include <filesystem>
#include <fstream>

#include "codesign/base/mapped_file.h"
#include "tests/support/mach_o_builder.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

namespace fs = std::filesystem;
using ::codeseal::testing::BuildMachO;
using ::codeseal::testing::BuildUniversal;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::kArm64;
using ::codeseal::testing::kI386;
using ::codeseal::testing::kX86_64;
using ::codeseal::testing::MachODescription;

// The covered bytes of a layout, then its room filled with `room`.
Bytes Materialize(const SliceLayout& layout, uint8_t room = 0) {
  Bytes bytes;
  for (const ByteView part : layout.Read(0, layout.signature_offset())) {
    Append(bytes, part);
  }
  bytes.resize(layout.size(), room);
  return bytes;
}

TEST(ReserveSignatureTest, AddsLoadCommandAndGrowsLinkedit) {
  MachODescription description;
  description.string_table_size = 33;  // padding is needed
  const Bytes original = BuildMachO(description);
  const auto before = MachO::Parse(original);
  const auto layout = ReserveSignature(*before, 1001);
  ASSERT_THAT(layout, IsOk());
  EXPECT_EQ(layout->signature_size(), 1008u);
  EXPECT_EQ(layout->signature_offset(), (original.size() + 15) / 16 * 16);

  const Bytes changed = Materialize(*layout);
  const auto after = MachO::Parse(changed);
  ASSERT_THAT(after, IsOk());
  EXPECT_EQ(after->load_command_count(), before->load_command_count() + 1);
  EXPECT_EQ(after->load_commands_size(), before->load_commands_size() + 16);
  ASSERT_TRUE(after->signature_command().has_value());
  EXPECT_EQ(after->signature_command()->command_offset,
            before->load_commands_end());
  EXPECT_EQ(after->signature_command()->data_offset,
            layout->signature_offset());
  EXPECT_EQ(after->signature_command()->data_size, 1008u);
  const MachO::Segment& linkedit = *after->FindSegment("__LINKEDIT");
  EXPECT_EQ(linkedit.file_offset + linkedit.file_size, changed.size());
  EXPECT_EQ(linkedit.vm_size, 0x4000u);
  EXPECT_THAT(after->CheckStrictStructure(), IsOk());

  // Nothing else has changed: code, tables, zero padding.
  const size_t code = before->load_commands_end() + description.header_room;
  EXPECT_TRUE(Equal(ByteView(original).subspan(code),
                    ByteView(changed).subspan(code, original.size() - code)));
  for (size_t i = original.size(); i < layout->signature_offset(); ++i) {
    EXPECT_EQ(changed[i], 0) << i;
  }
}

class AnyShapeTest : public ::testing::TestWithParam<MachODescription> {};

TEST_P(AnyShapeTest, ReserveAndRemoveGiveBackTheOriginal) {
  const Bytes original = BuildMachO(GetParam());
  const auto reserved = ReserveSignature(*MachO::Parse(original), 5000);
  ASSERT_THAT(reserved, IsOk());
  const Bytes room = Materialize(*reserved, 0xee);
  const auto with_room = MachO::Parse(room);
  ASSERT_THAT(with_room, IsOk());
  const auto removed = RemoveSignature(*with_room);
  ASSERT_THAT(removed, IsOk());
  Bytes stripped = Materialize(*removed);
  EXPECT_EQ(stripped.size(), original.size());
  // Apple leaves __LINKEDIT's vmsize as it was with the signature.
  const auto stripped_mach_o = MachO::Parse(stripped);
  const MachO::Segment& linkedit = *stripped_mach_o->FindSegment("__LINKEDIT");
  EXPECT_EQ(linkedit.vm_size, 0x4000u);
  const ByteOrder order = GetParam().byte_order;
  if (GetParam().is_64_bit) {
    StoreU64(stripped, linkedit.command_offset + 32, 0x1000, order);
  } else {
    StoreU32(stripped, linkedit.command_offset + 28, 0x1000, order);
  }
  EXPECT_EQ(stripped, original);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, AnyShapeTest,
    ::testing::Values(MachODescription{},
                      MachODescription{.architecture = kI386,
                                       .is_64_bit = false,
                                       .file_type = MachOFileType::kDylib,
                                       .string_table_size = 37},
                      MachODescription{.architecture = testing::kPpc,
                                       .byte_order = ByteOrder::kBig,
                                       .is_64_bit = false,
                                       .file_type = MachOFileType::kKextBundle},
                      MachODescription{.architecture = {CpuType::kPpc64, 0},
                                       .byte_order = ByteOrder::kBig,
                                       .file_type = MachOFileType::kDylinker,
                                       .string_table_size = 44}));

TEST(ReserveSignatureTest, ReplacesSignatureInPlace) {
  MachODescription description;
  description.signature = Bytes(160, 0xcd);
  const Bytes original = BuildMachO(description);
  const auto before = MachO::Parse(original);
  const auto layout = ReserveSignature(*before, 96);
  ASSERT_THAT(layout, IsOk());
  EXPECT_EQ(layout->signature_offset(),
            before->signature_command()->data_offset);
  EXPECT_EQ(layout->signature_size(), 96u);
  const Bytes changed = Materialize(*layout);
  EXPECT_EQ(changed.size(), original.size() - 64);
  const auto after = MachO::Parse(changed);
  ASSERT_THAT(after, IsOk());
  EXPECT_EQ(after->load_command_count(), before->load_command_count());
  EXPECT_EQ(after->signature_command()->data_size, 96u);
  EXPECT_THAT(after->CheckStrictStructure(), IsOk());
}

TEST(ReserveSignatureTest, LinkeditAlignmentOfOldTools) {
  const Bytes original = BuildMachO();
  const auto layout = ReserveSignature(*MachO::Parse(original), 5000, 0x1000);
  ASSERT_THAT(layout, IsOk());
  const Bytes changed = Materialize(*layout);
  EXPECT_EQ(MachO::Parse(changed)->FindSegment("__LINKEDIT")->vm_size, 0x2000u);
}

TEST(ReserveSignatureTest, SP4_HeaderRoomIsCountedToTheByte) {
  for (const size_t room : {0u, 8u, 15u, 16u, 17u}) {
    MachODescription description;
    description.header_room = room;
    const Bytes original = BuildMachO(description);
    const auto layout = ReserveSignature(*MachO::Parse(original), 64);
    if (room >= 16) {
      EXPECT_THAT(layout, IsOk()) << room;
    } else {
      EXPECT_THAT(layout, HasReason(v1::REASON_NO_HEADER_ROOM)) << room;
    }
  }
}

TEST(ReserveSignatureTest, NoRoomIsNeededForExistingCommand) {
  MachODescription description;
  description.header_room = 0;
  description.signature = Bytes(32, 0xcd);
  const Bytes original = BuildMachO(description);
  EXPECT_THAT(ReserveSignature(*MachO::Parse(original), 64), IsOk());
}

TEST(ReserveSignatureTest, SP1_OtherFileTypes) {
  for (const auto type : {MachOFileType::kObject, MachOFileType::kPreload}) {
    MachODescription description;
    description.file_type = type;
    const Bytes original = BuildMachO(description);
    EXPECT_THAT(ReserveSignature(*MachO::Parse(original), 64),
                HasReason(v1::REASON_UNSUPPORTED_FILE_TYPE));
  }
}

TEST(ReserveSignatureTest, SP2_SignatureMustBeLast) {
  MachODescription description;
  description.signature = Bytes(32, 0xcd);
  description.trailing_size = 7;
  const Bytes tolerated = BuildMachO(description);
  EXPECT_THAT(ReserveSignature(*MachO::Parse(tolerated), 64), IsOk());
  description.trailing_size = 8;
  const Bytes refused = BuildMachO(description);
  EXPECT_THAT(ReserveSignature(*MachO::Parse(refused), 64),
              HasReason(v1::REASON_SIGNATURE_NOT_LAST));
  EXPECT_THAT(RemoveSignature(*MachO::Parse(refused)),
              HasReason(v1::REASON_SIGNATURE_NOT_LAST));
}

TEST(ReserveSignatureTest, SP3_LinkeditIsNeeded) {
  MachODescription description;
  description.has_linkedit = false;
  const Bytes original = BuildMachO(description);
  EXPECT_THAT(ReserveSignature(*MachO::Parse(original), 64),
              HasReason(v1::REASON_BAD_SEGMENT));
}

TEST(ReserveSignatureTest, SP5_FourGigabytes) {
  const Bytes original = BuildMachO();
  EXPECT_THAT(ReserveSignature(*MachO::Parse(original), 0xffffff00),
              HasReason(v1::REASON_FILE_TOO_BIG));
  EXPECT_THAT(ReserveSignature(*MachO::Parse(original), UINT64_MAX),
              HasReason(v1::REASON_FILE_TOO_BIG));
}

TEST(RemoveSignatureTest, LaterCommandsMoveDown) {
  MachODescription description;
  description.signature = Bytes(32, 0xcd);
  description.signature_command_first = true;
  const Bytes original = BuildMachO(description);
  const auto before = MachO::Parse(original);
  const auto layout = RemoveSignature(*before);
  ASSERT_THAT(layout, IsOk());
  const Bytes stripped = Materialize(*layout);
  const auto after = MachO::Parse(stripped);
  ASSERT_THAT(after, IsOk());
  EXPECT_FALSE(after->signature_command().has_value());
  EXPECT_EQ(after->load_commands_end(), before->load_commands_end() - 16);
  EXPECT_EQ(after->segments().size(), 2u);
  EXPECT_THAT(after->CheckStrictStructure(), IsOk());
  EXPECT_THAT(ByteView(stripped).subspan(after->load_commands_end(), 16),
              ::testing::Each(0));
}

TEST(RemoveSignatureTest, SP6_NothingToRemove) {
  const Bytes original = BuildMachO();
  EXPECT_THAT(RemoveSignature(*MachO::Parse(original)),
              HasReason(v1::REASON_NOT_SIGNED));
}

TEST(SliceLayoutTest, ReadsAnyRange) {
  MachODescription description;
  description.string_table_size = 33;
  const Bytes original = BuildMachO(description);
  const auto layout = ReserveSignature(*MachO::Parse(original), 64);
  const Bytes whole = Materialize(*layout);
  const uint64_t limit = layout->signature_offset();
  for (uint64_t begin = 0; begin <= limit; begin += 13) {
    for (uint64_t size = 0; size <= limit - begin; size += 17) {
      Bytes part;
      for (const ByteView view : layout->Read(begin, size)) Append(part, view);
      ASSERT_TRUE(Equal(part, ByteView(whole).subspan(begin, size)))
          << begin << " " << size;
    }
  }
}

class FileLayoutTest : public ::testing::Test {
 protected:
  FileLayoutTest() {
    std::string name = (fs::temp_directory_path() / "codeseal-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~FileLayoutTest() override { fs::remove_all(folder_); }

  // Writes `bytes`, reserves `size` in each slice, writes the result.
  Bytes Rewrite(const Bytes& bytes, uint64_t size) {
    const std::string path = (folder_ / "a").string();
    std::ofstream(path) << AsText(bytes);
    const auto file = MappedFile::Open(path);
    const auto universal = UniversalFile::Parse(file->bytes());
    EXPECT_THAT(universal, IsOk());
    std::vector<SliceLayout> layouts;
    for (const auto& slice : universal->slices()) {
      layouts.push_back(*ReserveSignature(slice.mach_o, size));
    }
    const auto layout = LayOutFile(*universal, std::move(layouts));
    EXPECT_THAT(layout, IsOk());
    auto staged = StagedFile::Create(path, 0644);
    EXPECT_THAT(WriteLayout(*layout, file->fd(), *staged), IsOk());
    EXPECT_THAT(staged->Commit(), IsOk());
    std::ifstream written(path);
    return ToBytes(std::string(std::istreambuf_iterator<char>(written), {}));
  }

  fs::path folder_;
};

TEST_F(FileLayoutTest, UniversalSlicesStartAtSixteenKilobytes) {
  const Bytes original = BuildUniversal(
      {.slices = {{kX86_64, BuildMachO({.architecture = kX86_64})},
                  {kArm64, BuildMachO()}}});
  const Bytes changed = Rewrite(original, 20000);
  const auto universal = UniversalFile::Parse(changed);
  ASSERT_THAT(universal, IsOk());
  EXPECT_EQ(universal->slices()[0].offset, 0x4000u);
  EXPECT_EQ(universal->slices()[1].offset, 0xc000u);
  EXPECT_EQ(universal->Format(), "Mach-O universal (x86_64 arm64)");
  EXPECT_THAT(universal->CheckStrictStructure(), IsOk());
  for (const auto& slice : universal->slices()) {
    EXPECT_EQ(slice.mach_o.signature_command()->data_size, 20000u);
    EXPECT_THAT(slice.mach_o.Signature(), ::testing::Each(0));
  }
}

TEST_F(FileLayoutTest, ThinFileStaysThin) {
  const Bytes changed = Rewrite(BuildMachO(), 64);
  const auto universal = UniversalFile::Parse(changed);
  ASSERT_THAT(universal, IsOk());
  EXPECT_FALSE(universal->is_universal());
  EXPECT_EQ(universal->slices()[0].mach_o.signature_command()->data_size, 64u);
}

}  // namespace
}  // namespace codeseal
