// Which CI job calls: OpenID Connect tokens of GitHub Actions, GitLab CI and
// their like, held against the providers of the configuration.
//
//   "authorization: Bearer TOKEN" -> [WorkloadVerifier] -> WorkloadIdentity
//     -> Peer -> the identity's `allow` rules
//
// A token names its issuer, audience, time and job; a rule of an identity must
// name the number of the repository or project, because names are given away
// again. That a token serves one client alone is kept in the database:
// permit.h.

#ifndef CODESEAL_SERVER_WORKLOAD_IDENTITY_H_
#define CODESEAL_SERVER_WORKLOAD_IDENTITY_H_

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/clock.h"
#include "server/config.h"
#include "server/peer.h"

namespace codeseal {

// Thread-safe. Never blocks on the network: keys are fetched by a thread of its
// own, and the last good ones stay in force.
class WorkloadVerifier {
 public:
  // Borrows the clock.
  // Errors: INVALID_ARGUMENT REASON_BAD_CONFIG for a key file that holds none.
  static absl::StatusOr<std::unique_ptr<WorkloadVerifier>> Create(
      const std::vector<OidcProviderConfig>& providers, const Clock& clock);
  ~WorkloadVerifier();
  WorkloadVerifier(const WorkloadVerifier&) = delete;
  WorkloadVerifier& operator=(const WorkloadVerifier&) = delete;

  // Everything but who may use which identity.
  // Errors: PERMISSION_DENIED REASON_BAD_IDENTITY_TOKEN; UNAVAILABLE
  // REASON_BAD_IDENTITY_TOKEN while its key is being fetched.
  absl::StatusOr<std::shared_ptr<const WorkloadIdentity>> Verify(
      std::string_view token);

 private:
  class Provider;

  explicit WorkloadVerifier(const Clock& clock);

  const Clock& clock_;
  std::vector<std::unique_ptr<Provider>> providers_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_WORKLOAD_IDENTITY_H_
