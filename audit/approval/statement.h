// What an approver signs: a text that people can read and that says everything
// the approval is about. Whoever has the statement, the signature and the
// approver's public key needs no server to check it.
//
//   grant -> [FormatApproval] -> approver's token -> signature -> server, log

#ifndef CODESEAL_AUDIT_APPROVAL_STATEMENT_H_
#define CODESEAL_AUDIT_APPROVAL_STATEMENT_H_

#include <string>

#include "absl/time/time.h"
#include "codeseal/v1/approval.pb.h"
#include "codesign/base/bytes.h"

namespace codeseal::audit {

// One "name: value" a line; control characters and backslashes of the values
// are escaped, so that no value looks like a line. Equal decisions, equal
// bytes. Client and server each make it from the grant: nobody signs what
// somebody else wrote.
//
// approves    or rejects
// public_key  the approver's, SubjectPublicKeyInfo
// at          whole seconds
std::string FormatApproval(const v1::Grant& grant, bool approves,
                           ByteView public_key, absl::Time at);

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_APPROVAL_STATEMENT_H_
