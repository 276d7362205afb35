// A CMS message that carries its content: provisioning profiles are property
// lists in such an envelope.
//
//   CMS -> [OpenSignedMessage] -> content
//
// Spec: RFC 5652.

#ifndef CODESEAL_CODESIGN_CMS_SIGNED_MESSAGE_H_
#define CODESEAL_CODESIGN_CMS_SIGNED_MESSAGE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "codesign/cms/certificate.h"

namespace codeseal {

struct SignedMessage {
  Bytes content;
  std::vector<Certificate> certificates;  // as stored
};

// Every signer's signature must verify with a certificate of the message. Not
// checked: who the signers are, their chains and dates.
// Errors: INVALID_ARGUMENT REASON_BAD_CMS for what is no such message;
// FAILED_PRECONDITION REASON_CMS_SIGNATURE_INVALID.
absl::StatusOr<SignedMessage> OpenSignedMessage(ByteView cms);

}  // namespace codeseal

#endif  // CODESEAL_CODESIGN_CMS_SIGNED_MESSAGE_H_
