#include "codesign/macho/architecture.h"

#include "absl/strings/str_format.h"

namespace codeseal {
namespace {

constexpr uint32_t kSubtypeMask = 0x00ffffff;  // ~CPU_SUBTYPE_MASK

struct Named {
  CpuType cpu_type;
  uint32_t cpu_subtype;
  const char* name;
};

constexpr Named kNames[] = {
    {CpuType::kI386, 3, "i386"},         {CpuType::kX86_64, 3, "x86_64"},
    {CpuType::kX86_64, 8, "x86_64h"},    {CpuType::kArm, 0, "arm"},
    {CpuType::kArm, 5, "armv4t"},        {CpuType::kArm, 6, "armv6"},
    {CpuType::kArm, 7, "armv5"},         {CpuType::kArm, 8, "xscale"},
    {CpuType::kArm, 9, "armv7"},         {CpuType::kArm, 10, "armv7f"},
    {CpuType::kArm, 11, "armv7s"},       {CpuType::kArm, 12, "armv7k"},
    {CpuType::kArm, 14, "armv6m"},       {CpuType::kArm, 15, "armv7m"},
    {CpuType::kArm, 16, "armv7em"},      {CpuType::kArm64, 0, "arm64"},
    {CpuType::kArm64, 1, "arm64v8"},     {CpuType::kArm64, 2, "arm64e"},
    {CpuType::kArm64_32, 0, "arm64_32"}, {CpuType::kArm64_32, 1, "arm64_32"},
    {CpuType::kPpc, 0, "ppc"},           {CpuType::kPpc, 9, "ppc750"},
    {CpuType::kPpc, 10, "ppc7400"},      {CpuType::kPpc, 11, "ppc7450"},
    {CpuType::kPpc, 100, "ppc970"},      {CpuType::kPpc64, 0, "ppc64"},
    {CpuType::kPpc64, 100, "ppc970-64"},
};

}  // namespace

std::strong_ordering Architecture::operator<=>(
    const Architecture& other) const {
  const auto by_cpu =
      static_cast<int32_t>(cpu_type) <=> static_cast<int32_t>(other.cpu_type);
  return by_cpu != 0 ? by_cpu
                     : static_cast<int32_t>(cpu_subtype) <=>
                           static_cast<int32_t>(other.cpu_subtype);
}

std::string Architecture::Name() const {
  const uint32_t subtype = cpu_subtype & kSubtypeMask;
  for (const Named& each : kNames) {
    if (each.cpu_type == cpu_type && each.cpu_subtype == subtype) {
      return each.name;
    }
  }
  return absl::StrFormat("(%d:%d)", static_cast<int32_t>(cpu_type),
                         static_cast<int32_t>(cpu_subtype));
}

}  // namespace codeseal
