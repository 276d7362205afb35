#include "audit/commands.h"

#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "audit/checkpoint.h"
#include "audit/entry.h"
#include "audit/log_folder.h"
#include "audit/merkle.h"
#include "audit/note.h"
#include "audit/receipt.h"
#include "audit/tile.h"
#include "audit/verify_log.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/staged_file.h"
#include "codesign/cms/log_signature.h"
#include "nlohmann/json.hpp"

namespace codeseal::audit {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxListed = 20;

absl::Status UsageError(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, v1::STAGE_USAGE,
                   v1::REASON_USAGE, message);
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return ToString(file.bytes());
}

// A verifier key has two '+'; what looks otherwise is a file.
absl::StatusOr<NoteKey> ReadKey(const std::string& text) {
  if (const auto key = NoteKey::Parse(text); key.ok()) return key;
  ASSIGN_OR_RETURN(const std::string content, ReadText(text));
  return NoteKey::Parse(content);
}

struct Opened {
  std::shared_ptr<LogFolder> folder;
  NoteKey key;
};

absl::StatusOr<Opened> Open(const FolderArguments& arguments) {
  ASSIGN_OR_RETURN(std::shared_ptr<LogFolder> folder,
                   LogFolder::Open(arguments.folder));
  ASSIGN_OR_RETURN(NoteKey key, ReadKey(arguments.key.empty()
                                            ? arguments.folder + "/" + kKeyFile
                                            : arguments.key));
  return Opened{std::move(folder), std::move(key)};
}

Json ToJson(const LogReport& report) {
  return {{"origin", report.checkpoint.origin},
          {"size", report.size},
          {"checkpoint_size", report.checkpoint.head.size},
          {"root", HexEncode(report.checkpoint.head.root)},
          {"uncovered", report.uncovered_count},
          {"intents", report.intent_count},
          {"signed", report.signed_count},
          {"failed", report.failed_count},
          {"indeterminate", report.indeterminate_count},
          {"events", report.event_count},
          {"open_intents", report.open_intents},
          {"problems", report.problems}};
}

void Print(const LogReport& report, std::ostream& out) {
  out << "log " << report.checkpoint.origin << ": " << report.size
      << " entries, " << report.checkpoint.head.size
      << " under the checkpoint\n"
      << "  " << report.signed_count << " signed, " << report.failed_count
      << " failed, " << report.indeterminate_count << " indeterminate, "
      << report.open_intents.size() << " open, " << report.event_count
      << " other events\n";
  for (size_t i = 0; i < report.open_intents.size() && i < kMaxListed; ++i) {
    out << "  open: " << report.open_intents[i] << "\n";
  }
  for (const std::string& each : report.problems) {
    out << "  WRONG: " << each << "\n";
  }
}

absl::StatusOr<uint64_t> FindSigned(const LogFolder& folder,
                                    const OpenedLog& log,
                                    const std::string& request_id) {
  std::optional<uint64_t> found;
  for (uint64_t begin = 0; begin < log.checkpoint.head.size;
       begin += kTileWidth) {
    ASSIGN_OR_RETURN(const std::vector<Bytes> entries,
                     ReadEntries(folder, log.scanned, begin, kTileWidth));
    for (uint64_t i = 0; i < entries.size(); ++i) {
      const auto entry = ParseEntry(entries[i]);
      if (entry.ok() && entry->kind == EntryKind::kSigned &&
          entry->request_id == request_id) {
        found = begin + i;
      }
    }
  }
  if (found.has_value() && *found < log.checkpoint.head.size) return *found;
  return MakeError(absl::StatusCode::kNotFound, v1::STAGE_AUDIT,
                   v1::REASON_AUDIT_NOT_FOUND,
                   "the log has no signature of request " + request_id);
}

}  // namespace

absl::Status VerifyCommand(const VerifyArguments& arguments,
                           std::ostream& out) {
  ASSIGN_OR_RETURN(const Opened log, Open(arguments.log));
  std::vector<std::string> saved;
  for (const std::string& path : arguments.saved_paths) {
    ASSIGN_OR_RETURN(saved.emplace_back(), ReadText(path));
  }
  std::vector<NoteKey> witnesses;
  for (const std::string& each : arguments.witnesses) {
    ASSIGN_OR_RETURN(NoteKey key, ReadKey(each));
    witnesses.push_back(std::move(key));
  }
  ASSIGN_OR_RETURN(LogReport report, VerifyLog(*log.folder, log.key, saved));
  if (!witnesses.empty()) {
    ASSIGN_OR_RETURN(const auto note,
                     log.folder->Read(kCheckpointFile, kMaxNoteSize));
    const absl::Status cosigned =
        CheckWitnesses(AsText(note.value_or(Bytes())), witnesses);
    if (!cosigned.ok()) {
      report.problems.push_back("checkpoint: " +
                                std::string(Message(cosigned)));
    }
  }
  if (arguments.log.json) {
    out << ToJson(report).dump(2) << "\n";
  } else {
    Print(report, out);
    if (arguments.log.key.empty()) {
      out << "  the key is the folder's own: give the one that you trust with "
             "--key\n";
    }
  }
  if (report.problems.empty()) return absl::OkStatus();
  return WithSubject(
      AuditInconsistent(
          "the log is not what it should be: " + report.problems.front() +
          (report.problems.size() > 1 ? ", and more" : "")),
      arguments.log.folder);
}

absl::Status ProveCommand(const ProveArguments& arguments, std::ostream& out) {
  if (arguments.index.has_value() == !arguments.request_id.empty()) {
    return UsageError("give --index or --request-id");
  }
  ASSIGN_OR_RETURN(const Opened log, Open(arguments.log));
  ASSIGN_OR_RETURN(const OpenedLog opened, OpenLog(log.folder, log.key));
  uint64_t index = arguments.index.value_or(0);
  if (!arguments.index.has_value()) {
    ASSIGN_OR_RETURN(index,
                     FindSigned(*log.folder, opened, arguments.request_id));
  }
  ASSIGN_OR_RETURN(const Receipt receipt,
                   ProveEntry(*log.folder, opened, index));
  out << FormatReceipt(receipt);
  return absl::OkStatus();
}

absl::Status CheckReceiptCommand(const CheckReceiptArguments& arguments,
                                 std::ostream& out) {
  ASSIGN_OR_RETURN(const NoteKey key, ReadKey(arguments.key));
  ASSIGN_OR_RETURN(const std::string text, ReadText(arguments.path));
  ASSIGN_OR_RETURN(const Receipt receipt, ParseReceipt(text));
  RETURN_IF_ERROR(CheckReceipt(receipt, key).status());
  out << AsText(receipt.entry) << "\n";
  return absl::OkStatus();
}

absl::Status CheckpointCommand(const FolderArguments& arguments,
                               std::ostream& out) {
  ASSIGN_OR_RETURN(const Opened log, Open(arguments));
  ASSIGN_OR_RETURN(const OpenedLog opened, OpenLog(log.folder, log.key));
  if (arguments.json) {
    out << Json({{"origin", opened.checkpoint.origin},
                 {"size", opened.checkpoint.head.size},
                 {"root", HexEncode(opened.checkpoint.head.root)},
                 {"note", opened.note}})
               .dump(2)
        << "\n";
  } else {
    out << opened.note;
  }
  return absl::OkStatus();
}

absl::Status EntriesCommand(const EntriesArguments& arguments,
                            std::ostream& out) {
  ASSIGN_OR_RETURN(const std::shared_ptr<LogFolder> folder,
                   LogFolder::Open(arguments.log.folder));
  ASSIGN_OR_RETURN(const ScannedLog log, ScanLog(*folder, 0));
  const uint64_t size = log.size();
  const uint64_t count = arguments.count == 0 ? kMaxTreeSize : arguments.count;
  uint64_t done = 0;
  for (uint64_t at = arguments.begin; at < size && done < count;) {
    ASSIGN_OR_RETURN(const std::vector<Bytes> entries,
                     ReadEntries(*folder, log, at,
                                 static_cast<size_t>(std::min<uint64_t>(
                                     count - done, kTileWidth))));
    if (entries.empty()) break;
    for (const Bytes& each : entries) {
      Json line = {{"index", at}};
      const Json entry = Json::parse(each.begin(), each.end(), nullptr, false);
      line["entry"] = entry.is_discarded() ? Json() : entry;
      out << line.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
      ++at;
      ++done;
    }
  }
  return absl::OkStatus();
}

absl::Status WitnessCommand(const WitnessArguments& arguments,
                            std::ostream& out) {
  if (arguments.log.key.empty()) {
    return UsageError("a witness wants the log's key from elsewhere: --key");
  }
  ASSIGN_OR_RETURN(const Opened log, Open(arguments.log));
  ASSIGN_OR_RETURN(const std::string pem, ReadText(arguments.witness_key));
  ASSIGN_OR_RETURN(const Ed25519Key private_key, Ed25519Key::ParsePem(pem));
  ASSIGN_OR_RETURN(
      const NoteKey witness,
      NoteKey::Create(arguments.name, NoteKey::Type::kEd25519Cosignature,
                      private_key.public_key()));
  ASSIGN_OR_RETURN(const OpenedLog opened, OpenLog(log.folder, log.key));
  const TreeHead& head = opened.checkpoint.head;
  const absl::StatusOr<std::string> state = ReadText(arguments.state_path);
  if (state.ok()) {
    // Our own signature on it, too: a state that somebody wrote is none.
    ASSIGN_OR_RETURN(const Checkpoint last, OpenCheckpoint(*state, log.key));
    RETURN_IF_ERROR(CheckWitnesses(*state, {{witness}}));
    if (last.head.size > head.size) {
      return AuditInconsistent("the log has " + std::to_string(head.size) +
                               " entries; this witness has seen " +
                               std::to_string(last.head.size));
    }
    ASSIGN_OR_RETURN(
        const Proof proof,
        BuildConsistencyProof(*opened.tree, last.head.size, head.size));
    RETURN_IF_ERROR(CheckConsistency(last.head, head, proof));
  } else if (GetReason(state.status()) != v1::REASON_FILE_NOT_FOUND) {
    return state.status();
  }
  ASSIGN_OR_RETURN(Note note, ParseNote(opened.note));
  const absl::Time now =
      absl::FromUnixSeconds(absl::ToUnixSeconds(absl::Now()));
  ASSIGN_OR_RETURN(
      const Bytes signature,
      private_key.Sign(AsBytes(CosignatureMessage(note.text, now))));
  note.signatures.push_back(
      {witness.name(), witness.id(), EncodeCosignature(now, signature)});
  RETURN_IF_ERROR(witness.Check(note).status());
  const std::string cosigned = FormatNote(note);
  ASSIGN_OR_RETURN(StagedFile file,
                   StagedFile::Create(arguments.state_path, 0640));
  RETURN_IF_ERROR(file.Write(AsBytes(cosigned), 0));
  RETURN_IF_ERROR(file.Commit());
  out << cosigned;
  return absl::OkStatus();
}

}  // namespace codeseal::audit
