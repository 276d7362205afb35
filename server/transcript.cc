#include "server/transcript.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <exception>
#include <filesystem>
#include <utility>

#include "absl/strings/str_split.h"
#include "codesign/base/digest.h"
#include "codesign/base/error.h"
#include "codesign/base/mapped_file.h"
#include "codesign/base/staged_file.h"
#include "nlohmann/json.hpp"

namespace codeseal {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kPrevious[] = "previous";

std::string DigestOf(const std::string& line) {
  return HexEncode(ComputeDigest(DigestKind::kSha256, AsBytes(line)));
}

// The lines that end; what a crash left of one more is not among them.
std::vector<std::string> WholeLines(const std::string& text) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  lines.pop_back();
  return lines;
}

class TranscriptFile : public Transcript {
 public:
  TranscriptFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  ~TranscriptFile() override { close(fd_); }
  TranscriptFile(const TranscriptFile&) = delete;
  TranscriptFile& operator=(const TranscriptFile&) = delete;

  absl::Status Load() {
    std::string text;
    std::array<char, 16384> buffer{};
    ssize_t size = 0;
    while ((size = read(fd_, buffer.data(), buffer.size())) > 0) {
      text.append(buffer.data(), static_cast<size_t>(size));
    }
    if (size < 0) return FileError(errno, v1::STAGE_USAGE, "read", path_);
    entries_ = WholeLines(text);
    RETURN_IF_ERROR(WithSubject(CheckTranscript(entries_, path_), path_));
    if (!entries_.empty()) previous_ = DigestOf(entries_.back());
    // Of a line that a crash cut off nobody was told that it was written.
    const size_t end = text.rfind('\n') + 1;
    if (end < text.size() && ftruncate(fd_, static_cast<off_t>(end)) != 0) {
      return FileError(errno, v1::STAGE_USAGE, "mend", path_);
    }
    return absl::OkStatus();
  }

  const std::vector<std::string>& entries() const override { return entries_; }

  absl::Status Append(const std::string& entry) override {
    Json json = Json::parse(entry, nullptr, false);
    json[kPrevious] = previous_;
    const std::string line =
        json.dump(-1, ' ', false, Json::error_handler_t::replace);
    const std::string bytes = line + "\n";
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t size = write(fd_, bytes.data() + done, bytes.size() - done);
      if (size < 0 && errno == EINTR) continue;
      if (size <= 0) return FileError(errno, v1::STAGE_WRITE, "write", path_);
      done += static_cast<size_t>(size);
    }
    if (fdatasync(fd_) != 0) {
      return FileError(errno, v1::STAGE_WRITE, "write", path_);
    }
    previous_ = DigestOf(line);
    entries_.push_back(line);
    return absl::OkStatus();
  }

 private:
  const std::string path_;
  const int fd_;
  std::string previous_;  // digest of the last line; empty before the first
  std::vector<std::string> entries_;
};

}  // namespace

absl::Status CheckTranscript(std::span<const std::string> lines,
                             const std::string& name) {
  std::string previous;
  for (size_t i = 0; i < lines.size(); ++i) {
    const Json entry = Json::parse(lines[i], nullptr, false);
    if (!entry.is_object() || !entry.contains(kPrevious) ||
        entry[kPrevious] != previous) {
      return MakeError(absl::StatusCode::kFailedPrecondition, v1::STAGE_USAGE,
                       v1::REASON_CEREMONY,
                       name + ":" + std::to_string(i + 1) +
                           ": not the line that was written after the one "
                           "before it");
    }
    previous = DigestOf(lines[i]);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ReadTranscript(
    const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  std::vector<std::string> lines = WholeLines(ToString(file.bytes()));
  RETURN_IF_ERROR(WithSubject(CheckTranscript(lines, path), path));
  return lines;
}

absl::StatusOr<std::unique_ptr<Transcript>> OpenTranscriptFile(
    const std::string& path) {
  const int fd =
      open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return FileError(errno, v1::STAGE_USAGE, "open", path);
  auto file = std::make_unique<TranscriptFile>(path, fd);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return WithSubject(
        MakeError(absl::StatusCode::kUnavailable, v1::STAGE_USAGE,
                  v1::REASON_CEREMONY,
                  path + ": another ceremony is writing this transcript"),
        path);
  }
  RETURN_IF_ERROR(file->Load());
  const std::filesystem::path folder =
      std::filesystem::path(path).parent_path();
  FlushFolder(folder.empty() ? "." : folder.string());
  return file;
}

}  // namespace codeseal
