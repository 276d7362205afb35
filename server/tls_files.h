// The server's TLS certificate, key and client authority, taken anew from their
// files while it serves. New files that do not work (half of them written, a
// key of another certificate) leave the last good ones in force.
//
//   PEM files -> [TlsFiles] -> grpc::ServerCredentials -> each handshake
//
// gRPC 1.51 has two ways to reload. FileWatcherCertificateProvider takes any
// pair, and with one that does not fit every handshake fails; the fetcher of
// grpc_ssl_server_credentials_create_with_options() asks us, so we use that.

#ifndef CODESEAL_SERVER_TLS_FILES_H_
#define CODESEAL_SERVER_TLS_FILES_H_

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/security/server_credentials.h"
#include "server/config.h"
#include "server/watched_files.h"

namespace codeseal {

struct TlsMaterial {
  std::string client_ca;    // PEM
  std::string certificate;  // PEM: leaf, then intermediates
  std::string key;          // PEM
  absl::Time not_after;     // of the leaf
};

// Thread-safe.
class TlsFiles {
 public:
  // Errors: INVALID_ARGUMENT REASON_BAD_CONFIG with everything that is wrong.
  static absl::StatusOr<std::unique_ptr<TlsFiles>> Load(
      const TlsConfig& config);

  // What is in force now, after a look at the files, which is had twice a
  // second at most; nullopt when it is what the last call returned.
  std::optional<TlsMaterial> TakeChanged();
  // Of the certificate in force.
  absl::Time not_after() const;

  // Mutual TLS in the strictest mode: no certificate, no connection. The
  // object must outlive the server that uses them.
  std::shared_ptr<grpc::ServerCredentials> MakeCredentials();

 private:
  explicit TlsFiles(const TlsConfig& config)
      : config_(config),
        files_({config.client_ca, config.certificate, config.key}) {}

  void LookLocked(absl::Time now);

  const TlsConfig config_;
  mutable std::mutex mutex_;
  WatchedFiles files_;
  TlsMaterial material_;
  bool is_taken_ = false;
  absl::Status fault_;  // why they were refused
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_TLS_FILES_H_
