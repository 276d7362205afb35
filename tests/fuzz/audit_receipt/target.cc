// A receipt. Oracle: what is accepted is written again as the same bytes.

#include <cstdint>

#include "audit/receipt.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = codeseal::AsText({data, size});
  const auto receipt = codeseal::audit::ParseReceipt(bytes);
  if (!receipt.ok()) return -1;
  codeseal::Require(codeseal::audit::FormatReceipt(*receipt) == bytes);
  return 0;
}
