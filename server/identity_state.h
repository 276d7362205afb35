// What administrators did with identity versions while the server ran, kept so
// that a restart changes nothing.
//
//   Stage, Activate, Retire, Disable -> [IdentityStateStore] -> IdentityStore

#ifndef CODESEAL_SERVER_IDENTITY_STATE_H_
#define CODESEAL_SERVER_IDENTITY_STATE_H_

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "codeseal/v1/identity.pb.h"
#include "server/config.h"

namespace codeseal {

// Where a version is on its way stage -> activate -> retire -> disable.
struct IdentityLifecycle {
  v1::IdentityState state = v1::IDENTITY_STATE_STAGED;
  // Of the state; InfinitePast when the configuration alone says it.
  absl::Time since = absl::InfinitePast();
  // When a staged version becomes active by itself.
  absl::Time activate_at = absl::InfiniteFuture();
  // Until when a version that was active signs for requests that name it;
  // InfinitePast when it never was.
  absl::Time signs_until = absl::InfinitePast();
  // Somebody accepted that the designated requirement changes.
  bool requirement_change_allowed = false;
};

// One version of one identity.
struct IdentityRecord {
  std::string identity;
  std::string version;
  IdentityLifecycle lifecycle;
  // What the configuration said when this was written: when it says something
  // else later, it was edited since, and wins. UNSPECIFIED for a version that
  // the configuration does not have; then keys and chain are here.
  v1::IdentityState configured = v1::IDENTITY_STATE_UNSPECIFIED;
  std::vector<KeyLocation> keys;
  std::string chain_pem;
};

// Thread-safe.
class IdentityStateStore {
 public:
  virtual ~IdentityStateStore() = default;

  // Errors of both: FAILED_PRECONDITION REASON_STATE_STORE and those of files.
  virtual absl::StatusOr<std::vector<IdentityRecord>> Load() = 0;

  // Adds the records, or replaces those of the same versions: all of them, or
  // none. What is OK survives a power cut.
  virtual absl::Status Save(std::span<const IdentityRecord> records) = 0;
};

// Keeps the records in FOLDER/identities.json. With `lock`, nobody else may
// have the store open that way; without it, the store can only be read. Makes
// the folder when it is not there (and `lock`).
// Errors: UNAVAILABLE REASON_STATE_STORE when another process has the lock.
absl::StatusOr<std::unique_ptr<IdentityStateStore>> OpenIdentityState(
    const std::string& folder, bool lock);

}  // namespace codeseal

#endif  // CODESEAL_SERVER_IDENTITY_STATE_H_
