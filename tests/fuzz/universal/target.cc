// A whole file: slices lie inside it, apart from each other, and the file laid
// out again is accepted.

#include <cstdlib>

#include "codesign/macho/layout.h"

namespace codeseal {
namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

void CheckSlices(const UniversalFile& universal) {
  const auto slices = universal.slices();
  Require(!slices.empty() &&
          slices.size() <= UniversalFile::kMaxSliceCount + 1);
  const uint64_t file_size = universal.raw().size();
  for (size_t i = 0; i < slices.size(); ++i) {
    const uint64_t size = slices[i].mach_o.raw().size();
    Require(size <= file_size && slices[i].offset <= file_size - size);
    for (size_t j = 0; j < i; ++j) {
      const uint64_t end = slices[j].offset + slices[j].mach_o.raw().size();
      Require(slices[i].offset >= end ||
              slices[j].offset >= slices[i].offset + size);
    }
  }
}

void CheckLayout(const UniversalFile& universal) {
  std::vector<SliceLayout> layouts;
  for (const auto& slice : universal.slices()) {
    auto layout = ReserveSignature(slice.mach_o, 64);
    if (!layout.ok()) return;
    layouts.push_back(*std::move(layout));
  }
  const auto file = LayOutFile(universal, std::move(layouts));
  Require(file.ok());
  uint64_t end = file->fat_header.size();
  for (const FileLayout::Slice& slice : file->slices) {
    Require(slice.offset >= end);
    Require(!universal.is_universal() || slice.offset % 0x4000 == 0);
    end = slice.offset + slice.layout.size();
  }
  Require(end == file->size);
}

}  // namespace
}  // namespace codeseal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace codeseal;
  const auto universal = UniversalFile::Parse(ByteView(data, size));
  if (!universal.ok()) return -1;
  CheckSlices(*universal);
  Require(!universal->Format().empty());
  universal->NativeSlice(CpuType::kArm64);
  universal->CheckStrictStructure().IgnoreError();
  CheckLayout(*universal);
  return 0;
}
