// CMS with content: what is given out was signed, so any other content in the
// same message is refused.

#include <algorithm>

#include "codesign/cms/signed_message.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace codeseal;
  const ByteView cms(data, size);
  const auto message = OpenSignedMessage(cms);
  if (!message.ok()) return -1;
  Require(message->content.size() <= size);
  Bytes changed = ToBytes(cms);
  const auto content = std::ranges::search(changed, message->content);
  if (message->content.empty() || content.empty()) return 0;
  *content.begin() ^= 1;
  const auto other = OpenSignedMessage(changed);
  Require(!other.ok() || other->content == message->content);
  return 0;
}
