#include "audit/checkpoint.h"

#include <optional>

#include "audit/text.h"
#include "codesign/base/error.h"

namespace codeseal::audit {
namespace {

absl::Status BadCheckpoint(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_AUDIT,
                   v1::REASON_BAD_AUDIT_LOG, message);
}

}  // namespace

std::string FormatCheckpoint(const Checkpoint& checkpoint) {
  return checkpoint.origin + "\n" + std::to_string(checkpoint.head.size) +
         "\n" + EncodeBase64(checkpoint.head.root) + "\n";
}

absl::StatusOr<Checkpoint> ParseCheckpoint(std::string_view text) {
  const std::optional<std::string_view> origin = TakeLine(text);
  const std::optional<std::string_view> size_line = TakeLine(text);
  const std::optional<std::string_view> root_line = TakeLine(text);
  if (!root_line.has_value()) {  // CK-1
    return BadCheckpoint("a checkpoint has three lines");
  }
  Checkpoint checkpoint;
  checkpoint.origin = std::string(*origin);
  const std::optional<uint64_t> size = ParseDecimal(*size_line);
  const std::optional<TreeHash> root = DecodeBase64Hash(*root_line);
  if (origin->empty()) return BadCheckpoint("the origin is empty");  // CK-2
  if (!size.has_value() || *size > kMaxTreeSize) {                   // CK-3
    return BadCheckpoint("the second line is no tree size");
  }
  if (!root.has_value()) {  // CK-4
    return BadCheckpoint("the third line is no root hash");
  }
  while (!text.empty()) {
    const std::optional<std::string_view> extension = TakeLine(text);
    if (!extension.has_value() || extension->empty()) {  // CK-5
      return BadCheckpoint("an extension line is empty or cut short");
    }
  }
  checkpoint.head = {*size, *root};
  return checkpoint;
}

absl::StatusOr<Checkpoint> OpenCheckpoint(std::string_view note,
                                          const NoteKey& key) {
  ASSIGN_OR_RETURN(const Note parsed, ParseNote(note));
  RETURN_IF_ERROR(key.Check(parsed).status());
  ASSIGN_OR_RETURN(Checkpoint checkpoint, ParseCheckpoint(parsed.text));
  if (checkpoint.origin == key.name()) return checkpoint;
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_AUDIT,
                   v1::REASON_AUDIT_INCONSISTENT,
                   "the checkpoint is of log " + checkpoint.origin +
                       ", not of " + key.name());
}

absl::Status CheckWitnesses(std::string_view note,
                            std::span<const NoteKey> witnesses) {
  ASSIGN_OR_RETURN(const Note parsed, ParseNote(note));
  for (const NoteKey& each : witnesses) {
    RETURN_IF_ERROR(each.Check(parsed).status());
  }
  return absl::OkStatus();
}

}  // namespace codeseal::audit
