// Asks for a token's PIN on the terminal.

#ifndef CODESEAL_CLIENT_PIN_PROMPT_H_
#define CODESEAL_CLIENT_PIN_PROMPT_H_

#include <string>

#include "absl/status/statusor.h"

namespace codeseal::client {

// Keeps a PIN in an anonymous file of this process's memory for as long as the
// object lives, so that a token's worker can read it without an argument, an
// environment variable or a disk having seen it. Movable.
class PromptedPin {
 public:
  // Prompts on /dev/tty with echo off.
  // Errors: FAILED_PRECONDITION REASON_PIN_SOURCE without a terminal.
  static absl::StatusOr<PromptedPin> Ask(const std::string& token_name);

  PromptedPin(PromptedPin&& other) noexcept;
  PromptedPin& operator=(PromptedPin&& other) noexcept;
  ~PromptedPin();

  // For TokenConfig.pin_source: "file:/proc/PID/fd/N".
  std::string pin_source() const;

 private:
  PromptedPin() = default;

  int fd_ = -1;
};

}  // namespace codeseal::client

#endif  // CODESEAL_CLIENT_PIN_PROMPT_H_
