// The worker's hold on its token: the slot, the login, and a pool of sessions
// that is filled on demand. Login belongs to the process, not to a session: one
// anchor session stays open and keeps it.
//
//   request -> [lease of a session] -> C_SignInit, C_Sign

#ifndef CODESEAL_HSM_TOKEN_SESSIONS_H_
#define CODESEAL_HSM_TOKEN_SESSIONS_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "hsm/pin_hold.h"
#include "hsm/pkcs11_module.h"
#include "hsm/worker_message.h"

namespace codeseal {

// Thread-safe.
class TokenSessions {
 public:
  // One session in the hands of one thread; given back by the destructor.
  class Lease {
   public:
    Lease(Lease&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)),
          session_(other.session_),
          generation_(other.generation_) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (owner_ != nullptr) owner_->Return(session_);
    }

    CK_SESSION_HANDLE session() const { return session_; }
    // Object handles found under another generation are dead.
    uint64_t generation() const { return generation_; }

    // Closes the session, because something went wrong in it.
    void Drop() && { std::exchange(owner_, nullptr)->Close(session_); }

   private:
    friend class TokenSessions;
    Lease(TokenSessions* owner, CK_SESSION_HANDLE session, uint64_t generation)
        : owner_(owner), session_(session), generation_(generation) {}

    TokenSessions* owner_;
    CK_SESSION_HANDLE session_;
    uint64_t generation_;
  };

  // How much is torn down before the token is opened anew.
  enum class Depth : uint8_t { kSessions, kModule };

  // `on_login` is told before and after every C_Login; it may be called from
  // any thread, never twice at once.
  TokenSessions(hsm::WorkerConfig config,
                std::function<void(LoginEvent)> on_login);

  // A session in which the user is logged in; loads the module and opens the
  // token when that is to be done.
  // Errors: those of Open(); RESOURCE_EXHAUSTED REASON_TOKEN_BUSY when no
  // session comes free before `deadline`.
  absl::StatusOr<Lease> Acquire(absl::Time deadline);

  // Waits until no lease is out (closing a session under a running C_Sign
  // crashes modules), for WorkerConfig.drain_timeout_us at most, since
  // everybody else waits, too; closes everything and opens the token anew.
  // Nothing when `generation` is not the current one: somebody was faster. The
  // caller holds no lease.
  // Errors: DEADLINE_EXCEEDED REASON_TOKEN_TIMEOUT when a call does not return;
  // those of Open().
  absl::Status Reopen(uint64_t generation, Depth depth, absl::Time deadline);

  // Whether the session is alive and logged in, as the module says.
  bool IsUsable(const Lease& lease) const;

  // Whether the session that keeps the login of this generation says that it is
  // still there. A token may lie: good for choosing what to try first, not as a
  // sign of health.
  bool IsLoginAlive(uint64_t generation);

  // The session for changes on the token: read-write, the caller closes it.
  absl::StatusOr<CK_SESSION_HANDLE> OpenReadWrite();

  // Logs in once more for a key with CKA_ALWAYS_AUTHENTICATE, between
  // C_SignInit and C_Sign.
  absl::Status LoginForOperation(CK_SESSION_HANDLE session);

  // Forgets what is remembered of refused PINs. Looks for the token, but opens
  // no session: for a worker that does nothing else.
  // Errors: those of Open(); PinHold's.
  absl::Status ClearPinHold();

  // Whether several threads may call the module at once; false before it is
  // loaded.
  bool is_concurrent() const { return is_concurrent_; }

  uint64_t generation() const;
  // Valid while a lease is out.
  Pkcs11Module& module() const { return *module_; }
  CK_SLOT_ID slot() const { return slot_; }
  // Its names, without what is on it.
  hsm::Listing DescribeToken() const;

  // C_CloseAllSessions and C_Finalize. Nothing may be called afterwards.
  void Shutdown();

 private:
  enum class State : uint8_t { kClosed, kChanging, kOpen, kDraining };

  // Finds the slot, opens the anchor session and logs in. Exclusive: state_ is
  // kChanging.
  // Errors: UNAVAILABLE REASON_TOKEN_NOT_FOUND, REASON_TOKEN_DOWN;
  // FAILED_PRECONDITION REASON_PIN_*, REASON_MODULE_LOAD.
  absl::Status Open();
  absl::Status LoadModule();
  absl::Status FindSlot();
  absl::Status Login();
  bool IsLoggedIn(CK_SESSION_HANDLE session) const;
  absl::Status CallLogin(CK_SESSION_HANDLE session, CK_USER_TYPE user);
  // What is remembered of the token; nothing without a folder for it.
  absl::StatusOr<std::optional<PinHold>> OpenPinHold() const;
  // Why no login is tried while `hold` stands.
  absl::Status Refused(const PinHold& hold);

  // Runs Open() with `mutex_` released and publishes the result.
  absl::Status OpenLocked(std::unique_lock<std::mutex>& lock);

  void Return(CK_SESSION_HANDLE session);
  void Close(CK_SESSION_HANDLE session);

  const hsm::WorkerConfig config_;
  const std::function<void(LoginEvent)> on_login_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  State state_ = State::kClosed;
  uint64_t generation_ = 0;  // counts logins
  size_t leased_count_ = 0;  // 0 in states kClosed and kChanging
  size_t open_count_ = 0;    // leased and idle sessions, without the anchor
  size_t session_limit_ = 1;
  size_t most_sessions_ = 1;  // what session_limit_ may grow to
  absl::Time grow_at_ = absl::InfiniteFuture();
  std::vector<CK_SESSION_HANDLE> idle_;  // last in, first out

  // Changed in state kChanging only.
  std::unique_ptr<Pkcs11Module> module_;
  CK_SLOT_ID slot_ = 0;
  bool slot_found_ = false;
  CK_TOKEN_INFO token_info_{};
  CK_SESSION_HANDLE anchor_ = CK_INVALID_HANDLE;

  std::atomic<bool> is_concurrent_ = false;

  std::mutex login_mutex_;     // one C_Login at a time; guards:
  bool pin_rejected_ = false;  // without a folder; never cleared
  std::string refused_since_;  // of the hold that refused_message_ is about
  std::string refused_message_;
};

}  // namespace codeseal

#endif  // CODESEAL_HSM_TOKEN_SESSIONS_H_
