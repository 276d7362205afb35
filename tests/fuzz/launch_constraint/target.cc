// Constraints, as property lists and as blobs: what is built reads back as the
// same facts, and a finished blob is taken as it is.

#include "codesign/launch_constraint.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace codeseal;
  const auto blob = BuildLaunchConstraint(ByteView(data, size));
  if (!blob.ok()) return -1;
  const auto facts = ParseLaunchConstraint(*blob);
  Require(facts.ok() && !facts->empty());
  const auto again = BuildLaunchConstraint(*blob);
  Require(again.ok() && *again == *blob);
  return 0;
}
