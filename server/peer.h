// Who calls, and what that caller may use. TLS has checked the certificate's
// chain once, at the handshake; everything here is checked for every call, so
// that it bites on open connections too.
//
//   TLS certificate -> [Peer] -> PeerGate -> identity's `allow` rules

#ifndef CODESEAL_SERVER_PEER_H_
#define CODESEAL_SERVER_PEER_H_

#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/base/clock.h"
#include "codesign/cms/certificate.h"
#include "server/client_revocation.h"
#include "server/config.h"
#include "server/watched_files.h"

namespace codeseal {

// What a verified OpenID Connect token says of the job that calls.
struct WorkloadIdentity {
  std::string provider;  // name in the configuration
  std::string issuer;
  std::string token_id;  // `jti`
  absl::Time expires_at;
  std::map<std::string, std::string> claims;  // numbers and words, as text
};

// What a client certificate says, and the token that came with the call.
struct Peer {
  std::vector<std::string> uris;       // URI SANs, SPIFFE ids among them
  std::vector<std::string> dns_names;  // DNS SANs
  std::string fingerprint;             // SHA-256, lower-case hex
  absl::Time not_after;
  std::string key_fingerprint = {};     // of the public key, the same way
  std::vector<Certificate> chain = {};  // as it came, leaf first
  std::shared_ptr<const WorkloadIdentity> workload = {};  // null: no token

  // The first SAN, else the fingerprint: for logs.
  std::string Name() const;
};

// Whether some rule fits the peer; an empty list fits nobody.
bool AnyRuleFits(std::span<const PeerRule> rules, const Peer& peer);

// Refuses peers whose certificate has expired or was revoked and those on the
// deny list. The list is read again when its file changes; a list that can't be
// read leaves the last good one in force and is logged. Thread-safe.
class PeerGate {
 public:
  // Without a deny list nobody is denied, without a revocation list nobody is
  // revoked. Errors: LoadDenyList()'s and ClientRevocation::Create()'s.
  static absl::StatusOr<std::unique_ptr<PeerGate>> Create(const TlsConfig& tls,
                                                          const Clock& clock);

  // Errors: PERMISSION_DENIED REASON_NOT_AUTHORISED; PERMISSION_DENIED
  // REASON_BAD_IDENTITY_TOKEN for a token that has expired.
  absl::Status Check(const Peer& peer);

 private:
  PeerGate(const std::string& deny_list, const Clock& clock)
      : deny_list_(deny_list), clock_(clock), deny_list_file_({deny_list}) {}

  absl::Status CheckDenyList(const Peer& peer, absl::Time now);

  const std::string deny_list_;
  const Clock& clock_;
  std::unique_ptr<ClientRevocation> revocation_;  // null: no list
  std::mutex mutex_;
  WatchedFiles deny_list_file_;   // guarded by mutex_
  std::vector<PeerRule> denied_;  // the same
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_PEER_H_
