#include "audit/checkpoint_signer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "audit/log_folder.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/base/staged_file.h"

namespace codeseal::audit {
namespace {

constexpr size_t kSlotSize = 4096;
constexpr size_t kSlotCount = 2;

absl::Status ErrorOf(const char* action, const std::string& path) {
  return FileError(errno, v1::STAGE_AUDIT, action, path);
}

}  // namespace

absl::StatusOr<std::unique_ptr<CheckpointSigner>> CheckpointSigner::Open(
    const std::string& path, NoteKey key, DigestSigner sign, bool may_create) {
  std::unique_ptr<CheckpointSigner> signer(
      new CheckpointSigner(path, std::move(key), std::move(sign)));
  const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
  signer->fd_ = open(path.c_str(), flags);
  if (signer->fd_ < 0 && errno == ENOENT && may_create) {
    signer->fd_ = open(path.c_str(), flags | O_CREAT | O_EXCL, 0640);
    FlushFolder(std::filesystem::path(path).parent_path().string());
  }
  if (signer->fd_ < 0) return ErrorOf("open", path);
  if (flock(signer->fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrorOf("lock", path);
    return MakeError(absl::StatusCode::kUnavailable, v1::STAGE_AUDIT,
                     v1::REASON_AUDIT_UNAVAILABLE,
                     "another process writes the log of " + path);
  }
  RETURN_IF_ERROR(signer->Load());
  return signer;
}

CheckpointSigner::~CheckpointSigner() {
  if (fd_ >= 0) close(fd_);
}

absl::Status CheckpointSigner::Load() {
  std::array<char, kSlotSize * kSlotCount> bytes{};
  const ssize_t size = pread(fd_, bytes.data(), bytes.size(), 0);
  if (size < 0) return ErrorOf("read", path_);
  if (size == 0) return absl::OkStatus();
  absl::Status fault = absl::OkStatus();
  for (size_t slot = 0; slot < kSlotCount; ++slot) {
    std::string_view note(bytes.data() + slot * kSlotSize, kSlotSize);
    note = note.substr(0, note.find('\0'));
    if (note.empty()) continue;
    const absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(note, key_);
    if (!checkpoint.ok()) {
      fault = checkpoint.status();
      continue;
    }
    if (last_.has_value() && checkpoint->head.size < last_->head.size) continue;
    last_ = {checkpoint->head, std::string(note)};
    next_slot_ = (slot + 1) % kSlotCount;
  }
  if (last_.has_value()) return absl::OkStatus();
  if (fault.ok()) return absl::OkStatus();
  // A torn first write is all that honest hands can leave: then the slot behind
  // is empty. It cannot be told from a record of another key, so people decide.
  return AuditInconsistent(
      "the record of what was signed, " + path_ +
      ", is not of this key or broken: " + std::string(Message(fault)));
}

absl::Status CheckpointSigner::CheckRecord() const {
  struct stat opened{};
  struct stat named{};
  if (fstat(fd_, &opened) != 0 || stat(path_.c_str(), &named) != 0 ||
      opened.st_ino != named.st_ino || opened.st_dev != named.st_dev) {
    return AuditInconsistent("the record of what was signed, " + path_ +
                             ", was removed or replaced");
  }
  return absl::OkStatus();
}

absl::Status CheckpointSigner::Record(const std::string& note) {
  std::array<char, kSlotSize> slot{};
  if (note.size() >= slot.size()) {
    return MakeError(absl::StatusCode::kInternal, v1::STAGE_AUDIT,
                     v1::REASON_INTERNAL, "the checkpoint is too long");
  }
  std::copy(note.begin(), note.end(), slot.begin());
  const auto offset = static_cast<off_t>(next_slot_ * kSlotSize);
  ssize_t written = -1;
  do {
    written = pwrite(fd_, slot.data(), slot.size(), offset);
  } while (written < 0 && errno == EINTR);
  if (written >= 0 && static_cast<size_t>(written) != slot.size()) {
    errno = ENOSPC;
    written = -1;
  }
  if (written < 0 || fdatasync(fd_) != 0) return ErrorOf("write", path_);
  next_slot_ = (next_slot_ + 1) % kSlotCount;
  return absl::OkStatus();
}

absl::StatusOr<SignedCheckpoint> CheckpointSigner::Sign(
    const TreeHead& head, std::span<const TreeHash> proof,
    absl::Time deadline) {
  RETURN_IF_ERROR(CheckRecord());
  if (last_.has_value()) {
    RETURN_IF_ERROR(CheckConsistency(last_->head, head, proof));
  }
  Note note;
  note.text = FormatCheckpoint({key_.name(), head});
  ASSIGN_OR_RETURN(
      Bytes signature,
      sign_(ComputeDigest(DigestKind::kSha256, AsBytes(note.text)), deadline));
  note.signatures.push_back({key_.name(), key_.id(), std::move(signature)});
  RETURN_IF_ERROR(key_.Check(note).status());
  SignedCheckpoint made = {head, FormatNote(note)};
  // First the record, then the world.
  RETURN_IF_ERROR(Record(made.note));
  last_ = made;
  return made;
}

}  // namespace codeseal::audit
