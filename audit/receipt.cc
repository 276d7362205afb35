#include "audit/receipt.h"

#include <optional>
#include <utility>

#include "audit/text.h"
#include "audit/tile.h"
#include "codesign/base/error.h"

namespace codeseal::audit {
namespace {

constexpr std::string_view kFirstLine = "c2sp.org/tlog-proof@v1";
constexpr std::string_view kExtra = "extra ";
constexpr std::string_view kIndex = "index ";
constexpr size_t kMaxProofLength = 63;

absl::Status BadReceipt(std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_AUDIT,
                   v1::REASON_BAD_AUDIT_LOG, message);
}

// What follows `word` on the line at the front.
std::optional<std::string_view> TakeField(std::string_view& text,
                                          std::string_view word) {
  std::optional<std::string_view> line = TakeLine(text);
  if (!line.has_value() || !line->starts_with(word)) return std::nullopt;
  return line->substr(word.size());
}

}  // namespace

std::string FormatReceipt(const Receipt& receipt) {
  std::string text = std::string(kFirstLine) + "\n" + std::string(kExtra) +
                     EncodeBase64(receipt.entry) + "\n" + std::string(kIndex) +
                     std::to_string(receipt.index) + "\n";
  for (const TreeHash& each : receipt.proof) text += EncodeBase64(each) + "\n";
  return text + "\n" + receipt.checkpoint;
}

absl::StatusOr<Receipt> ParseReceipt(std::string_view text) {
  if (text.size() > kMaxNoteSize + 4 * kMaxEntrySize / 3 + 4096) {  // RC-1
    return BadReceipt("a receipt is not that long");
  }
  if (TakeLine(text) != kFirstLine) {  // RC-2
    return BadReceipt("the first line is not " + std::string(kFirstLine));
  }
  const auto extra = TakeField(text, kExtra);
  const std::optional<Bytes> entry =
      extra.has_value() ? DecodeBase64(*extra) : std::nullopt;
  if (!entry.has_value() || entry->empty() ||
      entry->size() > kMaxEntrySize) {  // RC-3
    return BadReceipt("the second line does not hold the log entry");
  }
  const auto index_text = TakeField(text, kIndex);
  const std::optional<uint64_t> index =
      index_text.has_value() ? ParseDecimal(*index_text) : std::nullopt;
  if (!index.has_value()) {  // RC-4
    return BadReceipt("the third line is no index");
  }
  Receipt receipt;
  receipt.index = *index;
  receipt.entry = *entry;
  for (;;) {
    const std::optional<std::string_view> line = TakeLine(text);
    if (line.has_value() && line->empty()) break;
    const std::optional<TreeHash> hash =
        line.has_value() ? DecodeBase64Hash(*line) : std::nullopt;
    if (!hash.has_value() || receipt.proof.size() == kMaxProofLength) {  // RC-5
      return BadReceipt("the inclusion proof is malformed");
    }
    receipt.proof.push_back(*hash);
  }
  RETURN_IF_ERROR(ParseNote(text).status());
  receipt.checkpoint = std::string(text);
  return receipt;
}

absl::StatusOr<Checkpoint> CheckReceipt(const Receipt& receipt,
                                        const NoteKey& key) {
  ASSIGN_OR_RETURN(Checkpoint checkpoint,
                   OpenCheckpoint(receipt.checkpoint, key));
  RETURN_IF_ERROR(CheckInclusion(HashLeaf(receipt.entry), receipt.index,
                                 checkpoint.head, receipt.proof));
  return checkpoint;
}

}  // namespace codeseal::audit
