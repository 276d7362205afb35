// What codeseald is told by its one configuration file. The file is strict: an
// unknown key is an error, and everything that is wrong is said at once.
//
//   codeseald.yaml -> [ServerConfig] -> tokens, identities, listener
//
// Secrets appear by reference only (files, systemd credentials). Relative
// paths count from the folder of the configuration file.

#ifndef CODESEAL_SERVER_CONFIG_H_
#define CODESEAL_SERVER_CONFIG_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codeseal/v1/identity.pb.h"
#include "codesign/base/digest.h"
#include "codesign/cms/timestamp.h"
#include "hsm/token.h"
#include "server/release_window.h"

namespace codeseal {

// As messages name a text of the configuration.
inline std::string Quoted(std::string_view text) {
  return "'" + std::string(text) + "'";
}

struct ListenConfig {
  std::string address;  // "127.0.0.1:8443", "[::]:8443"; port 0: any free one
  uint32_t max_connections = 512;
  uint32_t per_peer = 32;  // connections of one peer address
};

struct TlsConfig {
  std::string certificate;  // PEM: leaf, then intermediates
  std::string key;          // PEM
  std::string client_ca;    // PEM
  std::string deny_list;    // see peer.h; empty: nobody is denied
  std::string client_crl;   // see client_revocation.h; empty: none is revoked
};

// Who may use an identity: every field that is given must fit.
struct PeerRule {
  std::string spiffe;       // pattern of a URI SAN, '*' stops at '/'
  std::string dns;          // pattern of a DNS SAN, '*' stops at '.'
  std::string fingerprint;  // SHA-256 of the certificate, lower-case hex
  // SHA-256 of the public key (SubjectPublicKeyInfo), which a renewed
  // certificate may keep; lower-case hex.
  std::string key_fingerprint = {};
  // A token of this provider (`oidc`), with exactly these claims.
  std::string provider = {};
  std::map<std::string, std::string> claims = {};
};

// Whose OpenID Connect tokens say which CI job calls; see workload_identity.h.
struct OidcProviderConfig {
  std::string name;
  std::string issuer;    // the `iss` of its tokens
  std::string audience;  // must be among their `aud`
  // RS256, ES256: what its tokens may be signed with, whatever they say.
  std::vector<std::string> algorithms = {"RS256"};
  std::string keys_file;  // JSON Web Key Set; or
  std::string keys_url;
  absl::Duration refresh = absl::Hours(1);  // of keys_url
  // A repository's or project's number: every rule must name it, because names
  // are given away again.
  std::string id_claim;
  absl::Duration max_age = absl::Minutes(15);  // since `iat`
  absl::Duration leeway = absl::Seconds(30);   // between the clocks
};

struct IdentityRules {
  std::string team;  // empty: the Team ID of the identity's certificate
  std::vector<std::string> identifiers;  // patterns; empty: every identifier
  uint32_t require_flags = 0;            // CodeDirectory flags, all of them
  uint32_t forbid_flags = 0;             // none of them
  // Patterns of keys, or KEY=VALUE with patterns of both. With an allow list
  // nothing else is allowed; what is denied is denied in any case.
  std::vector<std::string> entitlements_deny;
  std::vector<std::string> entitlements_allow;  // empty: every one
  DigestKind min_digest = DigestKind::kSha1;    // of the best CodeDirectory
  bool allow_digest_only = false;
  bool allow_packages = false;
};

// How many signatures an identity makes in a period, in all and for one client;
// 0: any number.
struct QuotaConfig {
  uint32_t per_minute = 0;
  uint32_t per_hour = 0;
  uint32_t per_day = 0;
  uint32_t client_per_minute = 0;
  uint32_t client_per_hour = 0;
  uint32_t client_per_day = 0;

  bool operator==(const QuotaConfig&) const = default;
};

// Who may approve what others ask for; see grants.h.
struct ApproverConfig {
  std::string name;
  std::string key;  // PEM file: public key or certificate
  PeerRule peer;    // who calls with that key
};
struct ApprovalConfig {
  uint32_t quorum = 0;  // approvers who must agree; 0: nobody is asked
  absl::Duration window = absl::Hours(4);  // longest life of a grant
  uint32_t max_uses = 50;                  // most signatures of a grant
  std::vector<ApproverConfig> approvers;
};

// A key on a token of this file.
struct KeyLocation {
  std::string token;  // its name under `tokens`
  KeyReference key;
};

// A timestamp authority; see tsa/timestamper.h.
struct TsaConfig {
  std::string name;
  std::vector<std::string> urls;              // asked in this order
  absl::Duration timeout = absl::Seconds(5);  // of one query
  uint32_t attempts = 5;                      // queries for one token
  uint32_t concurrency = 256;                 // queries at once
  TimestampProfile profile = TimestampProfile::kRfc3161;
  std::string roots;   // PEM; may be empty with Apple's profile
  std::string policy;  // dotted OID; empty: any
};

enum class TimestampPolicy : uint8_t {
  kNone,       // no timestamp, unless the caller asks for one
  kPreferred,  // one, if an authority gives it
  kRequired,   // one, or no signature
};

struct IdentityTimestampConfig {
  std::string tsa;  // name; empty: there is none
  TimestampPolicy mode = TimestampPolicy::kNone;
  std::vector<std::string> also;  // authorities that callers may choose
};

struct IdentityVersionConfig {
  std::string id;
  v1::IdentityState state = v1::IDENTITY_STATE_ACTIVE;
  // One key pair, by preference; several when several tokens hold it.
  std::vector<KeyLocation> keys;
  std::string chain;      // PEM: leaf first; the self-signed root must be there
  std::string chain_pem;  // the same as text, when there is no file
  // When a staged version becomes active by itself.
  absl::Time activate_at = absl::InfiniteFuture();
  // Code of this version may be another program to macOS.
  bool requirement_change_allowed = false;
};

struct IdentityConfig {
  std::string name;
  std::vector<IdentityVersionConfig> versions;  // at most one is active
  KeyPolicy key_policy = KeyPolicy::kStrict;
  IdentityRules rules;
  IdentityTimestampConfig timestamp;
  std::vector<PeerRule> allow;
  // Who of them may have digests alone signed; empty: all, if the rules do.
  std::vector<PeerRule> digest_only;
  QuotaConfig limits;
  std::vector<ReleaseWindow> release_windows;  // none: at any time
  ApprovalConfig approvals;
  // How long a retired version still signs for requests that name it: those of
  // clients that looked at its certificate before it was retired.
  absl::Duration overlap = absl::Minutes(10);
  // How long before a certificate expires somebody should know.
  absl::Duration expiry_warning = absl::Hours(24 * 30);
};

struct LimitsConfig {
  size_t message = size_t{4} << 20;     // bytes of one gRPC message
  size_t item = size_t{32} << 20;       // bytes of one SignRequest, from chunks
  size_t buffered = size_t{256} << 20;  // bytes of all requests held at once
  uint32_t streams = 100;               // calls at once on one connection
  // Unanswered items of one SignStream. Those that wait for a timestamp count:
  // the timestamps of a whole app should wait side by side.
  uint32_t stream_window = 256;
  uint32_t queue = 1024;  // requests waiting for one token
  absl::Duration queue_age = absl::Seconds(10);  // longest wait for a token
  absl::Duration deadline = absl::Seconds(30);   // longest life of a request
  absl::Duration drain = absl::Seconds(30);      // longest end of the server
};

// See postgres_database.h.
struct PostgresConfig {
  std::string dsn_file;  // its text is libpq's connection string
  absl::Duration timeout = absl::Seconds(3);
  absl::Duration lease = absl::Seconds(10);
  uint32_t connections = 4;
};

// What must survive a restart.
struct StateConfig {
  // Made when it is not there. Empty: nothing is remembered.
  std::string folder;
  // SQLite file of the ledger, made when it is not there. Empty: a request id
  // signs at most once only as far as its client keeps it so.
  std::string ledger;
  // Or PostgreSQL, which several replicas share; empty file name: not.
  PostgresConfig postgres;
  absl::Duration retention = absl::Hours(24 * 7);  // of ended requests
};

struct AdminConfig {
  // Who may do more than sign: clear PIN holds, rotate identities. Empty:
  // nobody.
  std::vector<PeerRule> allow;
  // Plain HTTP for probes and Prometheus: see admin_http.h. Empty: none.
  std::string address;
};

// The log of signatures; see audit/log.h.
struct AuditConfig {
  std::string folder;  // empty: there is no log
  std::string record;  // of what was signed; empty: FOLDER.signed
  std::string origin;  // the log's name, of this replica alone
  std::string token;   // name of the token that has the log's key
  KeyReference key;    // EC, P-256 or P-384
  KeyPolicy key_policy = KeyPolicy::kStrict;
  absl::Duration timeout = absl::Seconds(2);  // of one entry
  size_t reserve = size_t{64} << 20;  // bytes that the disk must have free
  std::vector<PeerRule> readers;      // who may read entries
};

struct ServerConfig {
  ListenConfig listen;
  TlsConfig tls;
  StateConfig state;
  AdminConfig admin;
  std::vector<TokenConfig> tokens;
  std::vector<TsaConfig> authorities;  // `tsa`
  std::vector<OidcProviderConfig> oidc;
  std::vector<IdentityConfig> identities;
  LimitsConfig limits;
  AuditConfig audit;
  std::string sha256;  // of the file, lower-case hex
};

struct ConfigProblem {
  int line = 0;     // from 1; 0: the file as a whole
  std::string key;  // "identities[0].rules.team"
  std::string message;
};

struct ParsedConfig {
  ServerConfig config;  // complete only when there are no problems
  std::vector<ConfigProblem> problems;  // by line
};

// Reads YAML text. `folder` is where relative paths count from; files that the
// text names must be readable. Not checked: what the files contain.
ParsedConfig ParseConfig(std::string_view text, const std::string& folder);

// Reads and parses the file. The error lists every problem, one a line, as
// "FILE:LINE: KEY: what is wrong".
// Errors: NOT_FOUND REASON_FILE_NOT_FOUND and its like; INVALID_ARGUMENT
// REASON_BAD_CONFIG.
absl::StatusOr<ServerConfig> LoadConfig(const std::string& path);

// "TOKEN:id=%01%02", "TOKEN:object=NAME" or both with ';' between: the words of
// RFC 7512. False for anything else.
bool ParseKeyLocation(const std::string& text, KeyLocation& location);

// The entries of a deny list: {version: 1, deny: [{spiffe|dns|fingerprint}]}.
// Errors: as LoadConfig().
absl::StatusOr<std::vector<PeerRule>> LoadDenyList(const std::string& path);

// An error as LoadConfig() makes it.
absl::Status ConfigError(const std::string& path,
                         const std::vector<ConfigProblem>& problems);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_CONFIG_H_
