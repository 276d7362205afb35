#include "client/pin_prompt.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "codesign/base/error.h"

namespace codeseal::client {
namespace {

constexpr cc_t kControlC = 3;

absl::Status NoPin(const std::string& message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_TOKEN,
                   v1::REASON_PIN_SOURCE, message);
}

// The terminal, with echo off for as long as the object lives.
class Terminal {
 public:
  Terminal() : fd_(open("/dev/tty", O_RDWR | O_CLOEXEC)) {
    if (fd_ < 0 || tcgetattr(fd_, &before_) != 0) return;
    termios silent = before_;
    // Control-C ends the line, and so the question, instead of the process: a
    // killed one would leave the terminal without echo.
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO | ISIG);
    silent.c_cc[VEOL2] = kControlC;
    is_silent_ = tcsetattr(fd_, TCSAFLUSH, &silent) == 0;
  }
  ~Terminal() {
    if (is_silent_) tcsetattr(fd_, TCSAFLUSH, &before_);
    if (fd_ >= 0) close(fd_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  bool is_silent() const { return is_silent_; }
  int fd() const { return fd_; }

 private:
  int fd_;
  bool is_silent_ = false;
  termios before_{};
};

bool WriteAll(int fd, const char* text, size_t size) {
  while (size > 0) {
    const ssize_t written = write(fd, text, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    text += written;
    size -= static_cast<size_t>(written);
  }
  return true;
}

}  // namespace

absl::StatusOr<PromptedPin> PromptedPin::Ask(const std::string& token_name) {
  const Terminal terminal;
  if (!terminal.is_silent()) {
    return NoPin("the URI has no pin-source, and there is no terminal to ask");
  }
  const std::string prompt = "PIN of token " + token_name + ": ";
  WriteAll(terminal.fd(), prompt.data(), prompt.size());
  std::array<char, 256> pin{};
  // The terminal hands over one line.
  ssize_t size = 0;
  do {
    size = read(terminal.fd(), pin.data(), pin.size());
  } while (size < 0 && errno == EINTR);
  WriteAll(terminal.fd(), "\n", 1);
  PromptedPin result;
  absl::Status status;
  if (size <= 0 || pin[static_cast<size_t>(size) - 1] != '\n') {
    status = NoPin("no PIN was typed");
  } else if ((result.fd_ = memfd_create("pin", MFD_CLOEXEC)) < 0 ||
             fchmod(result.fd_, 0600) != 0 ||
             !WriteAll(result.fd_, pin.data(), static_cast<size_t>(size) - 1)) {
    status = NoPin(std::string("cannot keep the PIN: ") + std::strerror(errno));
  }
  explicit_bzero(pin.data(), pin.size());
  if (!status.ok()) return status;
  return result;
}

PromptedPin::PromptedPin(PromptedPin&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)) {}

PromptedPin& PromptedPin::operator=(PromptedPin&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

PromptedPin::~PromptedPin() {
  if (fd_ >= 0) close(fd_);
}

std::string PromptedPin::pin_source() const {
  return "file:/proc/" + std::to_string(getpid()) + "/fd/" +
         std::to_string(fd_);
}

}  // namespace codeseal::client
