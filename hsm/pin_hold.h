// What is remembered of a PIN that a token refused: one small file for each
// token, so that neither a restart of this program nor a power cut sends a
// wrong PIN a second time. Only an operator ends a hold.
//
//   C_GetTokenInfo -> [PinHold] -> C_Login, or not

#ifndef CODESEAL_HSM_PIN_HOLD_H_
#define CODESEAL_HSM_PIN_HOLD_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "codesign/base/bytes.h"
#include "hsm/pin.h"

namespace codeseal {

// The record of one token, locked against other processes for as long as the
// object lives. Movable; one thread at a time.
//
// The file holds a salted hash of the refused PIN (scrypt), never the PIN. It
// is written beside and renamed, and flushed to disk before a function returns.
class PinHold {
 public:
  enum class State : uint8_t {
    kNone,
    kLoginBegun,  // a login began and nobody wrote down how it ended
    kRefused,     // the token refused the PIN; also: the file is damaged
  };

  // `token` names the token among all: manufacturer, model and serial. Waits
  // for other processes that log in to it.
  // Errors: FAILED_PRECONDITION STAGE_TOKEN REASON_PIN_HOLD when the folder
  // can't be used: what can't be remembered must not be tried.
  static absl::StatusOr<PinHold> Open(const std::string& folder,
                                      std::string_view token);

  PinHold(PinHold&& other) noexcept;
  PinHold& operator=(PinHold&&) = delete;
  ~PinHold();

  State state() const { return state_; }
  // When, as people read it; empty in state kNone.
  const std::string& since() const { return since_; }
  // Whether `pin` is the one that was refused. Takes a tenth of a second, which
  // is what makes guessing from the file slow.
  bool IsRefusedPin(const Pin& pin) const;

  // Errors of all three: as Open().
  absl::Status StoreLoginBegun();
  absl::Status StoreRefused(const Pin& pin);
  absl::Status Clear();

 private:
  PinHold(std::string path, int lock_fd)
      : path_(std::move(path)), lock_fd_(lock_fd) {}

  void Read();
  absl::Status Store(const std::string& text) const;

  std::string path_;
  int lock_fd_;
  State state_ = State::kNone;
  std::string since_;
  Bytes salt_;
  Bytes hash_;
};

}  // namespace codeseal

#endif  // CODESEAL_HSM_PIN_HOLD_H_
