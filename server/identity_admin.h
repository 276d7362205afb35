// Rotation: what administrators and the schedule do with identity versions.
//
//   Stage -> Probe -> [Activate] -> Retire -> Disable -> IdentityStore
//
// A version becomes active only after a real signature with its key verified
// with its certificate, and in the same step the one before it is retired: some
// version signs at every moment. A request keeps the version that it was
// admitted with. What is not the same program to macOS is refused unless
// somebody says that this is meant. With an audit log, each change is in it
// before it happens.

#ifndef CODESEAL_SERVER_IDENTITY_ADMIN_H_
#define CODESEAL_SERVER_IDENTITY_ADMIN_H_

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codeseal/v1/identity.pb.h"
#include "codesign/base/clock.h"
#include "server/audit_log.h"
#include "server/identity_store.h"

namespace codeseal {

// Thread-safe; one change at a time. Waits for tokens: not for gRPC's threads.
class IdentityAdmin {
 public:
  // Borrows all; the log may be null.
  IdentityAdmin(IdentityStore& store, const Clock& clock,
                AuditLog* audit = nullptr)
      : store_(store), clock_(clock), audit_(audit) {}
  // Ends the schedule.
  ~IdentityAdmin();
  IdentityAdmin(const IdentityAdmin&) = delete;
  IdentityAdmin& operator=(const IdentityAdmin&) = delete;

  // As IdentityService says. `admin` is for the log. What is done already is
  // done again without a change, so that a caller who lost the answer may ask
  // again.
  // Errors of all: NOT_FOUND REASON_IDENTITY_NOT_FOUND; FAILED_PRECONDITION
  // REASON_STATE_STORE without a state folder, REASON_IDENTITY_STATE when the
  // version's state does not allow it. Stage and Activate:
  // REASON_REQUIREMENT_CHANGES, REASON_CERTIFICATE_EXPIRED; those of
  // Token::LoadKey(). Of all that change something: UNAVAILABLE
  // REASON_AUDIT_UNAVAILABLE, and nothing changed.
  absl::StatusOr<v1::Identity> Stage(const v1::StageVersionRequest& request,
                                     const std::string& admin);
  absl::StatusOr<v1::Identity> Probe(const v1::ProbeVersionRequest& request,
                                     const std::string& admin);
  absl::StatusOr<v1::Identity> Activate(
      const v1::ActivateVersionRequest& request, const std::string& admin);
  absl::StatusOr<v1::Identity> Retire(const v1::RetireVersionRequest& request,
                                      const std::string& admin);
  absl::StatusOr<v1::Identity> Disable(const v1::DisableVersionRequest& request,
                                       const std::string& admin);
  absl::StatusOr<v1::ListIdentitiesResponse> List(
      const v1::ListVersionsRequest& request) const;

  // Activates what is due, warns of certificates that expire, once a day each.
  void RunSchedule();
  // Runs the schedule every second on a thread of its own.
  void StartSchedule();

 private:
  // What the schedule has said, and when it may try again.
  struct Attempt {
    absl::Time next = absl::InfinitePast();
    absl::Duration delay = absl::Seconds(1);
    v1::Reason logged = v1::REASON_UNSPECIFIED;
  };

  absl::StatusOr<IdentityVersion*> Find(const std::string& identity,
                                        const std::string& version) const;
  v1::Identity Describe(const IdentityVersion& version) const;
  absl::Status CheckRemembers() const;
  // Logs the event, makes the change, and logs once more when that failed.
  absl::Status Record(const char* event, const IdentityVersion& version,
                      const std::string& admin, const std::string& because,
                      const std::function<absl::Status()>& change) const;
  absl::Status ActivateNow(IdentityVersion& version,
                           bool allow_requirement_change,
                           const std::string& admin);
  void ActivateDue(IdentityVersion& version);
  void Warn(const IdentityVersion& version);

  IdentityStore& store_;
  const Clock& clock_;
  AuditLog* const audit_;
  std::mutex changes_mutex_;  // one change at a time
  std::map<const IdentityVersion*, Attempt> attempts_;
  std::map<const IdentityVersion*, absl::Time> warned_at_;
  std::mutex thread_mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace codeseal

#endif  // CODESEAL_SERVER_IDENTITY_ADMIN_H_
