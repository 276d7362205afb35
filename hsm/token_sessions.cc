#include "hsm/token_sessions.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "codesign/base/error.h"
#include "hsm/ck_rv.h"

namespace codeseal {
namespace {

// A token that had no session for us is asked for one more this often.
constexpr absl::Duration kGrowInterval = absl::Seconds(1);

absl::Status Held(std::string_view message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_TOKEN,
                   v1::REASON_PIN_HOLD, message);
}

// Fixed-size, blank-padded text of PKCS#11.
template <size_t kSize>
std::string Trim(const unsigned char (&text)[kSize]) {
  std::string value(reinterpret_cast<const char*>(text), kSize);
  value.erase(std::min(value.find('\0'), value.size()));
  value.erase(value.find_last_not_of(' ') + 1);
  return value;
}

// What tells a token from all others.
std::string TokenName(const CK_TOKEN_INFO& token) {
  return absl::StrCat(Trim(token.manufacturerID), " ", Trim(token.model), " ",
                      Trim(token.serialNumber));
}

}  // namespace

TokenSessions::TokenSessions(hsm::WorkerConfig config,
                             std::function<void(LoginEvent)> on_login)
    : config_(std::move(config)), on_login_(std::move(on_login)) {}

absl::StatusOr<TokenSessions::Lease> TokenSessions::Acquire(
    absl::Time deadline) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    if (state_ == State::kClosed) {
      RETURN_IF_ERROR(OpenLocked(lock));
      continue;
    }
    if (state_ == State::kOpen && !idle_.empty()) {
      const CK_SESSION_HANDLE session = idle_.back();
      idle_.pop_back();
      ++leased_count_;
      return Lease(this, session, generation_);
    }
    if (session_limit_ < most_sessions_ && absl::Now() >= grow_at_) {
      // Whoever took the token's other sessions may have given one back.
      ++session_limit_;
      grow_at_ = absl::Now() + kGrowInterval;
    }
    if (state_ == State::kOpen && open_count_ < session_limit_) {
      // Counts as leased while it is being opened, so that nobody reopens the
      // token meanwhile.
      ++open_count_;
      ++leased_count_;
      const uint64_t generation = generation_;
      lock.unlock();
      CK_SESSION_HANDLE session = CK_INVALID_HANDLE;
      const CK_RV rv = (*module_)->C_OpenSession(slot_, CKF_SERIAL_SESSION,
                                                 nullptr, nullptr, &session);
      if (rv == CKR_OK) return Lease(this, session, generation);
      lock.lock();
      --open_count_;
      --leased_count_;
      changed_.notify_all();
      if (rv != CKR_SESSION_COUNT) return TokenError(rv, "C_OpenSession");
      // A token that is full keeps serving with the sessions it gave us; when
      // there is but one, the anchor has to serve.
      if (open_count_ == 0) {
        if (anchor_ == CK_INVALID_HANDLE) {
          return TokenError(rv, "C_OpenSession");
        }
        idle_.push_back(std::exchange(anchor_, CK_INVALID_HANDLE));
        open_count_ = 1;
      }
      session_limit_ = open_count_;
      grow_at_ = absl::Now() + kGrowInterval;
      continue;
    }
    const absl::Duration remaining = deadline - absl::Now();
    if (remaining <= absl::ZeroDuration()) {
      return MakeError(absl::StatusCode::kResourceExhausted, v1::STAGE_TOKEN,
                       v1::REASON_TOKEN_BUSY,
                       absl::StrCat("all ", open_count_,
                                    " sessions of the token stayed busy"));
    }
    changed_.wait_for(lock, absl::ToChronoNanoseconds(remaining));
  }
}

absl::Status TokenSessions::OpenLocked(std::unique_lock<std::mutex>& lock) {
  state_ = State::kChanging;
  lock.unlock();
  const absl::Status status = Open();
  lock.lock();
  state_ = status.ok() ? State::kOpen : State::kClosed;
  ++generation_;  // of a failed attempt too: handles are dead either way
  changed_.notify_all();
  return status;
}

absl::Status TokenSessions::Reopen(uint64_t generation, Depth depth,
                                   absl::Time deadline) {
  deadline = std::min(
      deadline, absl::Now() + absl::Microseconds(config_.drain_timeout_us()));
  std::unique_lock<std::mutex> lock(mutex_);
  bool draining = false;  // it is this thread that drains
  while (generation_ == generation &&
         (leased_count_ > 0 ||
          (state_ != State::kOpen && state_ != State::kClosed && !draining))) {
    if (state_ == State::kOpen) {
      state_ = State::kDraining;  // no new leases
      draining = true;
    }
    const absl::Duration remaining = deadline - absl::Now();
    if (remaining <= absl::ZeroDuration()) {
      if (draining) {
        state_ = State::kOpen;
        changed_.notify_all();
      }
      return MakeError(absl::StatusCode::kDeadlineExceeded, v1::STAGE_TOKEN,
                       v1::REASON_TOKEN_TIMEOUT,
                       "a call to the token does not return");
    }
    changed_.wait_for(lock, absl::ToChronoNanoseconds(remaining));
  }
  if (generation_ != generation) return absl::OkStatus();
  state_ = State::kChanging;
  idle_.clear();
  open_count_ = 0;
  anchor_ = CK_INVALID_HANDLE;
  lock.unlock();
  absl::Status status;
  if (module_ != nullptr) {
    if (slot_found_) (*module_)->C_CloseAllSessions(slot_);
    if (depth == Depth::kModule) status = module_->Reinitialize();
  }
  lock.lock();
  if (!status.ok()) {
    state_ = State::kClosed;
    ++generation_;
    changed_.notify_all();
    return status;
  }
  return OpenLocked(lock);
}

absl::Status TokenSessions::LoadModule() {
  if (module_ != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(module_,
                   Pkcs11Module::Load(config_.module(), config_.init_args(),
                                      !config_.no_os_locking()));
  is_concurrent_ = !module_->single_threaded() && !config_.one_thread();
  return absl::OkStatus();
}

absl::Status TokenSessions::Open() {
  RETURN_IF_ERROR(LoadModule());
  RETURN_IF_ERROR(FindSlot());
  CK_SESSION_HANDLE session = CK_INVALID_HANDLE;
  const CK_RV rv = (*module_)->C_OpenSession(slot_, CKF_SERIAL_SESSION, nullptr,
                                             nullptr, &session);
  if (rv != CKR_OK) return TokenError(rv, "C_OpenSession");
  anchor_ = session;
  if (absl::Status status = Login(); !status.ok()) {
    (*module_)->C_CloseSession(anchor_);
    anchor_ = CK_INVALID_HANDLE;
    return status;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  session_limit_ = is_concurrent_ ? config_.session_count() : 1;
  const CK_ULONG most = token_info_.ulMaxSessionCount;
  if (most != CK_EFFECTIVELY_INFINITE && most != CK_UNAVAILABLE_INFORMATION) {
    session_limit_ = std::min<size_t>(session_limit_, most > 2 ? most - 1 : 1);
  }
  most_sessions_ = session_limit_;
  grow_at_ = absl::InfiniteFuture();
  return absl::OkStatus();
}

absl::Status TokenSessions::FindSlot() {
  slot_found_ = false;
  std::vector<CK_SLOT_ID> slots(16);
  CK_ULONG count = slots.size();
  CK_RV rv = (*module_)->C_GetSlotList(CK_TRUE, slots.data(), &count);
  if (rv == CKR_BUFFER_TOO_SMALL) {
    constexpr CK_ULONG kMostSlots = 4096;
    slots.resize(std::min(count, kMostSlots));
    count = slots.size();
    rv = (*module_)->C_GetSlotList(CK_TRUE, slots.data(), &count);
  }
  if (rv != CKR_OK) return TokenError(rv, "C_GetSlotList");
  slots.resize(std::min<size_t>(count, slots.size()));

  std::string seen;
  auto best = config_.serials().size();  // the one found so far
  for (const CK_SLOT_ID slot : slots) {
    CK_TOKEN_INFO found{};
    if ((*module_)->C_GetTokenInfo(slot, &found) != CKR_OK) continue;
    const std::string label = Trim(found.label);
    const std::string serial = Trim(found.serialNumber);
    absl::StrAppend(&seen, seen.empty() ? "" : ", ", "'", label, "' (serial ",
                    serial, ")");
    const auto& serials = config_.serials();
    const auto rank =
        std::find(serials.begin(), serials.end(), serial) - serials.begin();
    if ((!config_.label().empty() && label != config_.label()) ||
        (!serials.empty() && rank == serials.size()) ||
        (slot_found_ && rank > best)) {
      continue;
    }
    if (slot_found_ && rank == best) {
      return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_TOKEN,
                       v1::REASON_TOKEN_NOT_FOUND,
                       absl::StrCat("more than one token fits: ", seen,
                                    "; name one by its serial"));
    }
    best = static_cast<int>(rank);
    slot_ = slot;
    token_info_ = found;
    slot_found_ = true;
  }
  if (slot_found_) return absl::OkStatus();
  return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_TOKEN,
                   v1::REASON_TOKEN_NOT_FOUND,
                   absl::StrCat("the module has no such token; it shows ",
                                seen.empty() ? std::string("none") : seen));
}

absl::Status TokenSessions::Login() {
  if ((token_info_.flags & CKF_LOGIN_REQUIRED) == 0) return absl::OkStatus();
  if (config_.pin_source().empty()) {
    return absl::OkStatus();  // public objects only
  }
  return CallLogin(anchor_, CKU_USER);
}

absl::Status TokenSessions::LoginForOperation(CK_SESSION_HANDLE session) {
  return CallLogin(session, CKU_CONTEXT_SPECIFIC);
}

absl::Status TokenSessions::CallLogin(CK_SESSION_HANDLE session,
                                      CK_USER_TYPE user) {
  const std::lock_guard<std::mutex> lock(login_mutex_);
  if (pin_rejected_) {
    return Held("the token refused the PIN; it is not sent again");
  }
  // Locked until this login is over: other processes may want the token, too.
  ASSIGN_OR_RETURN(std::optional<PinHold> hold, OpenPinHold());
  if (hold.has_value() && hold->state() == PinHold::State::kRefused) {
    return Refused(*hold);
  }
  const bool in_doubt =
      config_.login_in_doubt() ||
      (hold.has_value() && hold->state() == PinHold::State::kLoginBegun);
  // Asked anew each time: another program may have spent the tries.
  CK_TOKEN_INFO now{};
  if (const CK_RV rv = (*module_)->C_GetTokenInfo(slot_, &now); rv != CKR_OK) {
    return TokenError(rv, "C_GetTokenInfo");
  }
  if ((now.flags & CKF_USER_PIN_LOCKED) != 0) {
    return Held("the token says that its PIN is locked");
  }
  if ((now.flags & CKF_USER_PIN_FINAL_TRY) != 0) {
    return Held("one wrong PIN would lock the token; it is not sent");
  }
  if ((now.flags & CKF_USER_PIN_TO_BE_CHANGED) != 0) {
    return Held("the token wants its PIN to be changed first");
  }
  if (in_doubt && (now.flags & CKF_USER_PIN_COUNT_LOW) != 0) {
    return Held(
        "a login was interrupted and the token has counted a wrong PIN since; "
        "it is not sent again");
  }
  ASSIGN_OR_RETURN(const Pin pin, Pin::Read(config_.pin_source()));
  // Not for the login to a single operation, which comes with each signature:
  // the token took this PIN when the session was opened.
  if (hold.has_value() && user == CKU_USER) {
    RETURN_IF_ERROR(hold->StoreLoginBegun());
  }
  on_login_(LoginEvent::kStarted);
  const CK_RV rv = (*module_)->C_Login(session, user, pin.data(), pin.size());
  if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN) {
    on_login_(LoginEvent::kAccepted);
    // If it stays, the next login is in doubt, which is safe.
    if (hold.has_value()) hold->Clear().IgnoreError();
    return absl::OkStatus();
  }
  const v1::Reason reason = FindCkRv(rv).reason;
  const bool rejected =
      reason == v1::REASON_PIN_REJECTED || reason == v1::REASON_PIN_HOLD;
  on_login_(rejected ? LoginEvent::kRejected : LoginEvent::kFailed);
  if (!hold.has_value()) {
    pin_rejected_ = rejected;
  } else if (rejected) {
    // When this cannot be stored, what was stored before the login still makes
    // the next one a doubtful one, and this process sends none.
    pin_rejected_ = !hold->StoreRefused(pin).ok();
  } else {
    hold->Clear().IgnoreError();
  }
  return TokenError(rv, "C_Login");
}

absl::StatusOr<std::optional<PinHold>> TokenSessions::OpenPinHold() const {
  if (config_.state_folder().empty()) return std::nullopt;
  ASSIGN_OR_RETURN(PinHold hold, PinHold::Open(config_.state_folder(),
                                               TokenName(token_info_)));
  return std::optional<PinHold>(std::move(hold));
}

absl::Status TokenSessions::Refused(const PinHold& hold) {
  if (refused_since_ != hold.since()) {
    const absl::StatusOr<Pin> pin = Pin::Read(config_.pin_source());
    const bool same = pin.ok() && hold.IsRefusedPin(*pin);
    refused_since_ = hold.since();
    refused_message_ =
        absl::StrCat("the token refused a PIN at ", hold.since(),
                     same ? ", and the PIN source still holds that one"
                          : "; the PIN source holds another one now",
                     "; none is sent until the hold is cleared");
  }
  return Held(refused_message_);
}

absl::Status TokenSessions::ClearPinHold() {
  RETURN_IF_ERROR(LoadModule());
  RETURN_IF_ERROR(FindSlot());
  ASSIGN_OR_RETURN(std::optional<PinHold> hold, OpenPinHold());
  return hold.has_value() ? hold->Clear() : absl::OkStatus();
}

bool TokenSessions::IsUsable(const Lease& lease) const {
  return IsLoggedIn(lease.session());
}

bool TokenSessions::IsLoginAlive(uint64_t generation) {
  CK_SESSION_HANDLE anchor = CK_INVALID_HANDLE;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (generation_ != generation || state_ != State::kOpen) return false;
    anchor = anchor_;
    ++leased_count_;  // nobody closes it meanwhile
  }
  const bool alive = anchor != CK_INVALID_HANDLE && IsLoggedIn(anchor);
  const std::lock_guard<std::mutex> lock(mutex_);
  --leased_count_;
  changed_.notify_all();
  return alive;
}

bool TokenSessions::IsLoggedIn(CK_SESSION_HANDLE session) const {
  CK_SESSION_INFO session_info{};
  if ((*module_)->C_GetSessionInfo(session, &session_info) != CKR_OK) {
    return false;
  }
  if ((token_info_.flags & CKF_LOGIN_REQUIRED) == 0 ||
      config_.pin_source().empty()) {
    return true;
  }
  return session_info.state == CKS_RO_USER_FUNCTIONS ||
         session_info.state == CKS_RW_USER_FUNCTIONS;
}

absl::StatusOr<CK_SESSION_HANDLE> TokenSessions::OpenReadWrite() {
  CK_SESSION_HANDLE session = CK_INVALID_HANDLE;
  const CK_RV rv = (*module_)->C_OpenSession(
      slot_, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &session);
  if (rv != CKR_OK) return TokenError(rv, "C_OpenSession");
  return session;
}

uint64_t TokenSessions::generation() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return generation_;
}

void TokenSessions::Return(CK_SESSION_HANDLE session) {
  const std::lock_guard<std::mutex> lock(mutex_);
  --leased_count_;
  idle_.push_back(session);
  if (state_ == State::kOpen) {
    changed_.notify_one();
  } else {
    changed_.notify_all();
  }
}

void TokenSessions::Close(CK_SESSION_HANDLE session) {
  (*module_)->C_CloseSession(session);
  const std::lock_guard<std::mutex> lock(mutex_);
  --leased_count_;
  --open_count_;
  changed_.notify_all();
}

hsm::Listing TokenSessions::DescribeToken() const {
  hsm::Listing listing;
  listing.set_label(Trim(token_info_.label));
  listing.set_serial(Trim(token_info_.serialNumber));
  listing.set_manufacturer(Trim(token_info_.manufacturerID));
  listing.set_model(Trim(token_info_.model));
  return listing;
}

void TokenSessions::Shutdown() {
  if (module_ == nullptr) return;
  if (slot_found_) (*module_)->C_CloseAllSessions(slot_);
  module_->Finalize();
}

}  // namespace codeseal
