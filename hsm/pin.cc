#include "hsm/pin.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "codesign/base/error.h"

namespace codeseal {
namespace {

constexpr size_t kPageSize = 4096;
constexpr size_t kMaxPinSize = 255;

absl::Status SourceError(const std::string& message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_TOKEN,
                   v1::REASON_PIN_SOURCE, message);
}

absl::StatusOr<std::string> SourcePath(std::string_view source) {
  constexpr std::string_view kFile = "file:";
  constexpr std::string_view kCredential = "credential:";
  if (source.starts_with(kFile) && source.size() > kFile.size()) {
    return std::string(source.substr(kFile.size()));
  }
  if (!source.starts_with(kCredential)) {
    return SourceError(
        "a PIN source is file:/path or credential:NAME, never the PIN itself");
  }
  const std::string name(source.substr(kCredential.size()));
  if (name.empty() || name == "." || name == ".." ||
      name.find('/') != std::string::npos) {
    return SourceError("a credential is a plain name");
  }
  return "credential:" + name;
}

}  // namespace

absl::Status Pin::CheckSource(std::string_view source) {
  return SourcePath(source).status();
}

absl::StatusOr<Pin> Pin::Read(std::string_view source) {
  ASSIGN_OR_RETURN(std::string path, SourcePath(source));
  if (path.starts_with("credential:")) {
    const char* folder = std::getenv("CREDENTIALS_DIRECTORY");
    if (folder == nullptr) {
      return SourceError("$CREDENTIALS_DIRECTORY is not set");
    }
    path = std::string(folder) + "/" + path.substr(path.find(':') + 1);
  }
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return SourceError("cannot read the PIN from " + path + ": " +
                       std::strerror(errno));
  }
  void* page = mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) {
    close(fd);
    return SourceError("no memory for the PIN");
  }
  mlock(page, kPageSize);  // best effort: RLIMIT_MEMLOCK may be 0
  madvise(page, kPageSize, MADV_DONTDUMP);
  Pin pin(static_cast<unsigned char*>(page));
  ssize_t received = 0;
  do {
    received = read(fd, pin.page_ + pin.size_, kPageSize - pin.size_);
    if (received > 0) pin.size_ += static_cast<size_t>(received);
  } while (received > 0 || (received < 0 && errno == EINTR));
  const int read_error = received < 0 ? errno : 0;
  close(fd);
  if (read_error != 0) {
    return SourceError("cannot read the PIN from " + path + ": " +
                       std::strerror(read_error));
  }
  if (pin.size_ > 0 && pin.page_[pin.size_ - 1] == '\n') --pin.size_;
  if (pin.size_ > 0 && pin.page_[pin.size_ - 1] == '\r') --pin.size_;
  if (pin.size_ == 0 || pin.size_ > kMaxPinSize) {
    return SourceError("the PIN in " + path + " is empty or too long");
  }
  return pin;
}

void HideMemory() {
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

Pin::Pin(Pin&& other) noexcept
    : page_(std::exchange(other.page_, nullptr)), size_(other.size_) {}

Pin& Pin::operator=(Pin&& other) noexcept {
  std::swap(page_, other.page_);
  std::swap(size_, other.size_);
  return *this;
}

Pin::~Pin() {
  if (page_ == nullptr) return;
  OPENSSL_cleanse(page_, kPageSize);
  munmap(page_, kPageSize);
}

}  // namespace codeseal
