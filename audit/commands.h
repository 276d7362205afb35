// The commands that work on a log's folder, without a server: for auditors,
// witnesses and operators. Both programs have them.
//
//   codeseald audit ..., codeseal audit ... -> [commands] -> text or JSON

#ifndef CODESEAL_AUDIT_COMMANDS_H_
#define CODESEAL_AUDIT_COMMANDS_H_

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace codeseal::audit {

// What all of them are told.
struct FolderArguments {
  std::string folder;
  // A verifier key, or a file that holds one; empty: the folder's own `key`,
  // which vouches for nothing that somebody with the folder could not forge.
  std::string key;
  bool json = false;
};

struct VerifyArguments {
  FolderArguments log;
  std::vector<std::string> saved_paths;  // of checkpoints kept earlier
  std::vector<std::string> witnesses;    // verifier keys that must have signed
};
// Errors: FAILED_PRECONDITION REASON_AUDIT_INCONSISTENT when something is
// wrong; everything that is was printed.
absl::Status VerifyCommand(const VerifyArguments& arguments, std::ostream& out);

struct ProveArguments {
  FolderArguments log;
  std::optional<uint64_t> index;
  std::string request_id;  // instead: its last signed entry
};
// Prints a receipt.
absl::Status ProveCommand(const ProveArguments& arguments, std::ostream& out);

struct CheckReceiptArguments {
  std::string path;
  std::string key;
};
// Prints the entry that the receipt proves.
absl::Status CheckReceiptCommand(const CheckReceiptArguments& arguments,
                                 std::ostream& out);

// Prints the folder's checkpoint, after checking it.
absl::Status CheckpointCommand(const FolderArguments& arguments,
                               std::ostream& out);

struct EntriesArguments {
  FolderArguments log;
  uint64_t begin = 0;
  uint64_t count = 0;  // 0: all
};
// Prints entries, one JSON object a line, each with its index.
absl::Status EntriesCommand(const EntriesArguments& arguments,
                            std::ostream& out);

struct WitnessArguments {
  FolderArguments log;      // with `key`: a witness trusts no folder
  std::string witness_key;  // file, Ed25519 private key, PEM
  std::string name;         // of the witness
  std::string state_path;   // the last checkpoint that it cosigned
};
// Cosigns the folder's checkpoint if it grew out of the last one that this
// witness cosigned, and prints it with the new signature. The state is durable
// before.
absl::Status WitnessCommand(const WitnessArguments& arguments,
                            std::ostream& out);

}  // namespace codeseal::audit

#endif  // CODESEAL_AUDIT_COMMANDS_H_
