#include "client/audit_receipt.h"

#include <algorithm>

#include "audit/checkpoint.h"
#include "audit/entry.h"
#include "audit/merkle.h"
#include "audit/note.h"
#include "audit/receipt.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"

namespace codeseal::client {
namespace {

absl::Status Inconsistent(const std::string& message) {
  return MakeError(absl::StatusCode::kInternal, v1::STAGE_AUDIT,
                   v1::REASON_AUDIT_INCONSISTENT,
                   "the receipt of the audit log " + message);
}

}  // namespace

absl::StatusOr<std::string> TakeReceipt(const v1::SignResponse& response) {
  if (!response.has_audit()) return std::string();
  audit::Receipt receipt;
  receipt.index = response.audit().index();
  receipt.entry = ToBytes(response.audit().entry());
  receipt.checkpoint = response.audit().checkpoint();
  for (const std::string& each : response.audit().proof()) {
    audit::TreeHash hash{};
    if (each.size() != hash.size()) return Inconsistent("has a broken proof");
    std::copy(each.begin(), each.end(), hash.begin());
    receipt.proof.push_back(hash);
  }
  ASSIGN_OR_RETURN(const audit::Note note,
                   audit::ParseNote(receipt.checkpoint));
  ASSIGN_OR_RETURN(const audit::Checkpoint checkpoint,
                   audit::ParseCheckpoint(note.text));
  RETURN_IF_ERROR(audit::CheckInclusion(audit::HashLeaf(receipt.entry),
                                        receipt.index, checkpoint.head,
                                        receipt.proof));
  ASSIGN_OR_RETURN(const audit::Entry entry, audit::ParseEntry(receipt.entry));
  if (entry.kind != audit::EntryKind::kSigned ||
      entry.request_id != response.request_id()) {
    return Inconsistent("is of another request");
  }
  if (entry.cms_sha256 !=
      HexEncode(ComputeDigest(DigestKind::kSha256, AsBytes(response.cms())))) {
    return Inconsistent("is of another signature");
  }
  return audit::FormatReceipt(receipt);
}

}  // namespace codeseal::client
