// A message between a process and its token worker. The first byte chooses what
// it is read as: 'c' a configuration, 'q' a request, 'r' a reply. Oracles: what
// is accepted stays the same when it is written and read again; an accepted
// request has a digest of the size that its kind says; a reply's Status never
// turns a failure into a success.

#include <cstdint>

#include "hsm/public_key.h"
#include "hsm/worker_message.h"
#include "tests/fuzz/require.h"

namespace {

using codeseal::AsBytes;
using codeseal::ByteView;
using codeseal::Require;

template <typename Message>
bool IsStable(const absl::StatusOr<Message>& message,
              absl::StatusOr<Message> (*parse)(ByteView)) {
  if (!message.ok()) return false;
  const codeseal::Bytes frame = codeseal::EncodeFrame(*message);
  const auto again = parse(ByteView(frame).subspan(4));
  Require(again.ok());
  Require(codeseal::EncodeFrame(*again) == frame);
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return -1;
  const ByteView message(data + 1, size - 1);
  switch (data[0]) {
    case 'c':
      return IsStable(codeseal::ParseWorkerConfig(message),
                      codeseal::ParseWorkerConfig)
                 ? 0
                 : -1;
    case 'q': {
      const auto request = codeseal::ParseRequest(message);
      if (!IsStable(request, codeseal::ParseRequest)) return -1;
      if (request->has_sign()) {
        Require(request->sign().digest().size() ==
                codeseal::DigestSize(static_cast<codeseal::SignDigest>(
                    request->sign().digest_kind())));
      }
      return 0;
    }
    case 'r': {
      const auto reply = codeseal::ParseReply(message);
      if (!IsStable(reply, codeseal::ParseReply)) return -1;
      Require(codeseal::GetStatus(*reply).ok() == (reply->code() == 0));
      return 0;
    }
    default:
      return -1;
  }
}
