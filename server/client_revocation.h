// Which client certificates their authorities have revoked. TLS asks nobody;
// this does for every call, so that a revocation bites on open connections.
//
//   lists (CRLs) + client_ca -> [ClientRevocation] <- Peer
//
// Spec: RFC 5280 section 6.3, by codesign/cms/revocation.h.

#ifndef CODESEAL_SERVER_CLIENT_REVOCATION_H_
#define CODESEAL_SERVER_CLIENT_REVOCATION_H_

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codesign/cms/certificate.h"
#include "codesign/cms/revocation.h"
#include "server/config.h"
#include "server/watched_files.h"

namespace codeseal {

struct Peer;

// The lists are read again when their file or `client_ca` changes; what can't
// be read leaves the last good ones in force and is logged. Thread-safe.
class ClientRevocation {
 public:
  // `tls.client_crl` must be given.
  // Errors: those of files; Certificate::ParsePem()'s; INVALID_ARGUMENT
  // REASON_BAD_REVOCATION_DATA.
  static absl::StatusOr<std::unique_ptr<ClientRevocation>> Create(
      const TlsConfig& tls);

  // Judges the certificate and those between it and the authority. Refused are
  // also those of whom nobody knows: their list ought to have been replaced, or
  // they name a place to ask and no list of their authority is here. Who names
  // none needs no list.
  // Errors: PERMISSION_DENIED REASON_NOT_AUTHORISED.
  absl::Status Check(const Peer& peer, absl::Time now);

 private:
  struct Lists {
    std::vector<Certificate> authorities;
    RevocationChecker checker;
  };
  struct Judged {
    absl::Status status;
    absl::Time until;
  };

  explicit ClientRevocation(const TlsConfig& tls)
      : tls_(tls), files_({tls.client_crl, tls.client_ca}) {}

  absl::StatusOr<std::unique_ptr<Lists>> Read() const;
  void ReloadIfChanged(absl::Time now);
  absl::Status Judge(const Peer& peer, absl::Time now) const;

  const TlsConfig tls_;
  std::mutex mutex_;
  WatchedFiles files_;
  std::unique_ptr<Lists> lists_;
  // By fingerprint.
  std::unordered_map<std::string, Judged> judged_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_CLIENT_REVOCATION_H_
