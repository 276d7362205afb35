#include "codesign/macho/library_paths.h"

#include "gmock/gmock.h"
#include "tests/support/mach_o_builder.h"
#include "tests/support/rule_matcher.h"
#include "tests/support/status_matchers.h"

namespace codeseal {
namespace {

using ::codeseal::testing::BuildMachO;
using ::codeseal::testing::HasReason;
using ::codeseal::testing::HasRule;
using ::codeseal::testing::IsOk;
using ::codeseal::testing::MachODescription;
using ::testing::IsEmpty;

constexpr uint32_t kLoadDylib = 0xc;
constexpr uint32_t kIdDylib = 0xd;
constexpr uint32_t kLoadWeakDylib = 0x80000018;
constexpr uint32_t kRpath = 0x8000001c;

TEST(LibraryPathsTest, KeepsOrderAndKind) {
  for (const ByteOrder order : {ByteOrder::kLittle, ByteOrder::kBig}) {
    const Bytes file =
        BuildMachO({.byte_order = order,
                    .path_commands = {{kIdDylib, "@rpath/self.dylib"},
                                      {kLoadDylib, "@rpath/libz.dylib"},
                                      {kRpath, "@loader_path/../lib"},
                                      {kLoadWeakDylib, "/usr/lib/libx.dylib"},
                                      {kRpath, "/opt"}}});
    const absl::StatusOr<MachO> mach_o = MachO::Parse(file);
    ASSERT_THAT(mach_o, IsOk());
    const absl::StatusOr<LibraryPaths> paths = ReadLibraryPaths(*mach_o);
    ASSERT_THAT(paths, IsOk());
    ASSERT_EQ(paths->libraries.size(), 2u);
    EXPECT_EQ(paths->libraries[0].command, "LC_LOAD_DYLIB");
    EXPECT_EQ(paths->libraries[0].path, "@rpath/libz.dylib");
    EXPECT_EQ(paths->libraries[1].command, "LC_LOAD_WEAK_DYLIB");
    EXPECT_EQ(paths->libraries[1].path, "/usr/lib/libx.dylib");
    ASSERT_EQ(paths->search_paths.size(), 2u);
    EXPECT_EQ(paths->search_paths[0].path, "@loader_path/../lib");
    EXPECT_EQ(paths->search_paths[1].path, "/opt");
    // The place is the command's: its number stands there.
    const ByteView at =
        ByteView(file).subspan(static_cast<size_t>(paths->libraries[0].offset));
    EXPECT_EQ(EndianReader(at, order).U32(), kLoadDylib);
  }
}

TEST(LibraryPathsTest, CodeWithoutLibrariesHasNone) {
  const Bytes file = BuildMachO();
  const absl::StatusOr<MachO> mach_o = MachO::Parse(file);
  ASSERT_THAT(mach_o, IsOk());
  const absl::StatusOr<LibraryPaths> paths = ReadLibraryPaths(*mach_o);
  ASSERT_THAT(paths, IsOk());
  EXPECT_THAT(paths->libraries, IsEmpty());
  EXPECT_THAT(paths->search_paths, IsEmpty());
}

// MO-13: a path outside its command is another command's bytes, or nothing's.
TEST(LibraryPathsTest, PathMustLieInItsCommand) {
  for (const uint32_t offset : {0u, 8u, 11u, 1000u, 0xffffffffu}) {
    const Bytes file = BuildMachO(
        {.path_commands = {{kLoadDylib, "/usr/lib/libx.dylib", offset}}});
    const absl::StatusOr<MachO> mach_o = MachO::Parse(file);
    ASSERT_THAT(mach_o, IsOk());
    EXPECT_THAT(ReadLibraryPaths(*mach_o),
                HasReason(v1::REASON_BAD_LOAD_COMMAND))
        << offset;
    EXPECT_THAT(ReadLibraryPaths(*mach_o), HasRule("MO-13")) << offset;
  }
}

}  // namespace
}  // namespace codeseal
