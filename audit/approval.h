// What an approver signs: a text that people can read and that says everything
// the approval is about. Whoever has the statement, the signature and the
// approver's public key needs no server to check it.
//
//   grant -> [FormatApproval] -> approver's token -> signature -> server, log

#ifndef CODESEAL_AUDIT_APPROVAL_H_
#define CODESEAL_AUDIT_APPROVAL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "codesign/base/bytes.h"

namespace codeseal::audit {

struct ApprovalStatement {
  bool approves = true;  // or rejects
  std::string grant;     // id
  std::string identity;
  std::vector<Bytes> cdhashes;
  std::string release;
  std::vector<std::string> identifiers;
  uint32_t max_uses = 0;
  absl::Time expires_at;
  std::string requester;
  std::string reason;
  Bytes public_key;  // the approver's, SubjectPublicKeyInfo
  absl::Time at;     // whole seconds
};

// One "name: value" a line; control characters and backslashes of the values
// are escaped, so that no value looks like a line. Equal statements, equal
// bytes.
std::string FormatApproval(const ApprovalStatement& statement);

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_APPROVAL_H_
