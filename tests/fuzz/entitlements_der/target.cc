// DER entitlements: there is one encoding of each list, so whatever is accepted
// must be built again byte for byte; only the form of 2020 may differ.

#include "codesign/entitlements.h"
#include "codesign/super_blob.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace codeseal;
  const ByteView blob(data, size);
  const auto entitlements = ParseEntitlementsDer(blob);
  if (!entitlements.ok()) return -1;
  const auto built = BuildEntitlementsDer(*entitlements);
  Require(built.ok());
  constexpr uint8_t kObsoleteForm = 0x31;
  Require(blob[kBlobHeaderSize] == kObsoleteForm || Equal(*built, blob));
  const auto again = ParseEntitlementsDer(*built);
  Require(again.ok() && *again == *entitlements);
  Require(ExecSegmentFlags(*again) == ExecSegmentFlags(*entitlements));
  return 0;
}
