// The commands of codeseal: what each was told on the command line, and the
// function that carries it out.
//
//   argv -> options.h -> a command below -> RunX -> Reporter -> exit code
//
// A RunX reports every fault itself, tries every path, and never throws.

#ifndef CODESEAL_CLIENT_COMMANDS_H_
#define CODESEAL_CLIENT_COMMANDS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/connection_settings.h"
#include "client/render.h"

namespace codeseal::client {

// Where signatures come from: a server, or with --token a token here.
struct SignerOptions {
  ConnectionFlags connection;
  std::string token_uri;   // RFC 7512; empty: a server
  std::string chain_path;  // PEM with what the token does not hold
  bool imported_key_allowed = false;
  std::string oidc_token_path;  // says which CI job this is; for a server
  std::string grant;            // id of the grant that allows it
  // PEM: roots of the timestamp authority, for a token here; empty: those that
  // this machine trusts.
  std::string timestamp_roots_path;
  absl::Duration timeout = absl::Seconds(120);
};

// The options as text, as Apple's codesign spells them; sign_options.h gives
// them their meaning.
struct SignCommand {
  SignerOptions signer;
  std::string identity;  // "-" is ad-hoc
  bool force = false;
  bool dry_run = false;
  bool force_library_entitlements = false;
  bool deep = false;            // sign nested code, too
  bool sign_resources = false;  // also code that is sealed as a resource
  bool strict = true;
  bool legacy_signing = true;     // seal in the form of version 1, too
  bool seal_root = false;         // seal what lies beside Contents
  std::string bundle_version;     // of a versioned framework
  std::string resource_rules;     // refused
  std::string settings_path;      // settings for nested code, YAML
  std::string receipts_path;      // folder for receipts of the audit log
  std::string detached_path;      // empty: the signature goes into the code
  std::string file_list_path;     // gets the files that changed
  std::string host_architecture;  // "" is arm64
  std::string identifier;
  std::string identifier_prefix;
  std::optional<std::string> flags;
  std::string entitlements_path;
  std::string requirement;  // "=TEXT" or a path
  std::string timestamp;    // "", "default", "none" or a URL
  std::string preserve_metadata;
  std::string digest_algorithms;
  std::string page_size;
  std::string runtime_version;
  std::optional<uint32_t> signature_size;
  // Property lists of constraints.
  std::string launch_constraint_self;
  std::string launch_constraint_parent;
  std::string launch_constraint_responsible;
  std::string library_constraint;
  std::vector<std::string> paths;
};
void RunSign(const SignCommand& command, Reporter& reporter);

struct VerifyCommand {
  std::string anchors_path = {};  // PEM
  std::string requirement = {};   // "=TEXT" or a path
  bool check_expiration = false;
  bool check_revocation = false;
  // Revocation lists and OCSP responses; naming one asks for the check.
  std::vector<std::string> list_paths = {};
  std::vector<std::string> ocsp_paths = {};
  bool offline = false;  // nobody is asked over the network
  std::string at = {};   // RFC 3339
  bool deep = false;
  bool no_strict = false;
  std::vector<std::string> strict =
      {};  // "symlinks", "sideband", "all", "none"
  bool ignore_resources = false;
  std::string bundle_version = {};  // of a framework; empty: the current one
  std::string detached_path = {};   // empty: the code's own signature
  std::vector<std::string> paths = {};
};
void RunVerify(const VerifyCommand& command, Reporter& reporter);

struct ShowCommand {
  // One slice's name, "all", or empty: the slice that macOS on Apple silicon
  // would run.
  std::string architecture;
  std::string requirements_path;    // "-" is stdout
  std::string entitlements_path;    // "-" is stdout
  bool xml = false;                 // entitlements as XML
  bool der = false;                 // entitlements as DER, as stored
  std::string certificates_prefix;  // PREFIX0, PREFIX1, ...
  std::string signature_prefix;     // PREFIX.arm64.cms, .arm64.codedirectory
  std::string bundle_version;       // of a framework; empty: the current one
  std::string detached_path;        // empty: the code's own signature
  std::string file_list_path;       // gets the files that make up the signature
  std::vector<std::string> paths;
};
void RunShow(const ShowCommand& command, Reporter& reporter);

// Gatekeeper's questions.
struct AssessCommand {
  std::string type = "execute";    // "execute", "open", "install"
  std::string anchors_path = {};   // PEM; roots that count as Apple's
  bool needs_context = false;      // spctl --type open without --context
  bool stops_at_first_no = false;  // spctl without --continue
  std::vector<std::string> paths = {};
};
void RunAssess(const AssessCommand& command, Reporter& reporter);

// What the notary, or the App Store, would refuse.
struct PreflightCommand {
  // "developer-id", "notarization", "app-store", "ad-hoc"
  std::string purpose = {};
  std::string profile_path = {};
  std::string anchors_path = {};  // PEM; roots that count as Apple's
  std::vector<std::string> paths = {};
};
void RunPreflight(const PreflightCommand& command, Reporter& reporter);

struct StripCommand {
  std::vector<std::string> paths;
};
void RunStrip(const StripCommand& command, Reporter& reporter);

// The signatures of code in one file, and back: codesign/signature_archive.h.
struct DetachCommand {
  std::string path;
  std::string output_path;
};
void RunDetach(const DetachCommand& command, Reporter& reporter);

struct AttachCommand {
  std::string archive_path;
  std::string path;
};
void RunAttach(const AttachCommand& command, Reporter& reporter);

// Launch and library constraints before anything is signed with them.
struct CheckConstraintCommand {
  std::vector<std::string> paths;  // property lists
};
void RunCheckConstraint(const CheckConstraintCommand& command,
                        Reporter& reporter);

struct IdentitiesListCommand {
  SignerOptions signer;
};
void RunIdentitiesList(const IdentitiesListCommand& command,
                       Reporter& reporter);

struct IdentitiesShowCommand {
  SignerOptions signer;
  std::string name;   // or the leaf's SHA-1
  bool pem = false;   // print only the chain
  bool team = false;  // print only the Team ID
};
void RunIdentitiesShow(const IdentitiesShowCommand& command,
                       Reporter& reporter);

// What is wrong with keys and certificates, of a server or a token.
struct IdentitiesDoctorCommand {
  SignerOptions signer;
  std::string team = {};          // all should be of this team; empty: any
  std::string anchors_path = {};  // PEM; roots that count as Apple's
  int soon_days = 30;             // when to warn of an expiry
};
void RunIdentitiesDoctor(const IdentitiesDoctorCommand& command,
                         Reporter& reporter);

// Grants: what people must agree to before a server signs it.
struct GrantRequestCommand {
  SignerOptions signer;
  std::string identity;
  std::vector<std::string> cdhashes;  // hexadecimal
  std::string release;
  std::vector<std::string> identifiers;
  uint32_t max_uses = 0;  // 0: one for each cdhash
  std::string lifetime;   // "4h"; empty: as long as the server lets it
  std::string reason;
};
void RunGrantRequest(const GrantRequestCommand& command, Reporter& reporter);

struct GrantListCommand {
  SignerOptions signer;
  std::string identity;  // empty: all
  bool all = false;
};
void RunGrantList(const GrantListCommand& command, Reporter& reporter);

struct GrantShowCommand {
  SignerOptions signer;
  std::string id;
  bool revoke = false;
};
void RunGrantShow(const GrantShowCommand& command, Reporter& reporter);

// The approval is signed with signer.token_uri's key.
struct ApproveCommand {
  SignerOptions signer;
  std::string id;
  bool reject = false;
};
void RunApprove(const ApproveCommand& command, Reporter& reporter);

struct RequirementCompileCommand {
  std::string requirement;  // "=TEXT" or a path
  std::string output_path;  // empty: print the canonical text
};
void RunRequirementCompile(const RequirementCompileCommand& command,
                           Reporter& reporter);

struct RequirementDumpCommand {
  std::vector<std::string> paths;  // of compiled requirements or sets
};
void RunRequirementDump(const RequirementDumpCommand& command,
                        Reporter& reporter);

struct RequirementTestCommand {
  std::string requirement;  // "=TEXT" or a path
  std::vector<std::string> paths;
};
void RunRequirementTest(const RequirementTestCommand& command,
                        Reporter& reporter);

// `audit ...`: audit/command_line.h knows the commands.
struct AuditCommand {
  std::string subject;  // the folder or file that it is about
  std::function<absl::Status(std::ostream&)> run;
};
void RunAudit(const AuditCommand& command, Reporter& reporter);

// `audit collect`: keeps a copy of a server's log; see audit/mirror.h.
struct AuditCollectCommand {
  ConnectionSettings connection;
  std::string folder;
  std::string key;  // the log's verifier key, or a file with it
  absl::Duration every = absl::ZeroDuration();  // zero: once
};
void RunAuditCollect(const AuditCollectCommand& command, Reporter& reporter);

// `security find-identity`, by that name.
struct SecurityFindIdentityCommand {
  SignerOptions signer;
  std::string policy;   // "codesigning"; empty: basic
  std::string subject;  // a part of the common name
  bool valid_only = false;
};
void RunSecurityFindIdentity(const SecurityFindIdentityCommand& command,
                             Reporter& reporter);

// `security cms -D`, by that name; "-" is standard input and output.
struct SecurityDecodeCmsCommand {
  std::string input_path;
  std::string output_path;
};
void RunSecurityDecodeCms(const SecurityDecodeCmsCommand& command,
                          Reporter& reporter);

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_COMMANDS_H_
