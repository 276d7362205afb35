#include "audit/command_line.h"

#include <memory>

#include "audit/commands.h"

namespace codeseal::audit {
namespace {

struct Arguments {
  FolderArguments log;
  VerifyArguments verify;
  ProveArguments prove;
  CheckReceiptArguments receipt;
  EntriesArguments entries;
  WitnessArguments witness;
};

}  // namespace

CLI::App& AddAuditCommands(CLI::App& app, AuditRun& run, std::string& subject) {
  CLI::App& audit = *app.add_subcommand(
      "audit", "The log of signatures: verify it, prove what is in it");
  audit.require_subcommand(1);
  const auto arguments = std::make_shared<Arguments>();
  const auto add = [&](const char* name, const char* description,
                       auto command) -> CLI::App& {
    CLI::App& added = *audit.add_subcommand(name, description);
    added.callback([&run, &subject, arguments, command] {
      subject = arguments->log.folder.empty() ? arguments->receipt.path
                                              : arguments->log.folder;
      run = [arguments, command](std::ostream& out) {
        return command(*arguments, out);
      };
    });
    return added;
  };
  const auto add_folder = [&](CLI::App& command) {
    command.add_option("--dir", arguments->log.folder, "the log's folder")
        ->required()
        ->type_name("DIR");
    command
        .add_option("--key", arguments->log.key,
                    "the log's verifier key, or a file with it (default: the "
                    "folder's own, which proves less)")
        ->type_name("KEY");
  };
  const auto add_json = [&](CLI::App& command) {
    command.add_flag("--json", arguments->log.json, "print JSON");
  };

  CLI::App& verify =
      add("verify", "Read everything, recompute everything, say what is wrong",
          [](Arguments& all, std::ostream& out) {
            all.verify.log = all.log;
            return VerifyCommand(all.verify, out);
          });
  add_folder(verify);
  add_json(verify);
  verify
      .add_option("--checkpoint", arguments->verify.saved_paths,
                  "a checkpoint that was kept: the log must grow out of it; "
                  "repeatable")
      ->type_name("FILE");
  verify
      .add_option("--witness", arguments->verify.witnesses,
                  "verifier key of a witness that must have cosigned; "
                  "repeatable")
      ->type_name("KEY");

  CLI::App& prove = add("prove", "Print a receipt for an entry",
                        [](Arguments& all, std::ostream& out) {
                          all.prove.log = all.log;
                          return ProveCommand(all.prove, out);
                        });
  add_folder(prove);
  prove.add_option("--index", arguments->prove.index, "which entry");
  prove.add_option("--request-id", arguments->prove.request_id,
                   "the signature of this request");

  CLI::App& receipt = add("check-receipt",
                          "Check a receipt, and print the entry that it proves",
                          [](Arguments& all, std::ostream& out) {
                            return CheckReceiptCommand(all.receipt, out);
                          });
  receipt.add_option("FILE", arguments->receipt.path, "the receipt")
      ->required();
  receipt
      .add_option("--key", arguments->receipt.key,
                  "the log's verifier key, or a file with it")
      ->required()
      ->type_name("KEY");

  CLI::App& checkpoint =
      add("checkpoint", "Check the folder's checkpoint and print it",
          [](Arguments& all, std::ostream& out) {
            return CheckpointCommand(all.log, out);
          });
  add_folder(checkpoint);
  add_json(checkpoint);

  CLI::App& entries = add("entries", "Print entries, one JSON object a line",
                          [](Arguments& all, std::ostream& out) {
                            all.entries.log = all.log;
                            return EntriesCommand(all.entries, out);
                          });
  add_folder(entries);
  entries.add_option("--from", arguments->entries.begin, "the first one");
  entries.add_option("--count", arguments->entries.count, "how many");

  CLI::App& witness =
      add("witness",
          "Cosign the checkpoint if the log grew out of the last one seen",
          [](Arguments& all, std::ostream& out) {
            all.witness.log = all.log;
            return WitnessCommand(all.witness, out);
          });
  add_folder(witness);
  witness
      .add_option("--witness-key", arguments->witness.witness_key,
                  "the witness's Ed25519 private key, PEM")
      ->required()
      ->type_name("FILE");
  witness
      .add_option("--name", arguments->witness.name,
                  "the witness's name, such as witness.example/w1")
      ->required();
  witness
      .add_option("--state", arguments->witness.state_path,
                  "where it keeps the last checkpoint that it cosigned")
      ->required()
      ->type_name("FILE");
  return audit;
}

}  // namespace codeseal::audit
