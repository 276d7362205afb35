#include "hsm/pin_hold.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "codesign/base/error.h"
#include "codesign/base/staged_file.h"

namespace codeseal {
namespace {

constexpr char kBegun[] = "login-begun";
constexpr char kRefused[] = "refused";
constexpr size_t kSaltSize = 16;
constexpr size_t kHashSize = 32;
// scrypt: 32 MiB and about a tenth of a second for each guess.
constexpr uint64_t kScryptN = 1 << 15;
constexpr uint64_t kScryptR = 8;
constexpr uint64_t kScryptP = 1;
constexpr uint64_t kScryptMemory = uint64_t{64} << 20;

absl::Status CannotRemember(const std::string& message) {
  return MakeError(
      absl::StatusCode::kFailedPrecondition, v1::STAGE_TOKEN,
      v1::REASON_PIN_HOLD,
      "a refused PIN could not be remembered, so none is sent: " + message);
}

// A file name that every token has to itself: odd bytes as %XX.
std::string FileName(std::string_view token) {
  std::string name = "pin-hold.";
  for (const char c : token) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                       (c >= 'a' && c <= 'z') || c == '-' || c == '_';
    if (plain) {
      name += c;
    } else {
      name += '%' + HexEncode({reinterpret_cast<const uint8_t*>(&c), 1});
    }
  }
  return name;
}

std::string Now() {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(),
                          absl::UTCTimeZone());
}

Bytes FromHex(const std::string& text) {
  return ToBytes(absl::HexStringToBytes(text));
}

// Empty when OpenSSL cannot.
Bytes Hash(const Pin& pin, ByteView salt) {
  Bytes hash(kHashSize);
  if (EVP_PBE_scrypt(reinterpret_cast<const char*>(pin.data()), pin.size(),
                     salt.data(), salt.size(), kScryptN, kScryptR, kScryptP,
                     kScryptMemory, hash.data(), hash.size()) != 1) {
    hash.clear();
  }
  return hash;
}

}  // namespace

absl::StatusOr<PinHold> PinHold::Open(const std::string& folder,
                                      std::string_view token) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return CannotRemember("cannot make " + folder + ": " +
                          std::strerror(errno));
  }
  const std::string path = folder + "/" + FileName(token);
  const std::string lock_path = path + ".lock";
  const int fd = open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) {
    return CannotRemember("cannot write " + lock_path + ": " +
                          std::strerror(errno));
  }
  PinHold hold(path, fd);
  while (flock(fd, LOCK_EX) != 0) {
    if (errno != EINTR) {
      return CannotRemember("cannot lock " + lock_path + ": " +
                            std::strerror(errno));
    }
  }
  hold.Read();
  return hold;
}

PinHold::PinHold(PinHold&& other) noexcept
    : path_(std::move(other.path_)),
      lock_fd_(std::exchange(other.lock_fd_, -1)),
      state_(other.state_),
      since_(std::move(other.since_)),
      salt_(std::move(other.salt_)),
      hash_(std::move(other.hash_)) {}

PinHold::~PinHold() {
  if (lock_fd_ >= 0) close(lock_fd_);
}

void PinHold::Read() {
  std::error_code error;
  if (!std::filesystem::exists(path_, error) && !error) return;
  std::ifstream file(path_);
  std::string word;
  std::string salt;
  std::string hash;
  file >> word >> since_ >> salt >> hash;
  // Whatever else is in the file, a hold is the safe reading.
  state_ = word == kBegun ? State::kLoginBegun : State::kRefused;
  if (since_.empty()) since_ = "an unknown time";
  salt_ = FromHex(salt);
  hash_ = FromHex(hash);
}

bool PinHold::IsRefusedPin(const Pin& pin) const {
  if (state_ != State::kRefused || hash_.size() != kHashSize) return false;
  const Bytes hash = Hash(pin, salt_);
  return hash.size() == hash_.size() &&
         CRYPTO_memcmp(hash.data(), hash_.data(), hash.size()) == 0;
}

absl::Status PinHold::Store(const std::string& text) const {
  absl::StatusOr<StagedFile> file = StagedFile::Create(path_, 0600);
  absl::Status status = file.status();
  if (status.ok()) status = file->Write(AsBytes(text), 0);
  if (status.ok()) status = file->Commit();
  return status.ok()
             ? status
             : CannotRemember(path_ + ": " + std::string(Message(status)));
}

absl::Status PinHold::StoreLoginBegun() {
  since_ = Now();
  RETURN_IF_ERROR(Store(std::string(kBegun) + " " + since_ + "\n"));
  state_ = State::kLoginBegun;
  return absl::OkStatus();
}

absl::Status PinHold::StoreRefused(const Pin& pin) {
  state_ = State::kRefused;
  since_ = Now();
  salt_.assign(kSaltSize, 0);
  hash_.clear();
  // First of all that it was refused: the hash takes its time, and a process
  // that is too slow for its caller is killed.
  RETURN_IF_ERROR(Store(std::string(kRefused) + " " + since_ + "\n"));
  if (RAND_bytes(salt_.data(), static_cast<int>(salt_.size())) == 1) {
    hash_ = Hash(pin, salt_);
  }
  return Store(std::string(kRefused) + " " + since_ + " " + HexEncode(salt_) +
               " " + HexEncode(hash_) + "\n");
}

absl::Status PinHold::Clear() {
  if (unlink(path_.c_str()) != 0 && errno != ENOENT) {
    return CannotRemember("cannot remove " + path_ + ": " +
                          std::strerror(errno));
  }
  FlushFolder(std::filesystem::path(path_).parent_path().string());
  state_ = State::kNone;
  since_.clear();
  return absl::OkStatus();
}

}  // namespace codeseal
