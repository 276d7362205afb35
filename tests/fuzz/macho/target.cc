// One slice: whatever is accepted keeps its promises, and reserving and
// removing a signature give slices that are accepted again.

#include <cstdlib>

#include "codesign/macho/layout.h"
#include "codesign/macho/library_paths.h"

namespace codeseal {
namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

void RequireInside(ByteView inner, ByteView outer) {
  Require(inner.empty() ||
          (inner.data() >= outer.data() &&
           inner.data() + inner.size() <= outer.data() + outer.size()));
}

Bytes Materialize(const SliceLayout& layout) {
  Bytes bytes;
  for (const ByteView part : layout.Read(0, layout.signature_offset())) {
    Append(bytes, part);
  }
  Require(bytes.size() == layout.signature_offset());
  bytes.resize(layout.size());
  return bytes;
}

void CheckLayouts(const MachO& mach_o) {
  const auto reserved = ReserveSignature(mach_o, 100);
  if (!reserved.ok()) return;
  Require(reserved->signature_size() == 112);
  const Bytes signed_bytes = Materialize(*reserved);
  const auto signed_mach_o = MachO::Parse(signed_bytes);
  // Only a segment or table that lay in the old signature may now be outside.
  if (!signed_mach_o.ok()) {
    Require(mach_o.signature_command().has_value());
    return;
  }
  Require(signed_mach_o->SigningLimit() == reserved->signature_offset());
  Require(signed_mach_o->Signature().size() == 112);

  const auto removed = RemoveSignature(*signed_mach_o);
  if (!removed.ok()) return;
  const Bytes stripped = Materialize(*removed);
  const auto stripped_mach_o = MachO::Parse(stripped);
  Require(!stripped_mach_o.ok() ||
          !stripped_mach_o->signature_command().has_value());
}

void CheckLibraryPaths(const MachO& mach_o) {
  const auto paths = ReadLibraryPaths(mach_o);
  if (!paths.ok()) return;
  for (const auto* entries : {&paths->libraries, &paths->search_paths}) {
    for (const LibraryPaths::Entry& each : *entries) {
      Require(each.offset < mach_o.load_commands_end());
      RequireInside(AsBytes(each.path), mach_o.raw());
    }
  }
}

}  // namespace
}  // namespace codeseal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace codeseal;
  const ByteView slice(data, size);
  const auto mach_o = MachO::Parse(slice);
  if (!mach_o.ok()) return -1;
  Require(mach_o->load_commands_end() <= size);
  Require(mach_o->SigningLimit() <= size);
  RequireInside(mach_o->Signature(), slice);
  if (mach_o->info_plist().has_value()) {
    RequireInside(*mach_o->info_plist(), slice);
  }
  Require(mach_o->Identification().size() == 20);
  mach_o->CheckStrictStructure().IgnoreError();
  CheckLayouts(*mach_o);
  CheckLibraryPaths(*mach_o);
  return 0;
}
