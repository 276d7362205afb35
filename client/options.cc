#include "client/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "audit/command_line.h"
#include "client/codesign_options.h"
#include "client/csreq_options.h"
#include "client/security_options.h"
#include "client/spctl_options.h"

namespace codeseal::client {
namespace {

constexpr char kVersion[] = "codeseal " CODESEAL_VERSION;

// The parser writes into these; the chosen one becomes the Command.
struct Parsed {
  OutputOptions output;
  int verbose_count = 0;
  int quiet_count = 0;
  double timeout_seconds = 120;
  std::string entitlements;
  CompletionRequest completion;
  SignCommand sign;
  VerifyCommand verify;
  ShowCommand show;
  AssessCommand assess;
  PreflightCommand preflight;
  StripCommand strip;
  DetachCommand detach;
  AttachCommand attach;
  AuditCommand audit;
  AuditCollectCommand collect;
  int collect_seconds = 0;
  IdentitiesListCommand list;
  IdentitiesShowCommand identity;
  IdentitiesDoctorCommand doctor;
  GrantRequestCommand grant_request;
  GrantListCommand grant_list;
  GrantShowCommand grant_show;
  GrantShowCommand grant_revoke;
  ApproveCommand approve;
  RequirementCompileCommand compile;
  RequirementDumpCommand dump;
  RequirementTestCommand test;
};

constexpr char kBundleVersionHelp[] =
    "version of a framework (default: the current one)";
constexpr char kRequirementHelp[] =
    "requirement: =TEXT, or a file with text or a compiled one";

void AddOutputOptions(CLI::App& app, Parsed& parsed) {
  app.add_flag("--json", parsed.output.json,
               "print one JSON document on stdout");
  app.add_flag("-v,--verbose", parsed.verbose_count, "say more; repeatable");
  app.add_flag("-q,--quiet", parsed.quiet_count, "say less");
}

// `key` is the name of the option for the client's key.
void AddConnectionOptions(CLI::App& app, ConnectionSettings& connection,
                          const std::string& group, const char* key) {
  const auto add = [&](const char* name, std::string& value,
                       const char* description, const char* type) {
    app.add_option(name, value, description)->type_name(type)->group(group);
  };
  add("--server", connection.server,
      "codeseald (or CODESEAL_SERVER, or ~/.config/codeseal/client.yaml); "
      "several replicas with commas between",
      "HOST:PORT");
  add("--ca", connection.ca, "CAs of the server's certificate (CODESEAL_CA)",
      "PEM");
  add("--cert", connection.cert, "this client's certificate (CODESEAL_CERT)",
      "PEM");
  add(key, connection.key, "and its private key (CODESEAL_KEY)", "PEM");
}

void AddSignerOptions(CLI::App& app, SignerOptions& signer, Parsed& parsed) {
  const std::string group = "Who signs";
  const auto add = [&](const char* name, std::string& value,
                       const char* description, const char* type) {
    app.add_option(name, value, description)->type_name(type)->group(group);
  };
  AddConnectionOptions(app, signer.connection, group, "--key");
  add("--token", signer.token_uri,
      "sign with a token on this machine (RFC 7512; the PIN comes from "
      "pin-source or is asked for; CODESEAL_TOKEN)",
      "URI");
  add("--chain", signer.chain_path,
      "certificates that the token does not hold (CODESEAL_CHAIN)", "PEM");
  add("--oidc-token-file", signer.oidc_token_path,
      "OpenID Connect token of this CI job (CODESEAL_OIDC_TOKEN_FILE, or the "
      "token itself in CODESEAL_OIDC_TOKEN)",
      "FILE");
  add("--grant", signer.grant,
      "the grant that allows it, see `codeseal grant` (CODESEAL_GRANT)", "ID");
  add("--timestamp-roots", signer.timestamp_roots_path,
      "with --token: roots that --timestamp=URL may end in (default: those "
      "that this machine trusts)",
      "PEM");
  app.add_flag("--allow-imported-key", signer.imported_key_allowed,
               "accept a key that was not generated inside the token")
      ->group(group);
  app.add_option("--timeout", parsed.timeout_seconds,
                 "longest time for one call")
      ->type_name("SECONDS")
      ->check(CLI::PositiveNumber)
      ->group(group);
}

void AddPaths(CLI::App& app, std::vector<std::string>& paths) {
  app.add_option("PATH", paths, "files")->required()->type_name("");
}

void AddSign(CLI::App& root, Parsed& parsed) {
  SignCommand& sign = parsed.sign;
  CLI::App& app = *root.add_subcommand("sign", "Sign code: files and bundles");
  app.add_option("-s,--sign,--identity", sign.identity,
                 "identity: name, or SHA-1 of its certificate; - for ad-hoc "
                 "(default: CODESEAL_IDENTITY)")
      ->type_name("IDENTITY");
  app.add_flag("-f,--force", sign.force, "replace an existing signature");
  app.add_option("-D,--detached", sign.detached_path,
                 "write the signature of one file or bundle here, and leave it "
                 "as it is")
      ->type_name("FILE");
  app.add_option("--file-list", sign.file_list_path,
                 "append the paths of all files that changed to FILE; - is "
                 "stdout")
      ->type_name("FILE");
  app.add_option("-i,--identifier", sign.identifier,
                 "identifier (default: from Info.plist or the file's name)")
      ->type_name("ID");
  app.add_option("--prefix", sign.identifier_prefix,
                 "put before a default identifier that has no dot")
      ->type_name("PREFIX");
  app.add_option("-o,--options", sign.flags,
                 "flags: runtime, library-validation, hard, kill, ...")
      ->type_name("FLAGS");
  app.add_option("--entitlements", sign.entitlements_path,
                 "entitlements, an XML property list")
      ->type_name("FILE");
  app.add_option("-r,--requirements", sign.requirement, kRequirementHelp)
      ->type_name("REQ");
  app.add_option("--timestamp", sign.timestamp,
                 "ask for a timestamp; =none for none, =URL for one of this "
                 "server's (default: as the identity's configuration says; "
                 "with --token none, and Apple's server without URL)")
      ->type_name("MODE");
  app.add_option("--preserve-metadata", sign.preserve_metadata,
                 "keep from the old signature: identifier, entitlements, "
                 "requirements, flags, runtime, ...")
      ->type_name("LIST");
  app.add_option("--digest-algorithm", sign.digest_algorithms,
                 "sha1, sha256, sha384 (default: by the minimum OS version)")
      ->type_name("LIST");
  app.add_option("-P,--page-size,--pagesize", sign.page_size,
                 "bytes of a page, a power of two; none for one page")
      ->type_name("N");
  app.add_option("--runtime-version", sign.runtime_version,
                 "hardened runtime version (default: the SDK's)")
      ->type_name("X.Y.Z");
  app.add_option("--signature-size", sign.signature_size,
                 "bytes reserved for the CMS signature (default: 18000)")
      ->type_name("BYTES")
      ->check(CLI::Range(uint32_t{1}, uint32_t{16} << 20));
  app.add_flag("--force-library-entitlements", sign.force_library_entitlements,
               "put entitlements into a library too");
  app.add_flag("--deep", sign.deep,
               "sign nested code too, inside-out; without it nested code must "
               "be signed already");
  app.add_option("--settings", sign.settings_path,
                 "YAML: entitlements, options, identifier, requirements for "
                 "each nested path or pattern")
      ->type_name("FILE");
  app.add_option("--receipts", sign.receipts_path,
                 "folder in which the audit log's receipts are kept, as "
                 "REQUEST_ID.tlog-proof")
      ->type_name("DIR");
  app.add_flag("--sign-resources", sign.sign_resources,
               "sign code that is sealed as a resource, too (code in "
               "Resources, inner code of iOS apps)");
  app.add_flag("--strict,!--no-strict", sign.strict,
               "refuse code that macOS refuses (default)");
  app.add_option("--bundle-version", sign.bundle_version,
                 "which version of a versioned framework (default: Current)")
      ->type_name("NAME");
  app.add_flag("--legacy-signing,!--no-legacy-signing", sign.legacy_signing,
               "seal for old systems, too (default)");
  app.add_flag("--seal-root", sign.seal_root,
               "seal files beside Contents instead of refusing them");
  app.add_option("--resource-rules", sign.resource_rules,
                 "not supported by any current macOS")
      ->type_name("FILE");
  app.add_option("--host-architecture", sign.host_architecture,
                 "the slice whose hash a seal stores (default: arm64)")
      ->check(CLI::IsMember({"arm64", "x86_64"}))
      ->type_name("ARCH");
  const auto constraint = [&](const char* name, std::string& path,
                              const char* whose) {
    app.add_option(
           name, path,
           std::string("property list with what is demanded of ") + whose)
        ->type_name("FILE");
  };
  constraint("--launch-constraint-self", sign.launch_constraint_self,
             "the code itself when it is started");
  constraint("--launch-constraint-parent", sign.launch_constraint_parent,
             "the process that starts it");
  constraint("--launch-constraint-responsible",
             sign.launch_constraint_responsible,
             "the process that is responsible for it");
  constraint("--library-constraint", sign.library_constraint,
             "libraries that it loads");
  app.add_flag("-n,--dry-run", sign.dry_run,
               "compute and have it judged, but sign and write nothing");
  AddPaths(app, sign.paths);
  AddSignerOptions(app, sign.signer, parsed);
  AddOutputOptions(app, parsed);
}

void AddVerify(CLI::App& root, Parsed& parsed) {
  VerifyCommand& verify = parsed.verify;
  CLI::App& app = *root.add_subcommand("verify", "Check signatures");
  app.add_option("-R,--test-requirement", verify.requirement, kRequirementHelp)
      ->type_name("REQ");
  app.add_option("--anchors", verify.anchors_path,
                 "roots to trust beside Apple's; demands one of them")
      ->type_name("PEM");
  app.add_option("-D,--detached", verify.detached_path,
                 "the signature of PATH, as sign --detached wrote it")
      ->type_name("FILE");
  app.add_flag("--check-expiration", verify.check_expiration,
               "certificates must be valid now");
  app.add_flag("--check-revocation", verify.check_revocation,
               "ask whether certificates were revoked: the files below, the "
               "signature itself, then, for trusted chains, the network");
  app.add_option("--crl", verify.list_paths,
                 "a revocation list (DER or PEM); asks for the check")
      ->type_name("FILE");
  app.add_option("--ocsp", verify.ocsp_paths,
                 "an OCSP response (DER); asks for the check")
      ->type_name("FILE");
  app.add_flag("--offline", verify.offline,
               "never ask about revocation over the network");
  app.add_option("--at", verify.at,
                 "judge certificates as of this time (RFC 3339)")
      ->type_name("TIME");
  app.add_flag("--deep", verify.deep,
               "verify nested code as thoroughly, not only its signature");
  app.add_flag("--no-strict", verify.no_strict,
               "take old seals and odd structures");
  app.add_option("--strict", verify.strict,
                 "more rules: symlinks, sideband or all (--strict=all)")
      ->type_name("WORD");
  app.add_flag("--ignore-resources", verify.ignore_resources,
               "look at a bundle's code only");
  app.add_option("--bundle-version", verify.bundle_version, kBundleVersionHelp)
      ->type_name("VERSION");
  AddPaths(app, verify.paths);
  AddOutputOptions(app, parsed);
}

void AddShow(CLI::App& root, Parsed& parsed) {
  ShowCommand& show = parsed.show;
  CLI::App& app = *root.add_subcommand("show", "Describe signatures");
  app.add_option("-a,--architecture", show.architecture,
                 "one slice, or all (default: arm64 if there is one)")
      ->type_name("ARCH");
  app.add_option("-r,--requirements", show.requirements_path,
                 "write the requirements to FILE; - is stdout")
      ->type_name("FILE");
  app.add_option("--entitlements", show.entitlements_path,
                 "write the entitlements to FILE; - is stdout")
      ->type_name("FILE");
  app.add_flag("--xml", show.xml, "entitlements as XML, not as a listing");
  app.add_flag("--der", show.der, "entitlements as DER, as they are stored");
  app.add_option("--extract-certificates", show.certificates_prefix,
                 "write the chain to PREFIX0, PREFIX1, ... (DER, leaf first)")
      ->type_name("PREFIX");
  app.add_option("--extract-signature", show.signature_prefix,
                 "write each slice's CMS and what it signs to "
                 "PREFIX.ARCH.cms and PREFIX.ARCH.codedirectory")
      ->type_name("PREFIX");
  app.add_option("-D,--detached", show.detached_path,
                 "the signature of PATH, as sign --detached wrote it")
      ->type_name("FILE");
  app.add_option("--file-list", show.file_list_path,
                 "append the paths of the files with the signature to FILE; - "
                 "is stdout")
      ->type_name("FILE");
  app.add_option("--bundle-version", show.bundle_version, kBundleVersionHelp)
      ->type_name("VERSION");
  AddPaths(app, show.paths);
  AddOutputOptions(app, parsed);
}

constexpr char kAnchorsHelp[] =
    "roots that count as Apple's: a CA of your own, to try things out";

void AddAssess(CLI::App& root, Parsed& parsed) {
  AssessCommand& assess = parsed.assess;
  CLI::App& app =
      *root.add_subcommand("assess", "Would Gatekeeper let it in, and why not");
  app.add_option("-t,--type", assess.type,
                 "execute (apps), open (disk images) or install (packages)")
      ->check(CLI::IsMember({"execute", "open", "install"}))
      ->type_name("TYPE");
  app.add_option("--anchors", assess.anchors_path, kAnchorsHelp)
      ->type_name("PEM");
  AddPaths(app, assess.paths);
  AddOutputOptions(app, parsed);
}

void AddPreflight(CLI::App& root, Parsed& parsed) {
  PreflightCommand& preflight = parsed.preflight;
  CLI::App& app = *root.add_subcommand(
      "preflight", "What the notary or the App Store would refuse");
  app.add_option("--for", preflight.purpose,
                 "developer-id, notarization, app-store, or ad-hoc (registered "
                 "devices)")
      ->required()
      ->check(CLI::IsMember(
          {"developer-id", "notarization", "app-store", "ad-hoc"}))
      ->type_name("PURPOSE");
  app.add_option("--profile", preflight.profile_path,
                 "provisioning profile (default: the one in the bundle)")
      ->type_name("FILE");
  app.add_option("--anchors", preflight.anchors_path, kAnchorsHelp)
      ->type_name("PEM");
  AddPaths(app, preflight.paths);
  AddOutputOptions(app, parsed);
}

void AddDetached(CLI::App& root, Parsed& parsed) {
  CLI::App& detach = *root.add_subcommand(
      "detach", "Write the signatures of code to a file of their own");
  detach.add_option("PATH", parsed.detach.path, "signed code")
      ->required()
      ->type_name("");
  detach
      .add_option("-o,--output", parsed.detach.output_path,
                  "where to write them")
      ->required()
      ->type_name("SIG");
  AddOutputOptions(detach, parsed);
  CLI::App& attach = *root.add_subcommand(
      "attach", "Put detached signatures into the same code, built again");
  attach
      .add_option("SIG", parsed.attach.archive_path, "what detach has written")
      ->required()
      ->type_name("");
  attach.add_option("PATH", parsed.attach.path, "the code")
      ->required()
      ->type_name("");
  AddOutputOptions(attach, parsed);
}

void AddIdentities(CLI::App& root, Parsed& parsed) {
  CLI::App& app = *root.add_subcommand("identities", "What you may sign with");
  app.require_subcommand(1);
  CLI::App& list = *app.add_subcommand("list", "List them");
  AddSignerOptions(list, parsed.list.signer, parsed);
  AddOutputOptions(list, parsed);
  CLI::App& show = *app.add_subcommand("show", "Show one");
  show.add_option("NAME", parsed.identity.name,
                  "name, or SHA-1 of the certificate")
      ->required()
      ->type_name("");
  show.add_flag("--pem", parsed.identity.pem, "print its chain only");
  show.add_flag("--team", parsed.identity.team, "print its Team ID only");
  AddSignerOptions(show, parsed.identity.signer, parsed);
  AddOutputOptions(show, parsed);
  IdentitiesDoctorCommand& doctor = parsed.doctor;
  CLI::App& checkup = *app.add_subcommand(
      "doctor", "What is wrong with keys and certificates, and what to do");
  checkup.add_option("--team", doctor.team, "all should be of this team")
      ->type_name("TEAMID");
  checkup.add_option("--anchors", doctor.anchors_path, kAnchorsHelp)
      ->type_name("PEM");
  checkup
      .add_option("--soon", doctor.soon_days,
                  "warn that many days before a certificate expires "
                  "(default: 30)")
      ->check(CLI::NonNegativeNumber)
      ->type_name("DAYS");
  AddSignerOptions(checkup, doctor.signer, parsed);
  AddOutputOptions(checkup, parsed);
}

void AddGrants(CLI::App& root, Parsed& parsed) {
  CLI::App& app = *root.add_subcommand(
      "grant", "Ask people to agree before a server signs");
  app.require_subcommand(1);
  GrantRequestCommand& ask = parsed.grant_request;
  CLI::App& request = *app.add_subcommand("request", "Ask for a grant");
  request
      .add_option("-s,--identity", ask.identity,
                  "identity (default: CODESEAL_IDENTITY)")
      ->type_name("IDENTITY");
  request
      .add_option("--cdhash", ask.cdhashes,
                  "what may be signed, as `codeseal sign -n` prints it; again "
                  "for each slice and digest")
      ->type_name("HEX");
  request
      .add_option("--release", ask.release,
                  "or: a release that is not built yet")
      ->type_name("NAME");
  request
      .add_option("--identifier", ask.identifiers,
                  "with --release: identifiers of its code")
      ->type_name("ID");
  request.add_option("--uses", ask.max_uses, "signatures (default: one each)")
      ->type_name("N");
  request
      .add_option("--for", ask.lifetime,
                  "how long, such as 2h (default: as long as it may be)")
      ->type_name("TIME");
  request.add_option("--reason", ask.reason, "for those who decide")
      ->type_name("TEXT");
  AddSignerOptions(request, ask.signer, parsed);
  AddOutputOptions(request, parsed);
  CLI::App& list = *app.add_subcommand("list", "List grants");
  list.add_option("-s,--identity", parsed.grant_list.identity, "of this one")
      ->type_name("IDENTITY");
  list.add_flag("--all", parsed.grant_list.all, "those that are over, too");
  AddSignerOptions(list, parsed.grant_list.signer, parsed);
  AddOutputOptions(list, parsed);
  const auto add_one = [&](const char* name, const char* description,
                           GrantShowCommand& command) {
    CLI::App& one = *app.add_subcommand(name, description);
    one.add_option("ID", command.id, "the grant")->required()->type_name("");
    AddSignerOptions(one, command.signer, parsed);
    AddOutputOptions(one, parsed);
  };
  add_one("show", "Show one, with its signed approvals", parsed.grant_show);
  add_one("revoke", "End one", parsed.grant_revoke);
  CLI::App& approve = *root.add_subcommand(
      "approve", "Approve a grant; --token names the key that signs for it");
  approve.add_option("ID", parsed.approve.id, "the grant")
      ->required()
      ->type_name("");
  approve.add_flag("--reject", parsed.approve.reject, "reject it instead");
  AddSignerOptions(approve, parsed.approve.signer, parsed);
  AddOutputOptions(approve, parsed);
}

void AddRequirement(CLI::App& root, Parsed& parsed) {
  CLI::App& app = *root.add_subcommand("requirement",
                                       "Compile, print and test requirements");
  app.require_subcommand(1);
  CLI::App& compile = *app.add_subcommand("compile", "Text to binary");
  compile.add_option("REQ", parsed.compile.requirement, kRequirementHelp)
      ->required()
      ->type_name("");
  compile
      .add_option("-o,--output", parsed.compile.output_path,
                  "write the binary there (default: print it as text)")
      ->type_name("FILE");
  AddOutputOptions(compile, parsed);
  CLI::App& dump = *app.add_subcommand("dump", "Binary to text");
  AddPaths(dump, parsed.dump.paths);
  AddOutputOptions(dump, parsed);
  CLI::App& test = *app.add_subcommand("test", "Whether code satisfies it");
  test.add_option("-R,--requirement", parsed.test.requirement, kRequirementHelp)
      ->required()
      ->type_name("REQ");
  AddPaths(test, parsed.test.paths);
  AddOutputOptions(test, parsed);
}

void AddCollect(CLI::App& audit, Parsed& parsed) {
  CLI::App& app = *audit.add_subcommand(
      "collect",
      "Copy what is new in a server's log, if it grew out of what is here");
  app.add_option("--dir", parsed.collect.folder, "folder of the copy")
      ->required()
      ->type_name("DIR");
  app.add_option("--log-key", parsed.collect.key,
                 "the log's verifier key, or a file with it")
      ->required()
      ->type_name("KEY");
  app.add_option("--every", parsed.collect_seconds,
                 "go on, and look again so often (default: once)")
      ->type_name("SECONDS")
      ->check(CLI::PositiveNumber);
  AddConnectionOptions(app, parsed.collect.connection, "Server", "--key");
  AddOutputOptions(app, parsed);
}

std::unique_ptr<CLI::App> MakeApp(Parsed& parsed) {
  auto app = std::make_unique<CLI::App>(
      "Signs Apple code with keys that never leave a PKCS#11 token.",
      "codeseal");
  app->set_version_flag("--version", kVersion);
  app->require_subcommand(1);
  AddSign(*app, parsed);
  AddVerify(*app, parsed);
  AddShow(*app, parsed);
  AddAssess(*app, parsed);
  AddPreflight(*app, parsed);
  CLI::App& strip = *app->add_subcommand("strip", "Remove signatures");
  AddPaths(strip, parsed.strip.paths);
  AddOutputOptions(strip, parsed);
  AddDetached(*app, parsed);
  AddIdentities(*app, parsed);
  AddGrants(*app, parsed);
  AddRequirement(*app, parsed);
  AddCollect(
      audit::AddAuditCommands(*app, parsed.audit.run, parsed.audit.subject),
      parsed);
  CLI::App& completion =
      *app->add_subcommand("completion", "Print a completion script");
  completion.add_option("SHELL", parsed.completion.shell, "bash, zsh or fish")
      ->required()
      ->type_name("");
  return app;
}

CommandTree DescribeCommands(CLI::App& app) {
  CommandTree tree{app.get_name(), app.get_description(), {}, {}};
  for (const CLI::Option* option : app.get_options()) {
    CommandTree::Option described;
    for (const std::string& name : option->get_snames()) {
      described.names.push_back("-" + name);
    }
    for (const std::string& name : option->get_lnames()) {
      described.names.push_back("--" + name);
    }
    if (described.names.empty()) continue;  // positional
    described.description = option->get_description();
    described.takes_value = option->get_expected_max() > 0;
    tree.options.push_back(std::move(described));
  }
  for (CLI::App* command : app.get_subcommands({})) {
    tree.commands.push_back(DescribeCommands(*command));
  }
  return tree;
}

// The innermost command that was given.
const CLI::App& Innermost(const CLI::App& app, std::string& name) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  if (chosen.empty()) return app;
  name += (name.empty() ? "" : " ") + chosen.front()->get_name();
  return Innermost(*chosen.front(), name);
}

Command ChooseCommand(const std::string& name, Parsed& parsed) {
  if (name == "sign") return parsed.sign;
  if (name == "verify") return parsed.verify;
  if (name == "show") return parsed.show;
  if (name == "assess") return parsed.assess;
  if (name == "preflight") return parsed.preflight;
  if (name == "strip") return parsed.strip;
  if (name == "detach") return parsed.detach;
  if (name == "attach") return parsed.attach;
  if (name == "identities list") return parsed.list;
  if (name == "identities show") return parsed.identity;
  if (name == "identities doctor") return parsed.doctor;
  if (name == "grant request") return parsed.grant_request;
  if (name == "grant list") return parsed.grant_list;
  if (name == "grant show") return parsed.grant_show;
  if (name == "grant revoke") return parsed.grant_revoke;
  if (name == "approve") return parsed.approve;
  if (name == "requirement compile") return parsed.compile;
  if (name == "requirement dump") return parsed.dump;
  if (name == "requirement test") return parsed.test;
  if (name == "audit collect") {
    parsed.collect.every = absl::Seconds(parsed.collect_seconds);
    return parsed.collect;
  }
  if (name.starts_with("audit ")) return parsed.audit;
  return parsed.completion;
}

// CODESEAL_TOKEN and CODESEAL_CHAIN name a token on this machine for commands
// that were told of neither server nor token.
void UseEnvironment(Command& command, const Environment& environment) {
  std::visit(
      [&](auto& chosen) {
        if constexpr (requires { chosen.signer; }) {
          SignerOptions& signer = chosen.signer;
          if (!signer.token_uri.empty() || !signer.connection.server.empty()) {
            return;
          }
          signer.token_uri = environment("CODESEAL_TOKEN").value_or("");
          if (!signer.token_uri.empty() && signer.chain_path.empty()) {
            signer.chain_path = environment("CODESEAL_CHAIN").value_or("");
          }
        }
      },
      command);
}

PrintedText Complaint(const std::string& message, const CLI::App& app) {
  std::string command = app.get_name();
  for (const CLI::App* parent = app.get_parent(); parent != nullptr;
       parent = parent->get_parent()) {
    command = parent->get_name() + " " + command;
  }
  return {"",
          "codeseal: cannot understand the command line\n  why    " +
              Printable(message) + "\n  fix    see `" + command + " --help`\n",
          ExitCode::kUsage};
}

}  // namespace

Invocation ParseCommandLine(const std::vector<std::string>& arguments,
                            const Environment& environment) {
  Parsed parsed;
  const std::unique_ptr<CLI::App> app = MakeApp(parsed);
  Invocation invocation;
  // CLI11 takes the words in reverse. --timestamp and --strict have a value
  // only with "=", so that a path behind them stays a path.
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  for (std::string& word : reversed) {
    if (word == "--timestamp") word = "--timestamp=default";
    if (word == "--strict") word = "--strict=all";
  }
  try {
    app->parse(reversed);
  } catch (const CLI::CallForHelp&) {
    const CLI::App& inner = Innermost(*app, invocation.name);
    invocation.command = PrintedText{inner.help(), "", ExitCode::kDone};
    return invocation;
  } catch (const CLI::CallForVersion& version) {
    invocation.command =
        PrintedText{std::string(version.what()) + "\n", "", ExitCode::kDone};
    return invocation;
  } catch (const CLI::ParseError& fault) {
    const CLI::App& inner = Innermost(*app, invocation.name);
    invocation.command = Complaint(fault.what(), inner);
    return invocation;
  }
  Innermost(*app, invocation.name);
  invocation.output = parsed.output;
  invocation.output.verbosity = parsed.verbose_count - parsed.quiet_count;
  const absl::Duration timeout = absl::Seconds(parsed.timeout_seconds);
  parsed.sign.signer.timeout = timeout;
  parsed.list.signer.timeout = timeout;
  parsed.identity.signer.timeout = timeout;
  parsed.doctor.signer.timeout = timeout;
  parsed.grant_request.signer.timeout = timeout;
  parsed.grant_list.signer.timeout = timeout;
  parsed.grant_show.signer.timeout = timeout;
  parsed.grant_revoke.signer.timeout = timeout;
  parsed.grant_revoke.revoke = true;
  parsed.approve.signer.timeout = timeout;
  if (parsed.grant_request.identity.empty()) {
    parsed.grant_request.identity =
        environment("CODESEAL_IDENTITY").value_or("");
  }
  if (parsed.sign.identity.empty()) {
    parsed.sign.identity = environment("CODESEAL_IDENTITY").value_or("");
  }
  invocation.command = ChooseCommand(invocation.name, parsed);
  UseEnvironment(invocation.command, environment);
  return invocation;
}

Invocation ParseByName(std::string_view program,
                       const std::vector<std::string>& arguments,
                       const Environment& environment) {
  const std::string name(program.substr(program.rfind('/') + 1));
  Invocation (*parse)(const std::vector<std::string>&) = nullptr;
  if (name == "codesign") parse = ParseCodesign;
  if (name == "csreq") parse = ParseCsreq;
  if (name == "security") parse = ParseSecurity;
  if (name == "spctl") parse = ParseSpctl;
  if (parse == nullptr) return ParseCommandLine(arguments, environment);
  Invocation invocation = parse(arguments);
  UseEnvironment(invocation.command, environment);
  return invocation;
}

CommandTree DescribeCommandLine() {
  Parsed parsed;
  return DescribeCommands(*MakeApp(parsed));
}

}  // namespace codeseal::client
