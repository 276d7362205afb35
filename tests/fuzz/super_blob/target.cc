// A SuperBlob of a signature: views stay inside, and what is built from the
// blobs reads back as the same blobs without gaps.

#include "codesign/embedded_signature.h"
#include "codesign/super_blob.h"
#include "tests/fuzz/require.h"

namespace codeseal {
namespace {

// Entries may overlap: copying each could multiply the input.
constexpr size_t kMaxCopySize = size_t{16} << 20;

void CheckRebuild(const SuperBlob& super_blob) {
  size_t size = 0;
  std::map<uint32_t, Bytes> blobs;
  for (const SuperBlob::Entry& entry : super_blob.entries()) {
    size += entry.blob.size();
    if (size > kMaxCopySize) return;
    blobs[entry.slot] = ToBytes(entry.blob);
  }
  const Bytes built = BuildSuperBlob(kEmbeddedSignatureMagic, blobs);
  const auto again = SuperBlob::Parse(built, kEmbeddedSignatureMagic);
  Require(again.ok() && again->CheckPacked().ok());
  Require(again->entries().size() == blobs.size());
  for (const auto& [slot, blob] : blobs) {
    Require(Equal(*again->Find(slot), blob));
  }
}

void CheckSignature(ByteView bytes) {
  const auto signature = EmbeddedSignature::Parse(bytes);
  if (!signature.ok()) return;
  RequireInside(signature->cms(), bytes);
  for (const CodeDirectory& directory : signature->code_directories()) {
    RequireInside(directory.raw(), bytes);
    for (uint32_t slot = 1; slot <= kLibraryConstraintSlot; ++slot) {
      const auto content = signature->Find(slot);
      const bool is_bound = directory.SealsSpecialSlot(slot);
      const absl::Status checked = CheckSpecialSlot(directory, slot, content);
      Require(is_bound || checked.ok());
      Require(!is_bound || content.has_value() || !checked.ok());
    }
  }
}

}  // namespace
}  // namespace codeseal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace codeseal;
  const ByteView bytes(data, size);
  const auto super_blob = SuperBlob::Parse(bytes, kEmbeddedSignatureMagic);
  if (!super_blob.ok()) return -1;
  RequireInside(super_blob->raw(), bytes);
  for (const SuperBlob::Entry& entry : super_blob->entries()) {
    RequireInside(entry.blob, super_blob->raw());
    Require(entry.blob.size() >= kBlobHeaderSize);
    Require(super_blob->Find(entry.slot)->data() == entry.blob.data());
  }
  CheckRebuild(*super_blob);
  CheckSignature(bytes);
  return 0;
}
