// The CPU a slice is made for, and the names that Apple's tools print for it.
//
// Spec: mach/machine.h; Security, macho++.h, class Architecture.

#ifndef CODESEAL_CODESIGN_MACHO_ARCHITECTURE_H_
#define CODESEAL_CODESIGN_MACHO_ARCHITECTURE_H_

#include <compare>
#include <cstdint>
#include <string>

namespace codeseal {

// Wire values of mach_header.cputype.
enum class CpuType : uint32_t {
  kI386 = 7,               // CPU_TYPE_I386
  kArm = 12,               // CPU_TYPE_ARM
  kPpc = 18,               // CPU_TYPE_POWERPC
  kX86_64 = 0x01000007,    // CPU_TYPE_X86_64
  kArm64 = 0x0100000c,     // CPU_TYPE_ARM64
  kPpc64 = 0x01000012,     // CPU_TYPE_POWERPC64
  kArm64_32 = 0x0200000c,  // CPU_TYPE_ARM64_32
};

struct Architecture {
  CpuType cpu_type{};
  uint32_t cpu_subtype = 0;  // with its capability bits, as stored

  bool operator==(const Architecture&) const = default;
  // Apple's order of slices: both fields as signed numbers, so that arm64e
  // (0x80000002) comes before arm64 (0).
  std::strong_ordering operator<=>(const Architecture& other) const;

  // "arm64e"; "(7:99)" when nobody has given it a name.
  std::string Name() const;
};

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_MACHO_ARCHITECTURE_H_
