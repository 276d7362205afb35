// Whether this server can sign, as far as real signatures have shown: what
// /readyz and grpc.health.v1 say.
//
//   IdentityStore, AuditTrail -> [Health] -> HealthReport
//
// That a process lives is another question, which no token may answer: a dead
// token would make its server be restarted for ever.

#ifndef CODESEAL_SERVER_HEALTH_H_
#define CODESEAL_SERVER_HEALTH_H_

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "server/audit_log.h"
#include "server/identity_store.h"

namespace codeseal {

struct HealthReport {
  // Some identity can sign, and what every signature needs is there.
  bool is_ready = false;
  // What was looked at, and "ok" or a Reason: "identity ec", "audit log".
  std::vector<std::pair<std::string, std::string>> checks;
};

// Thread-safe. Borrows both; the trail may be null.
class Health {
 public:
  Health(const IdentityStore& identities, const AuditTrail* audit)
      : identities_(identities), audit_(audit) {}

  // From what is known: the tokens are asked for test signatures all the time
  // (TokenConfig::idle_ping), and each failed request counts at once.
  HealthReport Ask() const;
  void Drain() { is_draining_ = true; }

  // OK when the identity's active version can sign.
  absl::Status IdentityStatus(const std::string& identity) const;

 private:
  const IdentityStore& identities_;
  const AuditTrail* const audit_;
  std::atomic<bool> is_draining_ = false;
};

// As a JSON object.
std::string FormatHealth(const HealthReport& report);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_HEALTH_H_
