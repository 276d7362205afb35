// ParseAppleCms: whatever it accepts lies inside the input, and is never taken
// for a signature over code that it does not name.

#include <algorithm>
#include <cstdlib>

#include "codesign/cms/apple_cms.h"
#include "codesign/cms/timestamp.h"

namespace {

using codeseal::Bytes;
using codeseal::ByteView;

void Require(bool condition) {
  if (!condition) std::abort();
}

bool Contains(ByteView bytes, ByteView part) {
  return std::search(bytes.begin(), bytes.end(), part.begin(), part.end()) !=
         bytes.end();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteView input(data, size);
  const absl::StatusOr<codeseal::CmsSignature> signature =
      codeseal::ParseAppleCms(input);
  if (!signature.ok()) return -1;

  Require(Contains(input, signature->signature_value));
  // The identifier octet is the only one that is not as stored.
  Require(Contains(input, ByteView(signature->signed_attributes).subspan(1)));
  Require(std::find(signature->certificates.begin(),
                    signature->certificates.end(),
                    signature->signer) != signature->certificates.end());
  for (const codeseal::Certificate& certificate : signature->certificates) {
    Require(Contains(input, certificate.der()));
  }
  if (signature->timestamp_token.has_value()) {
    Require(Contains(input, *signature->timestamp_token));
    // No seed's token is for these bytes.
    Require(!codeseal::VerifyTimestampToken(*signature->timestamp_token, input,
                                            signature->certificates)
                 .ok());
    (void)codeseal::VerifyTimestampToken(*signature->timestamp_token,
                                         signature->signature_value,
                                         signature->certificates);
  }

  const Bytes other = codeseal::ToBytes("code that nobody signed");
  const codeseal::CodeDirectoryBlob blob = {codeseal::DigestKind::kSha256,
                                            other};
  Require(!codeseal::CheckAppleCms(*signature,
                                   codeseal::DescribeContent({&blob, 1}))
               .ok());
  return 0;
}
