// Timestamps: a token that verifies says what its signed bytes say, whether or
// not its certificates are known, and without roots no new one is ever taken.

#include "codesign/cms/timestamp.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using codeseal::Require;
  const codeseal::ByteView input(data, size);
  // What the seeds stamp.
  const codeseal::Bytes stamped = codeseal::ToBytes("a signature value");

  const codeseal::TimestampQuery query = {
      stamped, codeseal::Bytes(8, 0x41), {}};
  Require(!codeseal::OpenTimestampResponse(input, query, {}).ok());

  const absl::StatusOr<codeseal::Timestamp> timestamp =
      codeseal::VerifyTimestampToken(input, stamped, {});
  if (!timestamp.ok()) return -1;
  Require(!timestamp->chain.empty());
  Require(timestamp->chain.back().IsSelfSigned());
  for (const codeseal::Certificate& each : timestamp->chain) {
    Require(timestamp->time >= each.not_before());
    Require(timestamp->time <= each.not_after());
  }
  const absl::StatusOr<codeseal::Timestamp> again =
      codeseal::VerifyTimestampToken(input, stamped, timestamp->chain);
  Require(again.ok() && again->time == timestamp->time &&
          again->chain == timestamp->chain);
  const codeseal::Bytes other = codeseal::ToBytes("another signature value");
  Require(!codeseal::VerifyTimestampToken(input, other, {}).ok());
  return 0;
}
