// codeseald: the command line. CLI11 stays in this file.

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/synchronization/mutex.h"
#include "audit/command_line.h"
#include "codesign/base/clock.h"
#include "codesign/base/error.h"
#include "codesign/base/staged_file.h"
#include "hsm/pin.h"
#include "hsm/token.h"
#include "server/ca_commands.h"
#include "server/ceremony.h"
#include "server/config.h"
#include "server/identity_commands.h"
#include "server/identity_store.h"
#include "server/log.h"
#include "server/server.h"
#include "server/token_commands.h"

namespace codeseal {
namespace {

// The exit codes of codeseal and codeseald.
int ExitCodeOf(const absl::Status& status) {
  constexpr int kUsage = 2;
  constexpr int kTryAgain = 4;
  constexpr int kFault = 5;
  if (status.ok()) return 0;
  const auto detail = GetErrorDetail(status);
  if (!detail.has_value()) return kFault;
  if (detail->stage() == v1::STAGE_USAGE) return kUsage;
  if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
      absl::IsResourceExhausted(status)) {
    return kTryAgain;
  }
  return absl::IsInternal(status) || absl::IsDataLoss(status) ? kFault : 1;
}

int Report(const absl::Status& status) {
  if (status.ok()) return 0;
  std::cerr << "codeseald: " << Message(status) << "\n";
  std::string hint = KeyHint(GetReason(status));
  if (hint.empty()) hint = AdminHint(GetReason(status));
  if (!hint.empty()) std::cerr << "  fix    " << hint << "\n";
  return ExitCodeOf(status);
}

// Whoever waits for the file sees nothing or the whole address.
absl::Status WriteReadyFile(const std::string& path,
                            const std::string& address) {
  const std::string staged = path + ".new";
  std::error_code error;
  std::ofstream(staged) << address << "\n";
  std::filesystem::rename(staged, path, error);
  if (!error) return absl::OkStatus();
  return FileError(error.value(), v1::STAGE_WRITE, "write", path);
}

void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

absl::Status Serve(const std::string& config_path,
                   const std::string& ready_file) {
  // Blocked before the first thread, so that only sigwait() below sees them.
  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGTERM);
  sigaddset(&stop_signals, SIGINT);
  sigprocmask(SIG_BLOCK, &stop_signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  RaiseDescriptorLimit();
  HideMemory();  // it holds the TLS key
  // Debian's abseil looks for lock cycles at every lock of gRPC's.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);

  ASSIGN_OR_RETURN(const ServerConfig config, LoadConfig(config_path));
  const SystemClock clock;
  ASSIGN_OR_RETURN(const std::unique_ptr<Server> server,
                   Server::Start(config, Token::Create, clock));
  Log(LogLevel::kInfo, "listening",
      {{"address", server->bound_address()}, {"config_sha256", config.sha256}});
  std::cout << "listening " << server->bound_address() << std::endl;
  if (!ready_file.empty()) {
    RETURN_IF_ERROR(WriteReadyFile(ready_file, server->bound_address()));
  }
  int signal_number = 0;
  sigwait(&stop_signals, &signal_number);
  Log(LogLevel::kInfo, "draining", {{"signal", strsignal(signal_number)}});
  server->Drain();
  return absl::OkStatus();
}

absl::Status CheckConfig(const std::string& path) {
  ASSIGN_OR_RETURN(const ServerConfig config, LoadConfig(path));
  const SystemClock clock;
  RETURN_IF_ERROR(Server::CheckConfig(config, Token::Create, clock));
  std::cout << path << ": ok\n";
  return absl::OkStatus();
}

// Runs a command that prints; its output goes to `out_path` when that is given.
absl::Status Print(const std::string& out_path,
                   const std::function<absl::Status(std::ostream&)>& command) {
  if (out_path.empty()) return command(std::cout);
  std::ostringstream text;
  RETURN_IF_ERROR(command(text));
  ASSIGN_OR_RETURN(StagedFile file, StagedFile::Create(out_path, 0644));
  RETURN_IF_ERROR(file.Write(AsBytes(text.str()), 0));
  return file.Commit();
}

absl::Status RunCeremonyFile(const std::string& path, bool dry_run) {
  ASSIGN_OR_RETURN(const Ceremony ceremony, LoadCeremony(path));
  if (dry_run) {
    DescribeCeremony(ceremony, std::cout);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Transcript> transcript,
                   OpenTranscriptFile(ceremony.transcript));
  return RunCeremony(ceremony, *transcript, std::cout);
}

void AddTokenOptions(CLI::App& command, TokenArguments& arguments) {
  auto* const uri =
      command.add_option("--token-uri", arguments.uri,
                         "RFC 7512 URI with module-path and pin-source");
  command
      .add_option("--config", arguments.config, "configuration of codeseald")
      ->excludes(uri);
  command
      .add_option("--token", arguments.token,
                  "name of the token in the configuration")
      ->excludes(uri);
}

void AddKeyOptions(CLI::App& command, TokenArguments& arguments) {
  AddTokenOptions(command, arguments);
  command.add_option("--id", arguments.id, "CKA_ID of the key, hexadecimal");
  command.add_option("--label", arguments.label, "CKA_LABEL of the key");
}

void AddDays(CLI::App& command, uint32_t& days) {
  constexpr uint32_t kHundredYears = 36525;
  command.add_option("--days", days, "how long it is valid, from now")
      ->capture_default_str()
      ->check(CLI::Range(uint32_t{1}, kHundredYears));
}

// `codeseald ca ...`. What the options fill lives as long as `run` does.
void AddCa(CLI::App& app, TokenArguments& token, CaInitArguments& init,
           CaIssueArguments& issue, std::string& out,
           std::function<absl::Status()>& run) {
  CLI::App& ca = *app.add_subcommand(
      "ca", "A code-signing authority of your own, its key on a token");
  ca.require_subcommand(1);
  const auto add = [&](const char* name, const char* description,
                       std::string& folder) -> CLI::App& {
    CLI::App& command = *ca.add_subcommand(name, description);
    command.add_option("--dir", folder, "folder of the authority's record")
        ->required();
    return command;
  };

  CLI::App& initialise =
      add("init", "Generate the root key inside the token; print the root",
          init.folder);
  AddKeyOptions(initialise, token);
  initialise.add_option("--subject", init.subject, "CN=...,O=...")->required();
  initialise.add_option("--algorithm", init.algorithm,
                        "p256 (default), p384, rsa2048, rsa3072, rsa4096");
  AddDays(initialise, init.days);
  initialise.add_flag("--use-existing-key", init.use_existing_key,
                      "the key is there: an earlier init was interrupted");
  initialise.add_option("--out", out, "file instead of standard output");
  initialise.callback([&] {
    run = [&] {
      init.key = token;
      return Print(out, [&](std::ostream& to) { return InitCa(init, to); });
    };
  });

  CLI::App& leaf =
      add("issue", "Certify a key for code signing; print leaf and root",
          issue.folder);
  AddKeyOptions(leaf, token);
  auto* const request =
      leaf.add_option("--csr", issue.request_path, "certificate request, PEM");
  leaf.add_option("--leaf-label", issue.leaf.label,
                  "CKA_LABEL of the key to certify, on the same token")
      ->excludes(request);
  leaf.add_option("--leaf-id", issue.leaf.id, "its CKA_ID, hexadecimal")
      ->excludes(request);
  leaf.add_option("--leaf-uri", issue.leaf.uri,
                  "its RFC 7512 URI, when it is on another token")
      ->excludes(request);
  leaf.add_option("--subject", issue.subject, "CN=...,O=..., with a key");
  AddDays(leaf, issue.days);
  leaf.add_option("--out", out, "file instead of standard output");
  leaf.callback([&] {
    run = [&] {
      issue.key = token;
      return Print(out,
                   [&](std::ostream& to) { return IssueFromCa(issue, to); });
    };
  });

  CLI::App& list = add("list", "What was issued", issue.folder);
  list.add_flag("--json", token.json, "print JSON");
  list.callback([&] {
    run = [&] { return ListCa(issue.folder, token.json, std::cout); };
  });
}

void AddAdminOptions(CLI::App& command, AdminConnection& connection) {
  command.add_option("--server", connection.server,
                     "HOST:PORT (or CODESEAL_SERVER)");
  command.add_option("--ca", connection.ca,
                     "PEM of the server's authority (or CODESEAL_CA)");
  command.add_option("--cert", connection.certificate,
                     "your certificate, PEM (or CODESEAL_CERT)");
  command.add_option("--key", connection.key,
                     "your key, PEM (or CODESEAL_KEY)");
}

// `codeseald identity ...`. What the options fill lives as long as `run` does.
void AddIdentity(CLI::App& app, IdentityArguments& arguments,
                 std::function<absl::Status()>& run) {
  CLI::App& identity = *app.add_subcommand(
      "identity", "Rotate what a running server signs with");
  identity.require_subcommand(1);
  using Command = absl::Status (*)(const IdentityArguments&, std::ostream&);
  const auto add = [&](const char* name, const char* description,
                       Command function) -> CLI::App& {
    CLI::App& command = *identity.add_subcommand(name, description);
    AddAdminOptions(command, arguments.connection);
    command.add_flag("--json", arguments.json, "print JSON");
    command.callback([&run, &arguments, function] {
      run = [&arguments, function] { return function(arguments, std::cout); };
    });
    return command;
  };
  const auto add_for_version = [&](const char* name, const char* description,
                                   Command function) -> CLI::App& {
    CLI::App& command = add(name, description, function);
    command.add_option("IDENTITY", arguments.identity)->required();
    command.add_option("VERSION", arguments.version)->required();
    return command;
  };
  const auto add_override = [&](CLI::App& command) {
    command.add_flag("--allow-requirement-change",
                     arguments.allow_requirement_change,
                     "even if macOS takes the code for another program");
  };

  add("list", "Every version of an identity, or of all", &ListVersions)
      .add_option("IDENTITY", arguments.identity);
  CLI::App& stage = add_for_version(
      "stage", "Add a version; it signs nothing yet", &StageVersion);
  stage
      .add_option("--token-key", arguments.keys,
                  "TOKEN:id=%01 or TOKEN:object=NAME, TOKEN as in the "
                  "configuration; again for the same key on another token")
      ->required();
  stage
      .add_option("--chain", arguments.chain, "PEM, leaf first, with the root")
      ->required();
  stage.add_option("--activate-at", arguments.at, "2026-11-01T06:00:00Z");
  add_override(stage);
  stage.add_flag("-n,--dry-run", arguments.dry_run, "judge, but stage nothing");
  add_for_version("probe", "Make a real signature with its key", &ProbeVersion);
  CLI::App& activate = add_for_version(
      "activate", "Sign with it from now on; retires the active one",
      &ActivateVersion);
  activate.add_option("--at", arguments.at, "later: 2026-11-01T06:00:00Z");
  add_override(activate);
  add_for_version("retire",
                  "Take back a staged version, or stop the active one",
                  &RetireVersion)
      .add_flag("--even-if-active", arguments.even_if_active,
                "though nothing signs for the identity then");
  add_for_version("disable", "Let it sign nothing any more, for good",
                  &DisableVersion)
      .add_option("--because", arguments.because, "for the log")
      ->required();
}

int Main(int argc, char** argv) {
  CLI::App app("Signs Apple code with keys that never leave a PKCS#11 token.",
               "codeseald");
  app.require_subcommand(1);
  app.set_version_flag("--version", "codeseald " CODESEAL_VERSION);
  std::function<absl::Status()> run;
  TokenArguments token;
  std::string path;
  std::string ready_file;
  std::string out;
  std::string algorithm = "rsa2048";
  std::string subject;
  std::string certificate;
  uint32_t days = 365;

  auto* const serve = app.add_subcommand("serve", "Serve until SIGTERM");
  serve->add_option("--config", path, "configuration file")->required();
  serve->add_option("--ready-file", ready_file,
                    "file to write the bound address to, once it listens");
  serve->callback([&] { run = [&] { return Serve(path, ready_file); }; });

  auto* const check = app.add_subcommand(
      "check-config", "Say everything that is wrong with a configuration");
  check->add_option("FILE", path, "configuration file")->required();
  check->callback([&] { run = [&] { return CheckConfig(path); }; });

  auto* const tokens = app.add_subcommand("token", "Look at a token");
  tokens->require_subcommand(1);
  auto* const list =
      tokens->add_subcommand("list", "Show its keys and certificates");
  AddTokenOptions(*list, token);
  list->add_flag("--json", token.json, "print JSON");
  list->callback([&] { run = [&] { return ListToken(token, std::cout); }; });
  auto* const probe = tokens->add_subcommand(
      "probe",
      "Make a real test signature with a key, or with every "
      "identity's key of a configuration");
  AddKeyOptions(*probe, token);
  probe->add_flag("--json", token.json, "print JSON");
  probe->callback([&] { run = [&] { return ProbeToken(token, std::cout); }; });

  auto* const clear = tokens->add_subcommand(
      "clear-pin-hold",
      "Let a token that refused the PIN be logged in to again, once");
  AddTokenOptions(*clear, token);
  clear->callback(
      [&] { run = [&] { return ClearPinHold(token, std::cout); }; });

  auto* const keys = app.add_subcommand("key", "Make keys and certificates");
  keys->require_subcommand(1);
  auto* const generate = keys->add_subcommand(
      "generate", "Generate a key inside the token; print its public half");
  AddKeyOptions(*generate, token);
  generate->add_option("--algorithm", algorithm,
                       "rsa2048 (default), rsa3072, rsa4096, p256, p384");
  generate->add_option("--out", out, "file instead of standard output");
  generate->callback([&] {
    run = [&] {
      return Print(out, [&](std::ostream& to) {
        return GenerateKey(token, algorithm, to);
      });
    };
  });
  auto* const csr =
      keys->add_subcommand("csr", "Print a certificate request for a key");
  AddKeyOptions(*csr, token);
  csr->add_option("--subject", subject, "CN=...,O=...,OU=...,C=...")
      ->required();
  csr->add_option("--out", out, "file instead of standard output");
  csr->callback([&] {
    run = [&] {
      return Print(out, [&](std::ostream& to) {
        return RequestCertificate(token, subject, to);
      });
    };
  });
  auto* const self_sign = keys->add_subcommand(
      "self-sign",
      "Make a self-signed code-signing certificate and store it beside its "
      "key; print it");
  AddKeyOptions(*self_sign, token);
  self_sign->add_option("--subject", subject, "CN=...,O=...")->required();
  AddDays(*self_sign, days);
  self_sign->add_option("--out", out, "file instead of standard output");
  self_sign->callback([&] {
    run = [&] {
      return Print(out, [&](std::ostream& to) {
        return SelfSign(token, subject, days, to);
      });
    };
  });
  auto* const import = keys->add_subcommand(
      "import-certificate", "Store a certificate beside its key");
  AddKeyOptions(*import, token);
  import->add_option("--certificate", certificate, "PEM file")->required();
  import->callback([&] {
    run = [&] { return ImportCertificate(token, certificate, std::cout); };
  });

  AttestArguments attest_arguments;
  auto* const attest = keys->add_subcommand(
      "attest", "Check the vendor's word that a key was made inside the token");
  AddKeyOptions(*attest, token);
  attest
      ->add_option("--vendor-root", attest_arguments.vendor_roots,
                   "the vendor's root certificates, PEM")
      ->required();
  attest->add_option("--attestation", attest_arguments.attestation,
                     "attestation certificate, PEM; default: what the token "
                     "stores");
  attest->add_option("--intermediate", attest_arguments.intermediates,
                     "the device's own certificate, PEM, unless the token "
                     "stores it");
  attest->add_option("--out", out, "file instead of standard output");
  attest->callback([&] {
    run = [&] {
      attest_arguments.key = token;
      return Print(out, [&](std::ostream& to) {
        return AttestKey(attest_arguments, to);
      });
    };
  });

  auto* const ceremonies = app.add_subcommand(
      "ceremony", "Make keys and certificates from one reviewed file");
  ceremonies->require_subcommand(1);
  bool dry_run = false;
  auto* const ceremony = ceremonies->add_subcommand(
      "run", "Do what the file says; what is done already is found");
  ceremony->add_option("FILE", path, "the ceremony, YAML")->required();
  ceremony->add_flag("-n,--dry-run", dry_run, "read the file aloud only");
  ceremony->callback(
      [&] { run = [&] { return RunCeremonyFile(path, dry_run); }; });
  AdminConnection admin;
  auto* const record = ceremonies->add_subcommand(
      "record", "Write a transcript into a running server's audit log");
  AddAdminOptions(*record, admin);
  record->add_option("TRANSCRIPT", path, "what a ceremony wrote")->required();
  record->callback(
      [&] { run = [&] { return RecordCeremony(admin, path, std::cout); }; });

  CaInitArguments ca_init;
  CaIssueArguments ca_issue;
  AddCa(app, token, ca_init, ca_issue, out, run);
  IdentityArguments identity;
  AddIdentity(app, identity, run);

  audit::AuditRun audit_run;
  std::string audit_subject;
  audit::AddAuditCommands(app, audit_run, audit_subject);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return Report(audit_run ? audit_run(std::cout) : run());
}

}  // namespace
}  // namespace codeseal

int main(int argc, char** argv) {
  // How this program starts itself to hold a vendor's module; see hsm/token.h.
  if (argc == 3 && std::strcmp(argv[1], "token-worker") == 0) {
    // The worker's life is its socket's: a signal to the process group must not
    // take the token away from a server that is draining.
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    return codeseal::RunTokenWorker(std::atoi(argv[2]));
  }
  try {
    return codeseal::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "codeseald: %s\n", error.what());
    return 5;
  }
}
