#include "codesign/macho/architecture.h"

#include "gtest/gtest.h"

namespace codeseal {
namespace {

TEST(ArchitectureTest, PrintsApplesNames) {
  EXPECT_EQ((Architecture{CpuType::kX86_64, 3}.Name()), "x86_64");
  EXPECT_EQ((Architecture{CpuType::kX86_64, 0x80000003}.Name()), "x86_64");
  EXPECT_EQ((Architecture{CpuType::kArm64, 0x80000002}.Name()), "arm64e");
  EXPECT_EQ((Architecture{CpuType::kArm64_32, 1}.Name()), "arm64_32");
  EXPECT_EQ((Architecture{CpuType::kArm, 11}.Name()), "armv7s");
  EXPECT_EQ((Architecture{CpuType{99}, 7}.Name()), "(99:7)");
  EXPECT_EQ((Architecture{CpuType{0xffffffff}, 7}.Name()), "(-1:7)");
}

TEST(ArchitectureTest, OrdersAsSignedNumbers) {
  const Architecture arm64e{CpuType::kArm64, 0x80000002};
  const Architecture arm64{CpuType::kArm64, 0};
  const Architecture x86_64{CpuType::kX86_64, 3};
  const Architecture i386{CpuType::kI386, 3};
  EXPECT_LT(i386, x86_64);
  EXPECT_LT(x86_64, arm64e);
  EXPECT_LT(arm64e, arm64);
}

}  // namespace
}  // namespace codeseal
