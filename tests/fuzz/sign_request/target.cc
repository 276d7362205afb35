// A request from the wire. Oracle: whatever is accepted, each CodeDirectory's
// digest of each blob is the digest of the blob that came with it, and the
// digest types ascend.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "codesign/super_blob.h"
#include "server/request_check.h"

namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using codeseal::AsBytes;
  codeseal::v1::SignRequest request;
  if (size > (1 << 20) ||
      !request.ParseFromArray(data, static_cast<int>(size))) {
    return -1;
  }
  const auto checked = codeseal::CheckSignRequest(request);
  if (!checked.ok()) return -1;

  const auto& set = request.code_directory_set();
  const std::vector<std::pair<uint32_t, const std::string*>> blobs = {
      {codeseal::kRequirementsSlot, &set.requirements()},
      {codeseal::kEntitlementsSlot, &set.entitlements()},
      {codeseal::kEntitlementsDerSlot, &set.entitlements_der()},
      {codeseal::kLaunchConstraintSelfSlot, &set.launch_constraint_self()},
      {codeseal::kLaunchConstraintParentSlot, &set.launch_constraint_parent()},
      {codeseal::kLaunchConstraintResponsibleSlot,
       &set.launch_constraint_responsible()},
      {codeseal::kLibraryConstraintSlot, &set.library_constraint()},
  };
  int last_kind = 0;
  for (const auto& directory : checked->code_directories) {
    const auto kind = directory.digest_kind();
    Require(static_cast<int>(kind) > last_kind);
    last_kind = static_cast<int>(kind);
    for (const auto& [slot, blob] : blobs) {
      Require(directory.SealsSpecialSlot(slot) == !blob->empty());
      if (blob->empty()) continue;
      const codeseal::Bytes digest =
          codeseal::ComputeDigest(kind, AsBytes(*blob));
      Require(codeseal::Equal(digest, *directory.SpecialSlotDigest(slot)));
    }
  }
  Require(!checked->content.code_directories.empty());
  Require(checked->cdhashes.size() == checked->content.code_directories.size());
  return 0;
}
