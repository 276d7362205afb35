// A log entry. Oracles: what is accepted is whole; written and read again it
// stays the same, but for texts that are cut.

#include <cstdint>

#include "audit/entry.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const codeseal::ByteView bytes(data, size);
  const auto entry = codeseal::audit::ParseEntry(bytes);
  if (!entry.ok()) return -1;
  codeseal::Require(codeseal::audit::IsWholeEntry(bytes));
  const codeseal::Bytes once = codeseal::audit::EncodeEntry(*entry);
  const auto again = codeseal::audit::ParseEntry(once);
  codeseal::Require(again.ok());
  codeseal::Require(codeseal::audit::EncodeEntry(*again).size() <=
                    once.size() + 8);
  return 0;
}
