// ParseCodeResources: whatever it accepts is written as a seal that reads back
// the same, and its rules either cannot be used or match without harm.

#include <cstdlib>

#include "codesign/bundle/resource_seal.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using codeseal::ResourceSeal;
  const absl::StatusOr<ResourceSeal> seal =
      codeseal::ParseCodeResources({data, size});
  if (!seal.ok()) return -1;

  const codeseal::Bytes stored = codeseal::BuildCodeResources(*seal);
  const absl::StatusOr<ResourceSeal> again =
      codeseal::ParseCodeResources(stored);
  // A text may hold what XML cannot: then it must be refused, not changed.
  if (again.ok()) {
    Require(codeseal::BuildCodeResources(*again) == stored);
  }
  const auto matcher = codeseal::ResourceMatcher::Create(
      codeseal::RulesOfVersion2(seal->rules), {});
  if (matcher.ok()) {
    matcher->Find("Resources/en.lproj/InfoPlist.strings");
  }
  return 0;
}
