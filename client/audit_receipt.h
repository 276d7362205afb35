// The receipt that comes with a signature: checked before the signature is
// embedded, so that what the server logged is what it returned.
//
//   SignResponse -> [audit_receipt] -> text of a c2sp.org/tlog-proof

#ifndef CODESEAL_CLIENT_AUDIT_RECEIPT_H_
#define CODESEAL_CLIENT_AUDIT_RECEIPT_H_

#include <string>

#include "absl/status/statusor.h"
#include "codeseal/v1/signing.pb.h"

namespace codeseal::client {

// The receipt as text; empty when the server keeps no log. Checks that the
// entry is of this request and this CMS, and that the proof leads to the
// checkpoint's root. Not checked: the checkpoint's own signature, for which
// `codeseal audit check-receipt` wants the log's key.
// Errors: INTERNAL REASON_AUDIT_INCONSISTENT; those of the parsers.
absl::StatusOr<std::string> TakeReceipt(const v1::SignResponse& response);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_AUDIT_RECEIPT_H_
